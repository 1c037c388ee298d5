/* SPDX-License-Identifier: Apache-2.0
 * backend_cuda.c: what backend.h asks, on a CUDA device: from checked problems to plan_cuda and attend_cuda. */
#include "base/alloc.h"
#include "base/bits.h"
#include "base/status.h"
#include "run/backend.h"
#include "run/run_cuda.h"

static struct cuda_indices indices_of(const struct index_view *view, bool on_host)
{
    return (struct cuda_indices){ .data = view->data, .n = view->n, .are_i64 = view->are_i64, .on_host = on_host };
}

/* Ids of a table as one array: rows lie row_stride apart. */
static struct cuda_indices ids_of(const struct problem *p, const struct table_view *table, i64 columns, bool on_host)
{
    const i64 n = p->is_csr ? p->kv_indices.n : p->batch ? (p->batch - 1) * table->row_stride + columns : 0;
    return (struct cuda_indices){ .data = table->ids, .n = n, .are_i64 = table->ids_are_i64, .on_host = on_host };
}

/* Keys that the narrowest of tables, bias and mask allows. */
static i64 capacity_of(const struct problem *p)
{
    const i64 columns = p->has_v_table ? min_i64(p->k_columns, p->v_columns) : p->k_columns;
    i64 keys = 0;
    if (!p->has_pages)
        return 0;
    if (!mul_fits(columns, p->kernel.page_size, &keys))
        keys = INT64_MAX;
    return p->is_csr ? keys : min_i64(keys, min_i64(p->bias_keys, p->mask_keys));
}

static struct cuda_problem problem_of(const struct problem *p, const struct attend_args *args)
{
    const u32 host = p->on_host;
    struct cuda_problem c = { .args = *args,
                              .kv_lens = indices_of(&p->kv_lens, host & PROBLEM_KV_LENS),
                              .q_indptr = indices_of(&p->q_indptr, host & PROBLEM_Q_INDPTR),
                              .k_ids = ids_of(p, &args->k_table, p->k_columns, host & PROBLEM_K_TABLE),
                              .k_row_stride = args->k_table.row_stride,
                              .batch = p->batch,
                              .n_tokens = p->n_tokens,
                              .capacity = capacity_of(p),
                              .max_q_len = p->has_q_indptr ? p->max_q_len : min_i64(p->n_tokens, 1),
                              .max_kv_len = min_i64(p->max_kv_len, min_i64(p->bias_keys, p->mask_keys)) };
    if (p->is_csr)
        c.kv_indptr = indices_of(&p->kv_indptr, host & PROBLEM_KV_INDPTR);
    if (p->has_v_table) {
        c.v_ids = ids_of(p, &args->v_table, p->v_columns, host & PROBLEM_V_TABLE);
        c.v_row_stride = args->v_table.row_stride;
    }
    return c;
}

/* What lies on the host is checked at once, as on the CPU. */
static folio_status check_host_parts(const struct problem *p)
{
    const u32 lengths =
        PROBLEM_KV_LENS | (p->has_q_indptr ? PROBLEM_Q_INDPTR : 0u) | (p->is_csr ? PROBLEM_KV_INDPTR : 0u);
    struct lengths none = { 0 };
    FOLIO_REQUIRE((p->on_host & lengths) == 0 || (p->on_host & lengths) == lengths, FOLIO_EINVAL,
                  "kv_lens, q_indptr, kv_indptr: some on the host, some on the device; must be all on one side");
    return (p->on_host & lengths) ? folio__problem_lengths(p, &none) : FOLIO_OK;
}

static folio_status cuda_create(folio_plan *plan)
{
    struct cuda_plan *made = NULL;
    const struct cuda_problem problem = problem_of(&plan->problem, &plan->problem.kernel);
    size_t align;
    FOLIO_TRY(folio__cuda_plan_create(&made, plan->ctx, &problem));
    plan->backend_data = made;
    folio__cuda_plan_workspace(made, &plan->workspace_bytes, &align);
    plan->max_kv_len = problem.max_kv_len;
    return FOLIO_OK;
}

static void cuda_destroy(folio_plan *plan)
{
    struct cuda_plan *made = plan->backend_data;
    folio__cuda_plan_destroy(&made);
    plan->backend_data = NULL;
}

static folio_status cuda_update(folio_plan *plan, const struct problem *p, void *stream)
{
    const struct cuda_problem problem = problem_of(p, &p->kernel);
    FOLIO_TRY(check_host_parts(p));
    return folio__cuda_plan_update(plan->backend_data, &problem, stream);
}

static folio_status cuda_attend(const folio_plan *plan, const struct attend_args *args, void *workspace, void *stream)
{
    const struct cuda_problem problem = problem_of(&plan->problem, args);
    return folio__cuda_attend(plan->ctx, plan->backend_data, &problem, workspace, stream);
}

static folio_status cuda_status(folio_plan *plan)
{
    return folio__cuda_plan_status(plan->backend_data);
}

static folio_status cuda_wait(folio_plan *plan)
{
    return folio__cuda_plan_wait(plan->backend_data);
}

folio_status folio__cuda_attend_unplanned(folio_context *ctx, const struct problem *p, const struct attend_args *args,
                                          void *stream)
{
    const struct cuda_problem problem = problem_of(p, args);
    FOLIO_TRY(check_host_parts(p));
    return folio__cuda_attend(ctx, NULL, &problem, NULL, stream);
}

const char *folio__cuda_kernel_name(const folio_plan *plan)
{
    return folio__cuda_plan_kernel(plan->backend_data);
}

const struct backend folio__backend_cuda = {
    .create = cuda_create,
    .destroy = cuda_destroy,
    .update = cuda_update,
    .attend = cuda_attend,
    .status = cuda_status,
    .wait = cuda_wait,
    .merge = folio__cuda_merge,
};
