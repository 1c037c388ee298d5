/* SPDX-License-Identifier: Apache-2.0
 * elements_tmpl.h: 16 elements of any float or quantised dtype to and from a vector. dtype is a constant wherever speed
 * matters, so that the branches vanish. Quantised elements are loaded as they are stored, without their scales. */

/* Two bf16 side by side are one element of 32 bits, multiplied and summed in one step: kernels' own dtype. */
static const enum dtype DTYPE_PAIR = (enum dtype)32;

static inline i32 element_bytes(enum dtype dtype)
{
    return dtype == DTYPE_F32 || dtype == DTYPE_PAIR ? 4 : dtype_is_quantised(dtype) ? 1 : 2;
}

/* a * b + c */
INLINE vec multiply_add(enum dtype dtype, vec a, vec b, vec c)
{
#if VEC_PAIRS
    if (dtype == DTYPE_PAIR)
        return vec_dot_pairs(a, b, c);
#endif
    (void)dtype;
    return vec_fma(a, b, c);
}

/* Elements times 1, -1 or 0. */
INLINE vec scale_by_sign(enum dtype dtype, vec a, float factor)
{
#if VEC_PAIRS
    if (dtype == DTYPE_PAIR)
        return vec_scale_pairs(a, factor);
#endif
    (void)dtype;
    return vec_mul(a, vec_set1(factor));
}

/* Do tiles multiply pairs? What their q . k is computed in, and how many elements that makes of the head dim. */
static inline bool uses_pairs(const struct attend_args *args)
{
    return VEC_PAIRS && args->q.dtype == DTYPE_BF16 && args->k.dtype == DTYPE_BF16 && args->v.dtype == DTYPE_BF16 &&
           args->k.head_dim % 2 == 0;
}

/* Are q . k and w . v computed in tiles of bf16? */
static inline bool uses_tiles(const struct attend_args *args)
{
    return VEC_TILES && args->q.dtype == DTYPE_BF16 && args->k.dtype == DTYPE_BF16 && args->v.dtype == DTYPE_BF16 &&
           args->k.head_dim % 2 == 0;
}

/* The same in tiles of bytes, by the rows family. Their sums are whole numbers below 2^31. */
static inline bool uses_i8_tiles(const struct attend_args *args)
{
    return VEC_TILES && args->k.dtype == DTYPE_I8 && args->v.dtype == DTYPE_I8 && args->k.head_dim <= 256 &&
           args->v.head_dim <= 256;
}

/* What a tile's row holds: 32 elements of bf16, 64 bytes. */
static inline i32 padded_32(i32 d)
{
    return (d + 31) / 32 * 32;
}

static inline i32 padded_64(i32 d)
{
    return (d + 63) / 64 * 64;
}

static inline enum dtype k_dtype_of(const struct attend_args *args)
{
    return uses_pairs(args) ? DTYPE_PAIR : (enum dtype)args->k.dtype;
}

static inline i32 k_dim_of(const struct attend_args *args)
{
    return uses_pairs(args) ? args->k.head_dim / 2 : args->k.head_dim;
}

static inline vec load_16(enum dtype dtype, const u8 *p)
{
    if (dtype == DTYPE_F32 || dtype == DTYPE_PAIR)
        return vec_load((const float *)(const void *)p);
    if (dtype == DTYPE_F16)
        return vec_load_f16((const u16 *)(const void *)p);
    if (dtype == DTYPE_I8)
        return vec_load_i8(p);
    if (dtype == DTYPE_E4M3)
        return vec_load_e4m3(p);
    if (dtype == DTYPE_E5M2)
        return vec_load_e5m2(p);
    return vec_load_bf16((const u16 *)(const void *)p);
}

static inline vec load_n(enum dtype dtype, const u8 *p, i32 n)
{
    if (dtype_is_quantised(dtype)) {
        u8 bytes[16] = { 0 };
        for (i32 i = 0; i < n; i++)
            bytes[i] = p[i];
        return load_16(dtype, bytes);
    }
    if (dtype == DTYPE_F32 || dtype == DTYPE_PAIR)
        return vec_load_n((const float *)(const void *)p, n);
    if (dtype == DTYPE_F16)
        return vec_load_f16_n((const u16 *)(const void *)p, n);
    return vec_load_bf16_n((const u16 *)(const void *)p, n);
}

static inline void store_n(enum dtype dtype, u8 *p, vec a, i32 n)
{
    if (dtype == DTYPE_F32)
        vec_store_n((float *)(void *)p, a, n);
    else if (dtype == DTYPE_F16)
        vec_store_f16_n((u16 *)(void *)p, a, n);
    else
        vec_store_bf16_n((u16 *)(void *)p, a, n);
}

/* A row of d elements as f32, zeros up to the next multiple of 16; each element times `factor` (1, -1 or 0: exact). */
static inline void widen_row(enum dtype dtype, float *dst, const u8 *src, i32 d, float factor)
{
    const i32 bytes = element_bytes(dtype);
    for (i32 c = 0; c < d; c += 16) {
        const vec x = d - c >= 16 ? load_16(dtype, src + (i64)c * bytes) : load_n(dtype, src + (i64)c * bytes, d - c);
        vec_store(dst + c, scale_by_sign(dtype, x, factor));
    }
}
