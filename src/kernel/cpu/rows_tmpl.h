/* SPDX-License-Identifier: Apache-2.0
 * rows_tmpl.h: few query vectors a kv head (decode, speculative): K and V are read straight from their pages, once, for all
 * rows of a group.
 *
 *   for each split          [split_tokens] of the sequence's keys
 *     for each chunk        CHUNK keys; their addresses are looked up once, pages may end anywhere
 *       for each kv head    dots: q . k ─► s [rows][CHUNK] ─► weights ─► weigh: o += w * v
 *                           and the next head's (or chunk's) K and V rows are prefetched, line by line
 *
 * A dot product is summed over 16 lanes, chunks of the head dim in order, then by vec_sum's tree; o in the order of keys.
 * So the register blocking is free to differ from level to level. */

enum { CHUNK = 32, MAX_ROWS = 24, STATE_BYTES = 256 * 1024 };

/* Addresses of a chunk's rows for kv head 0; entries past n repeat the last, so that they may be read. */
struct chunk {
    i64 key; /* of the first */
    i32 n;   /* keys; 0 = nothing more */
    const u8 *k[CHUNK], *v[CHUNK];
};

/* Scratch of one pass over n_heads kv heads. */
struct rows_pass {
    const struct attend_args *args;
    const struct attend_item *item;
    struct score_rule rule;
    i32 head_begin, n_heads;
    i32 n_rows, n_padded; /* packed rows a head; 1, 2 or a multiple of 4 */
    i32 k_pad, v_pad;     /* head dims, padded to 16 */
    float *q;             /* [n_heads][n_padded][k_pad] */
    float *o, *total;     /* [n_heads][n_padded][v_pad] of this split; of the splits before */
    float *m, *l;         /* [n_heads][n_padded], [n_heads][n_padded][16] */
    float *total_m, *total_l;
    float *s; /* [n_padded][CHUNK] */
    struct keys row_keys[MAX_ROWS];
    struct keys all_keys; /* of any row */
};

/* ---- addresses */

static const u8 *slot_address(const struct pages_view *pages, const struct table_view *table, i64 seq, i64 column,
                              i64 slot)
{
    return layout_slot(pages, layout_page(table, seq, column), slot, 0);
}

static void chunk_find(struct chunk *chunk, const struct attend_args *args, i32 seq, i64 key, i64 end)
{
    chunk->key = key;
    chunk->n = (i32)clamp_i64(end - key, 0, CHUNK);
    i64 column = key / args->page_size, slot = key % args->page_size;
    for (i32 i = 0; i < chunk->n; column++, slot = 0) {
        const u8 *k = slot_address(&args->k, &args->k_table, seq, column, slot);
        const u8 *v = slot_address(&args->v, &args->v_table, seq, column, slot);
        for (; i < chunk->n && slot < args->page_size; i++, slot++) {
            chunk->k[i] = k;
            chunk->v[i] = v;
            k += args->k.slot_stride;
            v += args->v.slot_stride;
        }
    }
    for (i32 i = chunk->n; chunk->n > 0 && i < CHUNK; i++) {
        chunk->k[i] = chunk->k[chunk->n - 1];
        chunk->v[i] = chunk->v[chunk->n - 1];
    }
}

INLINE void prefetch_row(const u8 *row, i64 bytes)
{
    for (i64 at = 0; at < bytes; at += 64)
        __builtin_prefetch(row + at, 0, 3);
}

/* ---- q . k: R rows, VEC_ACCS / R keys at a time */

INLINE void dots_step(vec *acc, enum dtype dtype, i32 n_rows, i32 n_keys, const float *q, i64 q_stride, const vec *k)
{
    (void)dtype;
#pragma GCC unroll 4
    for (i32 r = 0; r < n_rows; r++) {
        const vec x = vec_load(q + r * q_stride);
#pragma GCC unroll 16
        for (i32 t = 0; t < n_keys; t++)
            acc[r * n_keys + t] = vec_fma(x, k[t], acc[r * n_keys + t]);
    }
}

