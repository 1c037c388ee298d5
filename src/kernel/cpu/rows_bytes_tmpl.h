/* SPDX-License-Identifier: Apache-2.0
 * rows_bytes_tmpl.h: the rows family on int8 pages by products of bytes, four query rows at a time:
 *
 *   q [rows] as 16 bits and a scale a row ─► s = q . k, exact ─► weights, as for all ─► times V's scales
 *     ─► 16 bits and a scale a row and block ─► o += w . v, exact, in f32 once a block
 *
 * A block is a chunk. Where sequences are short, rounding to 16 bits would be seen, and time does not count: they take
 * f32's way. So what a row's result depends on is its sequence alone. */

#if VEC_BYTES
enum { BYTES_LEAST_KEYS = 512 };

struct rows_bytes {
    i8 *q;          /* [n_heads][n_padded / 4][d / 16][BYTES_STEP] */
    float *q_scale; /* [n_heads][n_padded] */
    i32 *q_offset;  /* likewise */
    u8 *w;          /* [4][2][BYTES_KEYS] of the rows at work */
    float *w_scale; /* [4] */
};

static bool uses_bytes(const struct attend_args *args, i64 kv_len, i32 n_padded)
{
    return args->k.dtype == DTYPE_I8 && args->v.dtype == DTYPE_I8 && n_padded % BYTES_ROWS == 0 &&
           kv_len >= BYTES_LEAST_KEYS &&
           (args->k.head_dim == 64 || args->k.head_dim == 128 || args->k.head_dim == 256) && args->v.head_dim % 64 == 0;
}

static i64 rows_bytes_floats(const struct attend_args *args, i32 n_heads, i32 n_padded)
{
    if (!uses_bytes(args, BYTES_LEAST_KEYS, n_padded))
        return 0;
    return (i64)sizeof(struct rows_bytes) / 4 + n_padded * ((i64)n_heads * (args->k.head_dim * 2 + 2) + BYTES_KEYS) +
           2 * BYTES_KEYS + 8 * 16;
}

static struct rows_bytes *rows_bytes_begin(const struct attend_args *args, i32 n_heads, i32 n_padded, float **scratch)
{
    const i64 rows = (i64)n_heads * n_padded;
    struct rows_bytes *bytes = (void *)take(scratch, (i64)sizeof *bytes / 4 + 1);
    bytes->q = (void *)take(scratch, rows * args->k.head_dim * 2);
    bytes->q_scale = take(scratch, rows);
    bytes->q_offset = (void *)take(scratch, rows);
    bytes->w = (void *)take(scratch, 2 * BYTES_KEYS);
    bytes->w_scale = take(scratch, BYTES_ROWS);
    return bytes;
}

/* The largest size of n numbers; NaN where one is not finite. */
static float row_top(const float *x, i32 n)
{
    vec top = vec_zero(), odd = vec_zero();
    for (i32 c = 0; c < n; c += 16) {
        const vec v = vec_load(x + c);
        top = vec_max(vec_abs(v), top);
        odd = vec_fma(v, vec_zero(), odd);
    }
    return vec_max_lane(top) + vec_sum(odd);
}

/* x [d] as 16 bits: lower bytes are signed, so the largest is 127 * 256 + 127. */
static void rows_bytes_load_q(const struct rows_pass *pass, i64 row, const float *x)
{
    const struct rows_bytes *bytes = pass->bytes;
    const i32 d = pass->args->k.head_dim;
    i8 *q = bytes->q + row / BYTES_ROWS * d / 16 * BYTES_STEP + row % BYTES_ROWS * 128;
    const float top = row_top(x, d);
    const float per_unit = top > 0.0f && isfinite(top) ? 32639.0f / top : 0.0f;
    bytes->q_offset[row] = 0;
    for (i32 c = 0; c < d; c += 16)
        bytes->q_offset[row] -= 128 * bytes_of_query(q + c / 16 * BYTES_STEP, x + c, per_unit);
    bytes->q_scale[row] = top / 32639.0f;
}

