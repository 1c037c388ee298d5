/* SPDX-License-Identifier: Apache-2.0
 * fragments.cuh: the consumers' arithmetic, in the registers of mma.sync m16n8k16, tokens and columns on the long side:
 *
 *   scores^T [16 tokens][8 rows] = K [16][d] x Q^T [d][8]        o^T [16 columns][8 rows] += V^T [16][16 tokens] x P^T
 *
 *   a thread of scores^T has tokens lane / 4 and lane / 4 + 8, rows 2 * (lane % 4) and the next; of o^T it has columns
 *   and rows alike. P^T is scores^T after the exponential, packed, each 8 x 8 turned once (movmatrix). */
#pragma once
#include "kernel/cuda/device/ring.cuh"

enum {
    ROW_TILES = HALF_ROWS / 8,
    IS_TIGHT = IS_GATHER && HAS_RELAY, /* gathering takes registers too: from sm_80 on there must be enough */
    AT_ONCE = ROW_TILES > 2 || IS_TIGHT ? 1 : ROW_TILES, /* row tiles whose scores are in registers at a time */
    K_STEPS = CONFIG_D_QK / 16,
    COLUMN_TILES = CONFIG_D_V / 16,
    IS_FINE = CONFIG_LOADER == LOAD_FINE,
    K_SWIZZLES = IS_FINE && K_LINES == 3 ? 3 : 1, /* of 1, 2 or 4 lines the others are the first's, but for some bits */
    /* tiles that all rows see whole have code of their own, where there are registers for it */
    HAS_PLAIN_TILES =
        HALVES == 1 || !(HAS_RELAY ? CONFIG_FULL || IS_TIGHT || (IS_FINE && K_LINES == 3) : CONFIG_FULL && IS_FINE),
    Q_STAYS = ROW_TILES * K_STEPS <= (IS_TIGHT ? 8 : 16), /* Q in registers; else read again for every tile */
};

struct fragments {
    u32 q[ROW_TILES][Q_STAYS ? K_STEPS : 1][2];
    float o[ROW_TILES][COLUMN_TILES][4];    /* column, row: (0, 0) (0, 1) (8, 0) (8, 1) */
    float m[ROW_TILES][2], l[ROW_TILES][2]; /* of the two rows; l: of this thread's tokens only */
};

/* What every tile needs. */
struct consumer {
    u32 k_slots, v_slots;                 /* shared addresses */
    u32 q;                                /* of the job: this lane's piece of this half's first 8 rows */
    struct place tile;                    /* in both rings */
    u32 k_offset[STEPS], v_offset[STEPS]; /* of this lane's token */
    u32 k_swizzle[K_SWIZZLES], v_swizzle; /* of the piece that this lane reads first, by line */
    u32 line_step;                        /* bytes from a token's line to its next 64 elements */
};

/* Q of 8 rows for two steps of 16 elements. */
DEVICE void q_fragments(u32 x[4], u32 q, i32 t, i32 k)
{
    load_matrices(x, q + (u32)(t * 8 * Q_PITCH + k * 32));
}

DEVICE void load_q(struct fragments *f, const struct consumer *c)
{
#pragma unroll
    for (i32 t = 0; t < ROW_TILES; t++)
#pragma unroll
        for (i32 k = 0; k < (Q_STAYS ? K_STEPS : 0); k += 2) {
            u32 x[4];
            q_fragments(x, c->q, t, k);
            f->q[t][k][0] = x[0], f->q[t][k][1] = x[1];
            f->q[t][k + 1][0] = x[2], f->q[t][k + 1][1] = x[3];
        }
}

/* Of this lane's token and a line of it. */
DEVICE u32 k_swizzle(const struct consumer *c, i32 line)
{
    return K_SWIZZLES == 3 ? c->k_swizzle[line % K_SWIZZLES] : c->k_swizzle[0] ^ (u32)(IS_FINE ? line * 16 : 0);
}

