/* SPDX-License-Identifier: Apache-2.0
 * jobs.cuh: units with their Q, written ahead of the consumers by a warp of its own, or by the first V producer. */
#pragma once
#include "kernel/cuda/device/claim.cuh"
#include "kernel/cuda/device/loader.cuh"
#include "kernel/cuda/device/scores.cuh"

enum {
    Q_PIECES = CONFIG_D_QK / 8, /* 16 bytes each, a row */
    Q_EACH = CONFIG_ROWS * Q_PIECES / 32,
    Q_AT_ONCE = Q_EACH <= 8  ? Q_EACH
                : Q_EACH % 8 ? 6
                             : 8,
};

DEVICE const u8 *q_row(const struct attend_args *a, const struct unit *u, i32 head, i32 r)
{
    const i32 packed = u->row_begin + r;
    return a->q.data + row_token(u, packed, a->group) * a->q.token_stride +
           row_head(head, packed, a->group) * a->q.head_stride;
}

/* Rows of Q that the unit lacks are zero. By one warp. All of a turn is asked for before any of it is looked at: behind
 * the pages that the producers ask for at the same time, an answer takes microseconds. */
DEVICE void write_q(u8 *q, const struct attend_args *a, const struct unit *u, i32 head)
{
    const i32 lane = threadIdx.x & 31;
    if (((u64)a->q.data | a->q.token_stride | a->q.head_stride) & 15) {
        for (i32 i = lane; i < CONFIG_ROWS * CONFIG_D_QK; i += 32) {
            const i32 r = i / CONFIG_D_QK, d = i % CONFIG_D_QK;
            ((u16 *)(q + r * Q_PITCH))[d] = r < u->n_rows ? ((const u16 *)q_row(a, u, head, r))[d] : 0;
        }
        return;
    }
#pragma unroll 1
    for (i32 first = lane; first < CONFIG_ROWS * Q_PIECES; first += 32 * Q_AT_ONCE) {
        const uint4 none = { 0, 0, 0, 0 };
        uint4 x[Q_AT_ONCE];
#pragma unroll
        for (i32 i = 0; i < Q_AT_ONCE; i++) {
            const i32 r = (first + 32 * i) / Q_PIECES, piece = (first + 32 * i) % Q_PIECES;
            x[i] = none;
            if (r < u->n_rows)
                x[i] = *(const uint4 *)(q_row(a, u, head, r) + piece * 16);
        }
#pragma unroll
        for (i32 i = 0; i < Q_AT_ONCE; i++)
            *(uint4 *)(q + (first + 32 * i) / Q_PIECES * Q_PITCH + (first + 32 * i) % Q_PIECES * 16) = x[i];
    }
}

/* What masks and options say about each row: a lane a row. */
DEVICE void write_rows(struct job *job, const struct attend_args *a, const struct cuda_span *span, const struct unit *u,
                       i32 head)
{
    const i32 r = threadIdx.x & 31;
    if (r >= CONFIG_ROWS)
        return;
    const i32 packed = u->row_begin + min(r, u->n_rows - 1), row = packed / span->group;
    const struct keys keys = visible_keys(span, u->m, u->n, row, row);
    job->row_begin[r] = keys.begin;
    job->row_end[r] = keys.end;
#if CONFIG_FULL
    job->origin[r] = row + (a->align == ALIGN_BOTTOM_RIGHT ? u->n - u->m : 0);
    job->slope[r] = a->alibi_slopes ? a->alibi_slopes[row_head(head, packed, a->group)] * LOG2_E : 0.0f;
#endif
}

/* share none: there are no more. */
DEVICE void write_job(struct shared *sh, u8 *q, struct place *place, const struct attend_args *a,
                      const struct cuda_span *span, const struct share *share, i32 head)
{
    const struct unit *u = &share->unit;
    struct job *job = &sh->jobs[place->slot];
    barrier_wait(&sh->job_empty[place->slot], place->phase ^ 1);
    if (!share_is_none(share)) {
        write_q(q + place->slot * Q_BYTES, a, u, head);
        write_rows(job, a, span, u, head);
    }
    if ((threadIdx.x & 31) == 0) {
        job->share = *share;
        if (!share_is_none(share)) {
            const i32 first = u->row_begin / span->group, last = (u->row_begin + u->n_rows - 1) / span->group;
            job->all_begin = visible_keys(span, u->m, u->n, last, last).begin;
            job->all_end = visible_keys(span, u->m, u->n, first, first).end;
            job->head = head;
            job->scale = (float)a->scale * LOG2_E;
            job->cap = (float)a->softcap * LOG2_E;
            job->cap_in = a->softcap > 0 ? 2.0f * LOG2_E * (float)a->scale / (float)a->softcap : 0.0f;
        }
    }
    __syncwarp();
    if ((threadIdx.x & 31) == 0)
        barrier_arrive(&sh->job_full[place->slot]);
    place_next(place, N_JOBS);
}
