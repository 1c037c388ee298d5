/* SPDX-License-Identifier: Apache-2.0
 * vec_avx2.h: the 16-lane vector as two ymm registers. vec_c.h says what each function means. */
#ifndef FOLIO_KERNEL_CPU_VEC_H
#define FOLIO_KERNEL_CPU_VEC_H

#include <immintrin.h>
#include <stdbool.h>
#include <string.h>

#include "base/types.h"
#include "kernel/cpu/unroll.h"

#define VEC_NAME "avx2"
#define VEC_ISA FOLIO_ISA_AVX2
#define VEC_KERNELS folio__kernels_avx2
#define VEC_MODS folio__mod_table_avx2
#define VEC_PAIRS 0
#define VEC_TILES 0
#define VEC_HALVES 1 /* has vec_half */

/* Register blocks, sized for 16 registers of half a vector. */
enum { VEC_ACCS = 4, VEC_TILE_ROWS = 6, VEC_TILE_COLS = 1 };

typedef struct {
    __m256 lo, hi;
} vec;

typedef struct {
    __m256 lo, hi; /* all bits of a lane set, or none */
} vec_mask;

static inline vec vec_zero(void)
{
    return (vec){ _mm256_setzero_ps(), _mm256_setzero_ps() };
}

static inline vec vec_set1(float x)
{
    return (vec){ _mm256_set1_ps(x), _mm256_set1_ps(x) };
}

static inline vec vec_iota(void)
{
    return (vec){ _mm256_setr_ps(0, 1, 2, 3, 4, 5, 6, 7), _mm256_setr_ps(8, 9, 10, 11, 12, 13, 14, 15) };
}

static inline vec vec_add(vec a, vec b)
{
    return (vec){ _mm256_add_ps(a.lo, b.lo), _mm256_add_ps(a.hi, b.hi) };
}

static inline vec vec_sub(vec a, vec b)
{
    return (vec){ _mm256_sub_ps(a.lo, b.lo), _mm256_sub_ps(a.hi, b.hi) };
}

static inline vec vec_mul(vec a, vec b)
{
    return (vec){ _mm256_mul_ps(a.lo, b.lo), _mm256_mul_ps(a.hi, b.hi) };
}

static inline vec vec_div(vec a, vec b)
{
    return (vec){ _mm256_div_ps(a.lo, b.lo), _mm256_div_ps(a.hi, b.hi) };
}

static inline vec vec_fma(vec a, vec b, vec c)
{
    return (vec){ _mm256_fmadd_ps(a.lo, b.lo, c.lo), _mm256_fmadd_ps(a.hi, b.hi, c.hi) };
}

static inline vec vec_max(vec a, vec b)
{
    return (vec){ _mm256_max_ps(a.lo, b.lo), _mm256_max_ps(a.hi, b.hi) };
}

static inline vec vec_round(vec a)
{
    enum { NEAREST = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC };
    return (vec){ _mm256_round_ps(a.lo, NEAREST), _mm256_round_ps(a.hi, NEAREST) };
}

static inline vec vec_sign_of(vec magnitude, vec sign)
{
    const __m256 bit = _mm256_set1_ps(-0.0f);
    return (vec){ _mm256_or_ps(magnitude.lo, _mm256_and_ps(bit, sign.lo)),
                  _mm256_or_ps(magnitude.hi, _mm256_and_ps(bit, sign.hi)) };
}

static inline vec vec_abs(vec a)
{
    const __m256 bit = _mm256_set1_ps(-0.0f);
    return (vec){ _mm256_andnot_ps(bit, a.lo), _mm256_andnot_ps(bit, a.hi) };
}

/* ---- masks */

