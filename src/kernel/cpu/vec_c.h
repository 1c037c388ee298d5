/* SPDX-License-Identifier: Apache-2.0
 * vec_c.h: the 16-lane vector in plain C: what every vec_<isa>.h must do, to the bit.
 * Every level has the same functions, so a kernel body is written once and gives the same bits everywhere. A product
 * and a sum are one rounding exactly where the body says vec_fma. */
#ifndef FOLIO_KERNEL_CPU_VEC_H
#define FOLIO_KERNEL_CPU_VEC_H

#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "base/dtype.h"
#include "base/types.h"

#ifndef VEC_NAME /* else a level above, which has its own name and the same vectors */
#define VEC_NAME "c"
#define VEC_ISA FOLIO_ISA_C
#define VEC_KERNELS folio__kernels_c
#define VEC_PAIRS 0 /* has vec_dot_pairs: vec_avx512_bf16.h */
#define VEC_TILES 0 /* has tiles: vec_amx.h */
#endif
#define VEC_MODS folio__mod_table_c

/* Register blocks: vectors a dot-product block keeps (rows x tokens), rows and vectors of columns of a tile block.
 * They decide speed, never bits. */
enum { VEC_ACCS = 4, VEC_TILE_ROWS = 4, VEC_TILE_COLS = 1 };

typedef struct {
    float x[16];
} vec;

typedef struct {
    u16 bits; /* bit i = lane i */
} vec_mask;

#define FOLIO__LANES for (i32 i = 0; i < 16; i++)

static inline vec vec_set1(float x)
{
    vec r;
    FOLIO__LANES
    r.x[i] = x;
    return r;
}

static inline vec vec_zero(void)
{
    return vec_set1(0.0f);
}

static inline vec vec_iota(void) /* 0, 1, 2 ... 15 */
{
    vec r;
    FOLIO__LANES
    r.x[i] = (float)i;
    return r;
}

static inline vec vec_add(vec a, vec b)
{
    FOLIO__LANES
    a.x[i] += b.x[i];
    return a;
}

static inline vec vec_sub(vec a, vec b)
{
    FOLIO__LANES
    a.x[i] -= b.x[i];
    return a;
}

static inline vec vec_mul(vec a, vec b)
{
    FOLIO__LANES
    a.x[i] *= b.x[i];
    return a;
}

static inline vec vec_div(vec a, vec b)
{
    FOLIO__LANES
    a.x[i] /= b.x[i];
    return a;
}

static inline vec vec_fma(vec a, vec b, vec c) /* a * b + c, rounded once */
{
    FOLIO__LANES
    a.x[i] = fmaf(a.x[i], b.x[i], c.x[i]);
    return a;
}

static inline vec vec_max(vec a, vec b) /* b where either is NaN or both are zero, as x86 does it */
{
    FOLIO__LANES
    a.x[i] = a.x[i] > b.x[i] ? a.x[i] : b.x[i];
    return a;
}

static inline vec vec_round(vec a) /* to integers, ties to even */
{
    FOLIO__LANES
    a.x[i] = rintf(a.x[i]);
    return a;
}

static inline vec vec_sign_of(vec magnitude, vec sign) /* magnitude >= 0 */
{
    FOLIO__LANES
    magnitude.x[i] = copysignf(magnitude.x[i], sign.x[i]);
    return magnitude;
}

static inline vec vec_abs(vec a)
{
    FOLIO__LANES
    a.x[i] = fabsf(a.x[i]);
    return a;
}

/* ---- masks */

static inline vec_mask vec_mask_first(i32 n) /* lanes 0 .. n - 1; 0 <= n <= 16 */
{
    return (vec_mask){ (u16)((1u << n) - 1) };
}

static inline vec_mask vec_mask_range(i32 begin, i32 end) /* lanes begin .. end - 1; both 0 .. 16 */
{
    return (vec_mask){ (u16)(vec_mask_first(end).bits & ~vec_mask_first(begin).bits) };
}

static inline vec_mask vec_mask_and(vec_mask a, vec_mask b)
{
    return (vec_mask){ (u16)(a.bits & b.bits) };
}

static inline vec_mask vec_mask_bytes(const u8 *p, i32 n) /* lanes whose byte is not 0; reads n bytes */
{
    vec_mask r = { 0 };
    for (i32 i = 0; i < n; i++)
        r.bits = (u16)(r.bits | (p[i] != 0) << i);
    return r;
}

static inline vec_mask vec_less(vec a, vec b)
{
    vec_mask r = { 0 };
    FOLIO__LANES
    r.bits = (u16)(r.bits | (a.x[i] < b.x[i]) << i);
    return r;
}

