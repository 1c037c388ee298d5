/* SPDX-License-Identifier: Apache-2.0
 * ahead.h: K and V rows of the block that comes next, asked for a few cache lines at a time while this one is used. */
#ifndef FOLIO_KERNEL_CPU_AHEAD_H
#define FOLIO_KERNEL_CPU_AHEAD_H

#include "kernel/cpu/block.h"

struct ahead {
    const struct block *block;
    i64 k_offset, v_offset; /* of the kv head */
    i64 k_bytes, v_bytes;   /* of a row */
    i64 at;                 /* bytes of row `key` done, K first */
    i32 key, n_lines;       /* n_lines a call */
};

/* For n_calls of ahead_fetch. */
static inline struct ahead ahead_start(const struct attend_args *args, i64 head, const struct block *block, i64 n_calls)
{
    struct ahead ahead = { .block = block,
                           .k_offset = head * args->k.head_stride,
                           .v_offset = head * args->v.head_stride,
                           .k_bytes = (i64)args->k.head_dim * folio__dtype_bytes((enum dtype)args->k.dtype),
                           .v_bytes = (i64)args->v.head_dim * folio__dtype_bytes((enum dtype)args->v.dtype) };
    const i64 n_lines = (ceil_div(ahead.k_bytes, 64) + ceil_div(ahead.v_bytes, 64)) * block->n;
    ahead.n_lines = (i32)ceil_div(n_lines, max_i64(n_calls, 1));
    return ahead;
}

static inline void ahead_fetch(struct ahead *ahead)
{
    for (i32 i = 0; i < ahead->n_lines && ahead->key < ahead->block->n; i++) {
        const bool is_k = ahead->at < ahead->k_bytes;
        const u8 *row = is_k ? ahead->block->k[ahead->key] + ahead->k_offset
                             : ahead->block->v[ahead->key] + ahead->v_offset - ahead->k_bytes;
        __builtin_prefetch(row + ahead->at, 0, 2);
        ahead->at += 64;
        if (is_k && ahead->at > ahead->k_bytes)
            ahead->at = ahead->k_bytes;
        if (ahead->at >= ahead->k_bytes + ahead->v_bytes) {
            ahead->at = 0;
            ahead->key++;
        }
    }
}

#endif