static inline __m256i vec_first_8(i32 n) /* lanes below n; any n */
{
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

static inline vec_mask vec_mask_first(i32 n)
{
    return (vec_mask){ _mm256_castsi256_ps(vec_first_8(n)), _mm256_castsi256_ps(vec_first_8(n - 8)) };
}

static inline vec_mask vec_mask_range(i32 begin, i32 end)
{
    const vec_mask below = vec_mask_first(begin), above = vec_mask_first(end);
    return (vec_mask){ _mm256_andnot_ps(below.lo, above.lo), _mm256_andnot_ps(below.hi, above.hi) };
}

static inline vec_mask vec_mask_and(vec_mask a, vec_mask b)
{
    return (vec_mask){ _mm256_and_ps(a.lo, b.lo), _mm256_and_ps(a.hi, b.hi) };
}

static inline vec_mask vec_mask_bytes(const u8 *p, i32 n)
{
    u8 bytes[16] = { 0 };
    for (i32 i = 0; i < n; i++)
        bytes[i] = p[i];
    const __m128i all = _mm_loadu_si128((const __m128i *)bytes), zero = _mm_setzero_si128();
    const __m128i set = _mm_xor_si128(_mm_cmpeq_epi8(all, zero), _mm_set1_epi8(-1));
    return (vec_mask){ _mm256_castsi256_ps(_mm256_cvtepi8_epi32(set)),
                       _mm256_castsi256_ps(_mm256_cvtepi8_epi32(_mm_srli_si128(set, 8))) };
}

static inline vec_mask vec_less(vec a, vec b)
{
    return (vec_mask){ _mm256_cmp_ps(a.lo, b.lo, _CMP_LT_OQ), _mm256_cmp_ps(a.hi, b.hi, _CMP_LT_OQ) };
}

static inline vec vec_select(vec_mask mask, vec yes, vec no)
{
    return (vec){ _mm256_blendv_ps(no.lo, yes.lo, mask.lo), _mm256_blendv_ps(no.hi, yes.hi, mask.hi) };
}

static inline __m256 vec_exp2_scale_8(__m256 p, __m256 n, __m256 x, __m256 least)
{
    const __m256i whole = _mm256_slli_epi32(_mm256_cvtps_epi32(n), 23);
    const __m256 scaled = _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(p), whole));
    return _mm256_andnot_ps(_mm256_cmp_ps(x, least, _CMP_LT_OQ), scaled);
}

static inline vec vec_exp2_scale(vec p, vec n, vec x, float least)
{
    const __m256 floor = _mm256_set1_ps(least);
    return (vec){ vec_exp2_scale_8(p.lo, n.lo, x.lo, floor), vec_exp2_scale_8(p.hi, n.hi, x.hi, floor) };
}

/* ---- memory */

static inline vec vec_load(const float *p)
{
    return (vec){ _mm256_loadu_ps(p), _mm256_loadu_ps(p + 8) };
}

static inline vec vec_load_n(const float *p, i32 n)
{
    return (vec){ _mm256_maskload_ps(p, vec_first_8(n)), _mm256_maskload_ps(p + 8, vec_first_8(n - 8)) };
}

static inline void vec_store(float *p, vec a)
{
    _mm256_storeu_ps(p, a.lo);
    _mm256_storeu_ps(p + 8, a.hi);
}

static inline void vec_store_n(float *p, vec a, i32 n)
{
    _mm256_maskstore_ps(p, vec_first_8(n), a.lo);
    _mm256_maskstore_ps(p + 8, vec_first_8(n - 8), a.hi);
}

static inline __m256 vec_of_bf16_8(__m128i x)
{
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(x), 16));
}

static inline vec vec_load_bf16(const u16 *p)
{
    return (vec){ vec_of_bf16_8(_mm_loadu_si128((const __m128i *)p)),
                  vec_of_bf16_8(_mm_loadu_si128((const __m128i *)(p + 8))) };
}

static inline vec vec_load_f16(const u16 *p)
{
    return (vec){ _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p)),
                  _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(p + 8))) };
}

static inline vec vec_load_bf16_n(const u16 *p, i32 n)
{
    u16 x[16] = { 0 };
    for (i32 i = 0; i < n; i++)
        x[i] = p[i];
    return vec_load_bf16(x);
}

static inline vec vec_load_f16_n(const u16 *p, i32 n)
{
    u16 x[16] = { 0 };
    for (i32 i = 0; i < n; i++)
        x[i] = p[i];
    return vec_load_f16(x);
}