static inline vec vec_select(vec_mask mask, vec yes, vec no)
{
    FOLIO__LANES
    yes.x[i] = mask.bits >> i & 1 ? yes.x[i] : no.x[i];
    return yes;
}

/* p * 2^n, for whole n and results that are normal numbers; 0 where x < least. */
static inline vec vec_exp2_scale(vec p, vec n, vec x, float least)
{
    FOLIO__LANES
    {
        u32 bits;
        memcpy(&bits, &p.x[i], sizeof bits);
        const float whole = n.x[i] > -200.0f && n.x[i] < 200.0f ? n.x[i] : 0.0f; /* NaN and out of range: p decides */
        bits += (u32)(i32)whole << 23;
        memcpy(&p.x[i], &bits, sizeof bits);
        p.x[i] = x.x[i] < least ? 0.0f : p.x[i];
    }
    return p;
}

/* ---- memory: no alignment needed. The _n forms touch n elements only, 0 <= n <= 16, and load 0 elsewhere. */

static inline vec vec_load_n(const float *p, i32 n)
{
    vec r = vec_zero();
    FOLIO__LANES
    if (i < n) /* p may lie between two floats: pairs of 16 bits */
        memcpy(&r.x[i], (const u8 *)p + 4 * i, sizeof(float));
    return r;
}

static inline vec vec_load(const float *p)
{
    return vec_load_n(p, 16);
}

static inline void vec_store_n(float *p, vec a, i32 n)
{
    for (i32 i = 0; i < n; i++)
        p[i] = a.x[i];
}

static inline void vec_store(float *p, vec a)
{
    vec_store_n(p, a, 16);
}

static inline vec vec_load_bf16_n(const u16 *p, i32 n)
{
    vec r;
    FOLIO__LANES
    r.x[i] = i < n ? folio__bf16_to_f32(p[i]) : 0.0f;
    return r;
}

static inline vec vec_load_bf16(const u16 *p)
{
    return vec_load_bf16_n(p, 16);
}

static inline vec vec_load_f16_n(const u16 *p, i32 n)
{
    vec r;
    FOLIO__LANES
    r.x[i] = i < n ? folio__f16_to_f32(p[i]) : 0.0f;
    return r;
}

static inline vec vec_load_f16(const u16 *p)
{
    return vec_load_f16_n(p, 16);
}

/* Quantised elements, unscaled: always 16. */
static inline vec vec_load_i8(const u8 *p)
{
    vec r;
    FOLIO__LANES
    r.x[i] = (float)(i8)p[i];
    return r;
}

static inline vec vec_load_e4m3(const u8 *p)
{
    vec r;
    FOLIO__LANES
    r.x[i] = folio__e4m3_to_f32(p[i]);
    return r;
}

static inline vec vec_load_e5m2(const u8 *p)
{
    vec r;
    FOLIO__LANES
    r.x[i] = folio__e5m2_to_f32(p[i]);
    return r;
}

static inline void vec_store_bf16_n(u16 *p, vec a, i32 n)
{
    for (i32 i = 0; i < n; i++)
        p[i] = folio__f32_to_bf16(a.x[i]);
}

static inline void vec_store_f16_n(u16 *p, vec a, i32 n)
{
    for (i32 i = 0; i < n; i++)
        p[i] = folio__f32_to_f16(a.x[i]);
}

/* ---- across lanes: halves, quarters, eighths, sixteenths; always this tree */

static inline float vec_sum(vec a)
{
    for (i32 half = 8; half; half /= 2)
        for (i32 i = 0; i < half; i++)
            a.x[i] += a.x[i + half];
    return a.x[0];
}

static inline float vec_max_lane(vec a)
{
    for (i32 half = 8; half; half /= 2)
        for (i32 i = 0; i < half; i++)
            a.x[i] = a.x[i] > a.x[i + half] ? a.x[i] : a.x[i + half];
    return a.x[0];
}

static inline void vec_sums(const vec a[VEC_ACCS], float sums[VEC_ACCS]) /* sums[i] = vec_sum(a[i]) */
{
    for (i32 i = 0; i < VEC_ACCS; i++)
        sums[i] = vec_sum(a[i]);
}

static inline void vec_transpose(vec a[16])
{
    for (i32 i = 0; i < 16; i++)
        for (i32 j = 0; j < i; j++) {
            const float x = a[i].x[j];
            a[i].x[j] = a[j].x[i];
            a[j].x[i] = x;
        }
}

#undef FOLIO__LANES
#endif
