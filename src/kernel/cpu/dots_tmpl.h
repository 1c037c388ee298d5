/* SPDX-License-Identifier: Apache-2.0
 * dots_tmpl.h: s = q . k for a chunk of keys, straight from their pages: rows x keys accumulators in registers, reduced
 * together. One dot product is summed over 16 lanes, the head dim in order, then by vec_sum's tree. */

struct dots {
    const float *q; /* [n_padded][stride] */
    i64 stride;
    i32 n_padded, d;    /* rows: 1, 2 or a multiple of 4 */
    const u8 *const *k; /* [n_keys, rounded up to 16] */
    i64 offset;
    i32 n_heads;     /* taking turns after a few keys: */
    bool by_slot;    /* or after each: f32, and 16 bits with one row */
    i64 head_stride; /* q [n_heads][n_padded][stride], k + head * head_stride, s [n_heads][n_padded][CHUNK] */
    const u8 *const
        *next; /* [n_keys, rounded up to 16]: rows that are fetched into the cache meanwhile, a line for every
                              line used: bursts would fill the miss buffers and hold up the loads */
    i32 n_keys;
    float *s; /* [n_padded][CHUNK] */
};

/* n_rows * n_keys <= VEC_ACCS; accumulators behind that stay 0. */
INLINE void dots_step(vec *acc, i32 n_rows, i32 n_keys, const float *q, i64 q_stride, const vec *k)
{
    UNROLL(4)
    for (i32 r = 0; r < n_rows; r++) {
        const vec x = vec_load(q + r * q_stride);
        UNROLL(16)
        for (i32 t = 0; t < n_keys; t++)
            acc[r * n_keys + t] = vec_fma(x, k[t], acc[r * n_keys + t]);
    }
}

/* The first of the heads, rows and keys that are at work. */
struct dots_at {
    i32 head, row, key;
};

/* acc += products of n_rows and n_keys of one head. */
INLINE void dots_head(enum dtype dtype, i32 n_rows, i32 n_keys, bool prefetch, vec *acc, const struct dots *a,
                      struct dots_at at)
{
    const i32 bytes = element_bytes(dtype), a_line = 64 / bytes;
    const float *q = a->q + ((i64)at.head * a->n_padded + at.row) * a->stride;
    vec x[VEC_ACCS];
    const u8 *k[VEC_ACCS], *next[VEC_ACCS];
    UNROLL(16)
    for (i32 t = 0; t < n_keys; t++) {
        k[t] = a->k[at.key + t] + a->offset + at.head * a->head_stride;
        if (prefetch)
            next[t] = a->next[at.key + t] + at.head * a->head_stride;
    }
    i32 c = 0;
    for (; c + a_line <= a->d; c += a_line) {
        if (prefetch) {
            UNROLL(16)
            for (i32 t = 0; t < n_keys; t++)
                __builtin_prefetch(next[t] + (i64)c * bytes, 0, 3);
        }
        UNROLL(4)
        for (i32 part = 0; part < a_line; part += 16) {
            UNROLL(16)
            for (i32 t = 0; t < n_keys; t++)
                x[t] = load_16(dtype, k[t] + (i64)(c + part) * bytes);
            dots_step(acc, n_rows, n_keys, q + c + part, a->stride, x);
        }
    }
    for (; c < a->d; c += 16) {
        const i32 left = a->d - c;
        UNROLL(16)
        for (i32 t = 0; t < n_keys; t++)
            x[t] = left < 16 ? load_n(dtype, k[t] + (i64)c * bytes, left) : load_16(dtype, k[t] + (i64)c * bytes);
        dots_step(acc, n_rows, n_keys, q + c, a->stride, x);
    }
}

/* n_heads * n_rows * n_keys <= VEC_ACCS; accumulators behind that stay 0. */
INLINE void dots_block(enum dtype dtype, i32 n_heads, i32 n_rows, i32 n_keys, bool prefetch, const struct dots *a,
                       struct dots_at at)
{
    vec acc[VEC_ACCS];
    float sums[VEC_ACCS];
    UNROLL(16)
    for (i32 i = 0; i < VEC_ACCS; i++)
        acc[i] = vec_zero();
    UNROLL(16)
    for (i32 h = 0; h < n_heads; h++)
        dots_head(dtype, n_rows, n_keys, prefetch, acc + h * n_rows * n_keys, a,
                  (struct dots_at){ at.head + h, at.row, at.key });
    vec_sums(acc, sums);
    UNROLL(16)
    for (i32 i = 0; i < n_heads * n_rows; i++) {
        const i64 row = (i64)(at.head + i / n_rows) * a->n_padded + at.row + i % n_rows;
        memcpy(a->s + row * CHUNK + at.key, sums + i * n_keys, (size_t)n_keys * sizeof *sums);
    }
}

