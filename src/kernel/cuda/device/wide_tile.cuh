/* SPDX-License-Identifier: Apache-2.0
 * wide_tile.cuh: a warpgroup's arithmetic on a tile: scores, weights, values, in the registers of wgmma.cuh. */
#pragma once
#include "kernel/cuda/device/pieces.cuh"

enum { K_STEPS = CONFIG_D_QK / 16, V_STEPS = TILE / 16, LINE_STEPS = 4 };

/* What a consumer needs for every tile. */
struct consumer {
    u32 k, v, q;                 /* shared addresses: the rings, this warpgroup's Q */
    i32 group;                   /* which warpgroup */
    struct place k_tile, v_tile; /* in the rings: K's is one ahead while products overlap */
    i32 n_slots;
};

/* The same for all lanes, as the compiler sees, too. */
DEVICE i32 my_group(void)
{
    return __shfl_sync(~0u, (i32)(threadIdx.x / GROUP_THREADS), 0);
}

/* The first of this thread's two rows; the other is 8 behind. */
DEVICE i32 my_row(void)
{
    return (i32)(threadIdx.x / 32 * WARP_ROWS + (threadIdx.x & 31) / 4);
}

/* ---- a tile's way through the ring */

/* True when it has a bad page. */
DEVICE bool tile_wait(struct ring *ring, const struct place *place)
{
    bool is_bad = false;
    barrier_wait(&ring->full[place->slot], place->phase);
    if (IS_GATHER) /* its copies are ordinary writes */
        writes_visible_to_products();
    __syncwarp(); /* products are for whole warps */
#pragma unroll
    for (i32 i = 0; i < PRODUCERS; i++)
        is_bad |= ring->is_bad[place->slot][i] != 0;
    return is_bad;
}

DEVICE void tile_release(struct ring *ring, struct place *place, i32 n_slots)
{
    warp_arrive(&ring->empty[place->slot]);
    place_next(place, n_slots);
}

/* None of this warpgroup's rows sees a key of it. */
DEVICE bool skip_tile(struct consumer *c, struct shared *sh)
{
    bool is_bad = tile_wait(&sh->k, &c->k_tile);
    is_bad |= tile_wait(&sh->v, &c->v_tile);
    tile_release(&sh->k, &c->k_tile, c->n_slots);
    tile_release(&sh->v, &c->v_tile, c->n_slots);
    return is_bad;
}

/* ---- products */

DEVICE void ask_scores(float x[SCORE_KEYS / 2], const struct consumer *c)
{
    const u32 q = rows_descriptor(c->q), k = rows_descriptor(c->k + (u32)c->k_tile.slot * K_BYTES);
    products_begin();
#pragma unroll
    for (i32 i = 0; i < K_STEPS; i++) {
        const u32 step = (u32)(i % LINE_STEPS * 32 / 16);
        multiply_scores(x, q + (u32)(i / LINE_STEPS * GROUP_ROWS * LINE / 16) + step,
                        k + (u32)(i / LINE_STEPS * TILE * LINE / 16) + step, i > 0);
    }
    products_end();
}

DEVICE void ask_values(float o[SUMS], const u32 p[SCORE_KEYS / 4], const struct consumer *c)
{
    const u32 v = columns_descriptor(c->v + (u32)c->v_tile.slot * V_BYTES, TILE * LINE);
    products_begin();
#pragma unroll
    for (i32 i = 0; i < V_STEPS; i++)
        multiply_values(o, p + 4 * i, v + (u32)(i * 16 * LINE / 16));
    products_end();
}

/* ---- between them */

/* What scores are still to be multiplied by, > 0: it costs nothing where the maximum is subtracted. */
#define SCORE_FACTOR(job) (CONFIG_FULL ? 1.0f : (job)->scale)

