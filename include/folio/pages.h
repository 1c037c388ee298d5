/* SPDX-License-Identifier: Apache-2.0
 * pages.h: where bytes land. Pages are the caller's memory, seen as a logical 4-D tensor
 *
 *   [n_pages, page_size, n_kv_heads, head_dim]     any strides but dim's, which is 1
 *
 * so NHD, HND, K and V interleaved in one buffer, the flat [1, H, n_pages * page_size, D] of PyTorch and token pools
 * (page_size 1) are all just strides. K and V may differ in strides and head_dim. dtypes: f32, f16, bf16, and,
 * quantised, i8, e4m3, e5m2 (host backends only): a value is what is stored times a scale, f32,
 *
 *   k_scale, v_scale    [1] | [n_kv_heads] | [n_pages, page_size, n_kv_heads], any strides; NULL = 1
 *
 * positive and finite; a scale by slot counts only where its slot holds a token, and is anything elsewhere.
 * A slot is page_id * page_size + position in the page.
 *
 * stream: a CUstream for CUDA contexts, ignored (NULL) on a CPU. */
#ifndef FOLIO_PAGES_H
#define FOLIO_PAGES_H

#include "folio/base.h"
#include "folio/device.h"
#include "folio/dlpack.h"

#ifdef __cplusplus
extern "C" {
#endif

enum {
    /* k_scale and v_scale [n_pages, page_size, n_kv_heads] are written: each new token and head gets the scale that
     * makes its largest finite element the dtype's largest (127, 448, 57344); 1 where all are 0. */
    FOLIO_APPEND_MAKES_SCALES = 1 << 0,
};

typedef struct folio_append_args {
    size_t struct_size;
    const DLTensor *k, *v;             /* [n_tokens, n_kv_heads, head_dim_qk | head_dim_v]; f32, f16, bf16: rounded to
                                          nearest even when the pages' dtype is narrower */
    const DLTensor *k_pages, *v_pages; /* [n_pages, page_size, n_kv_heads, head_dim_qk | head_dim_v]; written */
    const DLTensor *slots;             /* [n_tokens] i32 or i64; -1 = skip this token; other values outside
                                          0 .. n_pages * page_size - 1 are ERANGE. A slot named twice is EINVAL */
    const DLTensor *k_scale, *v_scale; /* quantised pages only: x / scale is stored, to nearest even, saturated (i8: at
                                          127; NaN becomes 0 in i8, stays NaN in e4m3 and e5m2) */
    uint32_t flags;                    /* 0 or FOLIO_APPEND_MAKES_SCALES */
} folio_append_args;

typedef struct folio_gather_args {
    size_t struct_size;
    const DLTensor *k_pages, *v_pages; /* as above */
    const DLTensor *page_row;          /* [n] i32 or i64; the first ceil(kv_len / page_size) are read and checked */
    int64_t kv_len;                    /* tokens to gather; >= 0 */
    const DLTensor *k, *v;             /* [kv_len, n_kv_heads, head_dim_qk | head_dim_v]; f32, f16 or bf16; written */
    const DLTensor *k_scale, *v_scale; /* quantised pages only: k and v get stored times scale */
    uint32_t flags;                    /* 0 */
} folio_gather_args;

/* Write new tokens into their slots. */
FOLIO_API FOLIO_NODISCARD folio_status folio_pages_append(folio_context *ctx, const folio_append_args *args,
                                                          void *stream);
/* Read a sequence back: pages -> contiguous. */
FOLIO_API FOLIO_NODISCARD folio_status folio_pages_gather(folio_context *ctx, const folio_gather_args *args,
                                                          void *stream);
/* Scales by slot are pages of head_dim 1: copy them with one more call, as [n_pages, page_size, n_kv_heads, 1] f32.
 * Copy whole pages, in order: copies [n, 2] i64 of (from, to), what folio_cache_take_copies gives.
 * v_pages may be NULL. */
FOLIO_API FOLIO_NODISCARD folio_status folio_pages_copy(folio_context *ctx, const DLTensor *k_pages,
                                                        const DLTensor *v_pages, const DLTensor *copies, void *stream);
/* Contiguous -> pages: x [batch, n_heads, n_tokens, head_dim] into pages [n, page_size, n_heads, head_dim] and
 * page_table [batch, ceil(n_tokens / page_size)] i32 or i64, where sequence b gets the pages
 * b * ceil(n_tokens / page_size) ... in order. Slots behind n_tokens are zeroed. x has pages' dtype: quantised x
 * is moved as it is. */
FOLIO_API FOLIO_NODISCARD folio_status folio_pages_from_contiguous(folio_context *ctx, const DLTensor *pages,
                                                                   const DLTensor *page_table, const DLTensor *x,
                                                                   void *stream);

/* Memory for pages, should the caller want it from here; any other works too. Zeroed, 2 MB aligned, huge pages asked
 * for; the context's threads touch it first, 2 MB each in turns, so that each NUMA node with threads gets its share.
 * Host backends only. Lives until folio_pages_free, which sets *memory to NULL; the context may go first. */
FOLIO_API FOLIO_NODISCARD folio_status folio_pages_alloc(folio_context *ctx, size_t bytes, void **memory);
FOLIO_API void folio_pages_free(void **memory); /* NULL, or of folio_pages_alloc */

#ifdef __cplusplus
}
#endif
#endif
