/* SPDX-License-Identifier: Apache-2.0
 * tile_shapes.h: the shapes of the eight tile registers, as LDTILECFG reads them. */
#ifndef FOLIO_KERNEL_CPU_TILE_SHAPES_H
#define FOLIO_KERNEL_CPU_TILE_SHAPES_H

#include "base/types.h"

enum { TILE_REGS = 8, TILE_ROWS = 16, TILE_BYTES = 64 /* a row */ };

struct tile_shapes {
    u8 palette, start_row, zeros[14];
    u16 row_bytes[16];
    u8 n_rows[16];
};
FOLIO_STATIC_ASSERT(sizeof(struct tile_shapes) == 64, "the instruction reads 64 bytes");

static inline struct tile_shapes tile_shapes_full(void)
{
    struct tile_shapes shapes = { .palette = 1 };
    for (i32 t = 0; t < TILE_REGS; t++) {
        shapes.n_rows[t] = TILE_ROWS;
        shapes.row_bytes[t] = TILE_BYTES;
    }
    return shapes;
}

static inline void tile_shape(struct tile_shapes *shapes, i32 t, i32 n_rows, i32 n_words)
{
    shapes->n_rows[t] = (u8)n_rows;
    shapes->row_bytes[t] = (u16)(n_words * 4);
}

#endif
