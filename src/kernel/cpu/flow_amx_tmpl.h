/* SPDX-License-Identifier: Apache-2.0
 * flow_amx_tmpl.h: strips of tile_amx_tmpl.h one behind the other, where scores are plain dot products. Tiles and
 * vectors are different parts of a core, but a core looks only some 500 instructions ahead: so a row or two of weights
 * stand before every four tile products, and what tiles store is loaded a turn later.
 *
 *   a turn:   values of strip i, a share of dims    ─► O
 *             scores of strip i + 1, 64 keys        ─► S, one of two
 *             between these, row by row, weights of the turn before: S, the other ─► P
 *
 *   S  2 x [32 rows][64 keys] by turns, in the first level
 *   P  [32 rows][keys] of two strips by turns
 *
 * Weights are made from the maximum that is known, in one pass. A row whose weights become too large, and one whose
 * maximum is not known or too large for one fma, takes the slow way. What a row becomes depends on no other row. */

#if VEC_TILES
static const float SMALL_PRODUCT = 64.0f; /* of a maximum and c: fma's one rounding is as good as a difference's */
static const float MOST_WEIGHTS = 256.0f; /* of a turn's keys in a lane: the largest of them is above 2^6 ... */
enum { FLOW_MOVE_ABOVE = 5 };             /* ... so that the slow way moves the maximum */

struct flow_strip {
    struct strip strip;
    i32 slot;          /* of p */
    i32 first, last;   /* columns, multiples of 32 */
    i32 lo[AMX_STRIP]; /* columns [lo, hi) are seen by a row */
    i32 hi[AMX_STRIP];
    i32 all_lo, all_hi;    /* by all rows */
    float base[AMX_STRIP]; /* - m * c, where it is small; else infinite, and so are weights: the slow way */
};

/* What is at work in a turn; NULL = nothing. */
struct flow_turn {
    struct flow_strip *scored, *weighed, *valued;
    i32 score_column, weigh_column;
    i32 pair, pair_end; /* of 32 dims, of `valued` */
    i32 ring;           /* where scores go; weights come from the other */
};

/* Rows to weigh. */
struct flow_rows {
    struct flow_strip *strip;
    const float *s; /* [AMX_STRIP - row][FLOW_STRIDE] */
    u16 *p;         /* [AMX_STRIP - row][p_stride] */
    float *l;       /* [AMX_STRIP - row][16] */
    i64 p_stride;
    i32 row, a_time; /* the next; how many at a time */
    u32 slow;        /* a bit for each row that is left for the slow way */
};

static void flow_know(const struct tile_pass *pass, struct flow_strip *strip, i32 r)
{
    const float m = pass->m[strip->strip.row + r], c = pass->rule.c;
    strip->base[r] = fabsf(m * c) <= SMALL_PRODUCT ? -m * c : INFINITY; /* not where m is infinite */
}

static void flow_strip_begin(const struct tile_pass *pass, struct flow_strip *flow, const struct strip *strip, i32 slot)
{
    const i32 group = pass->args->group;
    flow->strip = *strip;
    flow->slot = slot;
    flow->first = strip->begin / 32 * 32;
    flow->last = padded_32(strip->end);
    flow->all_lo = strip->begin;
    flow->all_hi = strip->end;
    struct keys keys = { strip->key + strip->begin, strip->key + strip->end };
    for (i32 r = 0; r < AMX_STRIP; r++) {
        const i32 packed = strip->row + r;
        if (!strip->full && (r == 0 || packed % group == 0 || packed >= pass->n_rows))
            keys = strip_row_keys(pass, strip, packed);
        const bool none = keys.begin >= keys.end;
        flow->lo[r] = none ? 0 : (i32)(keys.begin - strip->key);
        flow->hi[r] = none ? 0 : (i32)(keys.end - strip->key);
        flow->all_lo = flow->lo[r] > flow->all_lo ? flow->lo[r] : flow->all_lo;
        flow->all_hi = flow->hi[r] < flow->all_hi ? flow->hi[r] : flow->all_hi;
        flow_know(pass, flow, r);
        if (none)
            flow->base[r] = -INFINITY; /* its weights are zeros */
    }
}

