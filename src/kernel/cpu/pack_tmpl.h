/* SPDX-License-Identifier: Apache-2.0
 * pack_tmpl.h: rows of K and V, wherever they lie, into the tiles that tile_tmpl.h multiplies: f32, K transposed.
 * Quantised rows are multiplied by their scales on the way. */

enum { PACK_AHEAD = 16 }; /* rows: what waits in the second cache comes into the first while others are packed */

static inline void pack_fetch(const u8 *const *rows, i32 begin, i32 end, i64 n_bytes)
{
    for (i32 t = begin; t < end; t++)
        for (i64 at = 0; at < n_bytes; at += 64)
            __builtin_prefetch(rows[t] + at, 0, 3);
}

/* 16 rows of 16 elements each at byte `at` of rows [16] -> transposed; rows from n on are zeros.
 * scale [n]: of quantised rows. */
INLINE void load_transposed(enum dtype dtype, vec x[16], const u8 *const *rows, const float *scale, i64 at, i32 n,
                            i32 n_elements)
{
    if (n == 16 && n_elements == 16) {
        UNROLL(16)
        for (i32 i = 0; i < 16; i++)
            x[i] = load_16(dtype, rows[i] + at);
    } else {
        for (i32 i = 0; i < 16; i++)
            x[i] = i < n ? load_n(dtype, rows[i] + at, n_elements) : vec_zero();
    }
    if (dtype_is_quantised(dtype)) {
        for (i32 i = 0; i < n; i++)
            x[i] = vec_mul(x[i], vec_set1(scale[i]));
    }
    vec_transpose(x);
}

INLINE void pack_k_of(enum dtype dtype, float *dst, const u8 *const *rows, const float *scale, i32 n, i32 d)
{
    const i32 bytes = element_bytes(dtype);
    vec x[16];
    for (i32 c = 0; c < d; c += 16) {
        const i32 left = d - c < 16 ? d - c : 16;
        if (n == 16 && left == 16) {
            load_transposed(dtype, x, rows, scale, (i64)c * bytes, 16, 16);
            UNROLL(16)
            for (i32 i = 0; i < 16; i++)
                vec_store(dst + (c + i) * 16, x[i]);
            continue;
        }
        load_transposed(dtype, x, rows, scale, (i64)c * bytes, n, left);
        for (i32 i = 0; i < left; i++)
            vec_store(dst + (c + i) * 16, x[i]);
    }
}

/* n <= 16 rows of K -> one panel [d][16]. */
static void pack_k(enum dtype dtype, float *dst, const u8 *const *rows, const float *scale, i32 n, i32 d)
{
    if (dtype == DTYPE_F32)
        pack_k_of(DTYPE_F32, dst, rows, scale, n, d);
    else if (dtype == DTYPE_F16)
        pack_k_of(DTYPE_F16, dst, rows, scale, n, d);
    else if (dtype == DTYPE_BF16)
        pack_k_of(DTYPE_BF16, dst, rows, scale, n, d);
    else if (dtype == DTYPE_E4M3)
        pack_k_of(DTYPE_E4M3, dst, rows, scale, n, d);
    else if (dtype == DTYPE_E5M2)
        pack_k_of(DTYPE_E5M2, dst, rows, scale, n, d);
    else if (dtype == DTYPE_I8)
        pack_k_of(DTYPE_I8, dst, rows, scale, n, d);
    else
        pack_k_of(DTYPE_PAIR, dst, rows, scale, n, d);
}

/* Are they all finite? Then so is their sum times 0. */
INLINE bool pack_v_of(enum dtype dtype, float *dst, const u8 *const *rows, const float *scale, i32 n, i32 d, i64 panel)
{
    const i32 bytes = element_bytes(dtype);
    vec sum = vec_zero();
    for (i32 t = 0; t < n; t++) {
        pack_fetch(rows, t + PACK_AHEAD, t + PACK_AHEAD < n ? t + PACK_AHEAD + 1 : 0, (i64)d * bytes);
        for (i32 c = 0; c < d; c += 16) {
            const u8 *at = rows[t] + (i64)c * bytes;
            vec x = d - c >= 16 ? load_16(dtype, at) : load_n(dtype, at, d - c);
            if (dtype_is_quantised(dtype))
                x = vec_mul(x, vec_set1(scale[t]));
            sum = vec_fma(x, vec_zero(), sum);
            vec_store(dst + c / 16 * panel + t * 16, x);
        }
    }
    return vec_sum(sum) == 0.0f;
}

#if VEC_PAIRS || VEC_TILES
/* n rows of bf16 V -> panels [dv / 16][n / 2, rounded up][16] of pairs of rows; a missing last row is zeros. */
static bool pack_v_pairs(float *dst, const u8 *const *rows, i32 n, i32 d, i64 panel)
{
    vec top = vec_zero();
    for (i32 t = 0; t < n; t += 2) {
        pack_fetch(rows, t + PACK_AHEAD, t + PACK_AHEAD + 1 < n ? t + PACK_AHEAD + 2 : 0, 2 * d);
        for (i32 c = 0; c < d; c += 32) {
            const i32 left = d - c < 32 ? d - c : 32;
            const vec x = vec_load_halves_n((const u16 *)(const void *)rows[t] + c, left);
            const vec y = t + 1 < n ? vec_load_halves_n((const u16 *)(const void *)rows[t + 1] + c, left) : vec_zero();
            top = vec_halves_top(vec_halves_top(top, x), y);
            vec_store(dst + c / 16 * panel + t * 8, vec_pairs_lo(x, y));
            if (left > 16)
                vec_store(dst + (c / 16 + 1) * panel + t * 8, vec_pairs_hi(x, y));
        }
    }
    return vec_halves_are_finite(top);
}
#endif

/* n rows of V -> the same rows of panels [dv / 16][.][16], `panel` floats apart. Are all values finite? */
static bool pack_v(enum dtype dtype, float *dst, const u8 *const *rows, const float *scale, i32 n, i32 d, i64 panel)
{
    if (dtype == DTYPE_F32)
        return pack_v_of(DTYPE_F32, dst, rows, scale, n, d, panel);
    if (dtype == DTYPE_F16)
        return pack_v_of(DTYPE_F16, dst, rows, scale, n, d, panel);
    if (dtype == DTYPE_E4M3)
        return pack_v_of(DTYPE_E4M3, dst, rows, scale, n, d, panel);
    if (dtype == DTYPE_E5M2)
        return pack_v_of(DTYPE_E5M2, dst, rows, scale, n, d, panel);
    if (dtype == DTYPE_I8)
        return pack_v_of(DTYPE_I8, dst, rows, scale, n, d, panel);
#if VEC_PAIRS
    if (dtype == DTYPE_PAIR)
        return pack_v_pairs(dst, rows, n, d, panel);
#endif
    return pack_v_of(DTYPE_BF16, dst, rows, scale, n, d, panel);
}
