/* SPDX-License-Identifier: Apache-2.0
 * pages_cuda.h: append, gather, copies on a CUDA device, behind the checks that need no values. Each is one launch on
 * the stream; what the kernel finds wrong in a value is reported by a later call on the context (ERANGE, once). */
#ifndef FOLIO_PAGES_PAGES_CUDA_H
#define FOLIO_PAGES_PAGES_CUDA_H

#include "kernel/context.h"
#include "kernel/cuda/device/work.h"

/* A bad slot skips its token. Two tokens in one slot: either may stay; it is not found. */
folio_status folio__cuda_append(folio_context *ctx, const struct append_args *args, i64 n_tokens, void *stream);
/* Tokens of a bad page id become NaN. */
folio_status folio__cuda_gather(folio_context *ctx, const struct gather_args *args, i64 kv_len, void *stream);
/* A bad pair is skipped. args->error is set here. */
folio_status folio__cuda_copy(folio_context *ctx, const struct cuda_copy_args *args, void *stream);
folio_status folio__cuda_lay(folio_context *ctx, const struct cuda_lay_args *args, void *stream);

#endif
