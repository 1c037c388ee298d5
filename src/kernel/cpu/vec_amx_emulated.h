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

/* Two vectors rounded to bf16, one behind the other. */
static inline void vec_store_rounded_two(u16 *p, vec a, vec b)
{
    vec_store_bf16_n(p, a, 16);
    vec_store_bf16_n(p + 16, b, 16);
}

/* Asks for 16 lines. */
static inline void vec_fetch_kb(const u8 *p)
{
    FOLIO__LANES
    __builtin_prefetch(p + i * 64, 0, 3);
}

/* Into the second level. */
static inline void vec_fetch_kb_far(const u8 *p)
{
    FOLIO__LANES
    __builtin_prefetch(p + i * 64, 0, 2);
}

/* Bytes [at, at + 512) of two places. */
static inline void vec_fetch_halves(const u8 *a, const u8 *b, i64 at)
{
    FOLIO__LANES
    __builtin_prefetch((i < 8 ? a : b) + at + i % 8 * 64, 0, 3);
}

/* Bytes [at, at + 128) of four places, into the second level. */
static inline void vec_fetch_eighths_far(const u8 *a, const u8 *b, const u8 *c, const u8 *d, i64 at)
{
    const u8 *const places[4] = { a, b, c, d };
    for (i32 i = 0; i < 8; i++)
        __builtin_prefetch(places[i / 2] + at + i % 2 * 64, 0, 2);
}

static inline void vec_fetch_rows(const u8 *p, i64 stride)
{
    FOLIO__LANES
    __builtin_prefetch(p + i * stride, 0, 3);
}

/* a0 b0 a1 b1 ... of lanes 0 .. 7 */
static inline vec vec_zip_lo(vec a, vec b)
{
    vec r;
    FOLIO__LANES
    r.x[i] = i % 2 ? b.x[i / 2] : a.x[i / 2];
    return r;
}

/* of lanes 8 .. 15 */
static inline vec vec_zip_hi(vec a, vec b)
{
    vec r;
    FOLIO__LANES
    r.x[i] = i % 2 ? b.x[8 + i / 2] : a.x[8 + i / 2];
    return r;
}

/* [16 keys][4 rows], four keys a vector: lane i belongs to row i % 4. */

/* Four keys of x, `stride` floats apart. */
static inline vec vec_four_rows(const float *x, i64 stride)
{
    vec r;
    FOLIO__LANES
    r.x[i] = x[i / 4 * stride + i % 4];
    return r;
}

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

static inline vec vec_fraction(vec a)
{
    FOLIO__LANES
    a.x[i] = isinf(a.x[i]) ? 0.0f : a.x[i] - floorf(a.x[i]);
    return a;
}

static inline vec vec_scale_floor(vec a, vec b)
{
    FOLIO__LANES
    {
        const float n = floorf(b.x[i]); /* NaN: so is a */
        a.x[i] = n > 200.0f ? INFINITY : n < -200.0f ? 0.0f : ldexpf(a.x[i], isnan(n) ? 0 : (i32)n);
    }
    return a;
}

static inline bool vec_all_at_most(vec a, vec b)
{
    bool at_most = true;
    FOLIO__LANES
    at_most = at_most && a.x[i] <= b.x[i];
    return at_most;
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

static inline vec vec_four_spread(const float x[4]) /* x[i / 4] */
{
    vec r;
    FOLIO__LANES
    r.x[i] = x[i / 4];
    return r;
}

/* Whole numbers in three signed digits of base 256: sums of products with each -> the sum. */
static inline float lane_of_digits(i32 first, i32 middle, i32 last)
{
    return fmaf((float)first, 65536.0f, (float)(middle * 256 + last));
}

/* digits [n: 2 or 3][16][16], from row `row` of each, last digit first */
static inline vec vec_row_of_digits(const i32 *digits, i32 row, i32 n)
{
    vec r;
    FOLIO__LANES
    r.x[i] = lane_of_digits(n == 3 ? digits[512 + row * 16 + i] : 0, digits[256 + row * 16 + i], digits[row * 16 + i]);
    return r;
}

/* words [4 keys][last digit of 4 rows, middle, first, nothing] -> [4 keys][4 rows] */
static inline vec vec_four_of_digits(const i32 *words)
{
    vec r;
    FOLIO__LANES
    {
        const i32 *key = words + i / 4 * 16 + i % 4;
        r.x[i] = lane_of_digits(key[8], key[4], key[0]);
    }
    return r;
}

/* A lane within 8355711, rounded, as bytes: its last digit, middle, first. */
static inline u32 lane_digits(float x)
{
    const i32 whole = fabsf(x) < 8388608.0f ? (i32)rintf(x) : 0; /* else NaN: what comes of it is NaN anyway */
    return ((u32)whole + 0x808080u) ^ 0x808080u;
}

/* digits [n: 2 or 3][4 slots][4][16]: each digit in each byte of a word, zeros beside it; last digit first. */
static inline void vec_store_digit_slots(u32 *digits, vec a, i32 n)
{
    FOLIO__LANES
    for (i32 digit = 0; digit < n; digit++)
        for (i32 slot = 0; slot < 4; slot++)
            digits[256 * digit + 64 * slot + i] = (lane_digits(a.x[i]) >> (8 * digit) & 0xff) << (8 * slot);
}

/* digits [3][16], last first */
static inline void vec_store_digits(u8 *digits, vec a)
{
    FOLIO__LANES
    for (i32 digit = 0; digit < 3; digit++)
        digits[16 * digit + i] = (u8)(lane_digits(a.x[i]) >> (8 * digit));
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
