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

/* Asks for 4 lines at "address", for 16: an instruction each, from one register. gcc makes 16 addresses of them, and
 * keeps those in memory. */
#define FOLIO__FETCH_4(op, at, address)                                                                   \
    op " " #at address "\n\t" op " " #at "+64" address "\n\t" op " " #at "+128" address "\n\t" op " " #at \
       "+192" address "\n\t"
#define FOLIO__FETCH_16(op)       \
    FOLIO__FETCH_4(op, 0, "(%0)") \
    FOLIO__FETCH_4(op, 256, "(%0)") FOLIO__FETCH_4(op, 512, "(%0)") FOLIO__FETCH_4(op, 768, "(%0)")

static inline void vec_fetch_kb(const u8 *p)
{
    __asm__ volatile(FOLIO__FETCH_16("prefetcht0") : : "r"(p));
}

/* Into the second level. */
static inline void vec_fetch_kb_far(const u8 *p)
{
    __asm__ volatile(FOLIO__FETCH_16("prefetcht1") : : "r"(p));
}

/* Two vectors rounded to bf16, one behind the other. */
static inline void vec_store_rounded_two(u16 *p, vec a, vec b)
{
    _mm512_storeu_si512(p, (__m512i)_mm512_cvtne2ps_pbh(b, a));
}

