/* SPDX-License-Identifier: Apache-2.0
 * weigh_tmpl.h: o += w * v for a chunk of keys, straight from their pages: rows x columns of o stay in registers over
 * the chunk; every element of o sums its keys in order. */

struct weigh {
    const float *w;     /* [n_padded][CHUNK] */
    i32 n_padded, d;    /* rows: 1, 2 or a multiple of 4 */
    const u8 *const *v; /* [end] */
    i64 offset;
    const u8 *const *next; /* [end]: rows that are fetched meanwhile, as in dots */
    i32 begin, end;        /* keys of the chunk */
    i32 visit;             /* heads take turns after so many keys */
    i32 n_heads;           /* w [n_heads][n_padded][CHUNK], v + head * head_stride, o [n_heads][n_padded][stride] */
    i64 head_stride;       /* of V, and of what is fetched */
    float *o;              /* [n_padded][stride] */
    i64 stride;
};

/* Keys and rows of a head at work. */
struct weigh_part {
    i32 head, row, begin, end;
};

/* n_vecs vectors of columns from c on; whole: all their elements exist. */
INLINE void weigh_block(enum dtype dtype, i32 n_rows, i32 n_vecs, const struct weigh *a, struct weigh_part part, i32 c,
                        bool whole, bool prefetch)
{
    const i32 bytes = element_bytes(dtype);
    const i64 at = a->offset + part.head * a->head_stride + (i64)c * bytes;
    const i64 next_at = part.head * a->head_stride + (i64)c * bytes;
    const i64 row = (i64)part.head * a->n_padded + part.row;
    const float *w = a->w + row * CHUNK;
    float *o = a->o + row * a->stride + c;
    vec acc[VEC_ACCS], v[VEC_ACCS];
    UNROLL(4)
    for (i32 r = 0; r < n_rows; r++)
        UNROLL(16)
    for (i32 j = 0; j < n_vecs; j++)
        acc[r * n_vecs + j] = vec_load(o + r * a->stride + j * 16);
    for (i32 t = part.begin; t < part.end; t++) {
        if (prefetch) {
            UNROLL(16)
            for (i32 line = 0; line < n_vecs * 16 * bytes; line += 64)
                __builtin_prefetch(a->next[t] + next_at + line, 0, 3);
        }
        UNROLL(16)
        for (i32 j = 0; j < n_vecs; j++) {
            const u8 *p = a->v[t] + at + j * 16 * bytes;
            v[j] = whole ? load_16(dtype, p) : load_n(dtype, p, a->d - c);
        }
        UNROLL(4)
        for (i32 r = 0; r < n_rows; r++) {
            const vec x = vec_set1(w[r * CHUNK + t]);
            UNROLL(16)
            for (i32 j = 0; j < n_vecs; j++)
                acc[r * n_vecs + j] = vec_fma(x, v[j], acc[r * n_vecs + j]);
        }
    }
    UNROLL(4)
    for (i32 r = 0; r < n_rows; r++)
        UNROLL(16)
    for (i32 j = 0; j < n_vecs; j++)
        vec_store(o + r * a->stride + j * 16, acc[r * n_vecs + j]);
}

INLINE void weigh_part(enum dtype dtype, i32 block_rows, i32 n_vecs, const struct weigh *a, struct weigh_part part)
{
    for (part.row = 0; part.row < a->n_padded; part.row += block_rows) {
        const bool prefetch = part.row == 0;
        i32 c = 0;
        for (; c + 16 * n_vecs <= a->d; c += 16 * n_vecs) {
            if (prefetch)
                weigh_block(dtype, block_rows, n_vecs, a, part, c, true, true);
            else
                weigh_block(dtype, block_rows, n_vecs, a, part, c, true, false);
        }
        for (; c + 16 <= a->d; c += 16)
            weigh_block(dtype, block_rows, 1, a, part, c, true, false);
        if (c < a->d)
            weigh_block(dtype, block_rows, 1, a, part, c, false, false);
    }
}

INLINE void weigh_visits(enum dtype dtype, i32 block_rows, i32 n_vecs, const struct weigh *a)
{
    for (i32 t = a->begin; t < a->end; t += a->visit)
        for (i32 head = 0; head < a->n_heads; head++) {
            const i32 end = a->end - t < a->visit ? a->end : t + a->visit;
            weigh_part(dtype, block_rows, n_vecs, a, (struct weigh_part){ head, 0, t, end });
        }
}

/* f32 of heads that take turns: two lines of each key at a time are read faster from memory than four. */
INLINE void weigh_of(enum dtype dtype, i32 block_rows, const struct weigh *a)
{
    enum { AT_ONCE = VEC_ACCS };
    const i32 n_vecs = block_rows == 1 && AT_ONCE > 8 ? 8 : AT_ONCE / block_rows;
    if (dtype == DTYPE_F32 && block_rows == 4 && n_vecs > 2 && a->n_heads > 1)
        weigh_visits(dtype, block_rows, 2, a);
    else
        weigh_visits(dtype, block_rows, n_vecs, a);
}

#define FOLIO__WEIGH(dtype, rows)                             \
    static void weigh_##dtype##_##rows(const struct weigh *a) \
    {                                                         \
        weigh_of(dtype, rows, a);                             \
    }
#define FOLIO__WEIGH_OF(dtype) FOLIO__WEIGH(dtype, 1) FOLIO__WEIGH(dtype, 2) FOLIO__WEIGH(dtype, 4)
FOLIO__WEIGH_OF(DTYPE_F32)
FOLIO__WEIGH_OF(DTYPE_F16)
FOLIO__WEIGH_OF(DTYPE_BF16)
FOLIO__WEIGH_OF(DTYPE_E4M3)
FOLIO__WEIGH_OF(DTYPE_E5M2)
FOLIO__WEIGH_OF(DTYPE_I8)

static void weigh(enum dtype dtype, const struct weigh *a)
{
    static void (*const by[6][3])(const struct weigh *) = {
        { weigh_DTYPE_F32_1, weigh_DTYPE_F32_2, weigh_DTYPE_F32_4 },
        { weigh_DTYPE_F16_1, weigh_DTYPE_F16_2, weigh_DTYPE_F16_4 },
        { weigh_DTYPE_BF16_1, weigh_DTYPE_BF16_2, weigh_DTYPE_BF16_4 },
        { weigh_DTYPE_E4M3_1, weigh_DTYPE_E4M3_2, weigh_DTYPE_E4M3_4 },
        { weigh_DTYPE_E5M2_1, weigh_DTYPE_E5M2_2, weigh_DTYPE_E5M2_4 },
        { weigh_DTYPE_I8_1, weigh_DTYPE_I8_2, weigh_DTYPE_I8_4 },
    };
    by[dtype - DTYPE_F32][a->n_padded < 4 ? a->n_padded - 1 : 2](a);
}
