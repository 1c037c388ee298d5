/* SPDX-License-Identifier: Apache-2.0
 * dots_halves_tmpl.h: dots of four rows and two keys where a vector takes two registers of sixteen: lanes 0 .. 7 of all
 * products first, then lanes 8 .. 15. Every load of q serves two keys, where whole vectors had room for one: 48 loads a
 * key of 128 dims instead of 80. Lane by lane the same sums in the same order, so the same bits. */

#if VEC_HALVES
enum { HALVES_KEYS = 2 };

/* 8 of 16 elements. */
INLINE vec_half load_half(enum dtype dtype, const u8 *p, i32 half)
{
    p += half * 8 * element_bytes(dtype);
    if (dtype == DTYPE_F32)
        return vec_half_load((const float *)(const void *)p);
    return dtype == DTYPE_F16 ? vec_half_load_f16((const u16 *)(const void *)p)
                              : vec_half_load_bf16((const u16 *)(const void *)p);
}

struct dots_half {
    const float *q; /* [4][stride] */
    i64 stride;
    const u8 *k[HALVES_KEYS], *next[HALVES_KEYS];
    vec_half acc[4 * HALVES_KEYS]; /* key 1's behind key 0's of each row */
};

INLINE void dots_half_step(struct dots_half *a, const float *q, const vec_half x[HALVES_KEYS])
{
    UNROLL(4)
    for (i32 r = 0; r < 4; r++) {
        const vec_half y = vec_half_load(q + r * a->stride);
        UNROLL(2)
        for (i32 t = 0; t < HALVES_KEYS; t++)
            a->acc[r * HALVES_KEYS + t] = vec_half_fma(y, x[t], a->acc[r * HALVES_KEYS + t]);
    }
}

/* Lanes of `half`, d columns. */
INLINE void dots_half(enum dtype dtype, i32 half, bool prefetch, struct dots_half *a, i32 d)
{
    const i32 bytes = element_bytes(dtype), a_line = 64 / bytes;
    vec_half x[HALVES_KEYS];
    UNROLL(8)
    for (i32 i = 0; i < 4 * HALVES_KEYS; i++)
        a->acc[i] = vec_half_of(vec_zero(), 0);
    i32 c = 0;
    for (; c + a_line <= d; c += a_line) {
        UNROLL(2)
        for (i32 t = 0; t < HALVES_KEYS && prefetch; t++)
            __builtin_prefetch(a->next[t] + (i64)c * bytes, 0, 3);
        UNROLL(2)
        for (i32 part = 0; part < a_line; part += 16) {
            UNROLL(2)
            for (i32 t = 0; t < HALVES_KEYS; t++)
                x[t] = load_half(dtype, a->k[t] + (i64)(c + part) * bytes, half);
            dots_half_step(a, a->q + c + part + half * 8, x);
        }
    }
    for (; c < d; c += 16) {
        UNROLL(2)
        for (i32 t = 0; t < HALVES_KEYS; t++) {
            const u8 *p = a->k[t] + (i64)c * bytes;
            x[t] = d - c < 16 ? vec_half_of(load_n(dtype, p, d - c), half) : load_half(dtype, p, half);
        }
        dots_half_step(a, a->q + c + half * 8, x);
    }
}

INLINE void dots_halves_block(enum dtype dtype, bool prefetch, const struct dots *a, i32 head, i32 row, i32 key)
{
    const float *q = a->q + ((i64)head * a->n_padded + row) * a->stride;
    float *s = a->s + ((i64)head * a->n_padded + row) * CHUNK + key;
    struct dots_half work = { .q = q, .stride = a->stride };
    vec_half lo[4 * HALVES_KEYS];
    UNROLL(2)
    for (i32 t = 0; t < HALVES_KEYS; t++) {
        work.k[t] = a->k[key + t] + a->offset + head * a->head_stride;
        work.next[t] = a->next[key + t] + head * a->head_stride;
    }
    dots_half(dtype, 0, prefetch, &work, a->d);
    memcpy(lo, work.acc, sizeof lo);
    dots_half(dtype, 1, false, &work, a->d);
    UNROLL(2)
    for (i32 r = 0; r < 4; r += VEC_ACCS / HALVES_KEYS) {
        vec both[VEC_ACCS];
        float sums[VEC_ACCS];
        UNROLL(4)
        for (i32 i = 0; i < VEC_ACCS; i++)
            both[i] = vec_of_two_halves(lo[r * HALVES_KEYS + i], work.acc[r * HALVES_KEYS + i]);
        vec_sums(both, sums);
        UNROLL(4)
        for (i32 i = 0; i < VEC_ACCS; i++)
            s[(r + i / HALVES_KEYS) * CHUNK + i % HALVES_KEYS] = sums[i];
    }
}

INLINE void dots_halves(enum dtype dtype, const struct dots *a)
{
    for (i32 key = 0; key < a->n_keys; key += HALVES_KEYS)
        for (i32 head = 0; head < a->n_heads; head++) {
            dots_halves_block(dtype, true, a, head, 0, key);
            for (i32 row = 4; row < a->n_padded; row += 4)
                dots_halves_block(dtype, false, a, head, row, key);
        }
}
#endif
