/* SPDX-License-Identifier: Apache-2.0
 * steps_i8_amx_tmpl.h: int8 pages step by step: what comes when; rows_i8_amx_tmpl.h has the arrays. */

#if VEC_TILES
/* o += unit * sums of a block. */
INLINE void rows_i8_add_block(i32 n_digits, const struct rows_pass *pass, i32 block)
{
    const struct rows_i8 *i8 = pass->i8;
    const i32 *sums = i8->sums + (i64)block * i8->v_steps * DIGITS * DIGIT_TILE;
    for (i32 r = 0; r < 4 && 4 * block + r < pass->n_rows; r++) {
        const vec unit = vec_set1(i8->p_unit[4 * block + r]);
        float *o = pass->o + ((i64)i8->sum_head * pass->n_padded + 4 * block + r) * pass->v_pad;
        for (i32 c = 0; c < i8->v_steps; c++)
            UNROLL(4)
        for (i32 part = 0; part < 4; part++) {
            float *at = o + 64 * c + 16 * part;
            const vec sum = vec_row_of_digits(sums + c * DIGITS * DIGIT_TILE, 4 * part + r, n_digits);
            vec_store(at, vec_fma(sum, unit, vec_load(at)));
        }
    }
}

/* Sums that are still to be added. */
static void rows_i8_add(const struct rows_pass *pass)
{
    const struct rows_i8 *i8 = pass->i8;
    for (i32 block = 0; i8->is_sum && block < i8->n_blocks; block++)
        if (i8->n_digits == 2)
            rows_i8_add_block(2, pass, block);
        else
            rows_i8_add_block(3, pass, block);
    pass->i8->is_sum = false;
}

static void rows_i8_find_values(struct amx_values *values, const struct rows_pass *pass, const struct rows_step *step)
{
    const struct rows_i8 *i8 = pass->i8;
    values->head = step->head;
    values->first = 0;
    values->last = (step->n + 15) / 16;
    for (i32 g = 0; g < values->last; g++) {
        const i32 key = step->at + 16 * g;
        values->v[g] = rows_i8_rows(pass, step, &pass->args->v, step->block->v + key, i8->v_follow[key / 16],
                                    i8->v_copy + (i64)g * i8->v_steps * DIGIT_TILE * 4);
    }
}

/* What is fetched while V of group g, 64 dims from 64 * c on, is used: `i` such tiles came before. */
INLINE void rows_i8_fetch(enum amx_fetch how, struct amx_runs *runs, const struct amx_half *half, i64 i, const u8 *tile,
                          i64 stride)
{
    amx_fetch_kb(how, runs, half, i, tile, stride);
    amx_fetch_later(how, runs, half->later / 2 + 128 * i, half->later / 2 + 128 * (i + 1));
}

/* 128 dims of weights of two digits: each tile of them meets two of V. */
INLINE void rows_i8_weigh_two(enum amx_fetch how, const struct rows_pass *pass, const struct amx_values *values,
                              struct amx_runs *runs, i32 block, i32 c)
{
    struct rows_i8 *i8 = pass->i8;
    i32 *sums = i8->sums + ((i64)block * i8->v_steps + c) * DIGITS * DIGIT_TILE;
    const struct amx_half half = amx_half_of(runs, GROUPS);
    tile_zero(&i8->regs, 5);
    tile_zero(&i8->regs, 6);
    tile_zero(&i8->regs, 7);
    tile_zero(&i8->regs, 2);
    for (i32 g = 0; g < values->last; g++) {
        const u32 *p = i8->p + ((i64)block * GROUPS + g) * DIGITS * DIGIT_TILE;
        const u8 *v = (const u8 *)values->v[g].at + 64 * c;
        const i64 stride = values->v[g].stride;
        const u8 *after = c + 2 < i8->v_steps ? v + 128 : g == 0 ? half.a : half.b;
        if (block == 0)
            rows_i8_fetch(how, runs, &half, 2 * c + 2 * g, v + 64, stride);
        tile_load(&i8->regs, 0, p, 64);
        tile_load(&i8->regs, 4, v, stride);
        tile_dot_i8(&i8->regs, 5, 0, 4);
        tile_load(&i8->regs, 1, p + DIGIT_TILE, 64);
        tile_dot_i8(&i8->regs, 6, 1, 4);
        if (block == 0)
            rows_i8_fetch(how, runs, &half, 2 * c + 2 * g + 1, after, stride);
        tile_load(&i8->regs, 3, v + 64, stride);
        tile_dot_i8(&i8->regs, 7, 0, 3);
        tile_dot_i8(&i8->regs, 2, 1, 3);
    }
    tile_store(&i8->regs, 5, sums, 64);
    tile_store(&i8->regs, 6, sums + DIGIT_TILE, 64);
    tile_store(&i8->regs, 7, sums + DIGITS * DIGIT_TILE, 64);
    tile_store(&i8->regs, 2, sums + (DIGITS + 1) * DIGIT_TILE, 64);
}

