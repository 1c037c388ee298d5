/* SPDX-License-Identifier: Apache-2.0
 * merge.cu: normalised partial results -> one, by exact log-sum-exp weights. A warp a (token, head). */
#include "kernel/cuda/device/numbers.cuh"
#include "kernel/cuda/device/work.h"

DEVICE float lse_at(const u8 *lses, const struct merge_args *m, i32 part)
{
    return *(const float *)(lses + part * m->lses_part_stride);
}

extern "C" __global__ void __launch_bounds__(MERGE_THREADS)
    folio_merge(const __grid_constant__ struct cuda_merge_args a)
{
    const struct merge_args *m = &a.args;
    const i64 row = (i64)blockIdx.x * (MERGE_THREADS / 32) + threadIdx.x / 32;
    const i32 lane = threadIdx.x & 31;
    if (row >= a.n_tokens * m->n_heads)
        return;
    const i64 token = row / m->n_heads, head = row % m->n_heads;
    const u8 *lses = (const u8 *)m->lses + token * m->lses_token_stride + head * m->lses_head_stride;
    float top = -INFINITY_F, sum = 0.0f;
    for (i32 p = 0; p < m->n_parts; p++)
        top = fmaxf(top, lse_at(lses, m, p));
    for (i32 p = 0; p < m->n_parts; p++) {
        const float lse = lse_at(lses, m, p);
        sum += lse == -INFINITY_F ? 0.0f : expf(lse - top);
    }
    const u8 *outs = m->outs.data + token * m->outs.token_stride + head * m->outs.head_stride;
    u8 *out = m->out.data + token * m->out.token_stride + head * m->out.head_stride;
    for (i32 d = lane; d < m->out.dim; d += 32) {
        float o = 0.0f;
        for (i32 p = 0; p < m->n_parts; p++) {
            const float lse = lse_at(lses, m, p);
            if (lse != -INFINITY_F)
                o = fmaf(
                    expf(lse - top) / sum,
                    load_number(outs + p * m->outs_part_stride + (i64)d * number_bytes(m->outs.dtype), m->outs.dtype),
                    o);
        }
        store_number(out + (i64)d * number_bytes(m->out.dtype), m->out.dtype, o);
    }
    if (lane == 0 && m->lse)
        *(float *)((u8 *)m->lse + token * m->lse_token_stride + head * m->lse_head_stride) =
            sum == 0.0f ? -INFINITY_F : top + logf(sum);
}
