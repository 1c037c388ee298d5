/* SPDX-License-Identifier: Apache-2.0
 * bytes_avx512.h: products of int8 rows with four vectors of 16 bits, exact in int32, by VPDPBUSD: four bytes a lane.
 * A number of 16 bits is 256 * upper + lower, two bytes that are multiplied one after the other.
 *
 *   scores   K's bytes + 128 (they must be unsigned) times q's (signed). A lane of 128 bits is a key:
 *            | key 0: 16 dims | key 1 | key 2 | key 3 |, from rows by exchanging quarters of registers
 *   values   weights' bytes (unsigned) times V's (signed). A lane of 32 bits is a dim of four keys: rows interleaved
 *            within quarters, so that o has quarters 0, 1, 2, 3 of each four vectors where it should have them last:
 *            o [64 dims] = [4 vectors][4 quarters][4] instead of [4 quarters][4 vectors][4] */
#ifndef FOLIO_KERNEL_CPU_BYTES_H
#define FOLIO_KERNEL_CPU_BYTES_H

#include <immintrin.h>
#include <stdbool.h>
#include <string.h>

#include "base/types.h"
#include "kernel/cpu/unroll.h"

enum { BYTES_ROWS = 4, BYTES_KEYS = 128, BYTES_STEP = BYTES_ROWS * 2 * 64 };

/* Rows to fetch: as many as are used. */
struct bytes_ahead {
    const u8 *const *rows; /* [n_keys], or NULL */
    i64 offset;
};

struct bytes_scores {
    const i8 *q;         /* [d / 16][4 rows][2: upper, lower][4 times the same][16] */
    const i32 *q_offset; /* [4] minus 128 times the sum of a row's numbers */
    const float *q_scale;
    i32 d, n_keys;      /* multiples of 64, of 16 */
    const u8 *const *k; /* [n_keys] */
    i64 offset;
    struct bytes_ahead near, far; /* fetched meanwhile, into the first and into the second cache */
    float *s;                     /* [4][BYTES_KEYS] */
};

struct bytes_values {
    const u8 *w;        /* [4][2: upper, lower][BYTES_KEYS] */
    const float *scale; /* [4] what 1 of a weight is */
    i32 d, n_keys;      /* multiples of 64, of 4 */
    const u8 *const *v; /* [n_keys] */
    i64 offset;
    struct bytes_ahead near, far;
    float *o; /* [4][stride] */
    i64 stride;
};

/* sum += a (unsigned) * b (signed), four bytes a lane. Of the intrinsic gcc 12 makes copies of every sum. */
#define BYTES_DOT(sum, a, b) __asm__("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(a), "v"(b))

/* Four keys' 64 bytes -> 16 bytes of all four, four times. */
static inline __attribute__((always_inline)) void bytes_exchange(__m512i x[4])
{
    const __m512i a = _mm512_shuffle_i32x4(x[0], x[1], 0x44), b = _mm512_shuffle_i32x4(x[2], x[3], 0x44);
    const __m512i c = _mm512_shuffle_i32x4(x[0], x[1], 0xee), d = _mm512_shuffle_i32x4(x[2], x[3], 0xee);
    x[0] = _mm512_shuffle_i32x4(a, b, 0x88);
    x[1] = _mm512_shuffle_i32x4(a, b, 0xdd);
    x[2] = _mm512_shuffle_i32x4(c, d, 0x88);
    x[3] = _mm512_shuffle_i32x4(c, d, 0xdd);
}

/* [4 rows] of [4 keys][4 parts] -> [4 keys][4 rows], parts added. */
static inline __attribute__((always_inline)) __m512i bytes_sum_parts(const __m512i x[4])
{
    const __m512i a = _mm512_add_epi32(_mm512_unpacklo_epi32(x[0], x[1]), _mm512_unpackhi_epi32(x[0], x[1]));
    const __m512i b = _mm512_add_epi32(_mm512_unpacklo_epi32(x[2], x[3]), _mm512_unpackhi_epi32(x[2], x[3]));
    return _mm512_add_epi32(_mm512_unpacklo_epi64(a, b), _mm512_unpackhi_epi64(a, b));
}

/* 64 bytes of four keys from byte c on, exchanged. */
static inline __attribute__((always_inline)) void bytes_load_keys(__m512i x[4], const u8 *const *k, i64 at)
{
    UNROLL(4)
    for (i32 t = 0; t < 4; t++)
        x[t] =
            _mm512_xor_si512(_mm512_loadu_si512(((const u8 *const volatile *)k)[t] + at), _mm512_set1_epi8((char)0x80));
    bytes_exchange(x);
}

