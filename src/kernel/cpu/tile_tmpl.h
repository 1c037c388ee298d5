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
    bool full;       /* do all rows see all of them? */
    struct ahead *ahead;
};

INLINE void strip_scores_of(enum dtype dtype, const struct tile_pass *pass, const struct strip *strip)
{
    const float *q = pass->q + (i64)strip->row * pass->d;
    const i32 first = strip->begin / 16, last = (strip->end + 15) / 16;
    i32 r = 0;
    for (; r + VEC_TILE_ROWS <= strip->n_rows; r += VEC_TILE_ROWS)
        score_rows(dtype, VEC_TILE_ROWS, pass, q + r, first, last, pass->s + r * S_STRIDE, strip->ahead);
    for (; VEC_TILE_ROWS > 8 && r + 8 <= strip->n_rows; r += 8)
        score_rows(dtype, 8, pass, q + r, first, last, pass->s + r * S_STRIDE, strip->ahead);
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
    for (; VEC_TILE_ROWS > 8 && r + 8 <= strip->n_rows; r += 8)
        value_rows(dtype, 8, pass, pass->s + r * S_STRIDE, begin, end, o + r * pass->v_pad, strip->ahead);
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
    const struct aside_weights weights = { pass->s,      pass->pairs ? 2 * S_STRIDE : S_STRIDE,
                                           pass->pairs,  strip->n_rows,
                                           strip->begin, strip->end };
    aside_add(&pass->aside, (enum dtype)pass->args->v.dtype, &weights, pass->o + (i64)strip->row * pass->v_pad,
              pass->v_pad, pass->dv);
}

/* Keys of the strip that packed row `packed` sees. */
static struct keys strip_row_keys(const struct tile_pass *pass, const struct strip *strip, i32 packed)
{
    const struct keys all = { strip->key + strip->begin, strip->key + strip->end };
    if (packed >= pass->n_rows)
        return (struct keys){ 0, 0 };
    if (strip->full)
        return all;
    return keys_within(keys_of_row(pass->args, pass->item, pass->item->row_begin + packed / pass->args->group),
                       all.begin, all.end);
}

/* Do rows from r on see the strip's keys from its first column on, as under a causal mask? Then scores behind their
 * last key become -inf, and they are as rows that see all. */
static bool strip_rows_from_begin(const struct tile_pass *pass, const struct strip *strip, i32 r)
{
    const i64 begin = strip->key + strip->begin;
    i32 last[WEIGHT_ROWS];
    if (strip->begin % 16 || r + WEIGHT_ROWS > strip->n_rows)
        return false;
    for (i32 i = 0; i < WEIGHT_ROWS; i++) {
        const struct keys keys = strip_row_keys(pass, strip, strip->row + r + i);
        if (keys.begin > begin || keys.begin >= keys.end)
            return false;
        last[i] = (i32)(keys.end - strip->key);
    }
    for (i32 i = 0; i < WEIGHT_ROWS; i++)
        for (i32 col = last[i] / 16 * 16; col < strip->end; col += 16) {
            float *at = pass->s + (r + i) * S_STRIDE + col;
            const vec_mask seen = vec_mask_first(last[i] > col ? last[i] - col : 0);
            vec_store(at, vec_select(seen, vec_load(at), vec_set1(-INFINITY)));
        }
    return true;
}

static void strip_weights_row(const struct tile_pass *pass, const struct strip *strip, i32 r)
{
    const i32 width = (strip->end + 15) / 16 * 16, packed = strip->row + r;
    float *s = pass->s + r * S_STRIDE;
    const struct keys keys = strip_row_keys(pass, strip, packed);
    if (keys.begin >= keys.end) {
        memset(s, 0, (size_t)width * sizeof *s);
        return;
    }
    const i32 lo = (i32)(keys.begin - strip->key), hi = (i32)(keys.end - strip->key);
    if (!scores_are_dots(pass->args, &pass->rule, pass->mods)) {
        const struct score_place at = tile_place(pass, packed);
        const struct score_mods mods = { pass->mods, pass->head, packed, 0 };
        score_row(pass->args, &pass->rule, &at, &mods, strip->key, lo, hi, s);
    }
    const float factor =
        weight_row(pass->pairs, s, width, lo, hi, pass->rule.c, &pass->m[packed], pass->l + packed * 16);
    if (factor != 1.0f)
        scale_row(pass->o + (i64)packed * pass->v_pad, pass->v_pad, factor);
}

