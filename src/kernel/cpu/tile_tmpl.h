/* SPDX-License-Identifier: Apache-2.0
 * tile_tmpl.h: many query vectors a kv head (prefill, chunks): a tile of K and V is packed to f32 once and used by all.
 *
 *   packed rows = (query row, member of the group), in strips of STRIP
 *   K tile  [keys / 16][d][16]     transposed while packing, so that lanes are keys
 *   V tile  [dv / 16][keys][16]
 *   Q strip [d][STRIP]
 *
 *   for each tile of keys: pack K, V
 *     for each strip: s = Q K ─► weights ─► o += w V      s [STRIP][keys] stays in L1
 *
 * A strip computes only the keys that any of its rows may see. */

struct tile_pass {
    const struct attend_args *args;
    const struct attend_item *item;
    struct score_rule rule;
    i32 head;                 /* kv head */
    i32 n_rows, n_padded;     /* packed rows; a multiple of 4 */
    bool pairs;               /* q, k, v and weights are pairs of bf16: d counts pairs, keys go by two */
    i32 d, dv, v_pad;         /* head dims */
    i32 tile_keys;            /* <= TILE_KEYS, a multiple of 16 */
    float *q;                 /* [n_padded / STRIP, rounded up][d][STRIP] */
    float *k, *v;             /* as drawn */
    float *s;                 /* [STRIP][S_STRIDE] */
    float *o, *total;         /* [n_padded][v_pad] */
    float *m, *l;             /* [n_padded], [n_padded][16] */
    float *total_m, *total_l; /* [n_padded] */
    struct keys all_keys;     /* of any row */
    struct mod_runner *mods;  /* NULL = none */
};

/* Fewer keys a tile for larger heads: K and V tiles share the second-level cache with o. */
static i32 tile_keys_of(const struct attend_args *args)
{
    const i32 d = args->k.head_dim > args->v.head_dim ? args->k.head_dim : args->v.head_dim;
    return d <= 128 ? TILE_KEYS : d <= 256 ? TILE_KEYS / 2 : TILE_KEYS / 4;
}

static i32 tile_rows_of(const struct attend_args *args)
{
    return args->group >= PACKED_ROWS ? 1 : PACKED_ROWS / args->group;
}

static i32 padded_packed(i32 n_rows)
{
    return (n_rows + 3) / 4 * 4;
}

static size_t tile_scratch_bytes(const struct attend_args *args)
{
    const i64 rows = (padded_packed(tile_rows_of(args) * args->group) + STRIP - 1) / STRIP * STRIP;
    const i64 keys = tile_keys_of(args), d = args->k.head_dim, v_pad = padded_dim(args->v.head_dim);
    const i64 floats = rows * d + keys * d + keys * v_pad + STRIP * S_STRIDE + rows * (2 * v_pad + 16 + 3);
    const i64 packed = (i64)tile_rows_of(args) * args->group;
    const size_t mods = mod_is_used(args) ? folio__mod_scratch_bytes(args, 1, packed, TILE_KEYS) : 0;
    return (size_t)floats * sizeof(float) + 16 * 64 + mods;
}

/* ---- a tile of keys */

/* Floats from one panel of V to the next. */
static i64 v_panel(const struct tile_pass *pass)
{
    return (i64)pass->tile_keys * (pass->pairs ? 8 : 16);
}

static void tile_pack(const struct tile_pass *pass, const struct block *block)
{
    const struct attend_args *args = pass->args;
    const u8 *k[BLOCK_KEYS], *v[BLOCK_KEYS];
    float k_scale[BLOCK_KEYS], v_scale[BLOCK_KEYS];
    const i32 n = block->n;
    if (dtype_is_quantised((enum dtype)args->k.dtype)) {
        const i64 seq = pass->item->seq, page_size = args->page_size;
        block_scales(k_scale, &args->k, &args->k_table, seq, page_size, block, pass->head);
        block_scales(v_scale, &args->v, &args->v_table, seq, page_size, block, pass->head);
    }
    for (i32 i = 0; i < n; i++) {
        k[i] = block->k[i] + pass->head * args->k.head_stride;
        v[i] = block->v[i] + pass->head * args->v.head_stride;
    }
    for (i32 i = 0; i < n; i += 16)
        pack_k(k_dtype_of(args), pass->k + (i64)i * pass->d, k + i, k_scale + i, n - i < 16 ? n - i : 16, pass->d);
    pack_v(pass->pairs ? DTYPE_PAIR : (enum dtype)args->v.dtype, pass->v, v, v_scale, n, pass->dv, v_panel(pass));
}

