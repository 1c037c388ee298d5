/* SPDX-License-Identifier: Apache-2.0
 * rows_tmpl.h: few query vectors a kv head (decode, speculative): K and V are read straight from their pages, once, for
 * all rows of a group.
 *
 *   for each split                 [split_tokens] of the sequence's keys
 *     for each block               BLOCK_KEYS keys; their addresses are looked up once
 *       for each kv head           so that a page is read as a whole, and its lines in order
 *         for each chunk           CHUNK keys: dots ─► s [rows][CHUNK] ─► weights ─► weigh
 *                                  while the next chunk's K and V rows are fetched
 *
 * What a row's result depends on: its keys in order, cut into chunks from the split's start. Neither blocks nor heads
 * nor pages nor the register blocking change a bit. Products are f32 at every level: pairs of bf16 halve the work, and
 * lose where it counts, from memory (docs/lab/cpu-rows.md). */

enum { MAX_ROWS = 24, STATE_BYTES = 256 * 1024 };

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
    float *s;                 /* [n_padded][CHUNK] */
    float *k_scale, *v_scale; /* [BLOCK_KEYS] of the block and head at work; NULL = all are 1 */
    i32 chunk;                /* keys a chunk */
    bool by_slot;             /* pages hold all heads of a slot together */
    struct keys row_keys[MAX_ROWS];
    struct keys all_keys;    /* of any row */
    struct mod_runner *mods; /* NULL = none */
};

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
        const i32 n_heads = rows_heads_a_pass(args, n_padded);
        const i64 floats = n_heads * rows_state_floats(args, n_padded) + n_padded * CHUNK + 2 * BLOCK_KEYS;
        const i64 mods = mod_is_used(args) ? (i64)folio__mod_scratch_bytes(args, n_heads, n, BLOCK_KEYS) : 0;
        most = (size_t)max_i64((i64)most, floats * (i64)sizeof(float) + mods);
    }
    return most + 16 * 64;
}

static float *take(float **scratch, i64 n)
{
    float *taken = *scratch;
    *scratch += (n + 15) / 16 * 16;
    return taken;
}

/* Keys a chunk: 4 KB of f32 K or 8 KB of 16-bit K, measured best: shorter costs more softmax, longer runs out of L1
 * with what is fetched ahead. A power of two in 8 .. CHUNK; mods want whole vectors. */
static i32 chunk_keys(const struct attend_args *args)
{
    const i64 row_bytes = (i64)args->k.head_dim * element_bytes((enum dtype)args->k.dtype);
    i32 keys = CHUNK;
    while (keys > (mod_is_used(args) ? 16 : 8) && keys * row_bytes > (args->k.dtype == DTYPE_F32 ? 4096 : 8192))
        keys /= 2;
    return keys;
}