/* 64 dims. Rows are fetched as `ahead` says; NULL = none. */
INLINE void rows_i8_weigh_one(enum amx_fetch how, const struct rows_pass *pass, const struct amx_values *values,
                              struct amx_runs *runs, const struct amx_ahead *ahead, i32 block, i32 c)
{
    struct rows_i8 *i8 = pass->i8;
    const bool three = i8->n_digits == 3;
    const i32 n = i8->v_steps;
    i32 *sums = i8->sums + ((i64)block * n + c) * DIGITS * DIGIT_TILE;
    const struct amx_half half = amx_half_of(runs, GROUPS);
    tile_zero(&i8->regs, 5);
    tile_zero(&i8->regs, 6);
    tile_zero(&i8->regs, 7);
    for (i32 g = 0; g < values->last; g++) {
        const u32 *p = i8->p + ((i64)block * GROUPS + g) * DIGITS * DIGIT_TILE;
        const u8 *v = (const u8 *)values->v[g].at + 64 * c;
        const i64 stride = values->v[g].stride;
        if (block == 0)
            rows_i8_fetch(how, runs, &half, 2 * c + g, c + 1 < n ? v + 64 : g == 0 ? half.a : half.b, stride);
        if (how == FETCH_ROWS && block == 0 && ahead)
            rows_amx_fetch(ahead, g, c, n);
        tile_load(&i8->regs, 4, v, stride);
        tile_load(&i8->regs, 0, p, 64);
        tile_dot_i8(&i8->regs, 5, 0, 4);
        tile_load(&i8->regs, 1, p + DIGIT_TILE, 64);
        tile_dot_i8(&i8->regs, 6, 1, 4);
        if (three) {
            tile_load(&i8->regs, 3, p + 2 * DIGIT_TILE, 64);
            tile_dot_i8(&i8->regs, 7, 3, 4);
        }
    }
    tile_store(&i8->regs, 5, sums, 64);
    tile_store(&i8->regs, 6, sums + DIGIT_TILE, 64);
    if (three) {
        tile_store(&i8->regs, 7, sums + 2 * DIGIT_TILE, 64);
    }
}

/* Sums of weights times values. Fetches the second half of runs, or rows. */
INLINE void rows_i8_weigh(enum amx_fetch how, const struct rows_pass *pass, const struct amx_values *values,
                          struct amx_runs *runs, const struct amx_ahead *ahead)
{
    struct rows_i8 *i8 = pass->i8;
    for (i32 block = 0; block < i8->n_blocks; block++) {
        i32 c = 0;
        for (; how != FETCH_ROWS && i8->n_digits == 2 && c + 1 < i8->v_steps; c += 2)
            rows_i8_weigh_two(how, pass, values, runs, block, c);
        for (; c < i8->v_steps; c++)
            rows_i8_weigh_one(how, pass, values, runs, ahead, block, c);
    }
    i8->sum_head = values->head;
    i8->is_sum = true;
}

/* Sums, then weights and values of the step that was left. */
static void rows_i8_finish(const struct rows_pass *pass)
{
    struct rows_i8 *i8 = pass->i8;
    struct amx_runs none = { .end = 0 };
    rows_i8_add(pass);
    if (!i8->is_left)
        return;
    for (i32 block = 0; block < i8->n_blocks; block++)
        rows_i8_four(pass, i8->left.head, 1 - i8->slot, block);
    rows_i8_weigh(FETCH_ROWS, pass, &i8->left, &none, NULL);
    rows_i8_add(pass);
    i8->is_left = false;
}

/* A step of whole blocks of rows that see all its keys. Its weights and sums of values wait for the next step's scores,
 * and those sums for the scores of the step after: what tiles store has left the core when vectors load it. */