static inline __m256 vec_of_i8_8(__m128i x)
{
    return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(x));
}

static inline vec vec_load_i8(const u8 *p)
{
    return (vec){ vec_of_i8_8(_mm_loadl_epi64((const __m128i *)p)),
                  vec_of_i8_8(_mm_loadl_epi64((const __m128i *)(p + 8))) };
}

static inline vec vec_of_halves(__m256i x)
{
    return (vec){ _mm256_cvtph_ps(_mm256_castsi256_si128(x)), _mm256_cvtph_ps(_mm256_extracti128_si256(x, 1)) };
}

/* e4m3 in the bits of an f16 is 2^8 too small; NaN, all ones, is made one. */
static inline vec vec_load_e4m3(const u8 *p)
{
    const __m256i x = _mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i *)p)), ones = _mm256_set1_epi16(0x7f);
    const __m256i magnitude = _mm256_and_si256(x, ones);
    const __m256i sign = _mm256_slli_epi16(_mm256_andnot_si256(ones, x), 8);
    const __m256i nan = _mm256_and_si256(_mm256_cmpeq_epi16(magnitude, ones), _mm256_set1_epi16(0x7e00));
    const __m256i half = _mm256_or_si256(_mm256_or_si256(sign, nan), _mm256_slli_epi16(magnitude, 7));
    return vec_mul(vec_of_halves(half), vec_set1(256.0f));
}

static inline vec vec_load_e5m2(const u8 *p)
{
    return vec_of_halves(_mm256_slli_epi16(_mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i *)p)), 8));
}

static inline __m256i vec_to_bf16_8(__m256 a) /* in the lower halves of eight lanes */
{
    const __m256i bits = _mm256_castps_si256(a);
    const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    const __m256i rounded = _mm256_add_epi32(_mm256_add_epi32(bits, _mm256_set1_epi32(0x7fff)), odd);
    const __m256i quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x400000));
    const __m256 is_nan = _mm256_cmp_ps(a, a, _CMP_UNORD_Q);
    const __m256 kept = _mm256_blendv_ps(_mm256_castsi256_ps(rounded), _mm256_castsi256_ps(quiet), is_nan);
    return _mm256_srli_epi32(_mm256_castps_si256(kept), 16);
}

static inline void vec_store_bf16_n(u16 *p, vec a, i32 n)
{
    const __m256i mixed = _mm256_packus_epi32(vec_to_bf16_8(a.lo), vec_to_bf16_8(a.hi));
    u16 x[16];
    _mm256_storeu_si256((__m256i *)x, _mm256_permute4x64_epi64(mixed, 0xd8));
    for (i32 i = 0; i < n; i++)
        p[i] = x[i];
}

static inline void vec_store_f16_n(u16 *p, vec a, i32 n)
{
    u16 x[16];
    _mm_storeu_si128((__m128i *)x, _mm256_cvtps_ph(a.lo, _MM_FROUND_TO_NEAREST_INT));
    _mm_storeu_si128((__m128i *)(x + 8), _mm256_cvtps_ph(a.hi, _MM_FROUND_TO_NEAREST_INT));
    for (i32 i = 0; i < n; i++)
        p[i] = x[i];
}

/* ---- half a vector: lanes 0 .. 7 or 8 .. 15 */

typedef __m256 vec_half;

static inline vec_half vec_half_of(vec a, i32 half)
{
    return half ? a.hi : a.lo;
}

static inline vec vec_of_two_halves(vec_half lo, vec_half hi)
{
    return (vec){ lo, hi };
}

static inline vec_half vec_half_load(const float *p)
{
    __m256 a = _mm256_loadu_ps(p);
    __asm__("" : "+x"(a)); /* used twice: gcc 12 would load it again each time, as an operand in memory */
    return a;
}

static inline vec_half vec_half_load_bf16(const u16 *p)
{
    return vec_of_bf16_8(_mm_loadu_si128((const __m128i *)p));
}

static inline vec_half vec_half_load_f16(const u16 *p)
{
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p));
}

static inline vec_half vec_half_fma(vec_half a, vec_half b, vec_half c)
{
    return _mm256_fmadd_ps(a, b, c);
}