/* Dot products of 16 tokens with the rows of AT_ONCE row tiles from t0 on. */
DEVICE void scores(float s[AT_ONCE][4], const struct fragments *f, i32 t0, u32 k_line, const struct consumer *c)
{
    float odd[AT_ONCE][4];
#pragma unroll
    for (i32 t = 0; t < AT_ONCE; t++)
#pragma unroll
        for (i32 i = 0; i < 4; i++)
            s[t][i] = odd[t][i] = 0.0f;
#pragma unroll
    for (i32 k = 0; k < K_STEPS; k += 2) {
        u32 x[2][4];
#pragma unroll
        for (i32 i = 0; i < 2; i++)
            load_matrices(x[i], k_line + (u32)((k + i) / 4) * c->line_step +
                                    (k_swizzle(c, (k + i) / 4) ^ (u32)((k + i) % 4 * 32)));
#pragma unroll
        for (i32 t = 0; t < AT_ONCE; t++) {
            u32 q[4];
            if (Q_STAYS) {
                q[0] = f->q[t0 + t][Q_STAYS ? k : 0][0], q[1] = f->q[t0 + t][Q_STAYS ? k : 0][1];
                q[2] = f->q[t0 + t][Q_STAYS ? k + 1 : 0][0], q[3] = f->q[t0 + t][Q_STAYS ? k + 1 : 0][1];
            } else {
                q_fragments(q, c->q, t0 + t, k);
            }
            multiply(s[t], x[0], q[0], q[1]);
            multiply(odd[t], x[1], q[2], q[3]);
        }
    }
#pragma unroll
    for (i32 t = 0; t < AT_ONCE; t++)
#pragma unroll
        for (i32 i = 0; i < 4; i++)
            s[t][i] += odd[t][i];
}

/* Dot products -> base-2 scores; first: token of the 16. */
DEVICE void finish_scores(float s[4], const struct job *job, i32 t, i32 first, bool is_edge)
{
    const i32 lane = threadIdx.x & 31;
#pragma unroll
    for (i32 i = 0; i < 4; i++) {
        const i32 r = first_row() + t * 8 + lane % 4 * 2 + i % 2, key = first + lane / 4 + i / 2 * 8;
        float y = s[i] * job->scale;
#if CONFIG_FULL
        if (job->cap > 0.0f) /* cap * tanh: tanh.approx would be 1 % off */
            y = job->cap * (1.0f - __fdividef(2.0f, exp2_fast(s[i] * job->cap_in) + 1.0f));
        y = fmaf(job->slope[r], (float)(key - job->origin[r]), y);
#endif
        if (is_edge)
            y = key >= job->row_begin[r] && key < job->row_end[r] ? y : -INFINITY_F;
        s[i] = y;
    }
}

/* New maxima of a row tile; o and l follow when one grew. top: what to subtract. */
DEVICE void raise(float top[2], struct fragments *f, i32 t, const float s[STEPS][4])
{
    float keep[2];
    bool grew = false;
#pragma unroll
    for (i32 row = 0; row < 2; row++) {
        float x = fmaxf(s[0][row], s[0][row + 2]);
#pragma unroll
        for (i32 step = 1; step < STEPS; step++)
            x = fmaxf(x, fmaxf(s[step][row], s[step][row + 2]));
        x = fmaxf(x, __shfl_xor_sync(~0u, x, 4));
        x = fmaxf(x, __shfl_xor_sync(~0u, x, 8));
        x = fmaxf(x, __shfl_xor_sync(~0u, x, 16));
        x = fmaxf(x, f->m[t][row]);
        grew |= x > f->m[t][row];
        top[row] = x == -INFINITY_F ? 0.0f : x;
        keep[row] = exp2_fast(f->m[t][row] - top[row]);
        f->m[t][row] = x;
    }
    if (!__any_sync(~0u, grew)) /* every factor is 1 */
        return;
#pragma unroll
    for (i32 n = 0; n < COLUMN_TILES; n++)
#pragma unroll
        for (i32 i = 0; i < 4; i++)
            f->o[t][n][i] *= keep[i % 2];
    f->l[t][0] *= keep[0];
    f->l[t][1] *= keep[1];
}

/* Scores of 16 tokens -> weights as a fragment, and their sums. */
DEVICE void weigh(u32 p[2], struct fragments *f, i32 t, const float s[4], const float top[2])
{
#pragma unroll
    for (i32 half = 0; half < 2; half++) {
        const float a = exp2_fast(s[2 * half] - top[0]), b = exp2_fast(s[2 * half + 1] - top[1]);
        f->l[t][0] += a;
        f->l[t][1] += b;
        p[half] = transpose(pack(a, b));
    }
}

