/* SPDX-License-Identifier: Apache-2.0
 * vec_avx512_bf16.h: vec_avx512.h, and products of pairs of bf16: a lane of 32 bits holds two, the first in its lower
 * half. VDPBF16PS rounds and flushes in its own way, so what uses it is near the other levels, not equal to them. */
#ifndef FOLIO_KERNEL_CPU_VEC_AVX512_BF16_H
#define FOLIO_KERNEL_CPU_VEC_AVX512_BF16_H

#ifndef VEC_NAME /* else a level above */
#define VEC_NAME "avx512_bf16"
#define VEC_ISA FOLIO_ISA_AVX512_BF16
#define VEC_KERNELS folio__kernels_avx512_bf16
#define VEC_PAIRS 1
#define VEC_TILES 0
#define VEC_BYTES 1 /* products of int8 in vectors; level amx has tiles */
#include "kernel/cpu/bytes_avx512.h"
#endif
#include "kernel/cpu/vec_avx512.h"

/* c + a.first * b.first + a.second * b.second, lane by lane. */
static inline vec vec_dot_pairs(vec a, vec b, vec c)
{
    return _mm512_dpbf16_ps(c, (__m512bh)_mm512_castps_si512(a), (__m512bh)_mm512_castps_si512(b));
}

/* n elements of 16 bits, 0 <= n <= 32, zeros behind. */
static inline vec vec_load_halves_n(const u16 *p, i32 n)
{
    return _mm512_castsi512_ps(_mm512_maskz_loadu_epi16((__mmask32)(UINT64_MAX >> (64 - n - 1) >> 1), p));
}

/* Elements 0 .. 15 (or 16 .. 31) of rows a and b, side by side: (a0, b0), (a1, b1) ... */
static inline vec vec_pairs_lo(vec a, vec b)
{
    const __m512i at = _mm512_set_epi16(47, 15, 46, 14, 45, 13, 44, 12, 43, 11, 42, 10, 41, 9, 40, 8, 39, 7, 38, 6, 37,
                                        5, 36, 4, 35, 3, 34, 2, 33, 1, 32, 0);
    return _mm512_castsi512_ps(_mm512_permutex2var_epi16(_mm512_castps_si512(a), at, _mm512_castps_si512(b)));
}

static inline vec vec_pairs_hi(vec a, vec b)
{
    const __m512i at = _mm512_set_epi16(63, 31, 62, 30, 61, 29, 60, 28, 59, 27, 58, 26, 57, 25, 56, 24, 55, 23, 54, 22,
                                        53, 21, 52, 20, 51, 19, 50, 18, 49, 17, 48, 16);
    return _mm512_castsi512_ps(_mm512_permutex2var_epi16(_mm512_castps_si512(a), at, _mm512_castps_si512(b)));
}

/* The larger sizes of two vectors of bf16, as bits: NaN and infinities are on top. */
static inline vec vec_halves_top(vec a, vec b)
{
    const __m512i size = _mm512_and_si512(_mm512_castps_si512(b), _mm512_set1_epi16(0x7fff));
    return _mm512_castsi512_ps(_mm512_max_epu16(_mm512_castps_si512(a), size));
}

static inline bool vec_halves_are_finite(vec top)
{
    return _mm512_cmpge_epu16_mask(_mm512_castps_si512(top), _mm512_set1_epi16(0x7f80)) == 0;
}

/* Lanes rounded to bf16. */
static inline void vec_store_rounded(u16 *p, vec a)
{
    _mm256_storeu_si256((__m256i *)p, (__m256i)_mm512_cvtneps_pbh(a));
}

/* Both of each pair times factor: 1, -1 or 0. */
static inline vec vec_scale_pairs(vec a, float factor)
{
    const __m512i signs = _mm512_set1_epi32(factor < 0.0f ? (i32)0x80008000u : 0);
    return factor == 0.0f ? vec_zero() : _mm512_castsi512_ps(_mm512_xor_si512(_mm512_castps_si512(a), signs));
}

#endif