/* ---- across lanes */

static inline float vec_sum(vec a)
{
    const __m256 h8 = _mm256_add_ps(a.lo, a.hi);
    const __m128 h4 = _mm_add_ps(_mm256_castps256_ps128(h8), _mm256_extractf128_ps(h8, 1));
    const __m128 h2 = _mm_add_ps(h4, _mm_movehl_ps(h4, h4));
    return _mm_cvtss_f32(_mm_add_ss(h2, _mm_movehdup_ps(h2)));
}

static inline float vec_max_lane(vec a)
{
    const __m256 h8 = _mm256_max_ps(a.lo, a.hi);
    const __m128 h4 = _mm_max_ps(_mm256_castps256_ps128(h8), _mm256_extractf128_ps(h8, 1));
    const __m128 h2 = _mm_max_ps(h4, _mm_movehl_ps(h4, h4));
    return _mm_cvtss_f32(_mm_max_ss(h2, _mm_movehdup_ps(h2)));
}

/* Quarters of the sums of a (lower half) and of b (upper half). */
static inline __m256 vec_fold_two(vec a, vec b)
{
    const __m256 a8 = _mm256_add_ps(a.lo, a.hi), b8 = _mm256_add_ps(b.lo, b.hi);
    return _mm256_add_ps(_mm256_permute2f128_ps(a8, b8, 0x20), _mm256_permute2f128_ps(a8, b8, 0x31));
}

static inline void vec_sums(const vec a[VEC_ACCS], float sums[VEC_ACCS])
{
    const __m256 h4_01 = vec_fold_two(a[0], a[1]), h4_23 = vec_fold_two(a[2], a[3]);
    const __m256 h2 = _mm256_add_ps(_mm256_shuffle_ps(h4_01, h4_23, 0x44), _mm256_shuffle_ps(h4_01, h4_23, 0xee));
    const __m256 h1 = _mm256_add_ps(_mm256_shuffle_ps(h2, h2, 0x88), _mm256_shuffle_ps(h2, h2, 0xdd));
    _mm_storeu_ps(sums, _mm_unpacklo_ps(_mm256_castps256_ps128(h1), _mm256_extractf128_ps(h1, 1)));
}

static inline void vec_transpose_8(__m256 a[8])
{
    __m256 b[8];
    UNROLL(4)
    for (i32 i = 0; i < 8; i += 2) {
        b[i] = _mm256_unpacklo_ps(a[i], a[i + 1]);
        b[i + 1] = _mm256_unpackhi_ps(a[i], a[i + 1]);
    }
    UNROLL(2)
    for (i32 i = 0; i < 8; i += 4) {
        a[i] = _mm256_shuffle_ps(b[i], b[i + 2], 0x44);
        a[i + 1] = _mm256_shuffle_ps(b[i], b[i + 2], 0xee);
        a[i + 2] = _mm256_shuffle_ps(b[i + 1], b[i + 3], 0x44);
        a[i + 3] = _mm256_shuffle_ps(b[i + 1], b[i + 3], 0xee);
    }
    UNROLL(4)
    for (i32 k = 0; k < 4; k++) {
        b[k] = _mm256_permute2f128_ps(a[k], a[k + 4], 0x20);
        b[k + 4] = _mm256_permute2f128_ps(a[k], a[k + 4], 0x31);
    }
    UNROLL(8)
    for (i32 i = 0; i < 8; i++)
        a[i] = b[i];
}

static inline void vec_transpose(vec a[16])
{
    __m256 block[4][8]; /* [row half * 2 + column half] */
    for (i32 i = 0; i < 8; i++) {
        block[0][i] = a[i].lo;
        block[1][i] = a[i].hi;
        block[2][i] = a[i + 8].lo;
        block[3][i] = a[i + 8].hi;
    }
    for (i32 b = 0; b < 4; b++)
        vec_transpose_8(block[b]);
    for (i32 i = 0; i < 8; i++) {
        a[i] = (vec){ block[0][i], block[2][i] };
        a[i + 8] = (vec){ block[1][i], block[3][i] };
    }
}

#endif
