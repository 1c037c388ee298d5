/* SPDX-License-Identifier: Apache-2.0
 * nvrtc.c: find NVRTC, run one compilation. */
#include "kernel/cuda/nvrtc.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/status.h"
#include "kernel/cuda/sources.h"

typedef struct nvrtc_program_st *nvrtc_program;

enum { NVRTC_SUCCESS = 0, NVRTC_ERROR_COMPILATION = 6, MAX_SOURCES = 64 };

#define NVRTC_FUNCTIONS(X)                                                                                     \
    X(version, "nvrtcVersion", (int *major, int *minor))                                                       \
    X(error_text, "nvrtcGetErrorString", (int result))                                                         \
    X(create, "nvrtcCreateProgram",                                                                            \
      (nvrtc_program * program, const char *source, const char *name, int n_headers, const char *const *texts, \
       const char *const *names))                                                                              \
    X(destroy, "nvrtcDestroyProgram", (nvrtc_program * program))                                               \
    X(compile, "nvrtcCompileProgram", (nvrtc_program program, int n_options, const char *const *options))      \
    X(log_bytes, "nvrtcGetProgramLogSize", (nvrtc_program program, size_t * bytes))                            \
    X(log, "nvrtcGetProgramLog", (nvrtc_program program, char *log))                                           \
    X(cubin_bytes, "nvrtcGetCUBINSize", (nvrtc_program program, size_t * bytes))                               \
    X(cubin, "nvrtcGetCUBIN", (nvrtc_program program, char *cubin))

struct nvrtc {
#define MEMBER(member, symbol, parameters) int(*member) parameters;
    NVRTC_FUNCTIONS(MEMBER)
#undef MEMBER
    int major, minor;
    char path[CUDA_PATH_BYTES];
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct nvrtc nvrtc; /* complete once nvrtc.major != 0, never changed again */

/* The process's own NVRTC first (a framework has usually opened one), else the newest that the driver allows. */
static void *open_library(const struct cuda_search *search, i32 max_major, char path[CUDA_PATH_BYTES])
{
    static const char *const names[] = { "libnvrtc.so.13", "libnvrtc.so.12" };
    static const i32 majors[] = { 13, 12 };
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        void *handle =
            max_major == 0 || majors[i] <= max_major ? dlopen(names[i], RTLD_NOW | RTLD_LOCAL | RTLD_NOLOAD) : NULL;
        if (handle) {
            snprintf(path, CUDA_PATH_BYTES, "%s", names[i]);
            return handle;
        }
    }
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        void *handle = max_major == 0 || majors[i] <= max_major ? folio__cuda_dlopen(search, &names[i], 1, path) : NULL;
        if (handle)
            return handle;
    }
    return NULL;
}

static folio_status open_nvrtc(const struct cuda_search *search, i32 max_major)
{
    struct nvrtc n = { 0 };
    char searched[256];
    void *handle = open_library(search, max_major, n.path);
    if (!handle) {
        folio__cuda_searched(search, searched, sizeof searched);
        return folio__fail(FOLIO_ENOTSUP, "no libnvrtc.so.%s (CUDA's runtime compiler); searched %s",
                           max_major == 12 ? "12" : "13 or .12", searched);
    }
#define RESOLVE(member, symbol, parameters)                                                    \
    {                                                                                          \
        void *address = dlsym(handle, symbol);                                                 \
        FOLIO_REQUIRE(address, FOLIO_ENOTSUP, "NVRTC: %s has no %s: too old", n.path, symbol); \
        memcpy(&n.member, &address, sizeof address);                                           \
    }
    NVRTC_FUNCTIONS(RESOLVE)
#undef RESOLVE
    FOLIO_REQUIRE(n.version(&n.major, &n.minor) == NVRTC_SUCCESS && n.major > 0, FOLIO_ENOTSUP,
                  "NVRTC: %s does not tell its version", n.path);
    nvrtc = n;
    return FOLIO_OK;
}

static folio_status require_nvrtc(const struct cuda_search *search, i32 max_major)
{
    pthread_mutex_lock(&lock);
    const folio_status status = nvrtc.major ? FOLIO_OK : open_nvrtc(search, max_major);
    pthread_mutex_unlock(&lock);
    return status;
}