/* Dot products -> scores, but for the factor SCORE_FACTOR; token: the tile's first. */
DEVICE void finish_scores(float x[SCORE_KEYS / 2], const struct job *job, i32 group, i32 token)
{
    const i32 first = token + (i32)(threadIdx.x & 3) * 2;
    const bool is_edge = token < job->all[group].begin || token + TILE > job->all[group].end;
#if CONFIG_FULL
#pragma unroll
    for (i32 row = 0; row < 2; row++) {
        const i32 r = my_row() + row * 8;
#pragma unroll
        for (i32 i = 0; i < SCORE_KEYS / 4; i++) {
            const i32 at = i / 2 * 4 + row * 2 + i % 2;
            float y = x[at] * job->scale;
            if (job->cap > 0.0f) /* cap * tanh: tanh.approx would be 1 % off */
                y = job->cap * (1.0f - __fdividef(2.0f, exp2_fast(x[at] * job->cap_in) + 1.0f));
            x[at] = fmaf(job->slope[r], (float)(first + i / 2 * 8 + i % 2 - job->origin[r]), y);
        }
    }
#else
    if (job->is_negative)
#pragma unroll
        for (i32 i = 0; i < SCORE_KEYS / 2; i++)
            x[i] = -x[i];
#endif
    if (!is_edge)
        return;
#pragma unroll
    for (i32 row = 0; row < 2; row++) {
        const i32 begin = job->row_begin[my_row() + row * 8], end = job->row_end[my_row() + row * 8];
#pragma unroll
        for (i32 i = 0; i < SCORE_KEYS / 4; i++) {
            const i32 at = i / 2 * 4 + row * 2 + i % 2, key = first + i / 2 * 8 + i % 2;
            x[at] = key >= begin && key < end ? x[at] : -INFINITY_F;
        }
    }
}

/* New maxima. top: what to subtract; keep: what the sums so far are multiplied by. False when that is 1 for all. */
DEVICE bool raise(float top[2], float keep[2], struct sums *s, const float x[SCORE_KEYS / 2], const struct job *job)
{
    bool grew = false;
#pragma unroll
    for (i32 row = 0; row < 2; row++) {
        float y = x[row * 2];
#pragma unroll
        for (i32 i = 1; i < SCORE_KEYS / 4; i++)
            y = fmaxf(y, x[i / 2 * 4 + row * 2 + i % 2]);
        y = fmaxf(y, __shfl_xor_sync(~0u, y, 1));
        y = fmaxf(y, __shfl_xor_sync(~0u, y, 2));
        y = fmaxf(y * SCORE_FACTOR(job), s->m[row]);
        grew |= y > s->m[row];
        top[row] = y == -INFINITY_F ? 0.0f : y;
        keep[row] = exp2_fast(s->m[row] - top[row]);
        s->m[row] = y;
        s->l[row] *= keep[row];
    }
    return __any_sync(~0u, grew);
}

/* Scores -> weights, and their sums. */
DEVICE void weigh(float x[SCORE_KEYS / 2], struct sums *s, const float top[2], const struct job *job)
{
    const float factor = SCORE_FACTOR(job);
#pragma unroll
    for (i32 i = 0; i < SCORE_KEYS / 4; i++) {
        x[2 * i] = exp2_fast(fmaf(x[2 * i], factor, -top[i % 2]));
        x[2 * i + 1] = exp2_fast(fmaf(x[2 * i + 1], factor, -top[i % 2]));
        s->l[i % 2] += x[2 * i] + x[2 * i + 1];
    }
}

/* Weights as the first operand of V_STEPS products. */
DEVICE void pack_weights(u32 p[SCORE_KEYS / 4], const float x[SCORE_KEYS / 2])
{
#pragma unroll
    for (i32 i = 0; i < SCORE_KEYS / 4; i++)
        p[i] = pack(x[2 * i], x[2 * i + 1]);
}

/* V's tokens outside the unit's keys may hold anything, and 0 x NaN is NaN. Each warpgroup sees to that itself: both
 * write the same. */