INLINE void dots_block(enum dtype dtype, i32 n_rows, i32 n_keys, const float *q, i64 q_stride, const u8 *const *k,
                       i64 offset, i32 d, float *s)
{
    const i32 bytes = element_bytes(dtype);
    vec acc[VEC_ACCS], x[VEC_ACCS];
    float sums[VEC_ACCS];
#pragma GCC unroll 16
    for (i32 i = 0; i < VEC_ACCS; i++)
        acc[i] = vec_zero();
    i32 c = 0;
    for (; c + 16 <= d; c += 16) {
#pragma GCC unroll 16
        for (i32 t = 0; t < n_keys; t++)
            x[t] = load_16(dtype, k[t] + offset + (i64)c * bytes);
        dots_step(acc, dtype, n_rows, n_keys, q + c, q_stride, x);
    }
    if (c < d) {
#pragma GCC unroll 16
        for (i32 t = 0; t < n_keys; t++)
            x[t] = load_n(dtype, k[t] + offset + (i64)c * bytes, d - c);
        dots_step(acc, dtype, n_rows, n_keys, q + c, q_stride, x);
    }
    vec_sums(acc, sums);
#pragma GCC unroll 4
    for (i32 r = 0; r < n_rows; r++)
        memcpy(s + r * CHUNK, sums + r * n_keys, (size_t)n_keys * sizeof *s);
}

struct dots {
    const float *q; /* [n_padded][stride] */
    i64 stride;
    i32 n_padded, d;
    const u8 *const *k;    /* [CHUNK] */
    const u8 *const *next; /* [CHUNK], or NULL: rows to prefetch */
    i64 offset, next_offset;
    i32 n_keys;
    float *s; /* [n_padded][CHUNK] */
};