/* Weights of four rows from r on -> 16 bits; sign -1: minus those that are negative. NaN stays, in the scale. */
static void rows_bytes_round(const struct rows_pass *pass, i32 r, const float top[BYTES_ROWS], float sign)
{
    const struct rows_bytes *bytes = pass->bytes;
    float per_unit[BYTES_ROWS];
    UNROLL(4)
    for (i32 i = 0; i < BYTES_ROWS; i++) {
        per_unit[i] = top[i] > 0.0f ? sign * 65535.0f / top[i] : 0.0f;
        bytes->w_scale[i] = sign * top[i] / 65535.0f;
    }
    for (i32 t = 0; t < BYTES_KEYS; t += 16)
        UNROLL(4)
    for (i32 i = 0; i < BYTES_ROWS; i++)
        bytes_of_weights(bytes->w + i * 2 * BYTES_KEYS + t, pass->s + (r + i) * BYTES_KEYS + t, per_unit[i]);
}

/* Do four rows see all keys of a whole block? For them the general way would take as long as both products. */
static bool rows_bytes_see_all(const struct rows_pass *pass, const struct rows_step *step, i32 r)
{
    const i64 key = step->block->key;
    bool all = pass->rule.plain && step->n == BYTES_KEYS && r + BYTES_ROWS <= pass->n_rows;
    for (i32 i = 0; all && i < BYTES_ROWS; i++)
        all = pass->row_keys[r + i].begin <= key && pass->row_keys[r + i].end >= key + BYTES_KEYS;
    return all;
}

/* Scores of four rows times K's scales, and their maxima. */
static void rows_bytes_scale(const float *k_scale, float *s, float highest[BYTES_ROWS])
{
    vec top[BYTES_ROWS];
    UNROLL(4)
    for (i32 i = 0; i < BYTES_ROWS; i++)
        top[i] = vec_set1(-INFINITY);
    for (i32 t = 0; t < BYTES_KEYS; t += 16) {
        const vec scale = vec_load(k_scale + t);
        UNROLL(4)
        for (i32 i = 0; i < BYTES_ROWS; i++) {
            const vec x = vec_mul(vec_load(s + i * BYTES_KEYS + t), scale);
            vec_store(s + i * BYTES_KEYS + t, x);
            top[i] = vec_max(x, top[i]);
        }
    }
    UNROLL(4)
    for (i32 i = 0; i < BYTES_ROWS; i++)
        highest[i] = vec_max_lane(top[i]);
}

/* What rows_weights does, for four rows at once: what one waits for, the others fill. Gives the largest weights. */
static void rows_bytes_four(const struct rows_pass *pass, const struct rows_step *step, i32 r, float top[BYTES_ROWS])
{
    const i64 row = (i64)step->head * pass->n_padded + r;
    const float *v_scale = rows_v_scale(pass, step);
    float *s = pass->s + (i64)r * BYTES_KEYS;
    const float c = pass->rule.c;
    float *m = pass->m + row, *l = pass->l + row * 16;
    vec base[BYTES_ROWS], sums[BYTES_ROWS], most[BYTES_ROWS], odd[BYTES_ROWS];
    float highest[BYTES_ROWS];
    rows_bytes_scale(rows_k_scale(pass, step), s, highest);
    for (i32 i = 0; i < BYTES_ROWS; i++) {
        if ((highest[i] - m[i]) * c > RESCALE_ABOVE) {
            const float factor = vec_max_lane(vec_exp2(vec_set1((m[i] - highest[i]) * c)));
            scale_row(l + i * 16, 16, factor);
            scale_row(pass->o + (row + i) * pass->v_pad, pass->v_pad, factor);
            m[i] = highest[i];
        }
        base[i] = vec_set1(m[i] == -INFINITY ? 0.0f : m[i]);
        sums[i] = vec_load(l + i * 16);
        most[i] = odd[i] = vec_zero();
    }
    for (i32 t = 0; t < BYTES_KEYS; t += 16) {
        const vec scale = vec_load(v_scale + t);
        UNROLL(4)
        for (i32 i = 0; i < BYTES_ROWS; i++) {
            float *at = s + i * BYTES_KEYS + t;
            const vec p = vec_exp2(vec_mul(vec_sub(vec_load(at), base[i]), vec_set1(c)));
            const vec w = vec_mul(p, scale);
            sums[i] = vec_add(sums[i], p);
            most[i] = vec_max(vec_abs(w), most[i]);
            odd[i] = vec_fma(w, vec_zero(), odd[i]);
            vec_store(at, w);
        }
    }
    UNROLL(4)
    for (i32 i = 0; i < BYTES_ROWS; i++) {
        vec_store(l + i * 16, sums[i]);
        top[i] = vec_max_lane(most[i]) + vec_sum(odd[i]);
    }
}

