/* SPDX-License-Identifier: Apache-2.0
 * aside_tmpl.h: keys whose V is NaN or infinite. A weight of 0 times such a value is NaN, but a key that is masked for
 * a row must not reach that row; and the products know no rows, they multiply all.
 *
 *   tile family   finds them while packing, packs zeros in their place, and adds them to the rows that weigh them
 *   rows family   finds NaN in a split's result, and then does the split again, without the keys that a row weighs 0
 *
 * So nothing is paid where all values are finite, and a row that weighs only finite ones has the same bits as if all
 * were. */

/* The keys of a tile that are set aside. */
struct aside {
    i32 n;
    struct aside_key {
        const u8 *v; /* [d] elements, as stored */
        float scale; /* of quantised ones */
        i32 column;  /* in the tile */
    } keys[BLOCK_KEYS];
};

/* o [d, padded to 16] += w * v */
static void aside_add_row(enum dtype dtype, float *o, float w, const u8 *v, float scale, i32 d)
{
    const i32 bytes = element_bytes(dtype);
    for (i32 c = 0; c < d; c += 16) {
        vec x = load_n(dtype, v + (i64)c * bytes, d - c < 16 ? d - c : 16);
        if (dtype_is_quantised(dtype))
            x = vec_mul(x, vec_set1(scale));
        vec_store(o + c, vec_fma(vec_set1(w), x, vec_load(o + c)));
    }
}

/* As weigh, without the keys that a row weighs 0: the same bits where all values are finite. */
static void weigh_present(enum dtype dtype, i32 n_rows, const struct weigh *a)
{
    for (i32 r = 0; r < n_rows; r++)
        for (i32 t = a->begin; t < a->end; t++) {
            const float w = a->w[r * CHUNK + t];
            if (w != 0.0f)
                aside_add_row(dtype, a->o + r * a->stride, w, a->v[t] + a->offset, 1.0f, a->d);
        }
}

static bool all_finite(const float *x, i32 n /* a multiple of 16 */)
{
    vec sum = vec_zero();
    for (i32 c = 0; c < n; c += 16)
        sum = vec_fma(vec_load(x + c), vec_zero(), sum);
    return vec_sum(sum) == 0.0f;
}

/* Of one key. */
static bool is_finite_row(enum dtype dtype, const u8 *v, float scale, i32 d)
{
    const i32 bytes = element_bytes(dtype);
    for (i32 c = 0; c < d; c += 16) {
        float x[16];
        vec_store(x, load_n(dtype, v + (i64)c * bytes, d - c < 16 ? d - c : 16));
        if (!all_finite(x, 16))
            return false;
    }
    return !dtype_is_quantised(dtype) || isfinite(scale);
}

/* The keys of n rows whose values are not finite. */
static void aside_find(struct aside *aside, enum dtype dtype, const u8 *const *rows, const float *scale, i32 n, i32 d)
{
    for (i32 t = 0; t < n; t++) {
        const float one = dtype_is_quantised(dtype) ? scale[t] : 1.0f;
        if (!is_finite_row(dtype, rows[t], one, d))
            aside->keys[aside->n++] = (struct aside_key){ rows[t], one, t };
    }
}

/* Weights of a strip: f32, or bf16. */
struct aside_weights {
    const void *w; /* [n_rows][stride] */
    i64 stride;    /* elements */
    bool halves;
    i32 n_rows, begin, end; /* columns [begin, end) are there */
};

/* What the strip's rows weigh of the keys set aside. */
static void aside_add(const struct aside *aside, enum dtype dtype, const struct aside_weights *a, float *o, i64 stride,
                      i32 d)
{
    for (i32 i = 0; i < aside->n; i++) {
        const struct aside_key *key = &aside->keys[i];
        for (i32 r = 0; r < a->n_rows && key->column >= a->begin && key->column < a->end; r++) {
            const i64 at = r * a->stride + key->column;
            const float w = a->halves ? folio__bf16_to_f32(((const u16 *)a->w)[at]) : ((const float *)a->w)[at];
            if (w != 0.0f)
                aside_add_row(dtype, o + r * stride, w, key->v, key->scale, d);
        }
    }
}
