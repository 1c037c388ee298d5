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

/* Rows from `row` on against keys from `key` on. */
INLINE void dots_block(enum dtype dtype, i32 n_rows, i32 n_keys, bool prefetch, const struct dots *a, i32 head, i32 row,
                       i32 key)
{
    const i32 bytes = element_bytes(dtype), a_line = 64 / bytes;
    const float *q = a->q + ((i64)head * a->n_padded + row) * a->stride;
    float *s = a->s + ((i64)head * a->n_padded + row) * CHUNK + key;
    vec acc[VEC_ACCS], x[VEC_ACCS];
    const u8 *k[VEC_ACCS], *next[VEC_ACCS];
    UNROLL(16)
    for (i32 i = 0; i < VEC_ACCS; i++)
        acc[i] = vec_zero();
    UNROLL(16)
    for (i32 t = 0; t < n_keys; t++) {
        k[t] = a->k[key + t] + a->offset + head * a->head_stride;
        if (prefetch)
            next[t] = a->next[key + t] + head * a->head_stride;
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
    float sums[VEC_ACCS];
    vec_sums(acc, sums);
    UNROLL(4)
    for (i32 r = 0; r < n_rows; r++)
        memcpy(s + r * CHUNK, sums + r * n_keys, (size_t)n_keys * sizeof *sums);
}

#include "kernel/cpu/dots_halves_tmpl.h"

INLINE void dots_of(enum dtype dtype, i32 block_rows, const struct dots *a)
{
#if VEC_HALVES
    /* f32 of all heads is read faster from memory one slot at a time */
    if (block_rows == 4 && !dtype_is_quantised(dtype) && (dtype != DTYPE_F32 || a->n_heads == 1)) {
        dots_halves(dtype, a);
        return;
    }
#endif
    enum { AT_ONCE = VEC_ACCS };
    const i32 n_keys = AT_ONCE / block_rows < 8 ? AT_ONCE / block_rows : 8;
    for (i32 key = 0; key < a->n_keys; key += n_keys)
        for (i32 head = 0; head < a->n_heads; head++) {
            dots_block(dtype, block_rows, n_keys, true, a, head, 0, key);
            for (i32 row = block_rows; row < a->n_padded; row += block_rows)
                dots_block(dtype, block_rows, n_keys, false, a, head, row, key);
        }
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

static void dots(enum dtype dtype, const struct dots *a)
{
    static void (*const by[6][3])(const struct dots *) = {
        { dots_DTYPE_F32_1, dots_DTYPE_F32_2, dots_DTYPE_F32_4 },
        { dots_DTYPE_F16_1, dots_DTYPE_F16_2, dots_DTYPE_F16_4 },
        { dots_DTYPE_BF16_1, dots_DTYPE_BF16_2, dots_DTYPE_BF16_4 },
        { dots_DTYPE_E4M3_1, dots_DTYPE_E4M3_2, dots_DTYPE_E4M3_4 },
        { dots_DTYPE_E5M2_1, dots_DTYPE_E5M2_2, dots_DTYPE_E5M2_4 },
        { dots_DTYPE_I8_1, dots_DTYPE_I8_2, dots_DTYPE_I8_4 },
    };
    by[dtype - DTYPE_F32][a->n_padded < 4 ? a->n_padded - 1 : 2](a);
}