/* Weights of rows r .. r + 3, for which w has room. */
static void rows_bytes_weights(const struct rows_pass *pass, const struct rows_step *step, i32 r, float top[BYTES_ROWS])
{
    float *s = pass->s + (i64)r * BYTES_KEYS;
    if (rows_bytes_see_all(pass, step, r)) {
        rows_bytes_four(pass, step, r, top);
        return;
    }
    for (i32 i = 0; i < BYTES_ROWS; i++) {
        if (r + i < pass->n_rows)
            rows_weight(pass, step, r + i);
        else
            memset(s + i * BYTES_KEYS, 0, BYTES_KEYS * sizeof *s);
        top[i] = row_top(s + i * BYTES_KEYS, BYTES_KEYS);
    }
}

/* K or V of the next head, or of the next block. */
static struct bytes_ahead rows_bytes_ahead(const struct rows_pass *pass, const struct rows_step *step, bool is_v)
{
    const struct attend_args *args = pass->args;
    const bool more = step->head + 1 < pass->n_heads;
    const struct block *block = more ? step->block : step->after;
    const i64 head = pass->head_begin + (more ? step->head + 1 : 0);
    if (block->n < step->n)
        return (struct bytes_ahead){ NULL, 0 };
    return is_v ? (struct bytes_ahead){ block->v, head * args->v.head_stride }
                : (struct bytes_ahead){ block->k, head * args->k.head_stride };
}

/* Where pages hold all heads of a slot together: slots of the block after with all their heads, as many rows as a head
 * has keys: the order in memory. */
static struct bytes_ahead rows_bytes_slots(const struct rows_pass *pass, const struct rows_step *step,
                                           const struct pages_view *pages, const u8 *const *after,
                                           const u8 *list[BYTES_KEYS])
{
    if (step->after->n < step->n)
        return (struct bytes_ahead){ NULL, 0 };
    i32 slot = step->head * BYTES_KEYS / pass->n_heads, head = step->head * BYTES_KEYS % pass->n_heads;
    for (i32 i = 0; i < BYTES_KEYS; slot++, head = 0)
        for (; head < pass->n_heads && i < BYTES_KEYS; head++)
            list[i++] = after[slot] + (pass->head_begin + head) * pages->head_stride;
    return (struct bytes_ahead){ list, 0 };
}

/* s = q . k for rows r .. r + 3; meanwhile V is fetched, and K of what comes next. */
static void rows_bytes_scores(const struct rows_pass *pass, const struct rows_step *step, i32 r)
{
    const struct attend_args *args = pass->args;
    const struct rows_bytes *bytes = pass->bytes;
    const i64 head = pass->head_begin + step->head, row = (i64)step->head * pass->n_padded + r;
    const u8 *list[BYTES_KEYS];
    struct bytes_scores scores = { .q = bytes->q + row / BYTES_ROWS * args->k.head_dim / 16 * BYTES_STEP,
                                   .q_offset = bytes->q_offset + row,
                                   .q_scale = bytes->q_scale + row,
                                   .d = args->k.head_dim,
                                   .n_keys = (step->n + 15) / 16 * 16,
                                   .k = step->block->k,
                                   .offset = head * args->k.head_stride,
                                   .s = pass->s + (i64)r * BYTES_KEYS };
    if (r == 0) {
        scores.near = (struct bytes_ahead){ step->block->v, head * args->v.head_stride };
        scores.far = pass->heads_together ? rows_bytes_slots(pass, step, &args->k, step->after->k, list)
                                          : rows_bytes_ahead(pass, step, false);
    }
    bytes_scores(&scores);
}

