/* SPDX-License-Identifier: Apache-2.0
 * backend.h: what a backend does for plans, attends and merges. run/ checks arguments, then calls through here: the one
 * place where host and device part. */
#ifndef FOLIO_RUN_BACKEND_H
#define FOLIO_RUN_BACKEND_H

#include "run/folio_plan.h"

struct backend {
    /* plan->ctx and plan->problem are set. Picks kernels, allocates, fills workspace_bytes and backend_data. On failure
     * destroy is called. */
    folio_status (*create)(folio_plan *plan);
    void (*destroy)(folio_plan *plan);
    /* Lengths -> work. p has the plan's shapes; its kv_lens, q_indptr, kv_indptr are to be read. */
    folio_status (*update)(folio_plan *plan, const struct problem *p, void *stream);
    /* args: checked views with this call's pointers; workspace: large enough, aligned. */
    folio_status (*attend)(const folio_plan *plan, const struct attend_args *args, void *workspace, void *stream);
    folio_status (*status)(folio_plan *plan);
    folio_status (*wait)(folio_plan *plan); /* until the device has done what it was asked */
    folio_status (*merge)(folio_context *ctx, const struct merge_args *args, i64 n_tokens, void *stream);
};

extern const struct backend folio__backend_host, folio__backend_cuda;

const char *folio__cuda_kernel_name(const folio_plan *plan);

/* CUDA, without a plan: plan, update and attend in one, in the stream's order. */
folio_status folio__cuda_attend_unplanned(folio_context *ctx, const struct problem *p, const struct attend_args *args,
                                          void *stream);

const struct backend *folio__backend_of(const folio_context *ctx);

#endif
