/* SPDX-License-Identifier: Apache-2.0
 * leaf.cuh: a leaf on its way from the consumers' registers into a node.
 *
 *   warp 0 ──► part 0 ┐                          up to 16 rows: mergers fold the four parts, in order, and the result
 *   warp 1 ──► part 1 ├─► merger warps ──► node  into the node
 *   warp 2 ──► part 2 │
 *   warp 3 ──► part 3 ┘
 *
 *   warp 0 ─► 1 ─► 2 ─► 3 ──► node        relay: the four share one part, each folds its own into it, and the last
 *                                         folds the result into the node; mergers only move nodes that are done
 *
 * Both are the same operations in the same order. */
#pragma once
#include "kernel/cuda/device/fragments.cuh"
#include "kernel/cuda/device/tree.cuh"

/* Rows of a part in shared memory. A relay's are all that there can be, so that it asks of none whether it is there. */
DEVICE i32 part_rows(const struct cuda_work *work)
{
    return HAS_RELAY ? CONFIG_ROWS : work->tile_rows;
}

/* The mergers' memory, behind Q: [n_parts][LEAF_PARTS] parts, then node and root. */
DEVICE struct part part_at(u8 *memory, const struct cuda_decode *decode, i32 rows, i32 which)
{
    float *at = (float *)(q_slots(memory, decode) + N_JOBS * Q_BYTES) + which * rows * (TREE_PITCH + 2);
    struct part p = { at, at + rows * TREE_PITCH, at + rows * (TREE_PITCH + 1) };
    return p;
}

/* ---- consumers */

/* What a row's sum so far and what comes to it are multiplied by, and the row's m and l then. */
struct fold {
    float keep, take, m, l;
};

DEVICE struct fold fold_of(float old_m, float old_l, float m, float l)
{
    struct fold f;
    f.m = fmaxf(old_m, m);
    f.keep = factor(old_m, f.m);
    f.take = factor(m, f.m);
    f.l = fold_one(old_l, f.keep, l, f.take);
    return f;
}

/* A row of this half into the part; by the last warp, the part with it into node. part, node: of this lane's first
 * column of its first row. is_last is a constant where this is inlined. */
DEVICE void relay_row(const struct fragments *f, const struct part *part, const struct part *node, i32 t, i32 row,
                      bool is_new, bool is_bad, bool is_last)
{
    const bool is_first = token_warp() == 0;
    const i32 r = t * 8 + row;
    const struct fold own = fold_of(is_first ? -INFINITY_F : part->m[r], is_first ? 0.0f : part->l[r],
                                    is_bad ? 0.0f : f->m[t][row], is_bad ? NAN_F : f->l[t][row]);
    const struct fold all =
        fold_of(!is_last || is_new ? -INFINITY_F : node->m[r], !is_last || is_new ? 0.0f : node->l[r], own.m, own.l);
    __syncwarp();
    if ((threadIdx.x & 31) < 4) {
        (is_last ? node : part)->m[r] = is_last ? all.m : own.m;
        (is_last ? node : part)->l[r] = is_last ? all.l : own.l;
    }
    float *from = part->o + r * TREE_PITCH, *to = (is_last ? node : part)->o + r * TREE_PITCH;
#pragma unroll
    for (i32 n = 0; n < 2 * COLUMN_TILES; n++) {
        const float x = fold_one(is_first ? 0.0f : from[n * 8], own.keep, f->o[t][n / 2][row + n % 2 * 2], own.take);
        to[n * 8] = is_last ? fold_one(is_new ? 0.0f : to[n * 8], all.keep, x, all.take) : x;
    }
}

/* This half's rows. */
DEVICE void relay_rows(const struct fragments *f, const struct part *part, const struct part *node, bool is_new,
                       bool is_bad, bool is_last)
{
#pragma unroll
    for (i32 t = 0; t < ROW_TILES; t++)
#pragma unroll
        for (i32 row = 0; row < 2; row++)
            relay_row(f, part, node, t, row, is_new, is_bad, is_last);
}

/* Where this lane's columns of its rows begin. */
DEVICE struct part lane_part(const struct part *p)
{
    const i32 lane = threadIdx.x & 31, r = first_row() + lane % 4 * 2;
    const struct part mine = { p->o + (r * TREE_PITCH + lane / 4), p->m + r, p->l + r };
    return mine;
}

/* This warp's result of a leaf: wait for its turn, fold, let the next one. phase: of node's use; is_new: it is
 * empty. */
