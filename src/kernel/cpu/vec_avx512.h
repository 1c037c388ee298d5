/* SPDX-License-Identifier: Apache-2.0
 * vec_avx512.h: the 16-lane vector as one zmm register. vec_c.h says what each function means. */
#ifndef FOLIO_KERNEL_CPU_VEC_H
#define FOLIO_KERNEL_CPU_VEC_H

#include <immintrin.h>
#include <stdbool.h>

#include "base/types.h"
#include "kernel/cpu/unroll.h"

#ifndef VEC_NAME /* else a level above, which has its own name and the same vectors */
#define VEC_NAME "avx512"
#define VEC_ISA FOLIO_ISA_AVX512
#define VEC_KERNELS folio__kernels_avx512
#define VEC_PAIRS 0
#define VEC_TILES 0
#endif
#define VEC_MODS folio__mod_table_avx512

/* Register blocks, sized for 32 registers. */
enum { VEC_ACCS = 16, VEC_TILE_ROWS = 12, VEC_TILE_COLS = 2 };

typedef __m512 vec;
typedef __mmask16 vec_mask;

static inline vec vec_zero(void)
{
    return _mm512_setzero_ps();
}

static inline vec vec_set1(float x)
{
    return _mm512_set1_ps(x);
}

static inline vec vec_iota(void)
{
    return _mm512_setr_ps(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
}

static inline vec vec_add(vec a, vec b)
{
    return _mm512_add_ps(a, b);
}

static inline vec vec_sub(vec a, vec b)
{
    return _mm512_sub_ps(a, b);
}

static inline vec vec_mul(vec a, vec b)
{
    return _mm512_mul_ps(a, b);
}

static inline vec vec_div(vec a, vec b)
{
    return _mm512_div_ps(a, b);
}

static inline vec vec_fma(vec a, vec b, vec c)
{
    return _mm512_fmadd_ps(a, b, c);
}

static inline vec vec_max(vec a, vec b)
{
    return _mm512_max_ps(a, b);
}

static inline vec vec_round(vec a)
{
    return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

static inline vec vec_sign_of(vec magnitude, vec sign)
{
    const __m512i bit = _mm512_set1_epi32(INT32_MIN);
    return _mm512_castsi512_ps(
        _mm512_ternarylogic_epi32(bit, _mm512_castps_si512(sign), _mm512_castps_si512(magnitude), 0xca));
}

static inline vec vec_abs(vec a)
{
    return _mm512_abs_ps(a);
}

/* ---- masks */

static inline vec_mask vec_mask_first(i32 n)
{
    return (vec_mask)((1u << n) - 1);
}

static inline vec_mask vec_mask_range(i32 begin, i32 end)
{
    return (vec_mask)(vec_mask_first(end) & ~vec_mask_first(begin));
}

static inline vec_mask vec_mask_and(vec_mask a, vec_mask b)
{
    return (vec_mask)(a & b);
}

static inline vec_mask vec_mask_bytes(const u8 *p, i32 n)
{
    const __m128i bytes = _mm_maskz_loadu_epi8(vec_mask_first(n), p);
    return _mm_test_epi8_mask(bytes, bytes);
}

static inline vec_mask vec_less(vec a, vec b)
{
    return _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ);
}

static inline vec vec_select(vec_mask mask, vec yes, vec no)
{
    return _mm512_mask_blend_ps(mask, no, yes);
}

static inline vec vec_exp2_scale(vec p, vec n, vec x, float least)
{
    const __mmask16 keep = _mm512_cmp_ps_mask(x, _mm512_set1_ps(least), _CMP_NLT_UQ);
    return _mm512_maskz_scalef_ps(keep, p, n);
}

/* ---- memory */

static inline vec vec_load(const float *p)
{
    return _mm512_loadu_ps(p);
}

static inline vec vec_load_n(const float *p, i32 n)
{
    return _mm512_maskz_loadu_ps(vec_mask_first(n), p);
}

static inline void vec_store(float *p, vec a)
{
    _mm512_storeu_ps(p, a);
}

static inline void vec_store_n(float *p, vec a, i32 n)
{
    _mm512_mask_storeu_ps(p, vec_mask_first(n), a);
}

static inline vec vec_of_bf16(__m256i x)
{
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(x), 16));
}

