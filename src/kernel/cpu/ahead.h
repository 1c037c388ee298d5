/* SPDX-License-Identifier: Apache-2.0
 * ahead.h: K and V rows of the block that comes next, asked for a few cache lines at a time while this one is used. */
#ifndef FOLIO_KERNEL_CPU_AHEAD_H
#define FOLIO_KERNEL_CPU_AHEAD_H

#include "kernel/cpu/block.h"

struct ahead {
    const struct block *block;
    i64 k_offset, v_offset; /* of the kv head */
    i64 k_bytes, v_bytes;   /* of a row */
    const u8 *line, *end;   /* what is left of the row at work */
    i32 row;                /* that row: 2 * key, or 2 * key + 1 of V */
    i32 n_lines;            /* a call */
};

static inline void ahead_row(struct ahead *ahead, i32 row)
{
    const struct block *block = ahead->block;
    ahead->row = row;
    if (row >= 2 * block->n) {
        ahead->line = ahead->end = NULL;
        return;
    }
    ahead->line = row % 2 ? block->v[row / 2] + ahead->v_offset : block->k[row / 2] + ahead->k_offset;
    ahead->end = ahead->line + (row % 2 ? ahead->v_bytes : ahead->k_bytes);
}

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
    ahead_row(&ahead, 0);
    return ahead;
}

static inline void ahead_fetch(struct ahead *ahead)
{
    for (i32 i = 0; i < ahead->n_lines && ahead->line < ahead->end; i++) {
        __builtin_prefetch(ahead->line, 0, 2);
        ahead->line += 64;
        if (ahead->line >= ahead->end)
            ahead_row(ahead, ahead->row + 1);
    }
}

#endif
