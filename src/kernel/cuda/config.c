/* SPDX-License-Identifier: Apache-2.0
 * config.c: the table. */
#include "kernel/cuda/config.h"

#include <string.h>

#include "base/dtype.h"
#include "kernel/cuda/device/work.h"

#define DEVICE "kernel/cuda/device/"

/* X(q name, q dtype, page name, page dtype): what SEMANTICS allow, in the order of the ids. */
#define GENERIC_PAIRS(X)    \
    X("f32", 1, "f32", 1)   \
    X("f16", 2, "f16", 2)   \
    X("bf16", 3, "bf16", 3) \
    X("f32", 1, "f16", 2)   \
    X("f32", 1, "bf16", 3)

FOLIO_STATIC_ASSERT(DTYPE_F32 == 1 && DTYPE_F16 == 2 && DTYPE_BF16 == 3 && LOAD_BOXES == 0 && LOAD_GATHER == 1 &&
                        LOAD_FINE == 2,
                    "the defines below are these values");

#define GENERIC_ROW(q_name, q, page_name, page)        \
    { .name = "generic q=" q_name " pages=" page_name, \
      .file = DEVICE "generic.cu",                     \
      .symbols = { "folio_generic" },                  \
      .defines = { "-DCONFIG_Q_DTYPE=" #q, "-DCONFIG_PAGE_DTYPE=" #page } },

/* K1a. Boxes need 9.0; head_dim 256 has registers for 16 rows at most, and its fine boxes would share banks by four; of
 * 128, tiles of 16 rows in turn are faster than tiles of 32. */
#define DECODE_ROW(row_name, probe, type, qk, v, n_rows, loader, is_full)                                       \
    { .name = row_name,                                                                                         \
      .file = DEVICE "decode.cu",                                                                               \
      .symbols = { "folio_decode" },                                                                            \
      .defines = { "-DCONFIG_DTYPE=" #type, "-DCONFIG_D_QK=" #qk, "-DCONFIG_D_V=" #v, "-DCONFIG_ROWS=" #n_rows, \
                   "-DCONFIG_LOADER=" #loader, "-DCONFIG_FULL=" #is_full, "-DCONFIG_PROBE=" #probe },           \
      .min_arch = loader == LOAD_GATHER ? 80 : 90,                                                              \
      .decode = { type, qk, v, n_rows, loader, is_full } },
#define DECODE_FULL(n, type, qk, v, rows)                                                             \
    DECODE_ROW("decode " n " d=" #qk "/" #v " rows=" #rows " boxes", 0, type, qk, v, rows, 0, 0)      \
    DECODE_ROW("decode " n " d=" #qk "/" #v " rows=" #rows " boxes full", 0, type, qk, v, rows, 0, 1) \
    DECODE_ROW("decode " n " d=" #qk "/" #v " rows=" #rows " gather", 0, type, qk, v, rows, 1, 0)     \
    DECODE_ROW("decode " n " d=" #qk "/" #v " rows=" #rows " gather full", 0, type, qk, v, rows, 1, 1)
#define DECODE_FINE(n, type, qk, v, rows)                                                       \
    DECODE_FULL(n, type, qk, v, rows)                                                           \
    DECODE_ROW("decode " n " d=" #qk "/" #v " rows=" #rows " fine", 0, type, qk, v, rows, 2, 0) \
    DECODE_ROW("decode " n " d=" #qk "/" #v " rows=" #rows " fine full", 0, type, qk, v, rows, 2, 1)
/* K1b: of head_dim 128. */
#define WIDE_ROW(row_name, type, loader, is_full)                                                                \
    { .name = row_name,                                                                                          \
      .file = DEVICE "wide.cu",                                                                                  \
      .symbols = { "folio_wide" },                                                                               \
      .defines = { "-DCONFIG_DTYPE=" #type, "-DCONFIG_D_QK=128", "-DCONFIG_D_V=128", "-DCONFIG_LOADER=" #loader, \
                   "-DCONFIG_FULL=" #is_full },                                                                  \
      .arch_specific = true,                                                                                     \
      .min_arch = 90,                                                                                            \
      .decode = { type, 128, 128, WIDE_ROWS, loader, is_full } },
#define WIDE(n, type)                                       \
    WIDE_ROW("wide " n " d=128/128 boxes", type, 0, 0)      \
    WIDE_ROW("wide " n " d=128/128 boxes full", type, 0, 1) \
    WIDE_ROW("wide " n " d=128/128 gather", type, 1, 0)     \
    WIDE_ROW("wide " n " d=128/128 gather full", type, 1, 1)
#define DECODE_DIMS(n, type)           \
    DECODE_FINE(n, type, 64, 64, 8)    \
    DECODE_FINE(n, type, 64, 64, 16)   \
    DECODE_FINE(n, type, 64, 64, 32)   \
    DECODE_FINE(n, type, 128, 128, 8)  \
    DECODE_FINE(n, type, 128, 128, 16) \
    DECODE_FINE(n, type, 192, 128, 8)  \
    DECODE_FINE(n, type, 192, 128, 16) \
    DECODE_FINE(n, type, 192, 128, 32) \
    DECODE_FULL(n, type, 256, 256, 8)  \
    DECODE_FULL(n, type, 256, 256, 16)

const struct cuda_config folio__cuda_configs[CUDA_N_CONFIGS] = {
    { .name = "plan", .file = DEVICE "plan.cu", .symbols = { "folio_plan" } },
    { .name = "pages",
      .file = DEVICE "pages.cu",
      .symbols = { "folio_append", "folio_gather", "folio_copy", "folio_lay" } },
    { .name = "merge", .file = DEVICE "merge.cu", .symbols = { "folio_merge" } },
    GENERIC_PAIRS(GENERIC_ROW) DECODE_ROW("read probe bf16 d=128 boxes", 1, 3, 128, 128, 8, 0, 0)
        DECODE_ROW("read probe bf16 d=128 gather", 1, 3, 128, 128, 8, 1, 0)
            DECODE_ROW("read probe bf16 d=128 fine", 1, 3, 128, 128, 8, 2, 0)
                DECODE_ROW("read probe bf16 d=128 rows=16 boxes", 1, 3, 128, 128, 16, 0, 0) DECODE_DIMS("f16", 2)
                    DECODE_DIMS("bf16", 3) WIDE("f16", 2) WIDE("bf16", 3)
};

i32 folio__cuda_decode_id(const struct cuda_decode_key *key)
{
    for (i32 i = CUDA_DECODE; i < CUDA_N_CONFIGS; i++)
        if (memcmp(&folio__cuda_configs[i].decode, key, sizeof *key) == 0)
            return i;
    return -1;
}

i32 folio__cuda_generic_id(i32 q_dtype, i32 page_dtype)
{
#define GENERIC_PAIR(q_name, q, page_name, page) { q, page },
    static const i32 pairs[][2] = { GENERIC_PAIRS(GENERIC_PAIR) };
    for (size_t i = 0; i < COUNT_OF(pairs); i++)
        if (pairs[i][0] == q_dtype && pairs[i][1] == page_dtype)
            return CUDA_GENERIC + (i32)i;
    return -1;
}