static inline vec vec_load_bf16(const u16 *p)
{
    return vec_of_bf16(_mm256_loadu_si256((const __m256i *)p));
}

static inline vec vec_load_bf16_n(const u16 *p, i32 n)
{
    return vec_of_bf16(_mm256_maskz_loadu_epi16(vec_mask_first(n), p));
}

static inline vec vec_load_f16(const u16 *p)
{
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p));
}

static inline vec vec_load_f16_n(const u16 *p, i32 n)
{
    return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(vec_mask_first(n), p));
}

static inline vec vec_load_i8(const u8 *p)
{
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)p)));
}

/* e4m3 in the bits of an f16 is 2^8 too small; NaN, all ones, is made one. */
static inline vec vec_load_e4m3(const u8 *p)
{
    const __m256i x = _mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i *)p)), ones = _mm256_set1_epi16(0x7f);
    const __m256i magnitude = _mm256_and_si256(x, ones);
    const __m256i sign = _mm256_slli_epi16(_mm256_andnot_si256(ones, x), 8);
    const __m256i half = _mm256_or_si256(sign, _mm256_slli_epi16(magnitude, 7));
    const __mmask16 is_nan = _mm256_cmpeq_epi16_mask(magnitude, ones);
    const __m256i bits = _mm256_mask_mov_epi16(half, is_nan, _mm256_set1_epi16(0x7e00));
    return _mm512_mul_ps(_mm512_cvtph_ps(bits), _mm512_set1_ps(256.0f));
}

static inline vec vec_load_e5m2(const u8 *p)
{
    return _mm512_cvtph_ps(_mm256_slli_epi16(_mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i *)p)), 8));
}

static inline __m256i vec_to_bf16(vec a)
{
    const __m512i bits = _mm512_castps_si512(a);
    const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    const __m512i rounded = _mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7fff)), odd);
    const __m512i quiet = _mm512_or_si512(bits, _mm512_set1_epi32(0x400000));
    const __mmask16 is_nan = _mm512_cmp_ps_mask(a, a, _CMP_UNORD_Q);
    return _mm512_cvtepi32_epi16(_mm512_srli_epi32(_mm512_mask_blend_epi32(is_nan, rounded, quiet), 16));
}

static inline void vec_store_bf16_n(u16 *p, vec a, i32 n)
{
    _mm256_mask_storeu_epi16(p, vec_mask_first(n), vec_to_bf16(a));
}

static inline void vec_store_f16_n(u16 *p, vec a, i32 n)
{
    _mm256_mask_storeu_epi16(p, vec_mask_first(n), _mm512_cvtps_ph(a, _MM_FROUND_TO_NEAREST_INT));
}

/* ---- across lanes */

static inline float vec_sum(vec a)
{
    const __m256 h8 = _mm256_add_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps(a, 1));
    const __m128 h4 = _mm_add_ps(_mm256_castps256_ps128(h8), _mm256_extractf128_ps(h8, 1));
    const __m128 h2 = _mm_add_ps(h4, _mm_movehl_ps(h4, h4));
    return _mm_cvtss_f32(_mm_add_ss(h2, _mm_movehdup_ps(h2)));
}

static inline float vec_max_lane(vec a)
{
    const __m256 h8 = _mm256_max_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps(a, 1));
    const __m128 h4 = _mm_max_ps(_mm256_castps256_ps128(h8), _mm256_extractf128_ps(h8, 1));
    const __m128 h2 = _mm_max_ps(h4, _mm_movehl_ps(h4, h4));
    return _mm_cvtss_f32(_mm_max_ss(h2, _mm_movehdup_ps(h2)));
}

