/* SPDX-License-Identifier: Apache-2.0
 * wide_ring.cuh: who works in a block of the kernel of many rows, and what passes between them.
 *
 *   K producer ──► ring of K tiles ──┐
 *   V producer ──► ring of V tiles ──┼─► warpgroup of rows 0 .. 63, warpgroup of rows 64 .. 127 ──► slots, out, lse
 *   clerk ────────► jobs ────────────┘          (which producers read, too)
 *
 * A tile lies as columns of 64 elements of all its tokens, 128 bytes a line, swizzled as the copy engine does it: so
 * products read it as it lies, whatever pages it came from. */
#pragma once
#include "kernel/cuda/device/scores.cuh"
#include "kernel/cuda/device/wgmma.cuh"

enum {
    ROWS = 128,
    GROUPS = ROWS / GROUP_ROWS, /* warpgroups */
    CONSUMER_WARPS = 4 * GROUPS,
    IS_GATHER = CONFIG_LOADER == LOAD_GATHER,
    PRODUCERS = 1,                          /* warps for K, and for V */
    CLERK = CONSUMER_WARPS + 2 * PRODUCERS, /* warp */
    THREADS = 32 * (CONSUMER_WARPS + 4),    /* registers are dealt out to whole warpgroups */
    TILE = SCORE_KEYS,
    LINE = 128, /* bytes: 64 elements */
    K_LINES = CONFIG_D_QK / 64,
    V_LINES = CONFIG_D_V / 64,
    K_BYTES = TILE * K_LINES * LINE,
    V_BYTES = TILE * V_LINES * LINE,
    Q_BYTES = GROUP_ROWS * K_LINES * LINE, /* of a warpgroup: [K_LINES][64 rows][LINE] */
    PARKED = CONFIG_FULL ? 32 : 16,        /* sums of a thread that wait in shared memory while it has a leaf at hand */
    MAX_SLOTS = 8,
    N_JOBS = 2,
    HAS_COLUMNS = 1,
};
#include "kernel/cuda/device/tiles.cuh"

/* A share, as all others need it: only the clerk has registers to walk the line. */
struct job {
    struct share share;                 /* none: there are no more */
    float scale;                        /* base-2; the plain kernel's: without its sign, and never 0 */
    i32 is_negative;                    /* plain: the sign */
    float cap, cap_in;                  /* cap * log2 e; 2 * scale * log2 e / cap */
    struct keys all[GROUPS];            /* that all rows of a warpgroup see */
    struct keys any[GROUPS];            /* that at least one sees */
    i32 row_begin[ROWS], row_end[ROWS]; /* keys that a row sees */
#if CONFIG_FULL
    i32 origin[ROWS];  /* where a row stands */
    float slope[ROWS]; /* * log2 e */
#endif
};

struct shared {
    struct ring k, v;
    u64 job_full[N_JOBS], job_empty[N_JOBS];
    struct job jobs[N_JOBS];
};

/* Dynamic shared memory, 1024-byte aligned: tiles of K, of V, then Q of each warpgroup, then what is parked. */
DEVICE u8 *v_slots(u8 *memory, const struct cuda_decode *decode)
{
    return memory + decode->n_slots * K_BYTES;
}

DEVICE u8 *q_rows(u8 *memory, const struct cuda_decode *decode, i32 group)
{
    return memory + decode->n_slots * (K_BYTES + V_BYTES) + group * Q_BYTES;
}

/* [PARKED / 4][consumer threads] of four: this thread's first. */
DEVICE float4 *parked_sums(u8 *memory, const struct cuda_decode *decode)
{
    return (float4 *)q_rows(memory, decode, GROUPS) + threadIdx.x;
}

/* Keys of a warpgroup's rows: what its first and its last one see bounds both. */
DEVICE void write_bounds(struct job *job, const struct cuda_span *span, const struct unit *u, i32 group)
{
    const i32 begin = min(group * GROUP_ROWS, u->n_rows - 1), end = min((group + 1) * GROUP_ROWS, u->n_rows) - 1;
    const i32 first = (u->row_begin + begin) / span->group, last = (u->row_begin + max(begin, end)) / span->group;
    const struct keys head = visible_keys(span, u->m, u->n, first, first);
    const struct keys tail = visible_keys(span, u->m, u->n, last, last);
    const struct keys all = { tail.begin, head.end }, any = { head.begin, tail.end };
    job->all[group] = all;
    job->any[group] = any;
}

/* What masks and options say about each row. */
DEVICE void write_rows(struct job *job, const struct attend_args *a, const struct cuda_span *span, const struct unit *u,
                       i32 head)
{
#pragma unroll 1
    for (i32 r = threadIdx.x & 31; r < ROWS; r += 32) {
        const i32 packed = u->row_begin + min(r, u->n_rows - 1), row = packed / span->group;
        const struct keys keys = visible_keys(span, u->m, u->n, row, row);
        job->row_begin[r] = keys.begin;
        job->row_end[r] = keys.end;
#if CONFIG_FULL
        job->origin[r] = row + (a->align == ALIGN_BOTTOM_RIGHT ? u->n - u->m : 0);
        job->slope[r] = a->alibi_slopes ? a->alibi_slopes[row_head(head, packed, a->group)] * LOG2_E : 0.0f;
#endif
    }
}

/* -inf x scale stays -inf, and all scores that are not are 0. */
#define LEAST_SCALE 1.2e-38f

/* By one warp. share none: there are no more. */
DEVICE void write_job(struct shared *sh, struct place *place, const struct attend_args *a, const struct cuda_span *span,
                      const struct share *share, i32 head)
{
    struct job *job = &sh->jobs[place->slot];
    const i32 lane = threadIdx.x & 31;
    barrier_wait(&sh->job_empty[place->slot], place->phase ^ 1);
    if (lane == 0)
        job->share = *share;
    __syncwarp(); /* from here on all read it there: registers are few */
    if (!share_is_none(&job->share)) {
        write_rows(job, a, span, &job->share.unit, head);
        if (lane < GROUPS)
            write_bounds(job, span, &job->share.unit, lane);
        const float scale = (float)a->scale * LOG2_E;
        job->scale = CONFIG_FULL ? scale : fmaxf(fabsf(scale), LEAST_SCALE);
        job->is_negative = scale < 0.0f;
        job->cap = (float)a->softcap * LOG2_E;
        job->cap_in = a->softcap > 0 ? 2.0f * LOG2_E * (float)a->scale / (float)a->softcap : 0.0f;
    }
    warp_arrive(&sh->job_full[place->slot]);
    place_next(place, N_JOBS);
}