static struct score_place tile_place(const struct tile_pass *pass, i32 packed)
{
    const struct attend_args *args = pass->args;
    const i64 row = pass->item->row_begin + packed / args->group;
    return (struct score_place){ .token = pass->item->q_token + row,
                                 .position = row_position(args, pass->item, row),
                                 .head = pass->head * args->group + packed % args->group };
}

static void tile_load_q(const struct tile_pass *pass)
{
    const struct attend_args *args = pass->args;
    const enum dtype dtype = pass->pairs ? DTYPE_PAIR : (enum dtype)args->q.dtype;
    const i64 bytes = element_bytes(dtype);
    const u8 *rows[16];
    vec x[16];
    for (i32 strip = 0; strip < pass->n_rows; strip += STRIP) {
        const i32 n = pass->n_rows - strip < STRIP ? pass->n_rows - strip : STRIP;
        for (i32 i = 0; i < n; i++) {
            const struct score_place at = tile_place(pass, strip + i);
            rows[i] = layout_row(&args->q, at.token, at.head);
        }
        float *dst = pass->q + (i64)strip * pass->d;
        for (i32 c = 0; c < pass->d; c += 16) {
            const i32 left = pass->d - c < 16 ? pass->d - c : 16;
            load_transposed(dtype, x, rows, NULL, c * bytes, n, left);
            for (i32 i = 0; i < left; i++)
                vec_store_n(dst + (c + i) * STRIP, scale_by_sign(dtype, x[i], pass->rule.q_factor), STRIP);
        }
    }
}

/* Columns [first, last) in panels of 16 for n_rows rows. */
INLINE void score_rows(enum dtype dtype, i32 n_rows, const struct tile_pass *pass, const float *q, i32 first, i32 last,
                       float *s, struct ahead *ahead)
{
    i32 j = first;
    for (; j + VEC_TILE_COLS <= last; j += VEC_TILE_COLS) {
        ahead_fetch(ahead);
        score_block(dtype, n_rows, VEC_TILE_COLS, q, pass->k + (i64)j * 16 * pass->d, pass->d, s + j * 16);
    }
    for (; j < last; j++)
        score_block(dtype, n_rows, 1, q, pass->k + (i64)j * 16 * pass->d, pass->d, s + j * 16);
}

INLINE void value_rows(enum dtype dtype, i32 n_rows, const struct tile_pass *pass, const float *w, i32 begin, i32 end,
                       float *o, struct ahead *ahead)
{
    const i64 panel = v_panel(pass);
    const i32 n_panels = pass->v_pad / 16;
    i32 j = 0;
    for (; j + VEC_TILE_COLS <= n_panels; j += VEC_TILE_COLS) {
        ahead_fetch(ahead);
        value_block(dtype, n_rows, VEC_TILE_COLS, w, pass->v + j * panel, panel, begin, end, o + j * 16, pass->v_pad);
    }
    for (; j < n_panels; j++)
        value_block(dtype, n_rows, 1, w, pass->v + j * panel, panel, begin, end, o + j * 16, pass->v_pad);
}

/* ---- a strip against a tile */

struct strip {
    i32 row, n_rows; /* packed rows; n_rows a multiple of 4 */
    i64 key;         /* of the tile's first column */
    i32 begin, end;  /* columns that any row may see */
    struct ahead *ahead;
};

INLINE void strip_scores_of(enum dtype dtype, const struct tile_pass *pass, const struct strip *strip)
{
    const float *q = pass->q + (i64)strip->row * pass->d;
    const i32 first = strip->begin / 16, last = (strip->end + 15) / 16;
    i32 r = 0;
    for (; r + VEC_TILE_ROWS <= strip->n_rows; r += VEC_TILE_ROWS)
        score_rows(dtype, VEC_TILE_ROWS, pass, q + r, first, last, pass->s + r * S_STRIDE, strip->ahead);
    for (; r + 4 <= strip->n_rows; r += 4)
        score_rows(dtype, 4, pass, q + r, first, last, pass->s + r * S_STRIDE, strip->ahead);
    for (; r < strip->n_rows; r += 2)
        score_rows(dtype, 2, pass, q + r, first, last, pass->s + r * S_STRIDE, strip->ahead);
}

INLINE void strip_values_of(enum dtype dtype, const struct tile_pass *pass, const struct strip *strip)
{
    float *o = pass->o + (i64)strip->row * pass->v_pad;
    const i32 begin = dtype == DTYPE_PAIR ? strip->begin / 2 : strip->begin;
    const i32 end = dtype == DTYPE_PAIR ? (strip->end + 1) / 2 : strip->end;
    i32 r = 0;
    for (; r + VEC_TILE_ROWS <= strip->n_rows; r += VEC_TILE_ROWS)
        value_rows(dtype, VEC_TILE_ROWS, pass, pass->s + r * S_STRIDE, begin, end, o + r * pass->v_pad, strip->ahead);
    for (; r + 4 <= strip->n_rows; r += 4)
        value_rows(dtype, 4, pass, pass->s + r * S_STRIDE, begin, end, o + r * pass->v_pad, strip->ahead);
    for (; r < strip->n_rows; r += 2)
        value_rows(dtype, 2, pass, pass->s + r * S_STRIDE, begin, end, o + r * pass->v_pad, strip->ahead);
}