/* a - floor(a), 0 for infinities. */
static inline vec vec_fraction(vec a)
{
    return _mm512_reduce_ps(a, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
}

/* a * 2^floor(b) */
static inline vec vec_scale_floor(vec a, vec b)
{
    return _mm512_scalef_ps(a, b);
}

/* False where one is NaN. */
static inline bool vec_all_at_most(vec a, vec b)
{
    return _mm512_cmp_ps_mask(a, b, _CMP_NLE_UQ) == 0;
}

/* Bytes [at, at + 512) of two places. */
static inline void vec_fetch_halves(const u8 *a, const u8 *b, i64 at)
{
    __asm__ volatile(FOLIO__FETCH_4("prefetcht0", 0, "(%0,%2)") FOLIO__FETCH_4("prefetcht0", 256, "(%0,%2)")
                         FOLIO__FETCH_4("prefetcht0", 0, "(%1,%2)") FOLIO__FETCH_4("prefetcht0", 256, "(%1,%2)")
                     :
                     : "r"(a), "r"(b), "r"(at));
}

/* Bytes [at, at + 128) of four places, into the second level. */
static inline void vec_fetch_eighths_far(const u8 *a, const u8 *b, const u8 *c, const u8 *d, i64 at)
{
    __asm__ volatile("prefetcht1 (%0,%4)\n\tprefetcht1 64(%0,%4)\n\t"
                     "prefetcht1 (%1,%4)\n\tprefetcht1 64(%1,%4)\n\t"
                     "prefetcht1 (%2,%4)\n\tprefetcht1 64(%2,%4)\n\t"
                     "prefetcht1 (%3,%4)\n\tprefetcht1 64(%3,%4)"
                     :
                     : "r"(a), "r"(b), "r"(c), "r"(d), "r"(at));
}

/* A line of each of 16 rows. */
static inline void vec_fetch_rows(const u8 *p, i64 stride)
{
    for (i32 i = 0; i < 4; i++, p += 4 * stride)
        __asm__ volatile("prefetcht0 (%0)\n\t"
                         "prefetcht0 (%0,%1)\n\t"
                         "prefetcht0 (%0,%1,2)\n\t"
                         "prefetcht0 (%0,%2)"
                         :
                         : "r"(p), "r"(stride), "r"(3 * stride));
}

#undef FOLIO__FETCH_16
#undef FOLIO__FETCH_4

/* a0 b0 a1 b1 ... of lanes 0 .. 7 */
static inline vec vec_zip_lo(vec a, vec b)
{
    const __m512i at = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
    return _mm512_permutex2var_ps(a, at, b);
}

/* of lanes 8 .. 15 */
static inline vec vec_zip_hi(vec a, vec b)
{
    const __m512i at = _mm512_setr_epi32(8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
    return _mm512_permutex2var_ps(a, at, b);
}

/* [16 keys][4 rows], four keys a vector: lane i belongs to row i % 4. */

/* Four keys of x, `stride` floats apart. */
static inline vec vec_four_rows(const float *x, i64 stride)
{
    vec a = _mm512_castps128_ps512(_mm_loadu_ps(x));
    a = _mm512_insertf32x4(a, _mm_loadu_ps(x + stride), 1);
    a = _mm512_insertf32x4(a, _mm_loadu_ps(x + 2 * stride), 2);
    return _mm512_insertf32x4(a, _mm_loadu_ps(x + 3 * stride), 3);
}

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

static inline vec vec_four_spread(const float x[4]) /* x[i / 4] */
{
    const __m512i at = _mm512_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3);
    return _mm512_permutexvar_ps(at, _mm512_castps128_ps512(_mm_loadu_ps(x)));
}

/* Whole numbers in three signed digits of base 256: sums of products with each -> the sum. */
static inline vec vec_of_digits(__m512i first, __m512i middle, __m512i last)
{
    const __m512i low = _mm512_add_epi32(_mm512_slli_epi32(middle, 8), last);
    return _mm512_fmadd_ps(_mm512_cvtepi32_ps(first), _mm512_set1_ps(65536.0f), _mm512_cvtepi32_ps(low));
}

/* digits [n: 2 or 3][16][16], from row `row` of each, last digit first */
static inline vec vec_row_of_digits(const i32 *digits, i32 row, i32 n)
{
    const i32 *last = digits + row * 16;
    if (n == 2)
        return _mm512_cvtepi32_ps(
            _mm512_add_epi32(_mm512_slli_epi32(_mm512_loadu_si512(last + 256), 8), _mm512_loadu_si512(last)));
    return vec_of_digits(_mm512_loadu_si512(last + 512), _mm512_loadu_si512(last + 256), _mm512_loadu_si512(last));
}

/* words [4 keys][last digit of 4 rows, middle, first, nothing] -> [4 keys][4 rows] */
static inline vec vec_four_of_digits(const i32 *words)
{
    const __m512i a = _mm512_loadu_si512(words), b = _mm512_loadu_si512(words + 16);
    const __m512i c = _mm512_loadu_si512(words + 32), d = _mm512_loadu_si512(words + 48);
    const __m512i ab = _mm512_shuffle_i32x4(a, b, 0x44), cd = _mm512_shuffle_i32x4(c, d, 0x44);
    const __m512i ab_first = _mm512_shuffle_i32x4(a, b, 0xee), cd_first = _mm512_shuffle_i32x4(c, d, 0xee);
    return vec_of_digits(_mm512_shuffle_i32x4(ab_first, cd_first, 0x88), _mm512_shuffle_i32x4(ab, cd, 0xdd),
                         _mm512_shuffle_i32x4(ab, cd, 0x88));
}

/* Lanes within 8355711, rounded, as bytes: their last digits, middle, first. */
static inline __m512i vec_digits(vec a)
{
    const __m512i half = _mm512_set1_epi32(0x808080); /* to floor instead of to nearest, digit by digit */
    return _mm512_xor_si512(_mm512_add_epi32(_mm512_cvtps_epi32(a), half), half);
}

/* digits [n: 2 or 3][4 slots][4][16]: each digit in each byte of a word, zeros beside it; last digit first. */
static inline void vec_store_digit_slots(u32 *digits, vec a, i32 n)
{
    const __m512i x = vec_digits(a), byte = _mm512_set1_epi32(0xff);
    UNROLL(3)
    for (i32 i = 0; i < n; i++) {
        const __m512i digit = _mm512_and_si512(i == 0 ? x : _mm512_srli_epi32(x, 8 * (u32)i), byte);
        _mm512_storeu_si512(digits + 256 * i, digit);
        _mm512_storeu_si512(digits + 256 * i + 64, _mm512_slli_epi32(digit, 8));
        _mm512_storeu_si512(digits + 256 * i + 128, _mm512_slli_epi32(digit, 16));
        _mm512_storeu_si512(digits + 256 * i + 192, _mm512_slli_epi32(digit, 24));
    }
}

/* digits [3][16], last first */
static inline void vec_store_digits(u8 *digits, vec a)
{
    const __m512i x = vec_digits(a);
    _mm_storeu_si128((__m128i *)(void *)digits, _mm512_cvtepi32_epi8(x));
    _mm_storeu_si128((__m128i *)(void *)(digits + 16), _mm512_cvtepi32_epi8(_mm512_srli_epi32(x, 8)));
    _mm_storeu_si128((__m128i *)(void *)(digits + 32), _mm512_cvtepi32_epi8(_mm512_srli_epi32(x, 16)));
}

/* Lanes rounded to bf16 in the first, and in the second slot of pairs; zeros beside them. */
static inline void vec_store_slots(u32 *first, u32 *second, vec a)
{
    const __m512i x = _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(a));
    _mm512_storeu_si512(first, x);
    _mm512_storeu_si512(second, _mm512_slli_epi32(x, 16));
}

#endif
