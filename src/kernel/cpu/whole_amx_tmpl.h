/* SPDX-License-Identifier: Apache-2.0
 * whole_amx_tmpl.h: a whole step: 32 keys that all rows see, of one block of rows. Most of decode, so that what a tile
 * product needs lies in registers, which no barrier between tiles makes the compiler read again. */

#if VEC_TILES
/* How a whole step fetches: V of the step while K is used, then K of the next while V is, two places side by side; or
 * the tile after the one at work, whose rows are apart. With both, all the while K and V of a later step into the
 * second level, four places. Or runs one behind the other; or row by row. */
enum amx_fetch { FETCH_PLACES, FETCH_COLUMNS, FETCH_RUNS, FETCH_ROWS };

/* What is fetched while K is used, or while V is: half a KB of two places at a time, or two groups of rows. */
struct amx_half {
    const u8 *a, *b;
    i64 step;  /* bytes of a place at a time, where it is two */
    i64 later; /* bytes of a later run that are fetched already */
};

/* Runs `first` and the one behind it. */
INLINE struct amx_half amx_half_of(const struct amx_runs *runs, i32 first)
{
    return (struct amx_half){ runs->run[first], runs->one ? runs->run[first] + 512 : runs->run[first + 1],
                              runs->one ? 1024 : 512, first == 0 ? 0 : runs->run_bytes / 2 };
}

/* Its KB number i. `tile` is the tile after the one at work, its rows `stride` apart. */
INLINE void amx_fetch_kb(enum amx_fetch how, struct amx_runs *runs, const struct amx_half *half, i64 i, const u8 *tile,
                         i64 stride)
{
    if (how == FETCH_PLACES)
        vec_fetch_halves(half->a, half->b, i * half->step);
    if (how == FETCH_COLUMNS)
        vec_fetch_rows(tile, stride);
    if (how == FETCH_RUNS)
        rows_amx_fetch_runs(runs);
}

/* Bytes [begin, end) of later runs, multiples of 128. */
INLINE void amx_fetch_later(enum amx_fetch how, const struct amx_runs *runs, i64 begin, i64 end)
{
    const u8 *const *later = runs->later;
    for (i64 at = begin; (how == FETCH_PLACES || how == FETCH_COLUMNS) && at < end; at += 128)
        vec_fetch_eighths_far(later[0], later[1], later[2], later[3], at);
}

/* S^T as it comes: two groups of keys meet a tile of Q^T. */
INLINE void rows_amx_dots_whole(enum amx_fetch how, const struct rows_pass *pass, const struct rows_step *step,
                                struct amx_runs *runs)
{
    struct rows_amx *amx = pass->amx;
    const struct amx_rows k0 = rows_amx_k(pass, step, step->at, 0), k1 = rows_amx_k(pass, step, step->at + 16, 1);
    const u8 *a = k0.at, *b = k1.at;
    const i64 a_stride = k0.stride, b_stride = k1.stride, q_words = (i64)16 * amx->n_rows, q_stride = 4 * amx->n_rows;
    const i32 n = amx->k_steps;
    const u32 *q = amx->q + (i64)step->head * n * q_words;
    float *s = amx->s;
    const struct amx_half half = amx_half_of(runs, 0);
    struct amx_ahead ahead;
    if (how == FETCH_ROWS)
        rows_amx_look_ahead(&ahead, pass, step, false);
    tile_zero(&amx->regs, 2);
    tile_zero(&amx->regs, 7);
    for (i32 c = 0; c < n; c++, q += q_words) {
        for (i32 g = 0; how == FETCH_ROWS && g < GROUPS; g++)
            rows_amx_fetch(&ahead, g, c, n);
        amx_fetch_kb(how, runs, &half, 2 * c, c + 1 < n ? a + 64 * (c + 1) : half.a, a_stride);
        amx_fetch_later(how, runs, half.later + 512 * c, half.later + 512 * c + 256);
        tile_load(&amx->regs, 1, q, q_stride);
        tile_load(&amx->regs, 0, a + 64 * c, a_stride);
        tile_dot_bf16(&amx->regs, 2, 0, 1);
        amx_fetch_kb(how, runs, &half, 2 * c + 1, c + 1 < n ? b + 64 * (c + 1) : half.b, b_stride);
        amx_fetch_later(how, runs, half.later + 512 * c + 256, half.later + 512 * c + 512);
        tile_load(&amx->regs, 4, b + 64 * c, b_stride);
        tile_dot_bf16(&amx->regs, 7, 4, 1);
    }
    tile_store(&amx->regs, 2, s, q_stride);
    tile_store(&amx->regs, 7, s + q_words, q_stride);
}

