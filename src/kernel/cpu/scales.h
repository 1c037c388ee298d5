/* SPDX-License-Identifier: Apache-2.0
 * scales.h: the scales of a block of quantised keys, side by side.
 *
 *   scale of pages   [n_pages][page_size][n_kv_heads], any strides, 0 = one for all
 *   of a block       |s k ...      s k+n-1| repeats of the last, up to a multiple of 16
 *
 * Only scales of the block's own keys are read: what stands in other slots may be anything. */
#ifndef FOLIO_KERNEL_CPU_SCALES_H
#define FOLIO_KERNEL_CPU_SCALES_H

#include "kernel/cpu/block.h"

static inline void block_scales(float *dst /* [BLOCK_KEYS] */, const struct pages_view *pages,
                                const struct table_view *table, i64 seq, i64 page_size, const struct block *block,
                                i64 head)
{
    i64 column = block->key / page_size, slot = block->key % page_size;
    for (i32 i = 0; i < block->n; column++, slot = 0) {
        const i32 n = (i32)min_i64(block->n - i, page_size - slot);
        const float *scale = pages->scale ? layout_scale(pages, layout_page(table, seq, column), slot, head) : NULL;
        const i64 stride = pages->scale_slot_stride / (i64)sizeof *scale;
        for (i32 t = 0; t < n; t++)
            dst[i + t] = scale ? scale[t * stride] : 1.0f;
        i += n;
    }
    for (i32 i = block->n; i % 16 != 0; i++)
        dst[i] = dst[block->n - 1];
}

#endif