/* Scores of keys that a row does not see. */
static void flow_mask(const struct flow_strip *strip, i32 column, float *s)
{
    for (i32 r = 0; r < AMX_STRIP; r++)
        for (i32 i = 0; i < FLOW_KEYS; i += 16) {
            float *at = s + r * FLOW_STRIDE + i;
            const i32 lo = (i32)clamp_i64(strip->lo[r] - column - i, 0, 16),
                      hi = (i32)clamp_i64(strip->hi[r] - column - i, 0, 16);
            vec_store(at, vec_select(vec_mask_range(lo < hi ? lo : hi, hi), vec_load(at), vec_set1(-INFINITY)));
        }
}

/* The maximum of a row moves: what was summed and weighed before follows. */
static void flow_row_move(const struct tile_pass *pass, struct flow_strip *strip, i32 r, i32 column, float highest)
{
    const struct tile_amx *amx = pass->amx;
    const i32 packed = strip->strip.row + r;
    float *m = &pass->m[packed], *l = pass->l + packed * 16;
    if (*m != -INFINITY) { /* else all of it is 0 */
        const float factor = vec_max_lane(vec_exp2(vec_set1((*m - highest) * pass->rule.c)));
        u16 *p = amx->p[strip->slot] + r * amx->p_stride;
        scale_row(l, 16, factor);
        scale_row(pass->o + (i64)packed * pass->v_pad, amx->dv, factor);
        for (i32 i = strip->first; i < column; i += 16)
            vec_store_rounded(p + i, vec_mul(load_n(DTYPE_BF16, (const u8 *)(p + i), 16), vec_set1(factor)));
    }
    *m = highest;
    flow_know(pass, strip, r);
}

static void flow_row_slowly(const struct tile_pass *pass, struct flow_strip *strip, i32 r, i32 column, const float *s,
                            u16 *p)
{
    const i32 packed = strip->strip.row + r;
    const float c = pass->rule.c, *m = &pass->m[packed];
    float *l = pass->l + packed * 16;
    vec top = vec_set1(-INFINITY), sum = vec_zero();
    for (i32 i = 0; i < FLOW_KEYS; i += 16)
        top = vec_max(vec_load(s + i), top);
    const float highest = vec_max_lane(top);
    if ((highest - *m) * c > FLOW_MOVE_ABOVE)
        flow_row_move(pass, strip, r, column, highest);
    const vec base = vec_set1(*m == -INFINITY ? 0.0f : *m);
    for (i32 i = 0; i < FLOW_KEYS; i += 16) {
        const vec w = vec_exp2_floor(vec_mul(vec_sub(vec_load(s + i), base), vec_set1(c)));
        sum = vec_add(sum, w);
        vec_store_rounded(p + i, w);
    }
    vec_store(l, vec_add(vec_load(l), sum));
}

/* The first keys that a row sees: is its maximum small? */
static bool flow_row_begins(const struct tile_pass *pass, struct flow_strip *strip, i32 r, const float *s)
{
    float *m = pass->m + strip->strip.row + r;
    const vec top = vec_max(vec_max(vec_load(s), vec_load(s + 16)), vec_max(vec_load(s + 32), vec_load(s + 48)));
    const float highest = vec_max_lane(top), product = highest * pass->rule.c;
    if (*m != -INFINITY || !(fabsf(product) <= SMALL_PRODUCT))
        return false;
    *m = highest;
    strip->base[r] = -product;
    return true;
}

/* Weights of a row's turn; their sums. */
INLINE vec flow_weigh(const float *s, u16 *p, vec slope, vec base)
{
    vec w[4];
    UNROLL(4)
    for (i32 j = 0; j < 4; j++)
        w[j] = vec_exp2_floor(vec_fma(vec_load(s + 16 * j), slope, base));
    vec_store_rounded_two(p, w[0], w[1]);
    vec_store_rounded_two(p + 32, w[2], w[3]);
    return vec_add(vec_add(w[0], w[1]), vec_add(w[2], w[3]));
}

/* Weights of the next rows, as many as are made at a time. */
INLINE void flow_rows_some(const struct tile_pass *pass, struct flow_rows *rows, vec slope)
{
    const i32 end = rows->row + rows->a_time < AMX_STRIP ? rows->row + rows->a_time : AMX_STRIP;
    for (; rows->row < end; rows->row++) {
        struct flow_strip *strip = rows->strip;
        vec sums = flow_weigh(rows->s, rows->p, slope, vec_set1(strip->base[rows->row]));
        bool known = vec_all_at_most(sums, vec_set1(MOST_WEIGHTS));
        if (!known && flow_row_begins(pass, strip, rows->row, rows->s)) {
            sums = flow_weigh(rows->s, rows->p, slope, vec_set1(strip->base[rows->row]));
            known = true;
        }
        if (known)
            vec_store(rows->l, vec_add(vec_load(rows->l), sums));
        else
            rows->slow |= 1u << rows->row;
        rows->s += FLOW_STRIDE;
        rows->p += rows->p_stride;
        rows->l += 16;
    }
}

