/* SPDX-License-Identifier: Apache-2.0
 * block.h: where a block of consecutive keys lies: one address a key, so that pages may end anywhere.
 *
 *   keys      |k k+1 ...                k+n-1| repeats of the last
 *   pages   ..page 7 ][ page 2        ][ page 9 ..
 *
 * Looked up once a block, for kv head 0; the address of head h is h * head_stride further. */
#ifndef FOLIO_KERNEL_CPU_BLOCK_H
#define FOLIO_KERNEL_CPU_BLOCK_H

#include "base/bits.h"
#include "kernel/layout.h"

enum { BLOCK_KEYS = 256, BLOCK_ROOM = BLOCK_KEYS + 32 }; /* the most */

struct block {
    i64 key;                                 /* the first */
    i32 n;                                   /* keys; 0 = none */
    const u8 *k[BLOCK_ROOM], *v[BLOCK_ROOM]; /* [most + 32]; from n on the last again: may be read, means nothing */
};

static inline const u8 *block_slot(const struct pages_view *pages, const struct table_view *table, i64 seq, i64 column,
                                   i64 slot)
{
    return layout_slot(pages, layout_page(table, seq, column), slot, 0);
}

/* Keys [key, min(key + most, end)); most <= BLOCK_KEYS. */
static inline void block_find(struct block *block, const struct attend_args *args, i64 seq, i64 key, i64 end, i32 most)
{
    block->key = key;
    block->n = (i32)clamp_i64(end - key, 0, most);
    i64 column = key / args->page_size, slot = key % args->page_size;
    for (i32 i = 0; i < block->n; column++, slot = 0) {
        const u8 *k = block_slot(&args->k, &args->k_table, seq, column, slot);
        const u8 *v = block_slot(&args->v, &args->v_table, seq, column, slot);
        for (; i < block->n && slot < args->page_size; i++, slot++) {
            block->k[i] = k;
            block->v[i] = v;
            k += args->k.slot_stride;
            v += args->v.slot_stride;
        }
    }
    for (i32 i = block->n; block->n > 0 && i < most + 32; i++) {
        block->k[i] = block->k[block->n - 1];
        block->v[i] = block->v[block->n - 1];
    }
}

#endif
