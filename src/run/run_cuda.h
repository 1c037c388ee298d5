/* SPDX-License-Identifier: Apache-2.0
 * run_cuda.h: plans and attention on a CUDA device, behind what run/ has validated. */
#ifndef FOLIO_RUN_RUN_CUDA_H
#define FOLIO_RUN_RUN_CUDA_H

#include <stdbool.h>

#include "folio/attend.h"
#include "kernel/args.h"
#include "kernel/context.h"

struct cuda_plan;

/* Where an index array may lie: on the device, for kernels only; or on the host, checked by the caller, copied here. */
struct cuda_indices {
    const void *data; /* [n] i32 or i64; NULL = absent */
    i64 n;
    i32 are_i64;
    bool on_host;
};

/* A validated problem. In args, table pointers are unset: the tables are the indices below. */
struct cuda_problem {
    struct attend_args args;
    struct cuda_indices kv_lens, q_indptr, kv_indptr;
    struct cuda_indices k_ids,
        v_ids;                      /* padded: [(batch - 1) * row_stride + width]; CSR: kv_indices. v_ids NULL = k's */
    i64 k_row_stride, v_row_stride; /* elements; CSR: 0 */
    i64 batch, n_tokens;
    i64 capacity; /* keys a row of the tables can name; CSR: of all entries together */
    i64 max_q_len, max_kv_len;
};

folio_status folio__cuda_plan_create(struct cuda_plan **out, folio_context *ctx, const struct cuda_problem *problem);
const char *folio__cuda_plan_kernel(const struct cuda_plan *plan); /* "generic q=bf16 pages=bf16" */
folio_status folio__cuda_plan_update(struct cuda_plan *plan, const struct cuda_problem *problem, void *stream);
void folio__cuda_plan_destroy(struct cuda_plan **plan);
folio_status folio__cuda_plan_status(struct cuda_plan *plan);
folio_status folio__cuda_plan_wait(struct cuda_plan *plan);
void folio__cuda_plan_workspace(const struct cuda_plan *plan, size_t *bytes, size_t *align);

/* workspace: large enough, aligned; NULL = the plan's own. plan NULL: plan, update and attend in one, on memory ordered
 * by the stream. */
folio_status folio__cuda_attend(folio_context *ctx, const struct cuda_plan *plan, const struct cuda_problem *problem,
                                void *workspace, void *stream);

folio_status folio__cuda_merge(folio_context *ctx, const struct merge_args *args, i64 n_tokens, void *stream);

#endif