INLINE void rows_i8_whole_of(enum amx_fetch how, const struct rows_pass *pass, const struct rows_step *step,
                             struct amx_runs *runs)
{
    struct rows_i8 *i8 = pass->i8;
    if (i8->is_left && (how == FETCH_PLACES || how == FETCH_COLUMNS)) { /* its V is what comes after this step's K */
        for (i32 g = 0; g < GROUPS; g++)
            runs->run[g] = i8->left.v[g].at;
        rows_amx_join(runs);
    }
    const i64 half = runs->run_bytes / 2, eighth = runs->run_bytes / 8; /* the second half, between vectors */
    rows_i8_dots(how, pass, step, runs);
    amx_fetch_later(how, runs, half, half + eighth);
    rows_i8_add(pass);
    amx_fetch_later(how, runs, half + eighth, half + 2 * eighth);
    if (!i8->is_left)
        return;
    struct amx_ahead ahead;
    for (i32 block = 0; block < i8->n_blocks; block++)
        rows_i8_four(pass, i8->left.head, 1 - i8->slot, block);
    amx_fetch_later(how, runs, half + 2 * eighth, half + 3 * eighth);
    if (how == FETCH_ROWS)
        rows_amx_look_ahead(&ahead, pass, step, true);
    rows_i8_weigh(how, pass, &i8->left, runs, &ahead);
    amx_fetch_later(how, runs, half + 3 * eighth, half + 4 * eighth);
}

static void rows_i8_whole(const struct rows_pass *pass, const struct rows_step *step)
{
    struct rows_i8 *i8 = pass->i8;
    struct amx_runs runs = { .end = 0 };
    rows_amx_find_runs(&runs, pass, step);
    rows_i8_take_scales(pass, step);
    if (runs.end == 0)
        rows_i8_whole_of(FETCH_ROWS, pass, step, &runs);
    else if (runs.columns)
        rows_i8_whole_of(FETCH_COLUMNS, pass, step, &runs);
    else if (runs.far)
        rows_i8_whole_of(FETCH_RUNS, pass, step, &runs);
    else
        rows_i8_whole_of(FETCH_PLACES, pass, step, &runs);
    rows_i8_find_values(&i8->left, pass, step);
    i8->is_left = true;
    i8->slot = 1 - i8->slot;
}

static void rows_i8_chunk(const struct rows_pass *pass, const struct rows_step *step)
{
    struct rows_i8 *i8 = pass->i8;
    if (step->n == CHUNK && step->at >= i8->whole_begin && step->at + CHUNK <= i8->whole_end) {
        rows_i8_whole(pass, step);
        return;
    }
    struct amx_runs none = { .end = 0 };
    struct amx_ahead ahead;
    rows_i8_finish(pass);
    rows_i8_take_scales(pass, step);
    rows_i8_dots(FETCH_ROWS, pass, step, &none);
    rows_i8_transpose(pass, step);
    rows_weights(pass, step);
    rows_i8_digits(pass, step);
    rows_amx_look_ahead(&ahead, pass, step, true);
    struct amx_values values;
    rows_i8_find_values(&values, pass, step);
    rows_i8_weigh(FETCH_ROWS, pass, &values, &none, &ahead);
    rows_i8_add(pass);
}

/* The split is done: dims of o in their order. */
static void rows_i8_in_order(const struct rows_pass *pass)
{
    rows_i8_finish(pass);
    for (i64 row = 0; row < (i64)pass->n_heads * pass->n_padded; row++)
        for (i32 c = 0; c < pass->v_pad; c += 64) {
            float *o = pass->o + row * pass->v_pad + c;
            const vec a = vec_load(o), b = vec_load(o + 16), x = vec_load(o + 32), y = vec_load(o + 48);
            const vec ax_lo = vec_zip_lo(a, x), by_lo = vec_zip_lo(b, y), ax_hi = vec_zip_hi(a, x),
                      by_hi = vec_zip_hi(b, y);
            vec_store(o, vec_zip_lo(ax_lo, by_lo));
            vec_store(o + 16, vec_zip_hi(ax_lo, by_lo));
            vec_store(o + 32, vec_zip_lo(ax_hi, by_hi));
            vec_store(o + 48, vec_zip_hi(ax_hi, by_hi));
        }
}
#endif
