/* SPDX-License-Identifier: Apache-2.0
 * product_tmpl.h: the two products of a tile, a block of rows x columns at a time with all its sums in registers.
 * Elements are f32, or pairs of bf16: then d and keys count pairs. Sums run in order, so blocks of any size agree. */

enum { STRIP = 12, TILE_KEYS = 128, S_STRIDE = TILE_KEYS + 16 };

/* Packed rows that share the packing of keys: their Q and O lie in the second cache beside K and V. 768 take 1 MB of
 * the 2 MB beside tiles, 512 take 0.8 MB. Of the probe, 512 rows on 4096 keys: 384 81 %, 512 83 %, 768 85 %. */
enum { PACKED_ROWS = VEC_TILES ? 768 : VEC_ACCS >= 16 && !VEC_PAIRS ? 512 : 384, PACKED_ROWS_OF_LARGE_HEADS = 384 };

/* s [row][S_STRIDE] = q [d][STRIP] * k [col][d][16] */
INLINE void score_block(enum dtype dtype, i32 n_rows, i32 n_cols, const float *q, const float *k, i32 d, float *s)
{
    vec acc[VEC_TILE_ROWS * VEC_TILE_COLS], b[VEC_TILE_COLS];
    UNROLL(24)
    for (i32 i = 0; i < n_rows * n_cols; i++)
        acc[i] = vec_zero();
    for (i32 i = 0; i < d; i++) {
        UNROLL(2)
        for (i32 j = 0; j < n_cols; j++)
            b[j] = vec_load(k + (j * d + i) * 16);
        UNROLL(12)
        for (i32 r = 0; r < n_rows; r++) {
            const vec a = vec_set1(q[i * STRIP + r]);
            UNROLL(2)
            for (i32 j = 0; j < n_cols; j++)
                acc[r * n_cols + j] = multiply_add(dtype, a, b[j], acc[r * n_cols + j]);
        }
    }
    UNROLL(12)
    for (i32 r = 0; r < n_rows; r++)
        UNROLL(2)
    for (i32 j = 0; j < n_cols; j++)
        vec_store(s + r * S_STRIDE + j * 16, acc[r * n_cols + j]);
}

/* o [row][stride] += w [row][S_STRIDE] * v [col][panel / 16][16], keys [begin, end) */
INLINE void value_block(enum dtype dtype, i32 n_rows, i32 n_cols, const float *w, const float *v, i64 panel, i32 begin,
                        i32 end, float *o, i64 stride)
{
    vec acc[VEC_TILE_ROWS * VEC_TILE_COLS], b[VEC_TILE_COLS];
    UNROLL(12)
    for (i32 r = 0; r < n_rows; r++)
        UNROLL(2)
    for (i32 j = 0; j < n_cols; j++)
        acc[r * n_cols + j] = vec_load(o + r * stride + j * 16);
    for (i32 t = begin; t < end; t++) {
        UNROLL(2)
        for (i32 j = 0; j < n_cols; j++)
            b[j] = vec_load(v + j * panel + t * 16);
        UNROLL(12)
        for (i32 r = 0; r < n_rows; r++) {
            const vec a = vec_set1(w[r * S_STRIDE + t]);
            UNROLL(2)
            for (i32 j = 0; j < n_cols; j++)
                acc[r * n_cols + j] = multiply_add(dtype, a, b[j], acc[r * n_cols + j]);
        }
    }
    UNROLL(12)
    for (i32 r = 0; r < n_rows; r++)
        UNROLL(2)
    for (i32 j = 0; j < n_cols; j++)
        vec_store(o + r * stride + j * 16, acc[r * n_cols + j]);
}
