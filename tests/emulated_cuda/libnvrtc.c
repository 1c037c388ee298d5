/* SPDX-License-Identifier: Apache-2.0
 * libnvrtc.c: NVRTC for the emulated device: the host's C++ compiler; machine code is a shared library's bytes. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#pragma GCC diagnostic ignored "-Wmissing-prototypes"

enum { SUCCESS = 0, OUT_OF_MEMORY = 1, COMPILATION = 6, VERSION = 13, PATH_BYTES = 512, COMMAND_BYTES = 8192 };

struct program {
    char folder[PATH_BYTES], name[PATH_BYTES], kernels[PATH_BYTES];
    char *code; /* [n_bytes] */
    size_t n_bytes;
};

int nvrtcVersion(int *major, int *minor)
{
    *major = VERSION, *minor = 0;
    return SUCCESS;
}

const char *nvrtcGetErrorString(int result)
{
    return result == SUCCESS ? "success" : "the host's compiler failed";
}

/* Below folder, with the folders of name. */
static int write_text(const char *folder, const char *name, const char *text)
{
    char path[2 * PATH_BYTES];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    for (char *slash = strchr(path + strlen(folder) + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        mkdir(path, 0700);
        *slash = '/';
    }
    FILE *file = fopen(path, "w");
    const int wrote = file && fputs(text, file) >= 0;
    return file && fclose(file) == 0 && wrote;
}

/* "KERNEL(folio_copy) KERNEL(folio_lay)": the names behind every __global__. */
static void find_kernels(char kernels[PATH_BYTES], const char *source)
{
    size_t n = 0;
    kernels[0] = '\0';
    for (const char *at = strstr(source, "__global__"); at; at = strstr(at + 1, "__global__")) {
        const char *name = strstr(at, "folio_");
        if (name)
            n += (size_t)snprintf(kernels + n, PATH_BYTES - n, "KERNEL(%.*s) ", (int)strcspn(name, "("), name);
    }
}

int nvrtcDestroyProgram(struct program **program)
{
    char command[COMMAND_BYTES];
    snprintf(command, sizeof command, "rm -rf '%s'", (*program)->folder);
    const int removed = system(command);
    free((*program)->code);
    free(*program);
    *program = NULL;
    return removed == 0 ? SUCCESS : COMPILATION;
}

int nvrtcCreateProgram(struct program **program, const char *source, const char *name, int n_headers,
                       const char *const *texts, const char *const *names)
{
    struct program *p = calloc(1, sizeof *p);
    const char *temporary = getenv("TMPDIR");
    if (!p)
        return OUT_OF_MEMORY;
    snprintf(p->folder, sizeof p->folder, "%s/folio-emulated-XXXXXX", temporary ? temporary : P_tmpdir);
    snprintf(p->name, sizeof p->name, "%s", name);
    find_kernels(p->kernels, source);
    int good = mkdtemp(p->folder) != NULL && write_text(p->folder, name, source);
    for (int i = 0; good && i < n_headers; i++)
        good = write_text(p->folder, names[i], texts[i]);
    *program = p;
    return good ? SUCCESS : COMPILATION;
}

static int read_code(struct program *p, const char *path)
{
    FILE *file = fopen(path, "rb");
    struct stat st;
    if (!file)
        return 0;
    if (fstat(fileno(file), &st) == 0 && (p->code = malloc((size_t)st.st_size)))
        p->n_bytes = fread(p->code, 1, (size_t)st.st_size, file);
    fclose(file);
    return p->n_bytes > 0;
}

int nvrtcCompileProgram(struct program *p, int n_options, const char *const *options)
{
    char command[COMMAND_BYTES], code[PATH_BYTES + 16];
    snprintf(code, sizeof code, "%s/code.so", p->folder);
    int n =
        snprintf(command, sizeof command,
                 EMULATED_CXX
                 " -w -Wno-psabi -O1 -std=c++17 -ffp-contract=off -fPIC -shared -fvisibility=hidden -I " EMULATED_DIR
                 " -I '%s' -include " EMULATED_DIR "/words.h '-DSOURCE=\"%s\"' '-DKERNELS=%s' -o '%s' ",
                 p->folder, p->name, p->kernels, code);
    for (int i = 0; i < n_options && n < COMMAND_BYTES; i++)
        if (strncmp(options[i], "-D", 2) == 0)
            n += snprintf(command + n, (size_t)(COMMAND_BYTES - n), "%s ", options[i]);
    if (n < COMMAND_BYTES)
        n += snprintf(command + n, (size_t)(COMMAND_BYTES - n), EMULATED_DIR "/kernels.cpp " EMULATED_DIR "/block.cpp");
    return n < COMMAND_BYTES && system(command) == 0 && read_code(p, code) ? SUCCESS : COMPILATION;
}

int nvrtcGetProgramLogSize(struct program *p, size_t *bytes)
{
    (void)p;
    *bytes = 1;
    return SUCCESS;
}

int nvrtcGetProgramLog(struct program *p, char *log)
{
    (void)p;
    *log = '\0';
    return SUCCESS;
}

int nvrtcGetCUBINSize(struct program *p, size_t *bytes)
{
    *bytes = p->n_bytes;
    return SUCCESS;
}

int nvrtcGetCUBIN(struct program *p, char *code)
{
    memcpy(code, p->code, p->n_bytes);
    return SUCCESS;
}