static void strip_scores(const struct tile_pass *pass, const struct strip *strip)
{
    if (pass->pairs && VEC_PAIRS)
        strip_scores_of(DTYPE_PAIR, pass, strip);
    else
        strip_scores_of(DTYPE_F32, pass, strip);
}

static void strip_values(const struct tile_pass *pass, const struct strip *strip)
{
    if (pass->pairs && VEC_PAIRS)
        strip_values_of(DTYPE_PAIR, pass, strip);
    else
        strip_values_of(DTYPE_F32, pass, strip);
}

static void strip_weights(const struct tile_pass *pass, const struct strip *strip)
{
    const i32 width = (strip->end + 15) / 16 * 16;
    for (i32 r = 0; r < strip->n_rows; r++) {
        float *s = pass->s + r * S_STRIDE;
        const i32 packed = strip->row + r;
        struct keys keys = { 0, 0 };
        if (packed < pass->n_rows)
            keys = keys_within(keys_of_row(pass->args, pass->item, pass->item->row_begin + packed / pass->args->group),
                               strip->key + strip->begin, strip->key + strip->end);
        if (keys.begin >= keys.end) {
            memset(s, 0, (size_t)width * sizeof *s);
            continue;
        }
        const i32 lo = (i32)(keys.begin - strip->key), hi = (i32)(keys.end - strip->key);
        if (!pass->rule.plain) {
            const struct score_place at = tile_place(pass, packed);
            const struct score_mods mods = { pass->mods, pass->head, packed, 0 };
            score_row(pass->args, &pass->rule, &at, &mods, strip->key, lo, hi, s);
        }
        const float factor =
            weight_row(pass->pairs, s, width, lo, hi, pass->rule.c, &pass->m[packed], pass->l + packed * 16);
        if (factor != 1.0f)
            scale_row(pass->o + (i64)packed * pass->v_pad, pass->v_pad, factor);
    }
}

static struct keys strip_keys(const struct tile_pass *pass, i32 row, i32 n_rows)
{
    const i64 group = pass->args->group, begin = pass->item->row_begin;
    const i64 last = min_i64(row + n_rows, pass->n_rows) - 1;
    return keys_of_rows(pass->args, pass->item, begin + row / group, begin + last / group + 1);
}

static void strip_use(const struct tile_pass *pass, const struct strip *strip)
{
    strip_scores(pass, strip);
    strip_weights(pass, strip);
    strip_values(pass, strip);
}

/* Keys of the tile that masks leave to the strip: absent blocks are cut out, so that nothing of theirs is added. */
static void strip_use_pieces(const struct tile_pass *pass, struct strip strip)
{
    const i32 last = (i32)min_i64(strip.row + strip.n_rows, pass->n_rows);
    const i64 end = strip.key + strip.end;
    struct keep_piece piece;
    for (i64 at = strip.key + strip.begin;
         folio__mod_next_of_rows(pass->mods, pass->head, strip.row, last, at, end, &piece); at = piece.end) {
        strip.begin = (i32)(piece.begin - strip.key);
        strip.end = (i32)(piece.end - strip.key);
        strip_use(pass, &strip);
    }
}

static void tile_use(const struct tile_pass *pass, const struct cursor_block *at_work, const struct cursor_block *after)
{
    const struct block *block = &at_work->block;
    const bool whole = !pass->mods || (at_work->state == KEEP_ALL && !pass->args->block_mask);
    if (pass->mods)
        folio__mod_tile(pass->mods, block->key, block->n, at_work->state);
    const i64 n_blocks = ceil_div(pass->n_padded, STRIP) * (pass->tile_keys / 16 + pass->v_pad / 16) / VEC_TILE_COLS;
    struct ahead ahead = ahead_start(pass->args, pass->head, &after->block, n_blocks);
    for (i32 row = 0; row < pass->n_padded; row += STRIP) {
        const i32 n_rows = pass->n_padded - row < STRIP ? pass->n_padded - row : STRIP;
        const struct keys keys = keys_within(strip_keys(pass, row, n_rows), block->key, block->key + block->n);
        if (keys.begin >= keys.end)
            continue;
        const struct strip strip = { .row = row,
                                     .n_rows = n_rows,
                                     .key = block->key,
                                     .begin = (i32)(keys.begin - block->key),
                                     .end = (i32)(keys.end - block->key),
                                     .ahead = &ahead };
        if (whole)
            strip_use(pass, &strip);
        else
            strip_use_pieces(pass, strip);
    }
}

