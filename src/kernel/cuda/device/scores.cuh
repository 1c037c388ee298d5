/* SPDX-License-Identifier: Apache-2.0
 * scores.cuh: what happens to a score between the dot product and the softmax, and to a row after it. */
#pragma once
#include "kernel/cuda/device/line.cuh"

DEVICE i64 row_token(const struct unit *u, i32 packed, i32 group)
{
    return u->q_begin + (i64)((u32)packed / (u32)group);
}

DEVICE i32 row_head(i32 head, i32 packed, i32 group)
{
    return head * group + (i32)((u32)packed % (u32)group);
}

/* scale, cap, ALiBi, bias, masks, in that order; base-2 in the end. -inf = no such key. dot: q . k */
DEVICE float score_of(const struct attend_args *a, const struct cuda_span *span, const struct unit *u, i32 head,
                      i32 packed, i32 key, float dot)
{
    const i32 row = packed / a->group, q_head = row_head(head, packed, a->group);
    const i64 token = u->q_begin + row;
    if (!key_is_visible(span, u->m, u->n, row, key))
        return -INFINITY_F;
    const struct score_view *mask = &a->mask, *bias = &a->bias;
    if (mask->data && !mask->data[token * mask->token_stride + q_head * mask->head_stride + key * mask->key_stride])
        return -INFINITY_F;
    float s = dot * (float)a->scale;
    if (a->softcap > 0.0) {
        const float cap = (float)a->softcap;
        s = cap * tanhf(s / cap);
    }
    if (a->alibi_slopes) {
        const i64 p = row + (a->align == ALIGN_BOTTOM_RIGHT ? (i64)u->n - u->m : 0);
        s = fmaf(a->alibi_slopes[q_head], (float)(key - p), s);
    }
    if (bias->data) {
        const float b = load_number(
            bias->data + token * bias->token_stride + q_head * bias->head_stride + key * bias->key_stride, bias->dtype);
        s = b == -INFINITY_F ? b : s + b; /* a removed key's score may be NaN */
    }
    return s * LOG2_E;
}

/* The row's sum with the sink in it, and what to multiply o by. m, l: of the row. Returns the LSE. */
DEVICE float close_row(const struct attend_args *a, i32 q_head, float m, float l, float *factor)
{
    float sum = l, top = m, keep = 1.0f;
    if (a->sinks) {
        const float sink = a->sinks[q_head] * LOG2_E;
        top = fmaxf(m, sink);
        keep = m == -INFINITY_F ? 0.0f : exp2_fast(m - top);
        sum = l * keep + (sink == -INFINITY_F ? 0.0f : sink == top ? 1.0f : exp2_fast(sink - top));
    }
    *factor = l == 0.0f ? 0.0f : keep / sum;
    return sum == 0.0f ? -INFINITY_F : (top + log2f(sum)) * LN_2;
}

/* One finished row -> out and lse, by one warp. */
DEVICE void write_row(const struct attend_args *a, const struct unit *u, i32 head, i32 packed, const float *o, float m,
                      float l)
{
    const i32 q_head = row_head(head, packed, a->group), lane = threadIdx.x & 31;
    const i64 token = row_token(u, packed, a->group);
    float factor, lse = close_row(a, q_head, m, l, &factor);
    if (u->is_poisoned)
        lse = factor = NAN_F;
    u8 *out = a->out.data + token * a->out.token_stride + q_head * a->out.head_stride;
    for (i32 d = lane; d < a->out.dim; d += 32)
        store_number(out + (i64)d * number_bytes(a->out.dtype), a->out.dtype, u->is_poisoned ? NAN_F : o[d] * factor);
    if (lane == 0 && a->lse)
        *(float *)((u8 *)a->lse + token * a->lse_token_stride + q_head * a->lse_head_stride) = lse;
}
