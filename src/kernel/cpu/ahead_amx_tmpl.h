/* SPDX-License-Identifier: Apache-2.0
 * ahead_amx_tmpl.h: K and V rows that the tiles of rows_amx_tmpl.h use next, fetched while they work: a KB at each step
 * of 64 bytes of a row, for K and for V.
 *
 *   heads apart (HND)       V of the step, then K of the step after into the first level, two places side by side;
 *                           all the while K and V of the step LATER on into the second, four places
 *   heads together (NHD)    the tile after the one at work into the first level, whose rows are a slot apart;
 *                           the step's share of the block after into the second, in the order of memory
 *
 * Side by side because memory answers several places sooner than one, and into the second level because a core waits
 * for 16 lines of its first, but for 48 of its second. 16 rows of n times 64 bytes that lie together, a run, are n KB;
 * two within 4 KB, where the core itself looks ahead, are one. Rows that do not lie together are fetched row by row, V
 * while K is used.
 */

#if VEC_TILES
enum { GROUPS = CHUNK / 16 /* of keys a chunk */ };

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
        for (i32 t = 0; t < (step->n + 15) / 16 * 16; t++) { /* no more than are used: for 8 keys 32 took a tenth */
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

/* Rows to fetch while K or V of a step is used, 16 at a time. */
struct amx_ahead {
    const u8 *run[GROUPS]; /* the first of 16 rows that lie together; NULL = look at rows */
    struct rows_ahead rows;
    i32 n_lines; /* a row */
    bool far;    /* into the second level */
};

/* Step `step` of n_steps over 16 rows: its share of them, in the order of memory. Into the second level where all heads
 * of a slot lie together: rows of one head are then a power of two apart, and the first level would lose them again.
 * A prefetch is one instruction and should stay one: a core looks 512 ahead, and a chunk has 256 of them. */
INLINE void rows_amx_fetch(const struct amx_ahead *ahead, i32 group, i32 step, i32 n_steps)
{
    const u8 *run = ahead->run[group];
    for (i32 i = step; run && i < ahead->n_lines; i += n_steps) {
        if (ahead->far)
            vec_fetch_kb_far(run + 1024 * i);
        else
            vec_fetch_kb(run + 1024 * i);
    }
    if (run || !ahead->rows.rows)
        return;
    for (i32 i = step * 16 / n_steps; i < (step + 1) * 16 / n_steps; i++) {
        const u8 *row = ahead->rows.rows[16 * group + i] + ahead->rows.offset;
        for (i32 line = 0; ahead->far && line < ahead->n_lines; line++)
            __builtin_prefetch(row + line * 64, 0, 2);
        for (i32 line = 0; !ahead->far && line < ahead->n_lines; line++)
            __builtin_prefetch(row + line * 64, 0, 3);
    }
}

/* Slots of the block after whose heads lie together: a step's share of them, when they do. */
static bool rows_amx_slots_lie(struct amx_ahead *ahead, const struct rows_pass *pass, const struct rows_step *step,
                               const struct pages_view *pages, bool is_v)
{
    const i32 n_heads = pass->n_heads;
    ahead->rows.rows = NULL;
    if (!pass->by_slot || pages->head_stride != ahead->n_lines * 64 ||
        pages->slot_stride != n_heads * pages->head_stride || step->block->n != CHUNK || step->after->n != CHUNK)
        return false;
    const u8 *const *rows = is_v ? step->after->v : step->after->k;
    for (i32 g = 0; g < GROUPS; g++) {
        const i32 done = step->head * CHUNK + step->at + 16 * g; /* rows of the block, in the order of use */
        const i32 first = done / n_heads, last = (done + 15) / n_heads;
        if (rows[last] - rows[first] != (last - first) * pages->slot_stride)
            return false;
        ahead->run[g] = rows[first] + (pass->head_begin + done % n_heads) * pages->head_stride;
    }
    return true;
}

/* Where rows of a head lie together: V of this step while its K is used, K of the next step while V is. Else slots of
 * the block after with all their heads. What is fetched changes no result, so two ends speak for a run. */
static void rows_amx_look_ahead(struct amx_ahead *ahead, const struct rows_pass *pass, const struct rows_step *step,
                                bool is_v)
{
    const bool of_v = pass->by_slot == is_v;
    const struct pages_view *pages = of_v ? &pass->args->v : &pass->args->k;
    ahead->far = pass->by_slot;
    ahead->n_lines = (pages->head_dim * element_bytes((enum dtype)pages->dtype) + 63) / 64;
    if (rows_amx_slots_lie(ahead, pass, step, pages, of_v))
        return;
    if (of_v && !pass->by_slot) {
        ahead->rows.rows = step->block->v + step->at;
        ahead->rows.offset = (pass->head_begin + step->head) * pages->head_stride;
    } else {
        rows_look_ahead(&ahead->rows, pass, step, pages, of_v);
    }
    for (i32 g = 0; g < GROUPS; g++) {
        const u8 *const *rows = ahead->rows.rows ? ahead->rows.rows + 16 * g : NULL;
        const bool lies = rows && rows[15] - rows[0] == 15 * 64 * ahead->n_lines;
        ahead->run[g] = lies ? rows[0] + ahead->rows.offset : NULL;
    }
}

/* What a step fetches, where it is runs. */
struct amx_runs {
    const u8 *run[2 * GROUPS];
    const u8 *later[2 * GROUPS]; /* four places of as much K and V as a step has, into the second level */
    i64 run_bytes;
    i64 at, end;  /* far: bytes of a run done, and of all that are left to do; end 0: no runs */
    bool far;     /* one behind the other */
    bool columns; /* rows of a run do not lie together: a tile at a time */
    bool one;     /* the two runs of K are one, and those of V */
};

/* Steps. Measured: 2 to 8 are within 1 %, 16 lose 4 % and 32 all that it gains. */
enum { LATER = 4 };

/* A step's first rows. */
struct amx_place {
    const u8 *const *k, *const *v;
    i32 head;
};

/* Of the step n steps on, which is in this block or in the one after. */
static bool rows_amx_place(struct amx_place *place, const struct rows_pass *pass, const struct rows_step *step, i32 n)
{
    const struct block *block = step->block;
    i32 head = step->head, at = step->at + n * CHUNK;
    while (at >= block->n) {
        at -= (block->n + CHUNK - 1) / CHUNK * CHUNK;
        if (++head < pass->n_heads)
            continue;
        if (block == step->after || step->after->n == 0)
            return false;
        block = step->after;
        head = 0;
    }
    *place = (struct amx_place){ block->k + at, block->v + at, head };
    return true;
}

/* The runs of 16 rows of a head; do they lie together? Two ends speak for a run: what is fetched changes no bit. */
static bool rows_amx_find_two(const u8 *runs[GROUPS], const struct rows_pass *pass, const struct pages_view *pages,
                              const u8 *const *rows, i32 head, i64 row_bytes)
{
    const i64 offset = (pass->head_begin + head) * pages->head_stride;
    bool lie = true;
    for (i32 g = 0; g < GROUPS; g++, rows += 16) {
        lie = lie && rows[15] - rows[0] == 15 * row_bytes;
        runs[g] = rows[0] + offset;
    }
    return lie;
}

/* Heads apart: of V of the step and K of the step after; of both later on, where they lie so too. */
static bool rows_amx_runs_lie(struct amx_runs *runs, const struct rows_pass *pass, const struct rows_step *step)
{
    const struct pages_view *k = &pass->args->k, *v = &pass->args->v;
    const i64 row_bytes = (i64)k->head_dim * element_bytes((enum dtype)k->dtype);
    struct amx_place next, later;
    if (k->head_dim != v->head_dim || row_bytes % 64 || !rows_amx_place(&next, pass, step, 1) ||
        !rows_amx_find_two(runs->run, pass, v, step->block->v + step->at, step->head, row_bytes) ||
        !rows_amx_find_two(runs->run + GROUPS, pass, k, next.k, next.head, row_bytes))
        return false;
    if (!rows_amx_place(&later, pass, step, LATER) ||
        !rows_amx_find_two(runs->later, pass, k, later.k, later.head, row_bytes) ||
        !rows_amx_find_two(runs->later + GROUPS, pass, v, later.v, later.head, row_bytes))
        memcpy(runs->later, runs->run, sizeof runs->later);
    runs->run_bytes = 16 * row_bytes;
    return true;
}

/* Heads together: V of the step and K of the step after, whose rows are a slot apart; the step's share of the block
 * after, whole slots that lie together. */
static bool rows_amx_columns_lie(struct amx_runs *runs, const struct rows_pass *pass, const struct rows_step *step)
{
    const struct pages_view *k = &pass->args->k, *v = &pass->args->v;
    const i64 row_bytes = (i64)k->head_dim * element_bytes((enum dtype)k->dtype),
              slot_bytes = pass->n_heads * row_bytes;
    const i32 n_slots = CHUNK / pass->n_heads, first = step->head * n_slots, last = first + n_slots - 1;
    struct amx_place next;
    if (n_slots * pass->n_heads != CHUNK || step->block->n != CHUNK || step->after->n != CHUNK ||
        k->head_stride != row_bytes || v->head_stride != row_bytes || k->slot_stride != slot_bytes ||
        v->slot_stride != slot_bytes || k->head_dim != v->head_dim || row_bytes % 64 ||
        !rows_amx_place(&next, pass, step, 1))
        return false;
    const u8 *const *k_later = step->after->k, *const *v_later = step->after->v;
    if (k_later[last] - k_later[first] != (n_slots - 1) * slot_bytes ||
        v_later[last] - v_later[first] != (n_slots - 1) * slot_bytes)
        return false;
    runs->run_bytes = 16 * row_bytes;
    for (i32 g = 0; g < GROUPS; g++) {
        runs->run[g] = step->block->v[step->at + 16 * g] + (pass->head_begin + step->head) * row_bytes;
        runs->run[GROUPS + g] = next.k[16 * g] + (pass->head_begin + next.head) * row_bytes;
        runs->later[g] = k_later[first] + pass->head_begin * row_bytes + g * runs->run_bytes;
        runs->later[GROUPS + g] = v_later[first] + pass->head_begin * row_bytes + g * runs->run_bytes;
    }
    return true;
}

/* Heads together: shares of the block after. */
static bool rows_amx_shares_lie(struct amx_runs *runs, const struct rows_pass *pass, const struct rows_step *step)
{
    const struct pages_view *k = &pass->args->k, *v = &pass->args->v;
    struct amx_ahead of_k, of_v;
    rows_amx_look_ahead(&of_k, pass, step, false);
    rows_amx_look_ahead(&of_v, pass, step, true);
    bool lie = k->head_dim == v->head_dim && k->head_dim * element_bytes((enum dtype)k->dtype) % 64 == 0;
    for (i32 g = 0; g < GROUPS; g++) {
        runs->run[g] = of_k.run[g];
        runs->run[GROUPS + g] = of_v.run[g];
        lie = lie && of_k.run[g] && of_v.run[g];
    }
    runs->run_bytes = (i64)1024 * of_k.n_lines;
    return lie;
}

/* Are the two runs of K within 4 KB one, and those of V? */
static void rows_amx_join(struct amx_runs *runs)
{
    runs->one = !runs->far && runs->run_bytes < 4096 && runs->run[1] - runs->run[0] == runs->run_bytes &&
                runs->run[3] - runs->run[2] == runs->run_bytes;
}

static void rows_amx_find_runs(struct amx_runs *runs, const struct rows_pass *pass, const struct rows_step *step)
{
    runs->far = pass->by_slot;
    runs->at = runs->end = 0;
    runs->columns = runs->far && rows_amx_columns_lie(runs, pass, step);
    if (!runs->columns && !(runs->far ? rows_amx_shares_lie(runs, pass, step) : rows_amx_runs_lie(runs, pass, step)))
        return;
    runs->end = 2 * GROUPS * runs->run_bytes;
    rows_amx_join(runs);
}

/* The next KB of runs one behind the other. */
INLINE void rows_amx_fetch_runs(struct amx_runs *runs)
{
    if (runs->at >= runs->end)
        return;
    vec_fetch_kb_far(runs->run[0] + runs->at);
    runs->at += 1024;
    if (runs->at < runs->run_bytes)
        return;
    runs->end -= runs->run_bytes;
    runs->at = 0;
    for (i32 i = 0; i + 1 < 2 * GROUPS; i++)
        runs->run[i] = runs->run[i + 1];
}
#endif
