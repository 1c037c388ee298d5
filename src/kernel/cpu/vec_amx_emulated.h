/* SPDX-License-Identifier: Apache-2.0
 * vec_amx_emulated.h: what vec_amx.h has, in plain C: the kernels of AMX on any CPU, to test them. */
#ifndef FOLIO_KERNEL_CPU_VEC_AMX_EMULATED_H
#define FOLIO_KERNEL_CPU_VEC_AMX_EMULATED_H

#define VEC_NAME "amx_emulated"
#define VEC_ISA FOLIO_ISA_AMX_EMULATED
#define VEC_KERNELS folio__kernels_amx_emulated
#define VEC_PAIRS 0
#define VEC_TILES 1
#include "kernel/cpu/vec_c.h"
#include "kernel/cpu/tile_regs_c.h"

#define FOLIO__LANES for (i32 i = 0; i < 16; i++)

/* n elements of 16 bits, 0 <= n <= 32, zeros behind. */
static inline vec vec_load_halves_n(const u16 *p, i32 n)
{
    vec r = vec_zero();
    memcpy(r.x, p, (size_t)n * sizeof *p);
    return r;
}

static inline vec vec_pairs_from(vec a, vec b, i32 first)
{
    u16 x[32], y[32], pairs[32];
    memcpy(x, a.x, sizeof x);
    memcpy(y, b.x, sizeof y);
    for (i32 i = 0; i < 16; i++) {
        pairs[2 * i] = x[first + i];
        pairs[2 * i + 1] = y[first + i];
    }
    memcpy(a.x, pairs, sizeof pairs);
    return a;
}

/* Elements 0 .. 15 (or 16 .. 31) of rows a and b, side by side: (a0, b0), (a1, b1) ... */
static inline vec vec_pairs_lo(vec a, vec b)
{
    return vec_pairs_from(a, b, 0);
}

static inline vec vec_pairs_hi(vec a, vec b)
{
    return vec_pairs_from(a, b, 16);
}

/* The larger sizes of two vectors of bf16, as bits: NaN and infinities are on top. */
static inline vec vec_halves_top(vec a, vec b)
{
    u16 x[32], y[32];
    memcpy(x, a.x, sizeof x);
    memcpy(y, b.x, sizeof y);
    for (i32 i = 0; i < 32; i++)
        x[i] = (y[i] & 0x7fff) > x[i] ? (u16)(y[i] & 0x7fff) : x[i];
    memcpy(a.x, x, sizeof x);
    return a;
}

static inline bool vec_halves_are_finite(vec top)
{
    u16 x[32];
    bool finite = true;
    memcpy(x, top.x, sizeof x);
    for (i32 i = 0; i < 32; i++)
        finite = finite && x[i] < 0x7f80;
    return finite;
}

/* Lanes rounded to bf16. */
static inline void vec_store_rounded(u16 *p, vec a)
{
    vec_store_bf16_n(p, a, 16);
}

/* [16 keys][4 rows], four keys a vector: lane i belongs to row i % 4. */

static inline vec vec_four_load(const float x[4]) /* x[i % 4] */
{
    vec r;
    FOLIO__LANES
    r.x[i] = x[i % 4];
    return r;
}

static inline bool vec_any_less(vec a, vec b)
{
    bool less = false;
    FOLIO__LANES
    less = less || a.x[i] < b.x[i];
    return less;
}

static inline vec vec_four_max(vec a) /* over the lanes of a row, in all of them */
{
    vec r;
    FOLIO__LANES
    r.x[i] = fmaxf(fmaxf(a.x[i % 4], a.x[i % 4 + 4]), fmaxf(a.x[i % 4 + 8], a.x[i % 4 + 12]));
    return r;
}

static inline vec vec_four_sum(vec a)
{
    vec r;
    FOLIO__LANES
    r.x[i] = (a.x[i % 4] + a.x[i % 4 + 8]) + (a.x[i % 4 + 4] + a.x[i % 4 + 12]);
    return r;
}

/* [16 keys][4 rows] -> [4 rows][16 keys] */
static inline void vec_four_transpose(const vec a[4], vec rows[4])
{
    for (i32 r = 0; r < 4; r++)
        for (i32 key = 0; key < 16; key++)
            rows[r].x[key] = a[key / 4].x[key % 4 * 4 + r];
}

/* Lanes rounded to bf16 in the first, and in the second slot of pairs; zeros beside them. */
static inline void vec_store_slots(u32 *first, u32 *second, vec a)
{
    for (i32 i = 0; i < 16; i++) {
        first[i] = folio__f32_to_bf16(a.x[i]);
        second[i] = first[i] << 16;
    }
}

#undef FOLIO__LANES

#endif
