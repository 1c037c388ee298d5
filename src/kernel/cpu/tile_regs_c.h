/* SPDX-License-Identifier: Apache-2.0
 * tile_regs_c.h: AMX's eight tile registers in plain C, so that the kernels which use them are tested on any CPU.
 *
 *   config, release             shapes: rows of a register, bytes of a row
 *   zero                        t = 0
 *   load, store                 rows of t from and to p + row * stride bytes
 *   load_once                   load of what is not read again soon: it should not displace what is
 *   dot_bf16                    c [m][n] += sum over k of a [m][k].first * b [k][n].first + .second * .second
 *   dot_i8                      c [m][n] += sum over k of the four products of bytes of a [m][k] and b [k][n]
 *
 * Words of 32 bits: one f32 or i32, two bf16 or four i8, the first in the lowest bits. */
#ifndef FOLIO_KERNEL_CPU_TILE_REGS_H
#define FOLIO_KERNEL_CPU_TILE_REGS_H

#include <assert.h>
#include <string.h>

#include "base/dtype.h"
#include "kernel/cpu/tile_shapes.h"

struct tile_regs {
    struct tile_shapes shapes;
    u32 words[TILE_REGS][TILE_ROWS][TILE_BYTES / 4];
};

static inline void tile_config(struct tile_regs *regs, const struct tile_shapes *shapes)
{
    assert(shapes->palette == 1 && shapes->start_row == 0);
    memset(regs, 0, sizeof *regs);
    regs->shapes = *shapes;
}

static inline void tile_release(struct tile_regs *regs)
{
    regs->shapes.palette = 0;
}

static inline void tile_zero(struct tile_regs *regs, i32 t)
{
    memset(regs->words[t], 0, sizeof regs->words[t]);
}

static inline void tile_load(struct tile_regs *regs, i32 t, const void *p, i64 stride)
{
    assert(regs->shapes.palette == 1);
    tile_zero(regs, t);
    for (i32 row = 0; row < regs->shapes.n_rows[t]; row++)
        memcpy(regs->words[t][row], (const u8 *)p + row * stride, regs->shapes.row_bytes[t]);
}

static inline void tile_load_once(struct tile_regs *regs, i32 t, const void *p, i64 stride)
{
    tile_load(regs, t, p, stride);
}

static inline void tile_store(const struct tile_regs *regs, i32 t, void *p, i64 stride)
{
    for (i32 row = 0; row < regs->shapes.n_rows[t]; row++)
        memcpy((u8 *)p + row * stride, regs->words[t][row], regs->shapes.row_bytes[t]);
}

/* One product of pairs, added to the f32 in *sum. */
static inline void tile_add_pair(u32 *sum, u32 a, u32 b)
{
    float x;
    memcpy(&x, sum, sizeof x);
    x += folio__bf16_to_f32((u16)a) * folio__bf16_to_f32((u16)b);
    x += folio__bf16_to_f32((u16)(a >> 16)) * folio__bf16_to_f32((u16)(b >> 16));
    memcpy(sum, &x, sizeof x);
}

/* Four products of signed bytes, added to the i32 in *sum. */
static inline void tile_add_four(u32 *sum, u32 a, u32 b)
{
    for (i32 i = 0; i < 32; i += 8)
        *sum += (u32)((i8)(u8)(a >> i) * (i8)(u8)(b >> i));
}

/* c += a * b, an element at a time. */
static inline void tile_dot(struct tile_regs *regs, i32 c, i32 a, i32 b, void (*add)(u32 *, u32, u32))
{
    const struct tile_shapes *shapes = &regs->shapes;
    assert(shapes->n_rows[a] == shapes->n_rows[c] && shapes->row_bytes[b] == shapes->row_bytes[c]);
    assert(shapes->row_bytes[a] == 4 * shapes->n_rows[b]);
    for (i32 m = 0; m < shapes->n_rows[c]; m++)
        for (i32 k = 0; k < shapes->n_rows[b]; k++)
            for (i32 n = 0; n < shapes->row_bytes[c] / 4; n++)
                add(&regs->words[c][m][n], regs->words[a][m][k], regs->words[b][k][n]);
}

static inline void tile_dot_bf16(struct tile_regs *regs, i32 c, i32 a, i32 b)
{
    tile_dot(regs, c, a, b, tile_add_pair);
}

static inline void tile_dot_i8(struct tile_regs *regs, i32 c, i32 a, i32 b)
{
    tile_dot(regs, c, a, b, tile_add_four);
}

#endif