static struct flow_rows flow_rows_of(const struct tile_pass *pass, const struct flow_turn *turn, i32 n_steps)
{
    const struct tile_amx *amx = pass->amx;
    struct flow_strip *strip = turn->weighed;
    if (!strip)
        return (struct flow_rows){ .row = AMX_STRIP };
    return (struct flow_rows){ .strip = strip,
                               .s = amx->ring[1 - turn->ring],
                               .p = amx->p[strip->slot] + turn->weigh_column,
                               .l = pass->l + strip->strip.row * 16,
                               .p_stride = amx->p_stride,
                               .a_time = n_steps > 0 ? (i32)ceil_div(AMX_STRIP, n_steps) : AMX_STRIP };
}

/* What is left of them. */
static void flow_rows_end(const struct tile_pass *pass, const struct flow_turn *turn, struct flow_rows rows)
{
    const struct tile_amx *amx = pass->amx;
    struct flow_strip *strip = rows.strip;
    rows.a_time = AMX_STRIP;
    flow_rows_some(pass, &rows, vec_set1(pass->rule.c));
    for (i32 r = 0; rows.slow != 0 && r < AMX_STRIP; r++)
        if (rows.slow >> r & 1)
            flow_row_slowly(pass, strip, r, turn->weigh_column, amx->ring[1 - turn->ring] + r * FLOW_STRIDE,
                            amx->p[strip->slot] + r * amx->p_stride + turn->weigh_column);
}

INLINE void flow_scores(const struct tile_pass *pass, const struct flow_turn *turn, i32 n_blocks,
                        struct flow_rows *rows, struct ahead *ahead)
{
    struct tile_amx *amx = pass->amx;
    const vec slope = vec_set1(pass->rule.c);
    const i64 panel = (i64)amx->d * 8, q_stride = amx->q_stride;
    const i32 n = amx->d / 32;
    for (i32 block = 0; block < n_blocks; block++) {
        const u16 *q = amx->q + turn->scored->strip.row * q_stride;
        const float *k = pass->k + (turn->score_column / 16 + 2 * block) * panel;
        amx_zero(&amx->regs);
        for (i32 c = 0; c < n; c++, q += 32, k += 256) {
            flow_rows_some(pass, rows, slope);
            AMX_STEP(&amx->regs, q, q_stride, k, k + panel);
            ahead_fetch(ahead);
        }
        amx_store(&amx->regs, amx->ring[turn->ring] + 32 * block, FLOW_STRIDE);
    }
}

INLINE void flow_values(const struct tile_pass *pass, const struct flow_turn *turn, struct flow_rows *rows,
                        struct ahead *ahead)
{
    struct tile_amx *amx = pass->amx;
    const vec slope = vec_set1(pass->rule.c);
    const struct flow_strip *strip = turn->valued;
    const i64 panel = (i64)pass->tile_keys * 8, stride = pass->v_pad, p_stride = amx->p_stride;
    const i32 n = (strip->last - strip->first) / 32;
    for (i32 pair = turn->pair; pair < turn->pair_end; pair++) {
        float *o = pass->o + strip->strip.row * stride + 32 * pair;
        const float *v = pass->v + 2 * pair * panel + strip->first * 8;
        const u16 *p = amx->p[strip->slot] + strip->first;
        amx_load(&amx->regs, o, stride);
        for (i32 c = 0; c < n; c++, p += 32, v += 256) {
            flow_rows_some(pass, rows, slope);
            AMX_STEP(&amx->regs, p, p_stride, v, v + panel);
            ahead_fetch(ahead);
        }
        amx_store(&amx->regs, o, stride);
    }
}

