/* SPDX-License-Identifier: Apache-2.0
 * config.h: the closed table of kernels: every row can be listed, compiled, tested; nothing else is ever compiled. */
#ifndef FOLIO_KERNEL_CUDA_CONFIG_H
#define FOLIO_KERNEL_CUDA_CONFIG_H

#include "base/types.h"

enum cuda_config_id {
    CUDA_PLAN,
    CUDA_PAGES,
    CUDA_MERGE,
    CUDA_GENERIC, /* + pair of q and page dtypes, see CUDA_GENERIC_PAIRS */
    CUDA_N_CONFIGS = CUDA_GENERIC + 5,
};

enum { CUDA_MAX_DEFINES = 8, CUDA_MAX_SYMBOLS = 4, CUDA_MIN_ARCH = 80 };

struct cuda_config {
    const char *name;                      /* "generic q=f32 pages=bf16" */
    const char *file;                      /* in folio__cuda_sources */
    const char *symbols[CUDA_MAX_SYMBOLS]; /* its kernels; NULL after the last */
    const char *defines[CUDA_MAX_DEFINES]; /* NVRTC options; NULL after the last */
    i32 arch_specific;                     /* uses wgmma or setmaxnreg: compiled for sm_90a, and only for that */
};

extern const struct cuda_config folio__cuda_configs[CUDA_N_CONFIGS];

/* The generic kernel for these two (enum dtype), or -1. */
i32 folio__cuda_generic_id(i32 q_dtype, i32 page_dtype);

#endif