/* All rows of some heads. */
INLINE void dots_rows(enum dtype dtype, i32 n_heads, i32 n_rows, i32 n_keys, const struct dots *a, struct dots_at at)
{
    dots_block(dtype, n_heads, n_rows, n_keys, true, a, at);
    for (at.row = n_rows; at.row < a->n_padded; at.row += n_rows)
        dots_block(dtype, n_heads, n_rows, n_keys, false, a, at);
}

/* n_keys of all heads by turns, n_heads at a time. */
INLINE void dots_turns(enum dtype dtype, i32 n_heads, i32 n_rows, i32 n_keys, const struct dots *a)
{
    for (struct dots_at at = { 0 }; at.key < a->n_keys; at.key += n_keys) {
        at.head = 0;
        for (; at.head + n_heads <= a->n_heads; at.head += n_heads)
            dots_rows(dtype, n_heads, n_rows, n_keys, a, at);
        for (; n_heads > 1 && at.head < a->n_heads; at.head++)
            dots_rows(dtype, 1, n_rows, n_keys, a, at);
    }
}

#include "kernel/cpu/dots_halves_tmpl.h"

/* Keys at once, or heads. */
#define DOTS_AT_ONCE(rows) (VEC_ACCS / (rows) < 8 ? VEC_ACCS / (rows) : 8)

INLINE void dots_of(enum dtype dtype, i32 block_rows, const struct dots *a)
{
#if VEC_HALVES
    if (block_rows == 4 && !dtype_is_quantised(dtype)) {
        dots_halves(dtype, a);
        return;
    }
#endif
    dots_turns(dtype, 1, block_rows, DOTS_AT_ONCE(block_rows), a);
}

#define FOLIO__DOTS(dtype, rows)                            \
    static void dots_##dtype##_##rows(const struct dots *a) \
    {                                                       \
        dots_of(dtype, rows, a);                            \
    }
#define FOLIO__DOTS_OF(dtype) FOLIO__DOTS(dtype, 1) FOLIO__DOTS(dtype, 2) FOLIO__DOTS(dtype, 4)
FOLIO__DOTS_OF(DTYPE_F32)
FOLIO__DOTS_OF(DTYPE_F16)
FOLIO__DOTS_OF(DTYPE_BF16)
FOLIO__DOTS_OF(DTYPE_E4M3)
FOLIO__DOTS_OF(DTYPE_E5M2)
FOLIO__DOTS_OF(DTYPE_I8)

#define FOLIO__DOTS_BY_SLOT(dtype, rows)                            \
    static void dots_by_slot_##dtype##_##rows(const struct dots *a) \
    {                                                               \
        dots_turns(dtype, DOTS_AT_ONCE(rows), rows, 1, a);          \
    }
FOLIO__DOTS_BY_SLOT(DTYPE_F32, 1)
FOLIO__DOTS_BY_SLOT(DTYPE_F32, 2)
FOLIO__DOTS_BY_SLOT(DTYPE_F32, 4)
FOLIO__DOTS_BY_SLOT(DTYPE_F16, 1)
FOLIO__DOTS_BY_SLOT(DTYPE_BF16, 1)

typedef void dots_kernel(const struct dots *a);

static void dots(enum dtype dtype, const struct dots *a)
{
    static dots_kernel *const by[6][3] = {
        { dots_DTYPE_F32_1, dots_DTYPE_F32_2, dots_DTYPE_F32_4 },
        { dots_DTYPE_F16_1, dots_DTYPE_F16_2, dots_DTYPE_F16_4 },
        { dots_DTYPE_BF16_1, dots_DTYPE_BF16_2, dots_DTYPE_BF16_4 },
        { dots_DTYPE_E4M3_1, dots_DTYPE_E4M3_2, dots_DTYPE_E4M3_4 },
        { dots_DTYPE_E5M2_1, dots_DTYPE_E5M2_2, dots_DTYPE_E5M2_4 },
        { dots_DTYPE_I8_1, dots_DTYPE_I8_2, dots_DTYPE_I8_4 },
    };
    static dots_kernel *const by_slot[6][3] = {
        { dots_by_slot_DTYPE_F32_1, dots_by_slot_DTYPE_F32_2, dots_by_slot_DTYPE_F32_4 },
        { dots_by_slot_DTYPE_F16_1 },
        { dots_by_slot_DTYPE_BF16_1 },
    };
    const i32 rows = a->n_padded < 4 ? a->n_padded - 1 : 2;
    if (a->by_slot)
        by_slot[dtype - DTYPE_F32][rows](a);
    else
        by[dtype - DTYPE_F32][rows](a);
}