static void flow_turn(const struct tile_pass *pass, const struct flow_turn *turn, struct ahead *ahead)
{
    const struct tile_amx *amx = pass->amx;
    const struct flow_strip *scored = turn->scored, *valued = turn->valued;
    const i32 n_blocks = scored ? (i32)min_i64((scored->last - turn->score_column) / 32, FLOW_KEYS / 32) : 0;
    const i32 n_pairs = valued ? turn->pair_end - turn->pair : 0;
    const i32 n_steps = n_blocks * (amx->d / 32) + (valued ? n_pairs * (valued->last - valued->first) / 32 : 0);
    struct flow_rows rows = flow_rows_of(pass, turn, n_steps);
    struct ahead local = *ahead;
    if (n_pairs > 0)
        flow_values(pass, turn, &rows, &local);
    if (scored)
        flow_scores(pass, turn, n_blocks, &rows, &local);
    *ahead = local;
    flow_rows_end(pass, turn, rows);
    if (scored && (turn->score_column < scored->all_lo || turn->score_column + FLOW_KEYS > scored->all_hi))
        flow_mask(scored, turn->score_column, amx->ring[turn->ring]);
    if (n_pairs > 0 && turn->pair_end == amx->dv / 32) {
        const struct strip *strip = &valued->strip;
        const struct aside_weights weights = { amx->p[valued->slot], amx->p_stride, true, AMX_STRIP,
                                               strip->begin,         strip->end };
        aside_add(&pass->aside, DTYPE_BF16, &weights, pass->o + (i64)strip->row * pass->v_pad, pass->v_pad, pass->dv);
    }
}

/* Strips of one tile of keys. */
struct flow {
    const struct tile_pass *pass;
    struct ahead *ahead;
    struct flow_strip strips[3]; /* by turns */
    i32 n;                       /* begun */
    struct flow_turn turn;       /* the next */
};

/* The turn's values up to `pair_end`; behind a strip's last weights its values may begin. */
static void flow_next(struct flow *flow, i32 pair_end, bool weights_end)
{
    struct flow_turn *turn = &flow->turn;
    turn->pair_end = pair_end;
    flow_turn(flow->pass, turn, flow->ahead);
    turn->pair = pair_end;
    if (weights_end) {
        turn->valued = turn->weighed;
        turn->pair = 0;
    }
    turn->weighed = turn->scored;
    turn->weigh_column = turn->score_column;
    turn->ring = 1 - turn->ring;
}

static void flow_strip_use(struct flow *flow, const struct strip *strip)
{
    struct flow_strip *scored = &flow->strips[flow->n % 3];
    flow_strip_begin(flow->pass, scored, strip, flow->n % 2);
    const i32 n_turns = (scored->last - scored->first + FLOW_KEYS - 1) / FLOW_KEYS, n_pairs = flow->pass->amx->dv / 32;
    flow->turn.scored = scored;
    for (i32 i = 0; i < n_turns; i++) {
        flow->turn.score_column = scored->first + i * FLOW_KEYS;
        flow_next(flow, i == 0 ? n_pairs : i * n_pairs / n_turns, i == 0);
    }
    flow->n++;
}

static void flow_end(struct flow *flow)
{
    const i32 n_pairs = flow->pass->amx->dv / 32;
    flow->turn.scored = NULL;
    flow_next(flow, n_pairs, true);
    flow_next(flow, n_pairs, true);
}

static void amx_use(const struct tile_pass *pass, const struct cursor_block *at_work, const struct cursor_block *after)
{
    const struct tile_amx *amx = pass->amx;
    const struct block *block = &at_work->block;
    const bool whole = tile_mods_begin(pass, at_work),
               flows = whole && scores_are_dots(pass->args, &pass->rule, pass->mods);
    const i64 n_steps = (i64)pass->n_padded / AMX_STRIP * (padded_32(block->n) / 32) * ((amx->d + amx->dv) / 32);
    struct ahead ahead = ahead_start(pass->args, pass->head, &after->block, n_steps);
    struct flow flow = { .pass = pass, .ahead = &ahead };
    for (i32 row = 0; row < pass->n_padded; row += AMX_STRIP) {
        struct strip strip;
        if (!strip_of(pass, block, row, AMX_STRIP, &ahead, &strip))
            continue;
        if (flows)
            flow_strip_use(&flow, &strip);
        else if (whole)
            amx_strip_use(pass, &strip);
        else
            strip_use_pieces(pass, strip);
    }
    if (flow.n > 0)
        flow_end(&flow);
}
#else
static void amx_use(const struct tile_pass *pass, const struct cursor_block *at_work, const struct cursor_block *after)
{
    (void)pass, (void)at_work, (void)after;
}
#endif
