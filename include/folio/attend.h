/* SPDX-License-Identifier: Apache-2.0
 * attend.h: exact attention over pages.
 *
 * For query row i of a sequence with m query rows and n = kv_len keys, key j, query head h, kv head h / group:
 *   score = scale * (q . k)              softcap c > 0: c * tanh(score / c)
 *         + slope_h * (j - p) + bias     p = i + n - m (bottom-right) or i (top-left)
 *   keys that causal, window or mask remove count as a true -inf
 *   out = sum softmax(score) * v, accumulated in fp32 or better, rounded once; lse = natural log of the denominator,
 *   with exp(sink_h) added once when there are sinks
 * A row without keys: out = 0, lse = -inf (= the sink when there is one). kv_len 0 and q_len 0 are legal.
 * Slots at or past kv_len, table entries past ceil(kv_len / page_size), pages nobody names may hold anything, even NaN.
 * So may K and V of a key that causal, window, a mask, a mod, a block mask or a bias of -inf removes: nothing there
 * reaches the rows it is removed for. On CUDA only K, and V of a key that no row of its sequence sees.
 *
 * dtypes: q and pages f32, f16, bf16; q's dtype equals the pages' or is f32. Pages may be quantised instead (i8, e4m3,
 * e5m2; pages.h), with q f32, f16 or bf16: K and V are what is stored times their scales, softcap acts on the scaled
 * score. out has q's dtype. Everything named f32 below is f32 only. A zeroed struct with struct_size and tensors set is
 * plain, non-causal attention. */
#ifndef FOLIO_ATTEND_H
#define FOLIO_ATTEND_H

#include "folio/base.h"
#include "folio/device.h"
#include "folio/dlpack.h"
#include "folio/mod.h"
#include "folio/plan.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum folio_causal {
    FOLIO_CAUSAL_NONE = 0,
    FOLIO_CAUSAL_TOP_LEFT = 1,     /* keeps j <= i */
    FOLIO_CAUSAL_BOTTOM_RIGHT = 2, /* keeps j <= i + n - m */
} folio_causal;

typedef enum folio_align {
    FOLIO_ALIGN_AUTO = 0, /* causal's, else bottom-right */
    FOLIO_ALIGN_TOP_LEFT = 1,
    FOLIO_ALIGN_BOTTOM_RIGHT = 2,
} folio_align;

enum {
    FOLIO_SCALE_IS_SET = 1 << 0,  /* scale counts; else 1 / sqrt(head_dim_qk) */
    FOLIO_WINDOW_IS_SET = 1 << 1, /* window_left and window_right count; else none */
    FOLIO_CASCADE = 1 << 2, /* sequences of few query rows whose tables begin with the same pages (256 tokens or more,
                               all seen by every row; no mods) share one pass over them: the same results within f32
                               rounding, bits depend on batch mates. The plan's update reads the tables: an attend with
                               other leading pages is EINVAL. Host backends only; ref never shares */
};

#define FOLIO_MAX_HEAD_DIM 1024
#define FOLIO_MAX_SPLITS 65536

