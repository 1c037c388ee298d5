/* SPDX-License-Identifier: Apache-2.0
 * search.c: the folders, in order, and dlopen over them. */
#include "kernel/cuda/search.h"

#include <dlfcn.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"

enum { MAX_FOLDERS = 64 };

struct folders {
    char path[MAX_FOLDERS][CUDA_PATH_BYTES]; /* "" = ld.so's own search */
    i32 n;
};

__attribute__((format(printf, 2, 3))) static void add(struct folders *f, const char *format, ...)
{
    if (f->n == MAX_FOLDERS)
        return;
    va_list args;
    va_start(args, format);
    const int length = vsnprintf(f->path[f->n], CUDA_PATH_BYTES, format, args);
    va_end(args);
    f->n += length >= 0 && length < CUDA_PATH_BYTES;
}

static void add_list(struct folders *f, const char *list)
{
    while (list && *list) {
        const size_t length = strcspn(list, ":");
        if (length)
            add(f, "%.*s", (int)length, list);
        list += length + (list[length] == ':');
    }
}

/* The wheels' folders when this library itself lies in a site-packages: every parent folder is tried as one. */
static void add_wheels(struct folders *f)
{
    static const char *const inside[] = { "nvidia/cu13/lib", "nvidia/cuda_nvrtc/lib" };
    Dl_info info;
    char parent[CUDA_PATH_BYTES];
    if (!dladdr((const void *)&folio__cuda_dlopen, &info) || !info.dli_fname || strlen(info.dli_fname) >= sizeof parent)
        return;
    memcpy(parent, info.dli_fname, strlen(info.dli_fname) + 1);
    for (i32 depth = 0; depth < 3; depth++) {
        char *slash = strrchr(parent, '/');
        if (!slash)
            return;
        *slash = '\0';
        for (size_t i = 0; i < COUNT_OF(inside); i++)
            add(f, "%s/%s", parent, inside[i]);
    }
}

static void list_folders(struct folders *f, const struct cuda_search *search)
{
    f->n = 0;
    add_list(f, getenv("FOLIO_CUDA_LIB_DIR"));
    for (i32 i = 0; search && i < search->n_dirs; i++)
        if (search->dirs[i])
            add(f, "%s", search->dirs[i]);
    add(f, "%s", "");
    add_wheels(f);
    static const char *const homes[] = { "CUDA_HOME", "CUDA_PATH" };
    for (size_t i = 0; i < COUNT_OF(homes); i++)
        if (getenv(homes[i]))
            add(f, "%s/lib64", getenv(homes[i]));
    add(f, "/usr/local/cuda/lib64");
    add(f, "/usr/local/nvidia/lib64");
    add(f, "/usr/lib/wsl/lib");
}

void *folio__cuda_dlopen(const struct cuda_search *search, const char *const *names, i32 n_names,
                         char found[CUDA_PATH_BYTES])
{
    struct folders *f = folio__alloc(sizeof *f);
    void *handle = NULL;
    if (!f)
        return NULL;
    list_folders(f, search);
    for (i32 i = 0; i < f->n && !handle; i++)
        for (i32 j = 0; j < n_names && !handle; j++) {
            char path[2 * CUDA_PATH_BYTES];
            snprintf(path, sizeof path, "%s%s%s", f->path[i], f->path[i][0] ? "/" : "", names[j]);
            handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
            if (handle)
                snprintf(found, CUDA_PATH_BYTES, "%.*s", CUDA_PATH_BYTES - 1, path);
        }
    folio__free(f);
    return handle;
}

void folio__cuda_searched(const struct cuda_search *search, char *text, size_t n)
{
    struct folders *f = folio__alloc(sizeof *f);
    size_t used = 0;
    if (n)
        text[0] = '\0';
    if (!f)
        return;
    list_folders(f, search);
    for (i32 i = 0; i < f->n && used + 1 < n; i++) {
        const char *path = f->path[i][0] ? f->path[i] : "ld.so";
        if (f->path[i][0] && access(path, R_OK) != 0)
            continue;
        const int wrote = snprintf(text + used, n - used, "%s%s", used ? "; " : "", path);
        used += wrote > 0 ? (size_t)wrote : 0;
    }
    folio__free(f);
}