/* Halves of a and of b are added: the sum of a's in the lower half (of 16, 8, 4, 2 lanes), of b's in the upper. */
static inline vec vec_fold_16(vec a, vec b)
{
    return vec_add(_mm512_mask_blend_ps(0xff00, a, b), _mm512_shuffle_f32x4(a, b, 0x4e));
}

static inline vec vec_fold_8(vec a, vec b)
{
    const vec crossed = _mm512_mask_blend_ps(0xf0f0, b, a);
    return vec_add(_mm512_mask_blend_ps(0xf0f0, a, b), _mm512_shuffle_f32x4(crossed, crossed, 0xb1));
}

static inline vec vec_fold_4(vec a, vec b)
{
    return vec_add(_mm512_mask_blend_ps(0xcccc, a, b), _mm512_shuffle_ps(a, b, 0x4e));
}

static inline vec vec_fold_2(vec a, vec b)
{
    const vec crossed = _mm512_mask_blend_ps(0xaaaa, b, a);
    return vec_add(_mm512_mask_blend_ps(0xaaaa, a, b), _mm512_permute_ps(crossed, 0xb1));
}

static inline void vec_sums(const vec a[VEC_ACCS], float sums[VEC_ACCS])
{
    vec h8[8], h4[4];
    UNROLL(8)
    for (i32 i = 0; i < 8; i++)
        h8[i] = vec_fold_16(a[i], a[i + 8]);
    UNROLL(4)
    for (i32 i = 0; i < 4; i++)
        h4[i] = vec_fold_8(h8[i], h8[i + 4]);
    vec_store(sums, vec_fold_2(vec_fold_4(h4[0], h4[2]), vec_fold_4(h4[1], h4[3])));
}

static inline void vec_transpose(vec a[16])
{
    vec b[16];
    UNROLL(8)
    for (i32 i = 0; i < 16; i += 2) { /* pairs of rows by element */
        b[i] = _mm512_unpacklo_ps(a[i], a[i + 1]);
        b[i + 1] = _mm512_unpackhi_ps(a[i], a[i + 1]);
    }
    UNROLL(4)
    for (i32 i = 0; i < 16; i += 4) { /* fours of rows: a[i + k] holds columns k, k + 4, k + 8, k + 12 */
        a[i] = _mm512_shuffle_ps(b[i], b[i + 2], 0x44);
        a[i + 1] = _mm512_shuffle_ps(b[i], b[i + 2], 0xee);
        a[i + 2] = _mm512_shuffle_ps(b[i + 1], b[i + 3], 0x44);
        a[i + 3] = _mm512_shuffle_ps(b[i + 1], b[i + 3], 0xee);
    }
    UNROLL(4)
    for (i32 k = 0; k < 4; k++) { /* gather the quarters of four fours */
        const vec even_01 = _mm512_shuffle_f32x4(a[k], a[k + 4], 0x88),
                  odd_01 = _mm512_shuffle_f32x4(a[k], a[k + 4], 0xdd);
        const vec even_23 = _mm512_shuffle_f32x4(a[k + 8], a[k + 12], 0x88);
        const vec odd_23 = _mm512_shuffle_f32x4(a[k + 8], a[k + 12], 0xdd);
        b[k] = _mm512_shuffle_f32x4(even_01, even_23, 0x88);
        b[k + 8] = _mm512_shuffle_f32x4(even_01, even_23, 0xdd);
        b[k + 4] = _mm512_shuffle_f32x4(odd_01, odd_23, 0x88);
        b[k + 12] = _mm512_shuffle_f32x4(odd_01, odd_23, 0xdd);
    }
    UNROLL(16)
    for (i32 i = 0; i < 16; i++)
        a[i] = b[i];
}

#endif
