/* SPDX-License-Identifier: Apache-2.0
 * pieces.cuh: folding the leaves of a unit, up to 16, in one order, in the registers that computed them.
 *
 * Who has leaves from the unit's first on folds them as they come; who has later ones keeps each in a slot of its own.
 * Whoever completes the unit folds the slots. By the operations of tree.cuh, so that the place of a cut changes no bit:
 *
 *   slots of group g, of the unit that begins in g and is cut at its end, by leaf:
 *                              . . . P L L L . .       P: the leading leaves, folded, in the place of the last of them
 *
 * A warp has 16 rows (wgmma.cuh) and knows nothing of the others: its rows lie apart in a slot, in the order of its
 * lanes, and it counts their leaves alone. */
#pragma once
#include "kernel/cuda/device/wide_ring.cuh"

enum { SUMS = CONFIG_D_V / 2, WARP_ROWS = 16, SLOT_ROW = CONFIG_D_V + SLOT_EXTRA };

/* What a thread has of two rows. */
struct sums {
    float o[SUMS]; /* as wgmma has them */
    float m[2], l[2];
};

/* Where the leaves of a unit lie that several groups have. */
struct pieces {
    const struct cuda_work *work;
    i32 first, head, n_kv_heads; /* first: the group where the unit begins */
};

DEVICE void sums_clear(struct sums *s)
{
#pragma unroll
    for (i32 i = 0; i < SUMS; i++)
        s->o[i] = 0.0f;
    s->m[0] = s->m[1] = -INFINITY_F;
    s->l[0] = s->l[1] = 0.0f;
}

/* What the sum so far counts when the maximum goes from old_m to m: 0 when there is no sum. */
DEVICE float factor(float old_m, float m)
{
    return old_m == -INFINITY_F ? 0.0f : exp2_fast(__fsub_rn(old_m, m));
}

/* What two rows are multiplied by in a fold. */
struct factors {
    float keep[2], take[2];
};

/* The rows' m and l with those of one leaf more. */
DEVICE struct factors fold_rows(struct sums *sum, const float m[2], const float l[2])
{
    struct factors f;
#pragma unroll
    for (i32 r = 0; r < 2; r++) {
        const float old = sum->m[r], top = fmaxf(old, m[r]);
        f.keep[r] = factor(old, top);
        f.take[r] = factor(m[r], top);
        sum->m[r] = top;
        sum->l[r] = __fmaf_rn(sum->l[r], f.keep[r], __fmul_rn(l[r], f.take[r]));
    }
    return f;
}

DEVICE void sums_fold(struct sums *sum, const struct sums *leaf)
{
    const struct factors f = fold_rows(sum, leaf->m, leaf->l);
#pragma unroll
    for (i32 i = 0; i < SUMS; i++)
        sum->o[i] = __fmaf_rn(sum->o[i], f.keep[i / 2 % 2], __fmul_rn(leaf->o[i], f.take[i / 2 % 2]));
}

/* The last PARKED sums go to shared memory; the thread that put them there takes them back. */
DEVICE void sums_park(float4 *to, const struct sums *s)
{
#pragma unroll
    for (i32 i = 0; i < PARKED / 4; i++) {
        const float *o = s->o + SUMS - PARKED + 4 * i;
        to[i * GROUPS * GROUP_THREADS] = make_float4(o[0], o[1], o[2], o[3]);
    }
}

DEVICE void sums_unpark(struct sums *s, const float4 *from)
{
#pragma unroll
    for (i32 i = 0; i < PARKED / 4; i++) {
        const float4 x = from[i * GROUPS * GROUP_THREADS];
        float *o = s->o + SUMS - PARKED + 4 * i;
        o[0] = x.x, o[1] = x.y, o[2] = x.z, o[3] = x.w;
    }
}

/* This warp's rows in the slot of a leaf. */
DEVICE float *piece_slot(const struct pieces *p, i32 leaf)
{
    const i64 place = ((i64)p->first * p->n_kv_heads + p->head) * NODE_LEAVES + leaf;
    return p->work->leaf_slots + place * p->work->slot_floats + (i32)threadIdx.x / 32 * WARP_ROWS * SLOT_ROW;
}

DEVICE void piece_store(float *slot, const struct sums *s)
{
    const i32 lane = threadIdx.x & 31;
#pragma unroll
    for (i32 i = 0; i < SUMS / 4; i++)
        *(float4 *)(slot + (i * 32 + lane) * 4) =
            make_float4(s->o[4 * i], s->o[4 * i + 1], s->o[4 * i + 2], s->o[4 * i + 3]);
    if (lane % 4 == 0)
        *(float4 *)(slot + SUMS * 32 + lane) = make_float4(s->m[0], s->l[0], s->m[1], s->l[1]);
}

/* n slots, in order, from `slot` on. */
DEVICE void pieces_fold(struct sums *sum, const struct pieces *p, const float *slot, i32 n)
{
    const i32 lane = threadIdx.x & 31;
    sums_clear(sum);
#pragma unroll 1
    for (i32 k = 0; k < n; k++, slot += p->work->slot_floats) {
        float4 x[SUMS / 4];
        const float4 rows = __ldcg((const float4 *)(slot + SUMS * 32 + lane / 4 * 4));
#pragma unroll
        for (i32 i = 0; i < SUMS / 4; i++)
            x[i] = __ldcg((const float4 *)(slot + (i * 32 + lane) * 4));
        const float m[2] = { rows.x, rows.z }, l[2] = { rows.y, rows.w };
        const struct factors f = fold_rows(sum, m, l);
#pragma unroll
        for (i32 i = 0; i < SUMS / 4; i++) {
            float *o = sum->o + 4 * i;
            o[0] = __fmaf_rn(o[0], f.keep[0], __fmul_rn(x[i].x, f.take[0]));
            o[1] = __fmaf_rn(o[1], f.keep[0], __fmul_rn(x[i].y, f.take[0]));
            o[2] = __fmaf_rn(o[2], f.keep[1], __fmul_rn(x[i].z, f.take[1]));
            o[3] = __fmaf_rn(o[3], f.keep[1], __fmul_rn(x[i].w, f.take[1]));
        }
    }
}

/* This warp has stored n leaves more of the unit; true for whoever makes it n_all: all slots are visible then, and the
 * counter is 0. */
DEVICE bool pieces_arrive(const struct pieces *p, i32 n, i32 n_all)
{
    const i64 place = (((i64)p->first * p->n_kv_heads + p->head) * 2) * FOLD_WARPS + (i32)threadIdx.x / 32;
    u32 *counter = p->work->counters + place;
    u32 sum = 0;
    __syncwarp();
    if ((threadIdx.x & 31) == 0) {
        sum = add_acq_rel(counter, (u32)n) + (u32)n;
        if (sum == (u32)n_all)
            *counter = 0;
    }
    __syncwarp();
    return __shfl_sync(~0u, sum, 0) == (u32)n_all;
}
