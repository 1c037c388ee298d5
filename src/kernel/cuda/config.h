/* SPDX-License-Identifier: Apache-2.0
 * config.h: the closed table of kernels: every row can be listed, compiled, tested; nothing else is ever compiled. */
#ifndef FOLIO_KERNEL_CUDA_CONFIG_H
#define FOLIO_KERNEL_CUDA_CONFIG_H

#include "base/types.h"

enum cuda_config_id {
    CUDA_PLAN,
    CUDA_PAGES,
    CUDA_MERGE,
    CUDA_GENERIC,                     /* + pair of q and page dtypes */
    CUDA_PROBE = CUDA_GENERIC + 5,    /* + loader: the decode kernel's loaders alone, to measure reading, of 8 rows */
    CUDA_PROBE_16 = CUDA_PROBE + 3,   /* boxes, of 16 rows */
    CUDA_DECODE = CUDA_PROBE_16 + 1,  /* + what folio__cuda_decode_id finds */
    CUDA_WIDE = CUDA_DECODE + 2 * 56, /* of many rows; found as those before */
    CUDA_N_CONFIGS = CUDA_WIDE + 2 * 4,
};

enum { CUDA_MAX_DEFINES = 8, CUDA_MAX_SYMBOLS = 4, CUDA_MIN_ARCH = 80 };

struct cuda_config {
    const char *name;                      /* "generic q=f32 pages=bf16" */
    const char *file;                      /* in folio__cuda_sources */
    const char *symbols[CUDA_MAX_SYMBOLS]; /* its kernels; NULL after the last */
    const char *defines[CUDA_MAX_DEFINES]; /* NVRTC options; NULL after the last */
    i32 arch_specific;                     /* uses wgmma or setmaxnreg: compiled for sm_90a, and only for that */
    i32 min_arch;                          /* 0 = CUDA_MIN_ARCH */
    struct cuda_decode_key {
        i32 dtype, d_qk, d_v, rows; /* enum dtype; 8, 16 or 32 rows of a tile, or WIDE_ROWS */
        i32 loader, full;           /* LOAD_BOXES .. of work.h; softcap and ALiBi */
    } decode;
};

extern const struct cuda_config folio__cuda_configs[CUDA_N_CONFIGS];

/* The generic kernel for these two (enum dtype), or -1. */
i32 folio__cuda_generic_id(i32 q_dtype, i32 page_dtype);

/* The decode kernel with this key, or -1. */
i32 folio__cuda_decode_id(const struct cuda_decode_key *key);

#endif
