/* SPDX-License-Identifier: Apache-2.0
 * jobs.cuh: units with their Q, written ahead of the consumers by a warp of its own, or by the first V producer. */
#pragma once
#include "kernel/cuda/device/loader.cuh"
#include "kernel/cuda/device/scores.cuh"

/* Rows of Q that the unit lacks are zero. By one warp. */
DEVICE void write_q(u8 *q, const struct attend_args *a, const struct unit *u, i32 head)
{
    enum { PIECES = CONFIG_D_QK / 8 };
    const bool is_vector = (((u64)a->q.data | a->q.token_stride | a->q.head_stride) & 15) == 0;
#pragma unroll 4
    for (i32 i = threadIdx.x & 31; i < CONFIG_ROWS * PIECES; i += 32) {
        const i32 r = i / PIECES, piece = i % PIECES, packed = u->row_begin + r;
        const u8 *row = a->q.data + row_token(u, packed, a->group) * a->q.token_stride +
                        row_head(head, packed, a->group) * a->q.head_stride + piece * 16;
        uint4 x = { 0, 0, 0, 0 };
        if (r < u->n_rows && is_vector) {
            x = *(const uint4 *)row;
        } else if (r < u->n_rows) {
            const u16 *e = (const u16 *)row;
            x.x = e[0] | (u32)e[1] << 16, x.y = e[2] | (u32)e[3] << 16;
            x.z = e[4] | (u32)e[5] << 16, x.w = e[6] | (u32)e[7] << 16;
        }
        *(uint4 *)(q + r * Q_PITCH + piece * 16) = x;
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
        write_rows(job, a, span, u, head);
        write_q(q + place->slot * Q_BYTES, a, u, head);
    }
    if ((threadIdx.x & 31) == 0) {
        job->share = *share;
        if (!share_is_none(share)) {
            const i32 first = u->row_begin / span->group, last = (u->row_begin + u->n_rows - 1) / span->group;
            job->all_begin = visible_keys(span, u->m, u->n, last, last).begin;
            job->all_end = visible_keys(span, u->m, u->n, first, first).end;
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