/* Two rows' lines of 64 bytes from byte c on: spread over the work, for bursts hold up the loads. */
static inline __attribute__((always_inline)) void bytes_fetch(const struct bytes_ahead *ahead, i32 key, i32 c, i32 hint)
{
    const u8 *const volatile *rows = ahead->rows + key;
    if (hint == 3) {
        __builtin_prefetch(rows[0] + ahead->offset + c, 0, 3);
        __builtin_prefetch(rows[1] + ahead->offset + c, 0, 3);
    } else {
        __builtin_prefetch(rows[0] + ahead->offset + c, 0, 2);
        __builtin_prefetch(rows[1] + ahead->offset + c, 0, 2);
    }
}

/* Eight keys: [2][4 keys][4 rows] */
static inline __attribute__((always_inline)) void bytes_eight_scores(const struct bytes_scores *a, i32 d, i32 key,
                                                                     __m512 s[2])
{
    const i8 *q = a->q;
    __m512i acc[2][BYTES_ROWS][2];
    UNROLL(2)
    for (i32 g = 0; g < 2; g++)
        UNROLL(4)
    for (i32 r = 0; r < BYTES_ROWS; r++)
        acc[g][r][0] = acc[g][r][1] = _mm512_setzero_si512();
    UNROLL(4)
    for (i32 c = 0; c < d; c += 64) {
        __m512i x[2][4];
        __asm__ volatile("" ::: "memory");
        bytes_load_keys(x[0], a->k + key, a->offset + c);
        bytes_load_keys(x[1], a->k + key + 4, a->offset + c);
        UNROLL(4)
        for (i32 part = 0; part < 4; part++) {
            if (a->near.rows)
                bytes_fetch(&a->near, key + 2 * part, c, 3);
            if (a->far.rows)
                bytes_fetch(&a->far, key + 2 * part, c, 2);
            UNROLL(4)
            for (i32 r = 0; r < BYTES_ROWS; r++)
                UNROLL(2)
            for (i32 b = 0; b < 2; b++) {
                const __m512i y = _mm512_loadu_si512(q + (c / 16 + part) * BYTES_STEP + r * 128 + b * 64);
                BYTES_DOT(acc[0][r][b], x[0][part], y);
                BYTES_DOT(acc[1][r][b], x[1][part], y);
            }
        }
    }
    const __m512i offset = _mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)(const void *)a->q_offset));
    const __m512 scale = _mm512_broadcast_f32x4(_mm_loadu_ps(a->q_scale));
    UNROLL(2)
    for (i32 g = 0; g < 2; g++) {
        __m512i sums[BYTES_ROWS];
        UNROLL(4)
        for (i32 r = 0; r < BYTES_ROWS; r++)
            sums[r] = _mm512_add_epi32(_mm512_slli_epi32(acc[g][r][0], 8), acc[g][r][1]);
        s[g] = _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_add_epi32(bytes_sum_parts(sums), offset)), scale);
    }
}

/* [4][4 keys][4 rows] -> [4 rows][16 keys] */
static inline __attribute__((always_inline)) void bytes_rows(__m512 x[4])
{
    const __m512i by_row = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    __m512i y[4];
    UNROLL(4)
    for (i32 i = 0; i < 4; i++)
        y[i] = _mm512_castps_si512(_mm512_permutexvar_ps(by_row, x[i]));
    bytes_exchange(y);
    UNROLL(4)
    for (i32 i = 0; i < 4; i++)
        x[i] = _mm512_castsi512_ps(y[i]);
}

static inline __attribute__((always_inline)) void bytes_scores_of(const struct bytes_scores *a, i32 d)
{
    for (i32 key = 0; key < a->n_keys; key += 16) {
        __m512 s[4];
        bytes_eight_scores(a, d, key, s);
        bytes_eight_scores(a, d, key + 8, s + 2);
        bytes_rows(s);
        UNROLL(4)
        for (i32 r = 0; r < BYTES_ROWS; r++)
            _mm512_storeu_ps(a->s + r * BYTES_KEYS + key, s[r]);
    }
}

static void bytes_scores(const struct bytes_scores *a)
{
    if (a->d == 64)
        bytes_scores_of(a, 64);
    else if (a->d == 128)
        bytes_scores_of(a, 128);
    else
        bytes_scores_of(a, 256);
}