static void strip_weights(const struct tile_pass *pass, const struct strip *strip)
{
    const bool plain = scores_are_dots(pass->args, &pass->rule, pass->mods);
    i32 r = 0;
    while (r < strip->n_rows) {
        const i32 packed = strip->row + r;
        if (!plain || !strip_rows_from_begin(pass, strip, r)) {
            strip_weights_row(pass, strip, r++);
            continue;
        }
        struct weight_rows rows = { .s = pass->s + r * S_STRIDE,
                                    .begin = strip->begin,
                                    .end = (strip->end + 15) / 16 * 16,
                                    .c = pass->rule.c,
                                    .m = pass->m + packed,
                                    .l = pass->l + packed * 16 };
        weight_rows(pass->pairs, &rows);
        for (i32 i = 0; i < WEIGHT_ROWS; i++)
            if (rows.factors[i] != 1.0f)
                scale_row(pass->o + (i64)(packed + i) * pass->v_pad, pass->v_pad, rows.factors[i]);
        r += WEIGHT_ROWS;
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
    if (pass->amx) {
        amx_strip_use(pass, strip);
        return;
    }
    strip_scores(pass, strip);
    strip_weights(pass, strip);
    strip_values(pass, strip);
}

/* Keys of the tile that masks leave to the strip: absent blocks are cut out, so that nothing of theirs is added. */
static void strip_use_pieces(const struct tile_pass *pass, struct strip strip)
{
    const i32 last = (i32)min_i64(strip.row + strip.n_rows, pass->n_rows);
    const i64 end = strip.key + strip.end;
    const bool full = strip.full;
    struct keep_piece piece;
    for (i64 at = strip.key + strip.begin;
         folio__mod_next_of_rows(pass->mods, pass->head, strip.row, last, at, end, &piece); at = piece.end) {
        strip.full = full && !pass->mods->needs.mask && !pass->mods->needs.block;
        strip.begin = (i32)(piece.begin - strip.key);
        strip.end = (i32)(piece.end - strip.key);
        strip_use(pass, &strip);
    }
}

/* Both ends of a row's keys move one way with the row, so that the outer rows speak for all. */
static bool strip_is_full(const struct tile_pass *pass, i32 row, i32 n_rows, struct keys keys)
{
    if (row + n_rows > pass->n_rows)
        return false;
    const i64 group = pass->args->group, begin = pass->item->row_begin;
    const struct keys first = keys_of_row(pass->args, pass->item, begin + row / group);
    const struct keys last = keys_of_row(pass->args, pass->item, begin + (row + n_rows - 1) / group);
    return max_i64(first.begin, last.begin) <= keys.begin && min_i64(first.end, last.end) >= keys.end;
}

/* A strip of a block's keys; false: none that it sees. */
static bool strip_of(const struct tile_pass *pass, const struct block *block, i32 row, i32 n_rows, struct ahead *ahead,
                     struct strip *strip)
{
    const struct keys keys = keys_within(strip_keys(pass, row, n_rows), block->key, block->key + block->n);
    *strip = (struct strip){ .row = row,
                             .n_rows = n_rows,
                             .key = block->key,
                             .begin = (i32)(keys.begin - block->key),
                             .end = (i32)(keys.end - block->key),
                             .full = strip_is_full(pass, row, n_rows, keys),
                             .ahead = ahead };
    return keys.begin < keys.end;
}

/* Does every strip use all keys that it sees? Else piece by piece. */
static bool tile_mods_begin(const struct tile_pass *pass, const struct cursor_block *at_work)
{
    if (pass->mods)
        folio__mod_tile(pass->mods, at_work->block.key, at_work->block.n, at_work->state);
    return !pass->mods || !(pass->mods->needs.mask || pass->mods->needs.block);
}

static void tile_use(const struct tile_pass *pass, const struct cursor_block *at_work, const struct cursor_block *after)
{
    if (pass->amx) {
        amx_use(pass, at_work, after);
        return;
    }
    const struct block *block = &at_work->block;
    const bool whole = tile_mods_begin(pass, at_work);
    const i64 n_blocks = ceil_div(pass->n_padded, STRIP) * (pass->tile_keys / 16 + pass->v_pad / 16) / VEC_TILE_COLS;
    struct ahead ahead = ahead_start(pass->args, pass->head, &after->block, n_blocks);
    for (i32 row = 0; row < pass->n_padded; row += STRIP) {
        struct strip strip;
        if (!strip_of(pass, block, row, pass->n_padded - row < STRIP ? pass->n_padded - row : STRIP, &ahead, &strip))
            continue;
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
    pass->amx = NULL;
    i64 rows = (pass->n_padded + STRIP - 1) / STRIP * STRIP;
    float *next = scratch;
    if (uses_tiles(args)) {
        amx_begin(pass, &next);
        rows = pass->n_padded;
    } else {
        pass->q = take(&next, rows * pass->d);
        pass->k = take(&next, (i64)pass->tile_keys * pass->d);
        pass->v = take(&next, (i64)pass->tile_keys * pass->v_pad);
        pass->s = take(&next, STRIP * S_STRIDE);
    }
    pass->o = take(&next, rows * pass->v_pad);
    pass->total = take(&next, rows * pass->v_pad);
    pass->m = take(&next, rows);
    pass->l = take(&next, rows * 16);
    pass->total_m = take(&next, rows);
    pass->total_l = take(&next, rows);
    pass->all_keys = keys_of_rows(args, item, item->row_begin, item->row_begin + item->n_rows);
    pass->mods = mod_is_used(args) ? mods : NULL;
    if (pass->mods)
        folio__mod_bind(mods, &VEC_MODS, args, item, 1, pass->tile_keys, next);
}

static void tile_split(struct tile_pass *pass, i64 split)
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

static void tile_finish_row(const struct tile_pass *pass, i32 r, const struct row_state *row)
{
    const struct score_place at = tile_place(pass, r);
    finish_row(pass->args, &pass->rule, at.token, at.head, row);
}

/* To memory, to out when it is the only one, or into the total. */
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
        if (pass->item->n_splits == 1) {
            tile_finish_row(pass, r, &done);
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
        tile_finish_row(pass, r, &total);
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
        const bool totals = item->partial < 0 && item->n_splits != 1;
        if (totals)
            rows_clear(pass.total, pass.total_m, pass.total_l, pass.n_padded, pass.v_pad, 1);
        for (i64 split = item->split_begin; split < item->split_begin + item->n_splits; split++) {
            tile_split(&pass, split);
            tile_split_done(&pass, split);
        }
        if (totals)
            tile_finish(&pass);
    }
    if (pass.amx)
        amx_end(&pass);
}