/* o += weights times values; the second half of what is fetched. */
INLINE void rows_amx_weigh_whole(enum amx_fetch how, const struct rows_pass *pass, const struct amx_values *values,
                                 struct amx_runs *runs)
{
    struct rows_amx *amx = pass->amx;
    const u8 *a = values->v[0].at, *b = values->v[1].at;
    const i64 a_stride = values->v[0].stride, b_stride = values->v[1].stride;
    const i64 stride = pass->v_pad * (i64)sizeof(float), p_words = (i64)16 * amx->n_rows;
    const i32 n = amx->v_steps;
    float *o = pass->o + (i64)values->head * pass->n_padded * pass->v_pad;
    const u32 *p = amx->p;
    const struct amx_half half = amx_half_of(runs, GROUPS);
    for (i32 c = 0; c < n; c++, o += 32) {
        tile_load(&amx->regs, 5, o, stride);
        tile_load(&amx->regs, 6, o + 16, stride);
        amx_fetch_kb(how, runs, &half, 2 * c, c + 1 < n ? a + 64 * (c + 1) : half.a, a_stride);
        amx_fetch_later(how, runs, half.later + 512 * c, half.later + 512 * c + 256);
        tile_load(&amx->regs, 4, a + 64 * c, a_stride);
        tile_load(&amx->regs, 3, p, 64);
        tile_dot_bf16(&amx->regs, 5, 3, 4);
        tile_load(&amx->regs, 3, p + 2 * p_words, 64);
        tile_dot_bf16(&amx->regs, 6, 3, 4);
        amx_fetch_kb(how, runs, &half, 2 * c + 1, c + 1 < n ? b + 64 * (c + 1) : half.b, b_stride);
        amx_fetch_later(how, runs, half.later + 512 * c + 256, half.later + 512 * c + 512);
        tile_load(&amx->regs, 4, b + 64 * c, b_stride);
        tile_load(&amx->regs, 3, p + p_words, 64);
        tile_dot_bf16(&amx->regs, 5, 3, 4);
        tile_load(&amx->regs, 3, p + 3 * p_words, 64);
        tile_dot_bf16(&amx->regs, 6, 3, 4);
        tile_store(&amx->regs, 5, o, stride);
        tile_store(&amx->regs, 6, o + 16, stride);
    }
}

INLINE void rows_amx_whole_of(enum amx_fetch how, const struct rows_pass *pass, const struct rows_step *step,
                              struct amx_runs *runs)
{
    struct amx_values values;
    rows_amx_find_values(&values, pass, step);
    rows_amx_dots_whole(how, pass, step, runs);
    rows_amx_fours(pass, step->head);
    if (how != FETCH_ROWS) {
        rows_amx_weigh_whole(how, pass, &values, runs);
        return;
    }
    struct amx_ahead ahead;
    rows_amx_look_ahead(&ahead, pass, step, true);
    rows_amx_weigh(pass, &values, &ahead);
}

/* A step of fours of rows that see all its keys. */
static void rows_amx_whole(const struct rows_pass *pass, const struct rows_step *step)
{
    struct amx_runs runs = { .end = 0 };
    rows_amx_find_runs(&runs, pass, step);
    if (runs.end == 0)
        rows_amx_whole_of(FETCH_ROWS, pass, step, &runs);
    else if (runs.columns)
        rows_amx_whole_of(FETCH_COLUMNS, pass, step, &runs);
    else if (runs.far)
        rows_amx_whole_of(FETCH_RUNS, pass, step, &runs);
    else
        rows_amx_whole_of(FETCH_PLACES, pass, step, &runs);
}
#endif