DEVICE void relay(struct fragments *f, struct shared *sh, const struct part *part, const struct part *node, u32 phase,
                  bool is_new, bool is_bad)
{
    const i32 turn = token_warp();
    u64 *turns = sh->part_turn[HALVES == 1 ? 0 : threadIdx.x / (32u * TOKEN_WARPS)];
    const struct part my_part = lane_part(part), my_node = lane_part(node);
    sum_lanes(f);
    if (turn == 0)
        barrier_wait(&turns[TOKEN_WARPS - 1], phase ^ 1);
    else
        barrier_wait(&turns[turn - 1], phase);
    if (turn == TOKEN_WARPS - 1)
        barrier_wait(&sh->part_empty[0], phase ^ 1);
    if (turn == TOKEN_WARPS - 1)
        relay_rows(f, &my_part, &my_node, is_new, is_bad, true);
    else
        relay_rows(f, &my_part, &my_node, is_new, is_bad, false);
    warp_arrive(&turns[turn]);
    if (turn == TOKEN_WARPS - 1)
        warp_arrive(&sh->part_full[0]);
}

/* ---- mergers */

/* A warp's own rows of the part that is being folded into, in registers. */
struct sums {
    float m[AT_A_TIME], l[AT_A_TIME], o[AT_A_TIME][LANE_COLUMNS];
};

DEVICE void sums_add(struct sums *s, i32 k, float m, float l, const float o[LANE_COLUMNS])
{
    const float old = s->m[k];
    s->m[k] = fmaxf(old, m);
    const float keep = factor(old, s->m[k]), take = factor(m, s->m[k]);
    s->l[k] = fold_one(s->l[k], keep, l, take);
#pragma unroll
    for (i32 c = 0; c < LANE_COLUMNS; c++)
        s->o[k][c] = fold_one(s->o[k][c], keep, o[c], take);
}

/* Rows first, first + MERGER_WARPS, ...; rows that are not there are the last one again. */
DEVICE void sums_load(struct sums *s, const struct part *p, i32 first, i32 n_rows, bool is_empty)
{
#pragma unroll
    for (i32 k = 0; k < AT_A_TIME; k++) {
        const i32 r = min(first + k * MERGER_WARPS, n_rows - 1);
        s->m[k] = is_empty ? -INFINITY_F : p->m[r];
        s->l[k] = is_empty ? 0.0f : p->l[r];
#pragma unroll
        for (i32 c = 0; c < LANE_COLUMNS; c++)
            s->o[k][c] = is_empty ? 0.0f : p->o[r * TREE_PITCH + TREE_LANE + 32 * c];
    }
}

DEVICE void sums_store(const struct sums *s, const struct part *p, i32 first, i32 n_rows)
{
    __syncwarp();
#pragma unroll
    for (i32 k = 0; k < AT_A_TIME; k++) {
        const i32 r = first + k * MERGER_WARPS;
        if (r >= n_rows)
            continue;
#pragma unroll
        for (i32 c = 0; c < LANE_COLUMNS; c++)
            p->o[r * TREE_PITCH + TREE_LANE + 32 * c] = s->o[k][c];
        if (TREE_LANE == 0) {
            p->m[r] = s->m[k];
            p->l[r] = s->l[k];
        }
    }
    __syncwarp();
}

/* The warps' parts of a leaf, in order, are one part; that into dst. They lie rows * (TREE_PITCH + 2) floats apart. A
 * relay has done it. */
DEVICE void leaf_fold(const struct tree *t, const struct part *dst, i32 n_rows, bool is_first)
{
    const i32 step = part_rows(t->work) * (TREE_PITCH + 2);
#pragma unroll 1
    for (i32 first = TREE_WARP; first < (HAS_RELAY ? 0 : n_rows); first += AT_A_TIME * MERGER_WARPS) {
        struct sums parts[LEAF_PARTS], leaf, sums;
#pragma unroll
        for (i32 w = 0; w < LEAF_PARTS; w++) {
            const struct part part = { t->leaf.o + w * step, t->leaf.m + w * step, t->leaf.l + w * step };
            sums_load(&parts[w], &part, first, n_rows, false);
        }
        sums_load(&leaf, dst, first, n_rows, true);
        sums_load(&sums, dst, first, n_rows, is_first);
#pragma unroll
        for (i32 k = 0; k < AT_A_TIME; k++) {
#pragma unroll
            for (i32 w = 0; w < LEAF_PARTS; w++)
                sums_add(&leaf, k, parts[w].m[k], parts[w].l[k], parts[w].o[k]);
            sums_add(&sums, k, leaf.m[k], leaf.l[k], leaf.o[k]);
        }
        sums_store(&sums, dst, first, n_rows);
    }
}
