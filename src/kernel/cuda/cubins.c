/* SPDX-License-Identifier: Apache-2.0
 * cubins.c: the disk cache of machine code. */
#include "kernel/cuda/cubins.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/status.h"
#include "kernel/cuda/config.h"
#include "kernel/cuda/sources.h"

struct header {
    char magic[8];
    i64 nvrtc_version;
    u64 n_bytes, hash;
};

static const char magic[8] = { 'F', 'O', 'L', 'I', 'O', 'C', 'B', '1' };

enum { MAX_CUBIN_BYTES = 64 << 20 };

/* FNV-1a: names content, keeps out accidents; the folder's owner and mode keep out people. */
static u64 hash_bytes(u64 hash, const void *data, size_t n)
{
    const u8 *bytes = data;
    for (size_t i = 0; i < n; i++)
        hash = (hash ^ bytes[i]) * UINT64_C(0x100000001b3);
    return hash;
}

static u64 hash_text(u64 hash, const char *text)
{
    return hash_bytes(hash, text, strlen(text) + 1);
}

void folio__cubin_options(const char *options[CUDA_MAX_OPTIONS], i32 *n_options, char arch_text[32], i32 config,
                          i32 arch, bool strict)
{
    const struct cuda_config *c = &folio__cuda_configs[config];
    i32 n = 0;
    snprintf(arch_text, 32, "--gpu-architecture=sm_%d%s", (int)arch, c->arch_specific ? "a" : "");
    options[n++] = arch_text;
    options[n++] = "--std=c++17";
    options[n++] = "--extra-device-vectorization";
    for (i32 i = 0; i < CUDA_MAX_DEFINES && c->defines[i]; i++)
        options[n++] = c->defines[i];
    if (strict) {
        options[n++] = "--ptxas-options=-v";
        options[n++] = "--ptxas-options=--warn-on-spills";
        options[n++] = "--ptxas-options=--warn-on-local-memory-usage";
    }
    *n_options = n;
}

static void key_of(char key[40], i32 config, i32 arch)
{
    const char *options[CUDA_MAX_OPTIONS];
    char arch_text[32];
    i32 n_options;
    folio__cubin_options(options, &n_options, arch_text, config, arch, false);
    u64 half[2] = { UINT64_C(0xcbf29ce484222325), UINT64_C(0x84222325cbf29ce4) };
    for (i32 h = 0; h < 2; h++) {
        half[h] = hash_text(half[h], folio_version());
        half[h] = hash_text(half[h], folio__cuda_configs[config].file);
        for (i32 i = 0; i < n_options; i++)
            half[h] = hash_text(half[h], options[i]);
        for (i32 i = 0; i < folio__cuda_n_sources; i++)
            half[h] = hash_bytes(half[h], folio__cuda_sources[i].text, folio__cuda_sources[i].n_bytes);
    }
    snprintf(key, 40, "%016llx%016llx", (unsigned long long)half[0], (unsigned long long)half[1]);
}

/* Make every folder of path. */
static bool make_dirs(char *path)
{
    for (char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        const bool made = mkdir(path, 0700) == 0 || errno == EEXIST;
        *slash = '/';
        if (!made)
            return false;
    }
    return mkdir(path, 0700) == 0 || errno == EEXIST;
}

void folio__cubin_dir(char path[CUDA_PATH_BYTES])
{
    const char *own = getenv("FOLIO_CACHE_DIR"), *xdg = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    int length = -1;
    if (own && *own)
        length = snprintf(path, CUDA_PATH_BYTES, "%s", own);
    else if (xdg && *xdg == '/')
        length = snprintf(path, CUDA_PATH_BYTES, "%s/folio", xdg);
    else if (home && *home == '/')
        length = snprintf(path, CUDA_PATH_BYTES, "%s/.cache/folio", home);
    struct stat st;
    if (length <= 0 || length >= CUDA_PATH_BYTES || !make_dirs(path) || stat(path, &st) != 0 || !S_ISDIR(st.st_mode) ||
        st.st_uid != geteuid() || (st.st_mode & 022))
        path[0] = '\0';
}

static bool cubin_path(char path[CUDA_PATH_BYTES + 64], i32 config, i32 arch)
{
    char dir[CUDA_PATH_BYTES], key[40];
    folio__cubin_dir(dir);
    if (!dir[0])
        return false;
    key_of(key, config, arch);
    snprintf(path, CUDA_PATH_BYTES + 64, "%s/%s.cubin", dir, key);
    return true;
}

static bool read_payload(FILE *file, struct cubin *cubin)
{
    struct header h;
    if (fread(&h, sizeof h, 1, file) != 1 || memcmp(h.magic, magic, sizeof magic) != 0 || h.n_bytes == 0 ||
        h.n_bytes > MAX_CUBIN_BYTES)
        return false;
    void *code = folio__alloc((size_t)h.n_bytes);
    if (code && fread(code, (size_t)h.n_bytes, 1, file) == 1 &&
        hash_bytes(UINT64_C(0xcbf29ce484222325), code, (size_t)h.n_bytes) == h.hash) {
        *cubin = (struct cubin){ .code = code, .n_bytes = (size_t)h.n_bytes, .from_disk = true };
        return true;
    }
    folio__free(code);
    return false;
}

static bool read_file(struct cubin *cubin, const char *path)
{
    FILE *file = fopen(path, "rb");
    if (!file)
        return false;
    const bool good = read_payload(file, cubin);
    fclose(file);
    return good;
}

/* Whole or not at all; a full disk or a lost race costs only the next compile. */
static void write_file(const char *path, const struct nvrtc_result *code)
{
    char temp[CUDA_PATH_BYTES + 96];
    snprintf(temp, sizeof temp, "%s.XXXXXX", path);
    const int fd = mkstemp(temp);
    FILE *file = fd < 0 ? NULL : fdopen(fd, "wb");
    if (!file) {
        if (fd >= 0)
            close(fd);
        return;
    }
    struct header h = { .nvrtc_version = code->version, .n_bytes = code->n_bytes };
    memcpy(h.magic, magic, sizeof magic);
    h.hash = hash_bytes(UINT64_C(0xcbf29ce484222325), code->cubin, code->n_bytes);
    const bool wrote = fwrite(&h, sizeof h, 1, file) == 1 && fwrite(code->cubin, code->n_bytes, 1, file) == 1;
    const bool closed = fclose(file) == 0;
    if (!wrote || !closed || rename(temp, path) != 0)
        unlink(temp);
}

folio_status folio__cubin_get(struct cubin *cubin, i32 config, i32 arch, i32 driver_major,
                              const struct cuda_search *search)
{
    char path[CUDA_PATH_BYTES + 64], arch_text[32];
    const bool has_path = cubin_path(path, config, arch);
    if (has_path && read_file(cubin, path))
        return FOLIO_OK;
    const char *options[CUDA_MAX_OPTIONS];
    struct nvrtc_job job = { .file = folio__cuda_configs[config].file, .options = options, .max_major = driver_major };
    folio__cubin_options(options, &job.n_options, arch_text, config, arch, false);
    struct nvrtc_result result;
    const folio_status status = folio__nvrtc_compile(&result, &job, search);
    if (status == FOLIO_OK) {
        if (has_path)
            write_file(path, &result);
        *cubin = (struct cubin){ .code = result.cubin, .n_bytes = result.n_bytes };
        result.cubin = NULL;
    }
    folio__nvrtc_free(&result);
    return status;
}

void folio__cubin_forget(i32 config, i32 arch)
{
    char path[CUDA_PATH_BYTES + 64];
    if (cubin_path(path, config, arch))
        unlink(path);
}
