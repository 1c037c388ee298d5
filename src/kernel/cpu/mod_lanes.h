/* SPDX-License-Identifier: Apache-2.0
 * mod_lanes.h: f32 and i32 lanes of one register of whatever level this file is compiled for, through the compiler's
 * vectors, and the functions that math_tmpl.h asks for. Element-wise only, so the width never shows in the bits. */
#ifndef FOLIO_KERNEL_CPU_MOD_LANES_H
#define FOLIO_KERNEL_CPU_MOD_LANES_H

#include <math.h>
#include <string.h>

#include "base/types.h"

#if defined(__AVX512F__)
#include <immintrin.h>
enum { LANES = 16 };
#elif defined(__AVX2__)
#include <immintrin.h>
enum { LANES = 8 };
#else
enum { LANES = 4 };
#endif

typedef float lanes_f __attribute__((vector_size(4 * LANES)));
typedef i32 lanes_i __attribute__((vector_size(4 * LANES)));
typedef u32 lanes_u __attribute__((vector_size(4 * LANES)));

#define LANES_INLINE static inline __attribute__((always_inline))

LANES_INLINE lanes_f lanes_load_f(const void *p, i32 i)
{
    lanes_f x;
    memcpy(&x, (const float *)p + i, sizeof x);
    return x;
}

LANES_INLINE lanes_i lanes_load_i(const void *p, i32 i)
{
    lanes_i x;
    memcpy(&x, (const i32 *)p + i, sizeof x);
    return x;
}

LANES_INLINE void lanes_store_f(void *p, i32 i, lanes_f x)
{
    memcpy((float *)p + i, &x, sizeof x);
}

LANES_INLINE void lanes_store_i(void *p, i32 i, lanes_i x)
{
    memcpy((i32 *)p + i, &x, sizeof x);
}

LANES_INLINE lanes_f m_f(float x)
{
    return x - (lanes_f){ 0 };
}

LANES_INLINE lanes_i m_i(i32 n)
{
    return n - (lanes_i){ 0 };
}

/* mask: 0 or -1 in each lane */
LANES_INLINE lanes_i lanes_select_i(lanes_i mask, lanes_i a, lanes_i b)
{
    return (mask & a) | (~mask & b);
}

LANES_INLINE lanes_f lanes_select_f(lanes_i mask, lanes_f a, lanes_f b)
{
    return (lanes_f)lanes_select_i(mask, (lanes_i)a, (lanes_i)b);
}

#if defined(__AVX512F__)
#define LANES_FMA(a, b, c) ((lanes_f)_mm512_fmadd_ps((__m512)(a), (__m512)(b), (__m512)(c)))
#define LANES_ROUND(a, mode) ((lanes_f)_mm512_roundscale_ps((__m512)(a), (mode) | _MM_FROUND_NO_EXC))
#define LANES_SQRT(a) ((lanes_f)_mm512_sqrt_ps((__m512)(a)))
#elif defined(__AVX2__)
#define LANES_FMA(a, b, c) ((lanes_f)_mm256_fmadd_ps((__m256)(a), (__m256)(b), (__m256)(c)))
#define LANES_ROUND(a, mode) ((lanes_f)_mm256_round_ps((__m256)(a), (mode) | _MM_FROUND_NO_EXC))
#define LANES_SQRT(a) ((lanes_f)_mm256_sqrt_ps((__m256)(a)))
#endif

LANES_INLINE lanes_f m_fma(lanes_f a, lanes_f b, lanes_f c)
{
#if defined(LANES_FMA)
    return LANES_FMA(a, b, c);
#else
    for (i32 i = 0; i < LANES; i++)
        c[i] = fmaf(a[i], b[i], c[i]);
    return c;
#endif
}

LANES_INLINE lanes_f m_rint(lanes_f a)
{
#if defined(LANES_ROUND)
    return LANES_ROUND(a, _MM_FROUND_TO_NEAREST_INT);
#else
    for (i32 i = 0; i < LANES; i++)
        a[i] = rintf(a[i]);
    return a;
#endif
}

LANES_INLINE lanes_f lanes_floor(lanes_f a)
{
#if defined(LANES_ROUND)
    return LANES_ROUND(a, _MM_FROUND_TO_NEG_INF);
#else
    for (i32 i = 0; i < LANES; i++)
        a[i] = floorf(a[i]);
    return a;
#endif
}

LANES_INLINE lanes_f lanes_sqrt(lanes_f a)
{
#if defined(LANES_SQRT)
    return LANES_SQRT(a);
#else
    for (i32 i = 0; i < LANES; i++)
        a[i] = sqrtf(a[i]);
    return a;
#endif
}

/* ---- the rest of what math_tmpl.h asks for */

typedef lanes_f M_F;
typedef lanes_i M_I;
#define m_add(a, b) ((a) + (b))
#define m_sub(a, b) ((a) - (b))
#define m_mul(a, b) ((a) * (b))
#define m_div(a, b) ((a) / (b))
#define m_select_lt(a, b, x, y) lanes_select_f((lanes_i)((a) < (b)), x, y)
#define m_select_ordered(x, y, z) lanes_select_f((lanes_i)((x) == (x)), y, z)
#define m_to_int(x) __builtin_convertvector(x, lanes_i)
#define m_to_float(n) __builtin_convertvector(n, lanes_f)
#define m_bits(x) ((lanes_i)(x))
#define m_from_bits(n) ((lanes_f)(n))
#define m_iadd(a, b) ((lanes_i)((lanes_u)(a) + (lanes_u)(b)))
#define m_isub(a, b) ((lanes_i)((lanes_u)(a) - (lanes_u)(b)))
#define m_iand(a, b) ((a) & (b))
#define m_ior(a, b) ((a) | (b))
#define m_ishl(a, count) ((lanes_i)((lanes_u)(a) << (count)))
#define m_isar(a, count) ((a) >> (count))

#include "mod/math_tmpl.h"

#endif
