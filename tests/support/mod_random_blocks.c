/* SPDX-License-Identifier: Apache-2.0
 * mod_random_blocks.c: random block masks of random block sizes. */
#include <stdlib.h>

#include "base/bits.h"
#include "support/mod_random.h"

struct lists {
    i64 counts_shape[3], indices_shape[4];
    i32 *counts[2], *indices[2]; /* partial, full */
};

static void *checked(void *memory)
{
    if (!memory)
        abort();
    return memory;
}

/* Every block is absent, partial, full or both. */
static void fill(struct lists *lists, u64 *seed)
{
    const i64 n_cols = lists->indices_shape[3],
              n_rows = lists->counts_shape[0] * lists->counts_shape[1] * lists->counts_shape[2];
    for (i32 kind = 0; kind < 2; kind++) {
        lists->counts[kind] = checked(calloc((size_t)n_rows, sizeof(i32)));
        lists->indices[kind] = checked(calloc((size_t)(n_rows * n_cols), sizeof(i32)));
        for (i64 row = 0; row < n_rows; row++)
            for (i64 col = 0; col < n_cols; col++)
                if (mod_random_below(seed, 4) == 0)
                    lists->indices[kind][row * n_cols + lists->counts[kind][row]++] = (i32)col;
    }
}

folio_block_mask *mod_random_block_mask(u64 *seed, i64 b, i64 h, const folio_mod *mask_mod)
{
    const i64 q_block = 1 + mod_random_below(seed, 20), kv_block = 1 + mod_random_below(seed, 70);
    const i64 n_rows = ceil_div(MOD_RANDOM_ROWS, q_block), n_cols = ceil_div(MOD_RANDOM_KEYS, kv_block);
    struct lists lists = { .counts_shape = { b, h, n_rows }, .indices_shape = { b, h, n_rows, n_cols } };
    fill(&lists, seed);
    DLTensor counts[2], indices[2];
    for (i32 kind = 0; kind < 2; kind++) {
        counts[kind] =
            (DLTensor){ lists.counts[kind], { kDLCPU, 0 }, 3, { kDLInt, 32, 1 }, lists.counts_shape, NULL, 0 };
        indices[kind] =
            (DLTensor){ lists.indices[kind], { kDLCPU, 0 }, 4, { kDLInt, 32, 1 }, lists.indices_shape, NULL, 0 };
    }
    const folio_block_mask_args args = { .struct_size = sizeof args,
                                         .kv_num_blocks = &counts[0],
                                         .kv_indices = &indices[0],
                                         .full_kv_num_blocks = &counts[1],
                                         .full_kv_indices = &indices[1],
                                         .q_block = q_block,
                                         .kv_block = kv_block,
                                         .mask_mod = mask_mod };
    folio_block_mask *made = NULL;
    if (folio_block_mask_create(&made, &args) != FOLIO_OK)
        abort();
    for (i32 kind = 0; kind < 2; kind++) {
        free(lists.counts[kind]);
        free(lists.indices[kind]);
    }
    return made;
}