/* o += weights x V, of 16 tokens. is_edge: tokens outside keys may hold anything, and 0 x NaN is NaN. */
DEVICE void add_values(struct fragments *f, const u32 p[ROW_TILES][2], u32 v_line, const struct consumer *c, i32 first,
                       const struct keys *keys, bool is_edge)
{
    u32 mask[2] = { ~0u, ~0u };
    if (is_edge) {
#pragma unroll
        for (i32 half = 0; half < 2; half++) {
            const i32 at = first + half * 8 + (i32)(threadIdx.x & 3) * 2;
            mask[half] = (at >= keys->begin && at < keys->end ? 0xffffu : 0u) |
                         (at + 1 >= keys->begin && at + 1 < keys->end ? 0xffff0000u : 0u);
        }
    }
#pragma unroll
    for (i32 n = 0; n < COLUMN_TILES; n++) {
        u32 x[4];
        load_matrices_transposed(x, v_line + (u32)(n / 4) * c->line_step +
                                        (c->v_swizzle ^ (u32)((IS_FINE ? n / 4 * 16 : 0) ^ n % 4 * 32)));
        if (is_edge)
            x[0] &= mask[0], x[1] &= mask[0], x[2] &= mask[1], x[3] &= mask[1];
#pragma unroll
        for (i32 t = 0; t < ROW_TILES; t++)
            multiply(f->o[t][n], x, p[t][0], p[t][1]);
    }
}

DEVICE void fragments_clear(struct fragments *f)
{
#pragma unroll
    for (i32 t = 0; t < ROW_TILES; t++) {
#pragma unroll
        for (i32 n = 0; n < COLUMN_TILES; n++)
#pragma unroll
            for (i32 i = 0; i < 4; i++)
                f->o[t][n][i] = 0.0f;
        f->m[t][0] = f->m[t][1] = -INFINITY_F;
        f->l[t][0] = f->l[t][1] = 0.0f;
    }
}

/* l of this thread's tokens -> of the warp's. */
DEVICE void sum_lanes(struct fragments *f)
{
#pragma unroll
    for (i32 t = 0; t < ROW_TILES; t++)
#pragma unroll
        for (i32 row = 0; row < 2; row++)
#pragma unroll
            for (i32 i = 4; i < 32; i *= 2)
                f->l[t][row] += __shfl_xor_sync(~0u, f->l[t][row], i);
}

/* This warp's result of a leaf -> o [rows][pitch], m [rows], l [rows] in shared memory. */
DEVICE void fragments_store(struct fragments *f, float *o, float *m, float *l, i32 pitch, i32 n_rows, bool is_bad)
{
    const i32 lane = threadIdx.x & 31;
    sum_lanes(f);
#pragma unroll
    for (i32 t = 0; t < ROW_TILES; t++)
#pragma unroll
        for (i32 row = 0; row < 2; row++) {
            const i32 r = first_row() + t * 8 + lane % 4 * 2 + row;
            if (r >= n_rows)
                continue;
            float *to = o + (r * pitch + lane / 4);
#pragma unroll
            for (i32 n = 0; n < COLUMN_TILES; n++) {
                to[n * 16] = f->o[t][n][row];
                to[n * 16 + 8] = f->o[t][n][row + 2];
            }
            if (lane < 4) {
                m[r] = is_bad ? 0.0f : f->m[t][row];
                l[r] = is_bad ? NAN_F : f->l[t][row];
            }
        }
}

/* Where this lane's line of 16 tokens lies in a slot: as ldmatrix wants K's and, transposed, V's. */
DEVICE void find_lines(struct consumer *c, i32 box_shift)
{
    const i32 lane = threadIdx.x & 31, warp = token_warp();
    const i32 k_row = lane / 8 % 2 * 8 + lane % 8, v_row = lane / 16 * 8 + lane % 8;
#pragma unroll
    for (i32 step = 0; step < STEPS; step++) {
        const i32 first = (warp * STEPS + step) * 16;
        c->k_offset[step] = token_offset(first + k_row, box_shift, K_LINES);
        c->v_offset[step] = token_offset(first + v_row, box_shift, V_LINES);
    }
#pragma unroll
    for (i32 i = 0; i < K_SWIZZLES; i++)
        c->k_swizzle[i] = (u32)((lane / 16 ^ (lane % 8 * (IS_FINE ? K_LINES : 1) + i) % 8) * 16);
    c->v_swizzle = (u32)((lane / 8 % 2 ^ lane % 8 * (IS_FINE ? V_LINES : 1) % 8) * 16);
    c->line_step = CONFIG_LOADER == LOAD_FINE ? (u32)LINE : (u32)LINE << box_shift;
}