/* ---- a pass: one kv head */

static void tile_begin(struct tile_pass *pass, const struct attend_args *args, const struct attend_item *item,
                       struct mod_runner *mods, void *scratch)
{
    pass->args = args;
    pass->item = item;
    pass->rule = rule_of(args);
    pass->n_rows = (i32)item->n_rows * args->group;
    pass->n_padded = padded_packed(pass->n_rows);
    pass->pairs = uses_pairs(args);
    pass->d = k_dim_of(args);
    pass->dv = args->v.head_dim;
    pass->v_pad = padded_dim(pass->dv);
    pass->tile_keys = tile_keys_of(args);
    const i64 rows = (pass->n_padded + STRIP - 1) / STRIP * STRIP;
    float *next = scratch;
    pass->q = take(&next, rows * pass->d);
    pass->k = take(&next, (i64)pass->tile_keys * pass->d);
    pass->v = take(&next, (i64)pass->tile_keys * pass->v_pad);
    pass->s = take(&next, STRIP * S_STRIDE);
    pass->o = take(&next, rows * pass->v_pad);
    pass->total = take(&next, rows * pass->v_pad);
    pass->m = take(&next, rows);
    pass->l = take(&next, rows * 16);
    pass->total_m = take(&next, rows);
    pass->total_l = take(&next, rows);
    pass->all_keys = keys_of_rows(args, item, item->row_begin, item->row_begin + item->n_rows);
    pass->mods = mod_is_used(args) ? mods : NULL;
    if (pass->mods)
        folio__mod_bind(mods, &VEC_MODS, args, item, 1, TILE_KEYS, next);
}

static void tile_split(const struct tile_pass *pass, i64 split)
{
    const i64 begin = split * pass->item->split_tokens;
    const struct keys keys = keys_within(pass->all_keys, begin, begin + pass->item->split_tokens);
    rows_clear(pass->o, pass->m, pass->l, pass->n_padded, pass->v_pad, 16);
    if (keys.begin >= keys.end)
        return;
    struct cursor cursor = {
        .args = pass->args, .item = pass->item, .mods = pass->mods, .quantum = pass->tile_keys, .most = pass->tile_keys
    };
    cursor_start(&cursor, keys.begin - (keys.begin - begin) % pass->tile_keys, keys.end);
    struct cursor_block blocks[2]; /* the one at work and the next, by turns */
    i32 now = 0;
    cursor_next(&cursor, &blocks[now]);
    while (blocks[now].block.n > 0) {
        cursor_next(&cursor, &blocks[1 - now]);
        tile_pack(pass, &blocks[now].block);
        tile_use(pass, &blocks[now], &blocks[1 - now]);
        now = 1 - now;
    }
}

static void tile_split_done(const struct tile_pass *pass, i64 split)
{
    for (i32 r = 0; r < pass->n_rows; r++) {
        const struct row_state done = { pass->o + (i64)r * pass->v_pad, pass->m[r],
                                        vec_sum(vec_load(pass->l + r * 16)) };
        if (pass->item->partial >= 0) {
            partial_write(&pass->args->part, partial_row(pass->args, pass->item, split, pass->head, r), &done,
                          pass->dv);
            continue;
        }
        struct row_state total = { pass->total + (i64)r * pass->v_pad, pass->total_m[r], pass->total_l[r] };
        fold_row(&total, &done, pass->dv, pass->rule.c);
        pass->total_m[r] = total.m;
        pass->total_l[r] = total.l;
    }
}

static void tile_finish(const struct tile_pass *pass)
{
    for (i32 r = 0; r < pass->n_rows; r++) {
        const struct row_state total = { pass->total + (i64)r * pass->v_pad, pass->total_m[r], pass->total_l[r] };
        const struct score_place at = tile_place(pass, r);
        finish_row(pass->args, &pass->rule, at.token, at.head, &total);
    }
}

static void attend_tile(const struct attend_args *args, const struct attend_item *item, void *scratch)
{
    struct tile_pass pass;
    struct mod_runner mods;
    tile_begin(&pass, args, item, &mods, scratch);
    for (i32 h = 0; h < item->n_heads; h++) {
        pass.head = item->head_begin + h;
        tile_load_q(&pass);
        if (pass.mods)
            folio__mod_heads(pass.mods, pass.head, 1);
        rows_clear(pass.total, pass.total_m, pass.total_l, pass.n_padded, pass.v_pad, 1);
        for (i64 split = item->split_begin; split < item->split_begin + item->n_splits; split++) {
            tile_split(&pass, split);
            tile_split_done(&pass, split);
        }
        if (item->partial < 0)
            tile_finish(&pass);
    }
}
