/* SPDX-License-Identifier: Apache-2.0
 * leaf.cuh: a leaf on its way from the consumers' registers into a node.
 *
 *   warp 0 ──► part 0 ┐                          up to 16 rows: mergers fold the four parts, in order, and the result
 *   warp 1 ──► part 1 ├─► merger warps ──► node  into the node
 *   warp 2 ──► part 2 │
 *   warp 3 ──► part 3 ┘
 *
 *   warp 0 ─► 1 ─► 2 ─► 3 ──► merger warps ──► node       relay: the four share one part, each folds its own into it
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

/* Of a row of this half: this warp's sums into the part's. By the 8 lanes that have its columns. p: of this lane's
 * first column of its first row. */
DEVICE void relay_row(const struct fragments *f, const struct part *p, i32 t, i32 row, bool is_bad)
{
    const i32 lane = threadIdx.x & 31, r = t * 8 + row;
    const bool is_first = token_warp() == 0;
    float sum = f->l[t][row];
    sum += __shfl_xor_sync(~0u, sum, 4);
    sum += __shfl_xor_sync(~0u, sum, 8);
    sum += __shfl_xor_sync(~0u, sum, 16);
    const float m = is_bad ? 0.0f : f->m[t][row], l = is_bad ? NAN_F : sum;
    const float old_m = is_first ? -INFINITY_F : p->m[r], old_l = is_first ? 0.0f : p->l[r];
    const float new_m = fmaxf(old_m, m), keep = factor(old_m, new_m), take = factor(m, new_m);
    __syncwarp();
    float *to = p->o + r * TREE_PITCH;
#pragma unroll
    for (i32 n = 0; n < 2 * COLUMN_TILES; n++)
        to[n * 8] = fold_one(is_first ? 0.0f : to[n * 8], keep, f->o[t][n / 2][row + n % 2 * 2], take);
    if (lane < 4) {
        p->m[r] = new_m;
        p->l[r] = fold_one(old_l, keep, l, take);
    }
}

/* Wait for this warp's turn, fold, let the next one. phase: of the part's use. */
DEVICE void relay(const struct fragments *f, struct shared *sh, const struct part *p, u32 slot, u32 phase, bool is_bad)
{
    const i32 lane = threadIdx.x & 31, turn = token_warp(), r = first_row() + lane % 4 * 2;
    const struct part mine = { p->o + (r * TREE_PITCH + lane / 4), p->m + r, p->l + r };
    u64 *turns = sh->part_turn[slot][HALVES == 1 ? 0 : threadIdx.x / (32u * TOKEN_WARPS)];
    if (turn == 0)
        barrier_wait(&sh->part_empty[slot], phase ^ 1);
    else
        barrier_wait(&turns[turn - 1], phase);
#pragma unroll
    for (i32 t = 0; t < ROW_TILES; t++)
#pragma unroll
        for (i32 row = 0; row < 2; row++)
            relay_row(f, &mine, t, row, is_bad);
    warp_arrive(turn == TOKEN_WARPS - 1 ? &sh->part_full[slot] : &turns[turn]);
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

/* The warps' parts of a leaf, in order, are one part, or are one already; that into dst. They lie rows *
 * (TREE_PITCH + 2) floats apart. */
DEVICE void leaf_fold(const struct tree *t, const struct part *dst, i32 n_rows, bool is_first)
{
    const i32 step = part_rows(t->work) * (TREE_PITCH + 2);
#pragma unroll 1
    for (i32 first = TREE_WARP; first < n_rows; first += AT_A_TIME * MERGER_WARPS) {
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
            for (i32 w = 0; w < (HAS_RELAY ? 0 : LEAF_PARTS); w++)
                sums_add(&leaf, k, parts[w].m[k], parts[w].l[k], parts[w].o[k]);
            const struct sums *whole = HAS_RELAY ? &parts[0] : &leaf;
            sums_add(&sums, k, whole->m[k], whole->l[k], whole->o[k]);
        }
        sums_store(&sums, dst, first, n_rows);
    }
}
