/* SPDX-License-Identifier: Apache-2.0
 * config.c: the table. */
#include "kernel/cuda/config.h"

#include "base/dtype.h"

#define DEVICE "kernel/cuda/device/"

/* X(q name, q dtype, page name, page dtype): what SEMANTICS allow, in the order of the ids. */
#define GENERIC_PAIRS(X)    \
    X("f32", 1, "f32", 1)   \
    X("f16", 2, "f16", 2)   \
    X("bf16", 3, "bf16", 3) \
    X("f32", 1, "f16", 2)   \
    X("f32", 1, "bf16", 3)

FOLIO_STATIC_ASSERT(DTYPE_F32 == 1 && DTYPE_F16 == 2 && DTYPE_BF16 == 3, "the defines below are these values");

#define GENERIC_ROW(q_name, q, page_name, page)        \
    { .name = "generic q=" q_name " pages=" page_name, \
      .file = DEVICE "generic.cu",                     \
      .symbols = { "folio_generic" },                  \
      .defines = { "-DCONFIG_Q_DTYPE=" #q, "-DCONFIG_PAGE_DTYPE=" #page } },

const struct cuda_config folio__cuda_configs[CUDA_N_CONFIGS] = {
    { .name = "plan", .file = DEVICE "plan.cu", .symbols = { "folio_plan" } },
    { .name = "pages",
      .file = DEVICE "pages.cu",
      .symbols = { "folio_append", "folio_gather", "folio_copy", "folio_lay" } },
    { .name = "merge", .file = DEVICE "merge.cu", .symbols = { "folio_merge" } },
    GENERIC_PAIRS(GENERIC_ROW)
};

i32 folio__cuda_generic_id(i32 q_dtype, i32 page_dtype)
{
#define GENERIC_PAIR(q_name, q, page_name, page) { q, page },
    static const i32 pairs[][2] = { GENERIC_PAIRS(GENERIC_PAIR) };
    for (size_t i = 0; i < COUNT_OF(pairs); i++)
        if (pairs[i][0] == q_dtype && pairs[i][1] == page_dtype)
            return CUDA_GENERIC + (i32)i;
    return -1;
}