DEVICE void clear_tokens(u32 v, i32 group, i32 token, const struct keys *keys)
{
    if (token >= keys->begin && token + TILE <= keys->end)
        return;
    for (i32 i = (i32)threadIdx.x % GROUP_THREADS; i < TILE * V_LINES; i += GROUP_THREADS) {
        const i32 key = token + i % TILE;
        if (key < keys->begin || key >= keys->end)
#pragma unroll
            for (i32 piece = 0; piece < LINE / 16; piece++)
                clear_16(v + (u32)(i * LINE + piece * 16));
    }
    writes_visible_to_products();
    group_sync(group);
}

/* ---- tiles in a row: while one's values are summed up, the next one's scores are multiplied and weighed */

/* Tiles at hand. */
struct run {
    i32 token, end; /* the first token of the tile whose weights p are; tiles begin before end */
    bool is_bad;    /* one had a bad page */
    u32 p[SCORE_KEYS / 4];
};

/* What products need next: V of the tile at `token`, in `v`, and K of the one behind it. That ordinary work is done
 * before, and products are waited for behind it, keeps the compiler from waiting for them first. */
DEVICE void wait_for_next(struct run *run, struct shared *sh, const struct consumer *c, const struct place *v,
                          const struct job *job, i32 token)
{
    run->is_bad |= tile_wait(&sh->v, v);
    clear_tokens(c->v + (u32)v->slot * V_BYTES, c->group, token, &job->share.unit.keys);
    if (token + TILE < run->end)
        run->is_bad |= tile_wait(&sh->k, &c->k_tile);
}

/* The first tile's weights. */
DEVICE void begin_run(struct run *run, struct sums *s, struct consumer *c, struct shared *sh, const struct job *job)
{
    float x[SCORE_KEYS / 2], top[2], keep[2];
    run->is_bad = tile_wait(&sh->k, &c->k_tile);
    ask_scores(x, c);
    scores_wait(x);
    tile_release(&sh->k, &c->k_tile, c->n_slots);
    finish_scores(x, job, c->group, run->token);
    raise(top, keep, s, x, job); /* there are no sums yet */
    weigh(x, s, top, job);
    pack_weights(run->p, x);
    wait_for_next(run, sh, c, &c->v_tile, job, run->token);
}

/* Values of the tile at hand; then the next one's weights. */
DEVICE void go_on(struct run *run, struct sums *s, struct consumer *c, struct shared *sh, const struct job *job)
{
    float x[SCORE_KEYS / 2], top[2], keep[2];
    struct place v = c->v_tile;
    ask_scores(x, c);
    ask_values(s->o, run->p, c);
    scores_wait_for_first(x);
    tile_release(&sh->k, &c->k_tile, c->n_slots);
    run->token += TILE;
    finish_scores(x, job, c->group, run->token);
    const bool grew = raise(top, keep, s, x, job);
    weigh(x, s, top, job);
    compute_now(x);
    place_next(&v, c->n_slots);
    wait_for_next(run, sh, c, &v, job, run->token);
    values_wait(s->o, run->p);
    tile_release(&sh->v, &c->v_tile, c->n_slots);
    if (grew)
#pragma unroll
        for (i32 i = 0; i < SUMS; i++)
            s->o[i] *= keep[i / 2 % 2];
    pack_weights(run->p, x);
}

/* Tiles of tokens begin, begin + TILE, ... < end; at least one. True when one has a bad page. */
DEVICE bool use_tiles(struct sums *s, struct consumer *c, struct shared *sh, const struct job *job, i32 begin, i32 end)
{
    struct run run;
    run.token = begin;
    run.end = end;
    begin_run(&run, s, c, sh, job);
    while (run.token + TILE < end)
        go_on(&run, s, c, sh, job);
    ask_values(s->o, run.p, c);
    values_wait(s->o, run.p);
    tile_release(&sh->v, &c->v_tile, c->n_slots);
    return run.is_bad;
}
