/* SPDX-License-Identifier: Apache-2.0
 * rows_tmpl.h: few query vectors a kv head (decode, speculative): K and V are read straight from their pages, once, for
 * all rows of a group.
 *
 *   for each split                 [split_tokens] of the sequence's keys
 *     for each block               ROWS_KEYS keys; their addresses are looked up once
 *       for each kv head           so that a page is read as a whole, and its lines in order
 *         for each chunk           CHUNK keys: dots ─► s [rows][CHUNK] ─► weights ─► weigh, rows_chunk_tmpl.h
 *                                  while K and V rows that come next are fetched
 *     or each chunk for all heads  where pages hold all heads of a slot together
 *
 * What a row's result depends on: its keys in order, cut into chunks from the split's start. Neither blocks nor heads
 * nor pages nor the register blocking change a bit. Products are f32 at every level: pairs of bf16 halve the work, and
 * lose where it counts, from memory (docs/lab/cpu-rows.md). */

static void rows_chunk(const struct rows_pass *pass, const struct rows_step *step)
{
    if (rows_tiles_chunk(pass, step))
        return;
    if (pass->bytes)
        rows_bytes_chunk(pass, step);
    else
        rows_vectors(pass, step, 1);
}

/* One block, all heads; `after` is the block that comes next. */
static void rows_use(const struct rows_pass *pass, const struct cursor_block *at_work, const struct cursor_block *after)
{
    const struct block *block = &at_work->block;
    const i32 chunk = pass->chunk;
    if (pass->mods)
        folio__mod_tile(pass->mods, block->key, block->n, at_work->state);
    rows_tiles_block(pass, block);
    rows_scales(pass, block);
    for (i32 at = 0; at < block->n && pass->in_order; at += chunk)
        rows_vectors(pass, &(struct rows_step){ block, &after->block, 0, at, (i32)min_i64(block->n - at, chunk) },
                     pass->n_heads);
    for (i32 head = 0; head < pass->n_heads && !pass->in_order; head++)
        for (i32 at = 0; at < block->n; at += chunk)
            rows_chunk(pass, &(struct rows_step){ block, &after->block, head, at, (i32)min_i64(block->n - at, chunk) });
}

/* Blocks of an item, split by split; one ahead of the work, so that a split's first rows are fetched too. */
struct rows_walk {
    struct cursor cursor;          /* in `split` */
    i64 split, end;                /* end: behind the item's last */
    struct cursor_block blocks[2]; /* the one at work and the next, by turns; n = 0: no more */
    i64 splits[2];                 /* theirs */
    i32 now;
};

static void rows_walk_enter(const struct rows_pass *pass, struct rows_walk *walk)
{
    const i64 begin = walk->split * pass->item->split_tokens;
    const struct keys keys = keys_within(pass->all_keys, begin, begin + pass->item->split_tokens);
    const i64 first = keys.begin - (keys.begin - begin) % pass->chunk;
    cursor_start(&walk->cursor, keys.begin < keys.end ? first : keys.end, keys.end);
}

static void rows_walk_next(const struct rows_pass *pass, struct rows_walk *walk, i32 at)
{
    cursor_next(&walk->cursor, &walk->blocks[at]);
    while (walk->blocks[at].block.n == 0 && walk->split + 1 < walk->end) {
        walk->split++;
        rows_walk_enter(pass, walk);
        cursor_next(&walk->cursor, &walk->blocks[at]);
    }
    walk->splits[at] = walk->split;
}

/* From `split` on, up to split `end`. */
static void rows_walk_start(const struct rows_pass *pass, struct rows_walk *walk, i64 split, i64 end)
{
    const struct attend_item *item = pass->item;
    walk->cursor = (struct cursor){ .args = pass->args,
                                    .item = item,
                                    .mods = pass->mods,
                                    .quantum = ROWS_KEYS,
                                    .most = pass->by_slot ? CHUNK : ROWS_KEYS };
    walk->split = split;
    walk->end = end;
    walk->now = 0;
    rows_walk_enter(pass, walk);
    rows_walk_next(pass, walk, 0);
}

static void rows_split(const struct rows_pass *pass, struct rows_walk *walk, i64 split)
{
    rows_clear(pass->o, pass->m, pass->l, (i64)pass->n_heads * pass->n_padded, pass->v_pad, 16);
    while (walk->blocks[walk->now].block.n > 0 && walk->splits[walk->now] == split) {
        const i32 next = 1 - walk->now;
        rows_walk_next(pass, walk, next);
        rows_use(pass, &walk->blocks[walk->now], &walk->blocks[next]);
        walk->now = next;
    }
    rows_tiles_in_order(pass);
    if (pass->bytes)
        rows_bytes_in_order(pass);
}

/* Has a value that is not finite reached a result? By a key that is masked, perhaps. */
static bool rows_all_finite(const struct rows_pass *pass)
{
    for (i32 h = 0; h < pass->n_heads; h++)
        if (!all_finite(pass->o + (i64)h * pass->n_padded * pass->v_pad, pass->n_rows * pass->v_pad))
            return false;
    return true;
}

/* Without keys that a row weighs 0. */
static void rows_split_again(struct rows_pass *pass, i64 split)
{
    struct rows_walk walk;
    pass->careful = true;
    rows_walk_start(pass, &walk, split, split + 1);
    rows_split(pass, &walk, split);
    pass->careful = false;
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
        struct rows_walk walk;
        rows_walk_start(&pass, &walk, item->split_begin, item->split_begin + item->n_splits);
        for (i64 split = item->split_begin; split < item->split_begin + item->n_splits; split++) {
            rows_split(&pass, &walk, split);
            if (!pass.bytes && !rows_all_finite(&pass))
                rows_split_again(&pass, split);
            rows_split_done(&pass, split);
        }
        if (item->partial < 0)
            rows_finish(&pass);
    }
    rows_tiles_end(&pass);
}
