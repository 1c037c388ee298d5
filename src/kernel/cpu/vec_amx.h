/* SPDX-License-Identifier: Apache-2.0
 * vec_amx.h: the vectors of vec_avx512_bf16.h, and tiles: where q, k and v are bf16 both products run in AMX. */
#ifndef FOLIO_KERNEL_CPU_VEC_AMX_H
#define FOLIO_KERNEL_CPU_VEC_AMX_H

#define VEC_NAME "amx"
#define VEC_ISA FOLIO_ISA_AMX
#define VEC_KERNELS folio__kernels_amx
#define VEC_PAIRS 0
#define VEC_TILES 1
#include "kernel/cpu/vec_avx512_bf16.h"
#include "kernel/cpu/tile_regs_amx.h"

/* [16 keys][4 rows], four keys a vector: lane i belongs to row i % 4. */

static inline vec vec_four_load(const float x[4]) /* x[i % 4] */
{
    return _mm512_broadcast_f32x4(_mm_loadu_ps(x));
}

static inline bool vec_any_less(vec a, vec b)
{
    return vec_less(a, b) != 0;
}

static inline vec vec_four_max(vec a) /* over the lanes of a row, in all of them */
{
    a = vec_max(a, _mm512_shuffle_f32x4(a, a, 0x4e));
    return vec_max(a, _mm512_shuffle_f32x4(a, a, 0xb1));
}

static inline vec vec_four_sum(vec a)
{
    a = vec_add(a, _mm512_shuffle_f32x4(a, a, 0x4e));
    return vec_add(a, _mm512_shuffle_f32x4(a, a, 0xb1));
}

/* [16 keys][4 rows] -> [4 rows][16 keys] */
static inline void vec_four_transpose(const vec a[4], vec rows[4])
{
    const __m512i by_row = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    vec x[4];
    UNROLL(4)
    for (i32 i = 0; i < 4; i++)
        x[i] = _mm512_permutexvar_ps(by_row, a[i]);
    const vec lo_01 = _mm512_shuffle_f32x4(x[0], x[1], 0x44), lo_23 = _mm512_shuffle_f32x4(x[2], x[3], 0x44);
    const vec hi_01 = _mm512_shuffle_f32x4(x[0], x[1], 0xee), hi_23 = _mm512_shuffle_f32x4(x[2], x[3], 0xee);
    rows[0] = _mm512_shuffle_f32x4(lo_01, lo_23, 0x88);
    rows[1] = _mm512_shuffle_f32x4(lo_01, lo_23, 0xdd);
    rows[2] = _mm512_shuffle_f32x4(hi_01, hi_23, 0x88);
    rows[3] = _mm512_shuffle_f32x4(hi_01, hi_23, 0xdd);
}

/* Lanes rounded to bf16 in the first, and in the second slot of pairs; zeros beside them. */
static inline void vec_store_slots(u32 *first, u32 *second, vec a)
{
    const __m512i x = _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(a));
    _mm512_storeu_si512(first, x);
    _mm512_storeu_si512(second, _mm512_slli_epi32(x, 16));
}

#endif