/* 32 dims of 64, the lower or the upper eight of each quarter. */
static inline __attribute__((always_inline)) void bytes_half_values(const struct bytes_values *a, i32 c, bool upper,
                                                                    bool fetch)
{
    __m512i acc[BYTES_ROWS][2][2];
    UNROLL(4)
    for (i32 r = 0; r < BYTES_ROWS; r++)
        acc[r][0][0] = acc[r][0][1] = acc[r][1][0] = acc[r][1][1] = _mm512_setzero_si512();
    for (i32 t = 0; t < a->n_keys; t += 4) {
        __m512i x[4];
        if (fetch) { /* two of four rows now, two in the other half */
            bytes_fetch(&a->near, t + 2 * upper, c, 3);
            bytes_fetch(&a->far, t + 2 * upper, c, 2);
        }
        UNROLL(4)
        for (i32 i = 0; i < 4; i++) {
            x[i] = _mm512_loadu_si512(a->v[t + i] + a->offset + c);
        }
        const __m512i ab = upper ? _mm512_unpackhi_epi8(x[0], x[1]) : _mm512_unpacklo_epi8(x[0], x[1]);
        const __m512i cd = upper ? _mm512_unpackhi_epi8(x[2], x[3]) : _mm512_unpacklo_epi8(x[2], x[3]);
        const __m512i lo = _mm512_unpacklo_epi16(ab, cd), hi = _mm512_unpackhi_epi16(ab, cd);
        UNROLL(4)
        for (i32 r = 0; r < BYTES_ROWS; r++)
            UNROLL(2)
        for (i32 b = 0; b < 2; b++) {
            i32 four;
            memcpy(&four, a->w + (2 * r + b) * BYTES_KEYS + t, sizeof four);
            const __m512i w = _mm512_set1_epi32(four);
            BYTES_DOT(acc[r][b][0], w, lo);
            BYTES_DOT(acc[r][b][1], w, hi);
        }
    }
    UNROLL(4)
    for (i32 r = 0; r < BYTES_ROWS; r++)
        UNROLL(2)
    for (i32 i = 0; i < 2; i++) {
        float *o = a->o + r * a->stride + c + 32 * upper + 16 * i;
        const __m512i sum = _mm512_add_epi32(_mm512_slli_epi32(acc[r][0][i], 8), acc[r][1][i]);
        _mm512_storeu_ps(o, _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum), _mm512_set1_ps(a->scale[r]), _mm512_loadu_ps(o)));
    }
}

static void bytes_values(const struct bytes_values *a)
{
    for (i32 c = 0; c < a->d; c += 64) {
        if (a->near.rows && a->far.rows) {
            bytes_half_values(a, c, false, true);
            bytes_half_values(a, c, true, true);
        } else {
            bytes_half_values(a, c, false, false);
            bytes_half_values(a, c, true, false);
        }
    }
}

/* 16 numbers of 16 bits -> their upper and lower bytes. */
static inline void bytes_split(__m512i x, void *upper, void *lower)
{
    _mm_storeu_si128(upper, _mm512_cvtepi32_epi8(_mm512_srai_epi32(x, 8)));
    _mm_storeu_si128(lower, _mm512_cvtepi32_epi8(x));
}

/* 16 weights -> 16 bits; those of the other sign are 0. w [2: upper, lower][BYTES_KEYS] */
static inline void bytes_of_weights(u8 *w, const float *x, float per_unit)
{
    const __m512i number = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_loadu_ps(x), _mm512_set1_ps(per_unit)));
    bytes_split(_mm512_max_epi32(number, _mm512_setzero_si512()), w, w + BYTES_KEYS);
}

/* 16 elements of a query vector -> signed bytes, each four times; their sum. q [2: upper, lower][4][16] */
static inline i32 bytes_of_query(i8 *q, const float *x, float per_unit)
{
    const __m512i number = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_loadu_ps(x), _mm512_set1_ps(per_unit)));
    const __m512i carry = _mm512_and_si512(_mm512_slli_epi32(number, 1), _mm512_set1_epi32(256));
    i8 bytes[2][16]; /* the lower one is signed: 256 more in the upper where it is negative */
    bytes_split(_mm512_add_epi32(number, carry), bytes[0], bytes[1]);
    for (i32 i = 0; i < 8; i++)
        memcpy(q + 16 * i, bytes[i / 4], 16);
    return _mm512_reduce_add_epi32(number);
}

#endif