static const struct cuda_source *find_source(const char *name)
{
    for (i32 i = 0; i < folio__cuda_n_sources; i++)
        if (strcmp(folio__cuda_sources[i].name, name) == 0)
            return &folio__cuda_sources[i];
    return NULL;
}

static void read_log(nvrtc_program program, struct nvrtc_result *result)
{
    size_t bytes = 0;
    if (nvrtc.log_bytes(program, &bytes) != NVRTC_SUCCESS || bytes <= 1)
        return;
    result->log = folio__alloc_zero(bytes + 1);
    if (result->log && nvrtc.log(program, result->log) != NVRTC_SUCCESS)
        result->log[0] = '\0';
}

/* The first line that says error, for the one-line message. */
static folio_status compile_error(const struct nvrtc_job *job, const char *log, int code)
{
    const char *line = log ? strstr(log, "error") : NULL;
    while (line && line > log && line[-1] != '\n')
        line--;
    const int length = line ? (int)strcspn(line, "\n") : 0;
    return folio__fail(FOLIO_ECOMPILE, "%s: NVRTC %d.%d error %d: %.*s", job->file, nvrtc.major, nvrtc.minor, code,
                       length ? length : 6, length ? line : "no log");
}

static folio_status take_cubin(nvrtc_program program, struct nvrtc_result *result, const char *file)
{
    FOLIO_REQUIRE(nvrtc.cubin_bytes(program, &result->n_bytes) == NVRTC_SUCCESS && result->n_bytes > 0, FOLIO_ECOMPILE,
                  "%s: NVRTC gave no machine code", file);
    result->cubin = folio__alloc(result->n_bytes);
    FOLIO_REQUIRE(result->cubin, FOLIO_ENOMEM, "%s: no memory for %zu bytes of machine code", file, result->n_bytes);
    FOLIO_REQUIRE(nvrtc.cubin(program, result->cubin) == NVRTC_SUCCESS, FOLIO_ECOMPILE,
                  "%s: NVRTC gave no machine code", file);
    return FOLIO_OK;
}

folio_status folio__nvrtc_compile(struct nvrtc_result *result, const struct nvrtc_job *job,
                                  const struct cuda_search *search)
{
    *result = (struct nvrtc_result){ 0 };
    FOLIO_TRY(require_nvrtc(search, job->max_major));
    result->version = nvrtc.major * 1000 + nvrtc.minor * 10;
    const struct cuda_source *source = find_source(job->file);
    FOLIO_REQUIRE(source && folio__cuda_n_sources <= MAX_SOURCES, FOLIO_ECOMPILE, "%s: no such embedded source",
                  job->file);
    const char *texts[MAX_SOURCES], *names[MAX_SOURCES];
    for (i32 i = 0; i < folio__cuda_n_sources; i++) {
        texts[i] = folio__cuda_sources[i].text;
        names[i] = folio__cuda_sources[i].name;
    }
    nvrtc_program program = NULL;
    FOLIO_REQUIRE(nvrtc.create(&program, source->text, job->file, folio__cuda_n_sources, texts, names) == NVRTC_SUCCESS,
                  FOLIO_ECOMPILE, "%s: NVRTC refuses the source", job->file);
    const int code = nvrtc.compile(program, job->n_options, job->options);
    read_log(program, result);
    folio_status status =
        code == NVRTC_SUCCESS ? take_cubin(program, result, job->file) : compile_error(job, result->log, code);
    nvrtc.destroy(&program);
    if (status != FOLIO_OK) {
        folio__free(result->cubin);
        result->cubin = NULL;
        result->n_bytes = 0;
    }
    return status;
}

void folio__nvrtc_free(struct nvrtc_result *result)
{
    folio__free(result->cubin);
    folio__free(result->log);
    *result = (struct nvrtc_result){ 0 };
}

folio_status folio__nvrtc_find(i32 *version, char path[CUDA_PATH_BYTES], i32 max_major,
                               const struct cuda_search *search)
{
    FOLIO_TRY(require_nvrtc(search, max_major));
    *version = nvrtc.major * 1000 + nvrtc.minor * 10;
    memcpy(path, nvrtc.path, CUDA_PATH_BYTES);
    return FOLIO_OK;
}