typedef struct folio_attend_args {
    size_t struct_size; /* sizeof(folio_attend_args) */
    const DLTensor *q;  /* [n_tokens, n_q_heads, head_dim_qk]; any strides but dim's. n_tokens = batch when q_indptr is
                           NULL (decode). Or [runs, run, n_q_heads, head_dim_qk], tokens one run behind the other, as
                           [batch, n_q_heads, q_len, dim] in memory is; on CUDA only where that is a view of 3 dims */
    const DLTensor *k_pages;      /* [n_pages, page_size, n_kv_heads, head_dim_qk], see pages.h */
    const DLTensor *v_pages;      /* [n_pages', page_size, n_kv_heads, head_dim_v]; n_pages' = n_pages unless
                                     v_page_table is given. Both may be NULL when every kv_len is 0 */
    const DLTensor *page_table;   /* [batch, max_pages] i32 or i64; row stride free. Or CSR: */
    const DLTensor *v_page_table; /* the same for V; NULL = the same table */
    const DLTensor *kv_indptr;  /* [batch + 1] i32 or i64, pages: row b is kv_indices[kv_indptr[b] .. kv_indptr[b+1]] */
    const DLTensor *kv_indices; /* [n_indices] i32 or i64 */
    const DLTensor *kv_lens;    /* [batch] i32 or i64, tokens to attend */
    const DLTensor *q_indptr;   /* [batch + 1] i32 or i64, or NULL: one query row a sequence */
    const DLTensor *alibi_slopes;      /* [n_q_heads] f32 or NULL */
    const DLTensor *sinks;             /* [n_q_heads] f32, natural log, or NULL */
    const DLTensor *k_scale, *v_scale; /* quantised pages: [1] | [n_kv_heads] | [n_pages, page_size, n_kv_heads] f32;
                                          NULL = 1 */
    const DLTensor *bias; /* f32, f16, bf16, broadcastable to [n_tokens, n_q_heads, max_kv_len], or NULL; */
    const DLTensor *mask; /* bool, likewise; false removes the key. Columns at or past a row's kv_len are
                                     ignored. Row t, head h, key j: bias[t, h, j]; fewer dims broadcast from the left */
    const folio_mod *score_mod, *mask_mod;
    const folio_block_mask *block_mask;
    DLTensor *out;  /* [n_tokens, n_q_heads, head_dim_v], or 4 dims; q's dtype, any strides but dim's */
    DLTensor *lse;  /* [n_tokens, n_q_heads] f32 or NULL */
    double scale;   /* finite, may be 0 or negative; counts with FOLIO_SCALE_IS_SET */
    double softcap; /* finite, >= 0; 0 = off */
    int64_t window_left, window_right; /* inclusive; -1 = none; keeps p - left <= j <= p + right */
    int64_t max_q_len, max_kv_len;     /* 0 = from shapes: n_tokens; table width * page_size. Bounds, never results:
                                             a longer sequence is EINVAL */
    void *workspace;                   /* NULL = the plan's own, then one attend in flight a plan; else */
    size_t workspace_bytes;            /*   folio_plan_workspace() */
    int32_t causal;                    /* folio_causal; never implied */
    int32_t align;                     /* folio_align: where row i stands, for window and ALiBi; a contradiction
                                             with causal is EINVAL */
    uint32_t flags;                    /* FOLIO_SCALE_IS_SET ... */
    int32_t num_splits;                /* 0 = automatic, 1 = no split, n = at least n where there are n keys;
                                             at most FOLIO_MAX_SPLITS. Results agree within rounding */
} folio_attend_args;

/* Attention, with the lengths of the plan's last update. Data pointers of q, k_pages, v_pages, out, lse may change from
 * layer to layer. page_table, mask, bias, sinks, slopes, scales are read at every call, and table entries are
 * range-checked: ERANGE names row, column and value. Allocates nothing. plan NULL: plans for this one call. On the CPU
 * the context keeps that plan's workspace, up to 32 MB, for the next such call. */
FOLIO_API FOLIO_NODISCARD folio_status folio_attend(folio_context *ctx, const folio_plan *plan,
                                                    const folio_attend_args *args, void *stream);

typedef struct folio_merge_args {
    size_t struct_size;
    const DLTensor *outs; /* [n_parts, n_tokens, n_heads, head_dim] f32, f16, bf16: each a normalised partial result */
    const DLTensor *lses; /* [n_parts, n_tokens, n_heads] f32, natural log; -inf = an empty partial */
    DLTensor *out;        /* [n_tokens, n_heads, head_dim], outs' dtype */
    DLTensor *lse;        /* [n_tokens, n_heads] f32 or NULL */
} folio_merge_args;

/* One result from partial ones over disjoint keys, by exact log-sum-exp weights. Two empties give an empty. */
FOLIO_API FOLIO_NODISCARD folio_status folio_merge(folio_context *ctx, const folio_merge_args *args, void *stream);

/* What an attend with these arguments would do, or every reason why it can't: lines of text into text [n], always
 * terminated, cut at n - 1. Returns what plan_create would. */
FOLIO_API folio_status folio_explain(folio_context *ctx, const folio_attend_args *args, char *text, size_t n);

#ifdef __cplusplus
}
#endif
#endif
