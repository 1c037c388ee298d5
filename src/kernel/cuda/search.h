/* SPDX-License-Identifier: Apache-2.0
 * search.h: where libcuda and libnvrtc may lie. */
#ifndef FOLIO_KERNEL_CUDA_SEARCH_H
#define FOLIO_KERNEL_CUDA_SEARCH_H

#include "base/types.h"

/* Folders given by the caller, searched before everything but FOLIO_CUDA_LIB_DIR. */
struct cuda_search {
    const char *const *dirs; /* [n_dirs] */
    i32 n_dirs;
};

enum { CUDA_PATH_BYTES = 512 };

/* dlopen of the first of names [n_names] found, folder by folder: FOLIO_CUDA_LIB_DIR (colons between), search's,
 * ld.so's own, then wheels' folders beside this library (nvidia/cu13/lib, nvidia/cuda_nvrtc/lib), CUDA_HOME, CUDA_PATH,
 * /usr/local/cuda, /usr/local/nvidia, WSL's. NULL when none opens. `found` gets the name or path that opened. */
void *folio__cuda_dlopen(const struct cuda_search *search, const char *const *names, i32 n_names,
                         char found[CUDA_PATH_BYTES]);

/* The folders above that exist here, one line, "; " between: what to tell someone who looks for the missing library. */
void folio__cuda_searched(const struct cuda_search *search, char *text, size_t n);

#endif
