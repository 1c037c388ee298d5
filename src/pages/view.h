/* SPDX-License-Identifier: Apache-2.0
 * view.h: DLTensor -> the views that kernels take, with every check that follows from shape, dtype and strides alone.
 * data may be NULL here (a plan knows shapes before memory): who reads or writes it asks for it. */
#ifndef FOLIO_PAGES_VIEW_H
#define FOLIO_PAGES_VIEW_H

#include <stdbool.h>

#include "base/tensor.h"
#include "kernel/args.h"
#include "kernel/context.h"

/* [n_pages, page_size, n_kv_heads, head_dim] of f32, f16, bf16, e4m3, e5m2, i8; dim contiguous; pages apart from each
 * other. n_pages may be 0. Other dtypes are a type error. src NULL is EINVAL. */
folio_status folio__pages_view_read(struct pages_view *dst, i64 *page_size, i32 *n_kv_heads, const char *name,
                                    const DLTensor *src);

/* [n_tokens, n_heads, dim] of f32, f16, bf16; dim contiguous. n_tokens may be 0. */
folio_status folio__rows_view_read(struct rows_view *dst, i64 *n_tokens, i32 *n_heads, const char *name,
                                   const DLTensor *src);

/* The same of [n_tokens, n_heads, dim] or [runs, run, n_heads, dim]. */
folio_status folio__tokens_view_read(struct rows_view *dst, struct token_runs *runs, i64 *n_tokens, i32 *n_heads,
                                     const char *name, const DLTensor *src);

/* The scale of quantised pages [1] | [n_kv_heads] | [n_pages, page_size, n_kv_heads] f32, any strides, into their view.
 * t absent: scale 1. EINVAL where pages are not quantised. */
folio_status folio__pages_scale_of(struct pages_view *pages, i64 page_size, i32 n_kv_heads, const char *name,
                                   const struct tensor *t);
/* A scale for all slots or for a head is positive and finite. Reads data. */
folio_status folio__pages_scale_require(const char *name, const struct pages_view *pages, i32 n_kv_heads);
/* CUDA has no kernels for quantised pages: ENOTSUP. */
folio_status folio__require_quantised_here(const folio_context *ctx, const char *name, i32 dtype);

/* Indices, contiguous. Read one with layout_index. */
struct index_view {
    const void *data; /* [n] i32 or i64 */
    i64 n;
    i32 are_i64;
};
folio_status folio__index_view_read(struct index_view *dst, const char *name, const DLTensor *src);

/* The same of a tensor that was read before. */
folio_status folio__pages_view_of(struct pages_view *dst, i64 *page_size, i32 *n_kv_heads, const char *name,
                                  const struct tensor *t);
folio_status folio__rows_view_of(struct rows_view *dst, i64 *n_tokens, i32 *n_heads, const char *name,
                                 const struct tensor *t);
folio_status folio__index_view_of(struct index_view *dst, const char *name, const struct tensor *t);

/* The tensor lives where the context works: host memory for CPU and REF, the context's GPU for CUDA. NULL passes. */
folio_status folio__require_device(const folio_context *ctx, const char *name, const DLTensor *src);

/* Memory that the host's own instructions reach. */
bool folio__is_host_memory(DLDevice device);

/* data is there if there are elements. NULL passes. */
folio_status folio__require_data(const char *name, const DLTensor *src);

/* For what gets written: no two elements share memory. Strides must nest: each at least the span of those below. */
folio_status folio__require_disjoint(const char *name, const DLTensor *src);

/* No byte belongs to both. Exact while both have the same strides from the outside in (K and V in one buffer); then
 * what is left of each counts as one block. Either may be NULL or empty: passes. */
folio_status folio__require_apart(const char *name, const DLTensor *src, const char *other_name, const DLTensor *other);

#endif