/* o += w . v for rows r .. r + 3; meanwhile K and V of what comes next are fetched. */
static void rows_bytes_values(const struct rows_pass *pass, const struct rows_step *step, i32 r, bool fetch)
{
    const struct attend_args *args = pass->args;
    const u8 *list[BYTES_KEYS];
    struct bytes_values values = { .w = pass->bytes->w,
                                   .scale = pass->bytes->w_scale,
                                   .d = args->v.head_dim,
                                   .n_keys = (step->n + 3) / 4 * 4,
                                   .v = step->block->v,
                                   .offset = (pass->head_begin + step->head) * args->v.head_stride,
                                   .o = pass->o + ((i64)step->head * pass->n_padded + r) * pass->v_pad,
                                   .stride = pass->v_pad };
    if (fetch) {
        values.near = rows_bytes_ahead(pass, step, false);
        values.far = pass->heads_together ? rows_bytes_slots(pass, step, &args->v, step->after->v, list)
                                          : rows_bytes_ahead(pass, step, true);
    }
    bytes_values(&values);
}

static bool any_negative(const float *x, i32 n)
{
    vec lowest = vec_zero();
    for (i32 c = 0; c < n; c += 16)
        lowest = vec_max(vec_sub(vec_zero(), vec_load(x + c)), lowest);
    return vec_max_lane(lowest) > 0.0f;
}

static void rows_bytes_chunk(const struct rows_pass *pass, const struct rows_step *step)
{
    const bool negative = any_negative(rows_v_scale(pass, step), step->n);
    for (i32 r = 0; r < pass->n_padded; r += BYTES_ROWS) {
        float top[BYTES_ROWS];
        rows_bytes_scores(pass, step, r);
        rows_bytes_weights(pass, step, r, top);
        rows_bytes_round(pass, r, top, 1.0f);
        rows_bytes_values(pass, step, r, r == 0);
        if (negative) {
            rows_bytes_round(pass, r, top, -1.0f);
            rows_bytes_values(pass, step, r, false);
        }
    }
}

/* The split is done: quarters of o in their order. */
static void rows_bytes_in_order(const struct rows_pass *pass)
{
    for (i64 row = 0; row < (i64)pass->n_heads * pass->n_padded; row++)
        for (i32 c = 0; c < pass->v_pad; c += 64) {
            float x[64], *o = pass->o + row * pass->v_pad + c;
            memcpy(x, o, sizeof x);
            for (i32 i = 0; i < 16; i++)
                memcpy(o + i % 4 * 16 + i / 4 * 4, x + 4 * i, 4 * sizeof *x);
        }
}
#else
static bool uses_bytes(const struct attend_args *args, i64 kv_len, i32 n_padded)
{
    (void)args, (void)kv_len, (void)n_padded;
    return false;
}

static i64 rows_bytes_floats(const struct attend_args *args, i32 n_heads, i32 n_padded)
{
    (void)args, (void)n_heads, (void)n_padded;
    return 0;
}

static struct rows_bytes *rows_bytes_begin(const struct attend_args *args, i32 n_heads, i32 n_padded, float **scratch)
{
    (void)args, (void)n_heads, (void)n_padded, (void)scratch;
    return NULL;
}

static void rows_bytes_load_q(const struct rows_pass *pass, i64 row, const float *x)
{
    (void)pass, (void)row, (void)x;
}

static void rows_bytes_chunk(const struct rows_pass *pass, const struct rows_step *step)
{
    (void)pass, (void)step;
}

static void rows_bytes_in_order(const struct rows_pass *pass)
{
    (void)pass;
}
#endif