INLINE void dots_of(enum dtype dtype, i32 block_rows, const struct dots *a)
{
    enum { AT_ONCE = VEC_ACCS };
    const i32 n_keys = AT_ONCE / block_rows;
    const i64 row_bytes = (i64)a->d * element_bytes(dtype);
    for (i32 t = 0; t < a->n_keys; t += n_keys) {
        for (i32 i = t; a->next && i < t + n_keys; i++)
            prefetch_row(a->next[i] + a->next_offset, row_bytes);
        for (i32 r = 0; r < a->n_padded; r += block_rows)
            dots_block(dtype, block_rows, n_keys, a->q + r * a->stride, a->stride, a->k + t, a->offset, a->d,
                       a->s + r * CHUNK + t);
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

static void dots(enum dtype dtype, const struct dots *a)
{
    static void (*const by[3][3])(const struct dots *) = {
        { dots_DTYPE_F32_1, dots_DTYPE_F32_2, dots_DTYPE_F32_4 },
        { dots_DTYPE_F16_1, dots_DTYPE_F16_2, dots_DTYPE_F16_4 },
        { dots_DTYPE_BF16_1, dots_DTYPE_BF16_2, dots_DTYPE_BF16_4 },
    };
    by[dtype - DTYPE_F32][a->n_padded < 4 ? a->n_padded - 1 : 2](a);
}

/* ---- o += w * v */

struct weigh {
    const float *w; /* [n_padded][CHUNK] */
    i32 n_padded, d;
    const u8 *const *v;    /* [CHUNK] */
    const u8 *const *next; /* [CHUNK], or NULL */
    i64 offset, next_offset;
    i32 begin, end; /* keys of the chunk */
    float *o;       /* [n_padded][stride] */
    i64 stride;
};

/* n_vecs vectors of columns from c on; the last has n_last elements. */
INLINE void weigh_block(enum dtype dtype, i32 n_rows, i32 n_vecs, const struct weigh *a, i32 row, i32 c, bool whole,
                        bool prefetch)
{
    const i64 at = a->offset + (i64)c * element_bytes(dtype), row_bytes = (i64)a->d * element_bytes(dtype);
    const float *w = a->w + row * CHUNK;
    float *o = a->o + row * a->stride + c;
    vec acc[VEC_ACCS], v[VEC_ACCS];
#pragma GCC unroll 4
    for (i32 r = 0; r < n_rows; r++)
#pragma GCC unroll 16
        for (i32 j = 0; j < n_vecs; j++)
            acc[r * n_vecs + j] = vec_load(o + r * a->stride + j * 16);
    for (i32 t = a->begin; t < a->end; t++) {
        if (prefetch)
            prefetch_row(a->next[t] + a->next_offset, row_bytes);
#pragma GCC unroll 16
        for (i32 j = 0; j < n_vecs; j++) {
            const u8 *p = a->v[t] + at + j * 16 * element_bytes(dtype);
            v[j] = whole ? load_16(dtype, p) : load_n(dtype, p, a->d - c);
        }
#pragma GCC unroll 4
        for (i32 r = 0; r < n_rows; r++) {
            const vec x = vec_set1(w[r * CHUNK + t]);
#pragma GCC unroll 16
            for (i32 j = 0; j < n_vecs; j++)
                acc[r * n_vecs + j] = vec_fma(x, v[j], acc[r * n_vecs + j]);
        }
    }
#pragma GCC unroll 4
    for (i32 r = 0; r < n_rows; r++)
#pragma GCC unroll 16
        for (i32 j = 0; j < n_vecs; j++)
            vec_store(o + r * a->stride + j * 16, acc[r * n_vecs + j]);
}

INLINE void weigh_of(enum dtype dtype, i32 block_rows, const struct weigh *a)
{
    enum { AT_ONCE = VEC_ACCS };
    const i32 n_vecs = block_rows == 1 && AT_ONCE > 8 ? 8 : AT_ONCE / block_rows;
    for (i32 row = 0; row < a->n_padded; row += block_rows) {
        bool prefetch = row == 0 && a->next;
        i32 c = 0;
        for (; c + 16 * n_vecs <= a->d; c += 16 * n_vecs, prefetch = false) {
            if (prefetch)
                weigh_block(dtype, block_rows, n_vecs, a, row, c, true, true);
            else
                weigh_block(dtype, block_rows, n_vecs, a, row, c, true, false);
        }
        for (; c + 16 <= a->d; c += 16)
            weigh_block(dtype, block_rows, 1, a, row, c, true, false);
        if (c < a->d)
            weigh_block(dtype, block_rows, 1, a, row, c, false, false);
    }
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

static void weigh(enum dtype dtype, const struct weigh *a)
{
    static void (*const by[3][3])(const struct weigh *) = {
        { weigh_DTYPE_F32_1, weigh_DTYPE_F32_2, weigh_DTYPE_F32_4 },
        { weigh_DTYPE_F16_1, weigh_DTYPE_F16_2, weigh_DTYPE_F16_4 },
        { weigh_DTYPE_BF16_1, weigh_DTYPE_BF16_2, weigh_DTYPE_BF16_4 },
    };
    by[dtype - DTYPE_F32][a->n_padded < 4 ? a->n_padded - 1 : 2](a);
}

/* ---- a pass */

static i32 padded_rows(i32 n_rows)
{
    return n_rows <= 2 ? n_rows : (n_rows + 3) / 4 * 4;
}

static i32 padded_dim(i32 d)
{
    return (d + 15) / 16 * 16;
}

/* Floats of scratch for one kv head. */
static i64 rows_state_floats(const struct attend_args *args, i32 n_padded)
{
    return (i64)n_padded * (padded_dim(args->k.head_dim) + 2 * padded_dim(args->v.head_dim) + 1 + 16 + 2);
}

static i32 rows_heads_a_pass(const struct attend_args *args, i32 n_padded)
{
    const i64 fit = STATE_BYTES / (i64)sizeof(float) / rows_state_floats(args, n_padded);
    return (i32)clamp_i64(fit, 1, args->n_kv_heads);
}

static size_t rows_scratch_bytes(const struct attend_args *args)
{
    size_t most = 0;
    for (i32 n = 1; n <= MAX_ROWS; n++) {
        const i32 n_padded = padded_rows(n);
        const i64 floats = rows_heads_a_pass(args, n_padded) * rows_state_floats(args, n_padded) + n_padded * CHUNK;
        most = (size_t)max_i64((i64)most, floats * (i64)sizeof(float));
    }
    return most + 16 * 64;
}

static float *take(float **scratch, i64 n)
{
    float *taken = *scratch;
    *scratch += (n + 15) / 16 * 16;
    return taken;
}

static void rows_begin(struct rows_pass *pass, const struct attend_args *args, const struct attend_item *item,
                       i32 n_heads, void *scratch)
{
    pass->args = args;
    pass->item = item;
    pass->rule = rule_of(args);
    pass->n_rows = (i32)item->n_rows * args->group;
    pass->n_padded = padded_rows(pass->n_rows);
    pass->k_pad = padded_dim(args->k.head_dim);
    pass->v_pad = padded_dim(args->v.head_dim);
    float *next = scratch;
    const i64 rows = (i64)n_heads * pass->n_padded;
    pass->q = take(&next, rows * pass->k_pad);
    pass->o = take(&next, rows * pass->v_pad);
    pass->total = take(&next, rows * pass->v_pad);
    pass->m = take(&next, rows);
    pass->l = take(&next, rows * 16);
    pass->total_m = take(&next, rows);
    pass->total_l = take(&next, rows);
    pass->s = take(&next, (i64)pass->n_padded * CHUNK);
    for (i32 r = 0; r < pass->n_rows; r++)
        pass->row_keys[r] = keys_of_row(args, item, item->row_begin + r / args->group);
    pass->all_keys = keys_of_rows(args, item, item->row_begin, item->row_begin + item->n_rows);
}

static struct score_place place_of(const struct attend_args *args, const struct attend_item *item, i32 head, i32 packed)
{
    const i64 row = item->row_begin + packed / args->group;
    return (struct score_place){ .token = item->q_token + row,
                                 .position = row_position(args, item, row),
                                 .head = head * args->group + packed % args->group };
}

static void rows_load_q(const struct rows_pass *pass)
{
    const struct attend_args *args = pass->args;
    for (i32 h = 0; h < pass->n_heads; h++)
        for (i32 r = 0; r < pass->n_padded; r++) {
            float *q = pass->q + ((i64)h * pass->n_padded + r) * pass->k_pad;
            if (r >= pass->n_rows) {
                for (i32 c = 0; c < pass->k_pad; c += 16)
                    vec_store(q + c, vec_zero());
                continue;
            }
            const struct score_place at = place_of(args, pass->item, pass->head_begin + h, r);
            widen_row((enum dtype)args->q.dtype, q, layout_row(&args->q, at.token, at.head), args->q.dim,
                      pass->rule.q_factor);
        }
}

static void rows_clear(float *o, float *m, float *l, i64 n_rows, i32 d, i32 l_width)
{
    memset(o, 0, (size_t)(n_rows * d) * sizeof *o);
    memset(l, 0, (size_t)(n_rows * l_width) * sizeof *l);
    for (i64 r = 0; r < n_rows; r++)
        m[r] = -INFINITY;
}

/* Scores of one head and chunk -> weights; o rescaled where the maximum moved. */
static void rows_weights(const struct rows_pass *pass, i32 h, const struct chunk *chunk)
{
    for (i32 r = 0; r < pass->n_rows; r++) {
        float *s = pass->s + r * CHUNK;
        const i64 row = (i64)h * pass->n_padded + r;
        const struct keys keys = keys_within(pass->row_keys[r], chunk->key, chunk->key + chunk->n);
        if (keys.begin >= keys.end) {
            memset(s, 0, CHUNK * sizeof *s);
            continue;
        }
        const i32 lo = (i32)(keys.begin - chunk->key), hi = (i32)(keys.end - chunk->key);
        if (!pass->rule.plain) {
            const struct score_place at = place_of(pass->args, pass->item, pass->head_begin + h, r);
            score_row(pass->args, &pass->rule, &at, chunk->key, lo, hi, s);
        }
        const float factor = weight_row(s, CHUNK, lo, hi, pass->rule.c, &pass->m[row], pass->l + row * 16);
        if (factor != 1.0f)
            scale_row(pass->o + row * pass->v_pad, pass->v_pad, factor);
    }
}

/* One chunk, all heads. */
static void rows_chunk(const struct rows_pass *pass, const struct chunk *chunk, const struct chunk *next)
{
    const struct attend_args *args = pass->args;
    for (i32 h = 0; h < pass->n_heads; h++) {
        const bool last = h + 1 == pass->n_heads;
        const struct chunk *ahead = last ? next : chunk;
        const i64 head = pass->head_begin + h, ahead_head = last ? pass->head_begin : head + 1;
        const bool any = ahead->n > 0;
        const i64 row = (i64)h * pass->n_padded;
        dots((enum dtype)args->k.dtype, &(struct dots){ .q = pass->q + row * pass->k_pad,
                                                        .stride = pass->k_pad,
                                                        .n_padded = pass->n_padded,
                                                        .d = args->k.head_dim,
                                                        .k = chunk->k,
                                                        .next = any ? ahead->k : NULL,
                                                        .offset = head * args->k.head_stride,
                                                        .next_offset = ahead_head * args->k.head_stride,
                                                        .n_keys = chunk->n,
                                                        .s = pass->s });
        rows_weights(pass, h, chunk);
        weigh((enum dtype)args->v.dtype, &(struct weigh){ .w = pass->s,
                                                          .n_padded = pass->n_padded,
                                                          .d = args->v.head_dim,
                                                          .v = chunk->v,
                                                          .next = any ? ahead->v : NULL,
                                                          .offset = head * args->v.head_stride,
                                                          .next_offset = ahead_head * args->v.head_stride,
                                                          .begin = (i32)max_i64(pass->all_keys.begin - chunk->key, 0),
                                                          .end = chunk->n,
                                                          .o = pass->o + row * pass->v_pad,
                                                          .stride = pass->v_pad });
    }
}

static void rows_split(const struct rows_pass *pass, i64 split)
{
    const struct attend_item *item = pass->item;
    const i64 begin = split * item->split_tokens;
    const struct keys keys = keys_within(pass->all_keys, begin, begin + item->split_tokens);
    rows_clear(pass->o, pass->m, pass->l, (i64)pass->n_heads * pass->n_padded, pass->v_pad, 16);
    if (keys.begin >= keys.end)
        return;
    struct chunk chunks[2]; /* the one at work and the next, by turns */
    i32 now = 0;
    chunk_find(&chunks[now], pass->args, item->seq, keys.begin - (keys.begin - begin) % CHUNK, keys.end);
    while (chunks[now].n > 0) {
        chunk_find(&chunks[1 - now], pass->args, item->seq, chunks[now].key + CHUNK, keys.end);
        rows_chunk(pass, &chunks[now], &chunks[1 - now]);
        now = 1 - now;
    }
}

/* A split is done: to memory, or into the item's total. */
static void rows_split_done(const struct rows_pass *pass, i64 split)
{
    const struct attend_args *args = pass->args;
    for (i32 h = 0; h < pass->n_heads; h++)
        for (i32 r = 0; r < pass->n_rows; r++) {
            const i64 row = (i64)h * pass->n_padded + r;
            const struct row_state done = { pass->o + row * pass->v_pad, pass->m[row],
                                            vec_sum(vec_load(pass->l + row * 16)) };
            if (pass->item->partial >= 0) {
                const i64 at = partial_row(args, pass->item, split, pass->head_begin + h, r);
                partial_write(&args->part, at, &done, args->v.head_dim);
                continue;
            }
            struct row_state total = { pass->total + row * pass->v_pad, pass->total_m[row], pass->total_l[row] };
            fold_row(&total, &done, args->v.head_dim, pass->rule.c);
            pass->total_m[row] = total.m;
            pass->total_l[row] = total.l;
        }
}

static void rows_finish(const struct rows_pass *pass)
{
    for (i32 h = 0; h < pass->n_heads; h++)
        for (i32 r = 0; r < pass->n_rows; r++) {
            const i64 row = (i64)h * pass->n_padded + r;
            const struct row_state total = { pass->total + row * pass->v_pad, pass->total_m[row], pass->total_l[row] };
            const struct score_place at = place_of(pass->args, pass->item, pass->head_begin + h, r);
            finish_row(pass->args, &pass->rule, at.token, at.head, &total);
        }
}

static void attend_rows(const struct attend_args *args, const struct attend_item *item, void *scratch)
{
    const i32 n_padded = padded_rows((i32)item->n_rows * args->group);
    const i32 a_pass = rows_heads_a_pass(args, n_padded);
    struct rows_pass pass;
    rows_begin(&pass, args, item, a_pass, scratch);
    for (i32 h = 0; h < item->n_heads; h += a_pass) {
        pass.head_begin = item->head_begin + h;
        pass.n_heads = item->n_heads - h < a_pass ? item->n_heads - h : a_pass;
        rows_load_q(&pass);
        rows_clear(pass.total, pass.total_m, pass.total_l, (i64)pass.n_heads * pass.n_padded, pass.v_pad, 1);
        for (i64 split = item->split_begin; split < item->split_begin + item->n_splits; split++) {
            rows_split(&pass, split);
            rows_split_done(&pass, split);
        }
        if (item->partial < 0)
            rows_finish(&pass);
    }
}