static void rows_begin(struct rows_pass *pass, const struct attend_args *args, const struct attend_item *item,
                       i32 n_heads, struct mod_runner *mods, void *scratch)
{
    pass->args = args;
    pass->item = item;
    pass->rule = rule_of(args);
    pass->n_rows = (i32)item->n_rows * args->group;
    pass->n_padded = padded_rows(pass->n_rows);
    pass->k_pad = padded_dim(args->k.head_dim);
    pass->v_pad = padded_dim(args->v.head_dim);
    pass->chunk = chunk_keys(args);
    pass->by_slot = args->k.head_stride < args->k.slot_stride;
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
    pass->k_scale = args->k.scale ? take(&next, BLOCK_KEYS) : NULL;
    pass->v_scale = args->v.scale ? take(&next, BLOCK_KEYS) : NULL;
    for (i32 r = 0; r < pass->n_rows; r++)
        pass->row_keys[r] = keys_of_row(args, item, item->row_begin + r / args->group);
    pass->all_keys = keys_of_rows(args, item, item->row_begin, item->row_begin + item->n_rows);
    pass->mods = mod_is_used(args) ? mods : NULL;
    if (pass->mods)
        folio__mod_bind(mods, &VEC_MODS, args, item, n_heads, BLOCK_KEYS, next);
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

/* A chunk of a block, as one kv head of the pass sees it. */
struct rows_step {
    const struct block *block, *after; /* after: the block that comes next */
    i32 head, at, n;                   /* keys at .. at + n of the block */
};

/* n <= CHUNK columns of a row times the scales of their keys; 0 stays 0, whatever the scale of a key that is masked. */
static void rows_scale(float *s, const float *scale, i32 n)
{
    for (i32 col = 0; col < n; col += 16) {
        const vec x = vec_load(s + col);
        const vec is_there = vec_abs(x);
        vec_store(s + col, vec_select(vec_less(vec_zero(), is_there), vec_mul(x, vec_load(scale + col)), x));
    }
}

/* Scores -> weights; o rescaled where the maximum moved. */
static void rows_weights(const struct rows_pass *pass, const struct rows_step *step)
{
    const i64 key = step->block->key + step->at;
    for (i32 r = 0; r < pass->n_rows; r++) {
        float *s = pass->s + r * CHUNK;
        const i64 row = (i64)step->head * pass->n_padded + r;
        const struct keys keys = keys_within(pass->row_keys[r], key, key + step->n);
        if (keys.begin >= keys.end) {
            memset(s, 0, CHUNK * sizeof *s);
            continue;
        }
        const i32 lo = (i32)(keys.begin - key), hi = (i32)(keys.end - key);
        if (pass->k_scale)
            rows_scale(s, pass->k_scale + step->at, step->n);
        if (!pass->rule.plain) {
            const struct score_place at = place_of(pass->args, pass->item, pass->head_begin + step->head, r);
            const struct score_mods mods = { pass->mods, pass->head_begin + step->head, r, step->at };
            score_row(pass->args, &pass->rule, &at, &mods, key, lo, hi, s);
        }
        const float factor = weight_row(false, s, pass->chunk < 16 ? 16 : pass->chunk, lo, hi, pass->rule.c,
                                        &pass->m[row], pass->l + row * 16);
        if (pass->v_scale)
            rows_scale(s, pass->v_scale + step->at, step->n);
        if (factor != 1.0f)
            scale_row(pass->o + row * pass->v_pad, pass->v_pad, factor);
    }
}

/* Rows to fetch while a step's rows of K or V are used: row t at rows[t] + offset. */
struct rows_ahead {
    const u8 *const *rows; /* NULL = none */
    i64 offset;
    const u8 *list[CHUNK];
};

/* Those of the next step; but where pages hold all heads of a slot together, slots of the block after with all their
 * heads: the order in memory. */
static void rows_look_ahead(struct rows_ahead *ahead, const struct rows_pass *pass, const struct rows_step *step,
                            const struct pages_view *pages, bool is_v)
{
    const struct block *block = step->block, *after = step->after;
    const u8 *const *rows = is_v ? block->v : block->k, *const *rows_after = is_v ? after->v : after->k;
    ahead->offset = pass->head_begin * pages->head_stride;
    ahead->rows = NULL;
    if (pass->by_slot && after->n > 0) {
        const i32 done = step->head * block->n + step->at; /* rows of the block, in the order of use */
        i32 slot = done / pass->n_heads, head = done % pass->n_heads;
        for (i32 t = 0; t < CHUNK; t++) {
            ahead->list[t] = rows_after[slot] + head * pages->head_stride;
            slot += head + 1 == pass->n_heads;
            head = head + 1 == pass->n_heads ? 0 : head + 1;
        }
        ahead->rows = ahead->list;
    } else if (step->at + step->n < block->n) {
        ahead->rows = rows + step->at + step->n;
        ahead->offset += step->head * pages->head_stride;
    } else if (step->head + 1 < pass->n_heads) {
        ahead->rows = rows;
        ahead->offset += (step->head + 1) * pages->head_stride;
    } else if (after->n > 0) {
        ahead->rows = rows_after;
    }
}

static void rows_chunk(const struct rows_pass *pass, const struct rows_step *step)
{
    const struct attend_args *args = pass->args;
    const i64 head = pass->head_begin + step->head, row = (i64)step->head * pass->n_padded;
    struct rows_ahead ahead;
    rows_look_ahead(&ahead, pass, step, &args->k, false);
    dots((enum dtype)args->k.dtype, &(struct dots){ .q = pass->q + row * pass->k_pad,
                                                    .stride = pass->k_pad,
                                                    .n_padded = pass->n_padded,
                                                    .d = args->k.head_dim,
                                                    .k = step->block->k + step->at,
                                                    .offset = head * args->k.head_stride,
                                                    .next = ahead.rows,
                                                    .next_offset = ahead.offset,
                                                    .n_keys = step->n,
                                                    .s = pass->s });
    rows_weights(pass, step);
    rows_look_ahead(&ahead, pass, step, &args->v, true);
    weigh((enum dtype)args->v.dtype,
          &(struct weigh){ .w = pass->s,
                           .n_padded = pass->n_padded,
                           .d = args->v.head_dim,
                           .v = step->block->v + step->at,
                           .offset = head * args->v.head_stride,
                           .next = ahead.rows,
                           .next_offset = ahead.offset,
                           .begin = (i32)max_i64(pass->all_keys.begin - step->block->key - step->at, 0),
                           .end = step->n,
                           .o = pass->o + row * pass->v_pad,
                           .stride = pass->v_pad });
}

static void rows_load_scales(const struct rows_pass *pass, const struct block *block, i64 head)
{
    const struct attend_args *args = pass->args;
    const i64 seq = pass->item->seq;
    if (pass->k_scale)
        block_scales(pass->k_scale, &args->k, &args->k_table, seq, args->page_size, block, head);
    if (pass->v_scale)
        block_scales(pass->v_scale, &args->v, &args->v_table, seq, args->page_size, block, head);
}

/* One block, all heads; `after` is the block that comes next. */
static void rows_use(const struct rows_pass *pass, const struct cursor_block *at_work, const struct cursor_block *after)
{
    const struct block *block = &at_work->block;
    const i32 chunk = pass->chunk;
    if (pass->mods)
        folio__mod_tile(pass->mods, block->key, block->n, at_work->state);
    for (i32 head = 0; head < pass->n_heads; head++) {
        rows_load_scales(pass, block, pass->head_begin + head);
        for (i32 at = 0; at < block->n; at += chunk)
            rows_chunk(pass, &(struct rows_step){ block, &after->block, head, at, (i32)min_i64(block->n - at, chunk) });
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
    struct cursor cursor = { .args = pass->args,
                             .item = item,
                             .mods = pass->mods,
                             .quantum = BLOCK_KEYS,
                             .most = pass->by_slot ? CHUNK : BLOCK_KEYS };
    cursor_start(&cursor, keys.begin - (keys.begin - begin) % pass->chunk, keys.end);
    struct cursor_block blocks[2]; /* the one at work and the next, by turns */
    i32 now = 0;
    cursor_next(&cursor, &blocks[now]);
    while (blocks[now].block.n > 0) {
        cursor_next(&cursor, &blocks[1 - now]);
        rows_use(pass, &blocks[now], &blocks[1 - now]);
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
    struct mod_runner mods;
    rows_begin(&pass, args, item, a_pass, &mods, scratch);
    for (i32 h = 0; h < item->n_heads; h += a_pass) {
        pass.head_begin = item->head_begin + h;
        pass.n_heads = item->n_heads - h < a_pass ? item->n_heads - h : a_pass;
        rows_load_q(&pass);
        if (pass.mods)
            folio__mod_heads(pass.mods, pass.head_begin, pass.n_heads);
        rows_clear(pass.total, pass.total_m, pass.total_l, (i64)pass.n_heads * pass.n_padded, pass.v_pad, 1);
        for (i64 split = item->split_begin; split < item->split_begin + item->n_splits; split++) {
            rows_split(&pass, split);
            rows_split_done(&pass, split);
        }
        if (item->partial < 0)
            rows_finish(&pass);
    }
}
