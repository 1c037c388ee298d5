/* SPDX-License-Identifier: Apache-2.0
 * attend_cuda.c: one launch of an attention kernel; merge. Allocates nothing, waits for nothing (with a plan). */
#include "base/bits.h"
#include "base/status.h"
#include "run/plan_cuda.h"

/* Tables as the kernels read them. */
static folio_status read_tables(struct attend_args *a, const struct cuda_plan *plan, const struct cuda_problem *p,
                                cu_stream stream)
{
    const void *k_ids, *v_ids;
    const bool has_v = p->v_ids.data != NULL;
    FOLIO_TRY(folio__cuda_plan_indices(&k_ids, plan, CUDA_K_IDS, &p->k_ids, stream));
    FOLIO_TRY(folio__cuda_plan_indices(&v_ids, plan, CUDA_V_IDS, &p->v_ids, stream));
    a->k_table = (struct table_view){ .ids = k_ids,
                                      .indptr = p->kv_indptr.n ? plan->classes[0].work.rows : NULL,
                                      .row_stride = p->k_row_stride,
                                      .ids_are_i64 = p->k_ids.are_i64,
                                      .indptr_is_i64 = 1 };
    a->v_table = a->k_table;
    if (has_v) {
        a->v_table.ids = v_ids;
        a->v_table.row_stride = p->v_row_stride;
        a->v_table.ids_are_i64 = p->v_ids.are_i64;
    }
    return FOLIO_OK;
}

/* A caller's workspace: its counters start at 0, its slots empty. */
static folio_status clear_workspace(const struct cuda_plan *plan, u8 *workspace, cu_stream stream)
{
    if (!workspace)
        return FOLIO_OK;
    CUDA_TRY(plan->device->api, set_u32, ((cu_ptr)(uintptr_t)workspace, 0, (size_t)plan->n_counters, stream));
    return folio__cuda_empty_slots(plan, workspace, stream);
}

static folio_status launch_class(const struct cuda_plan *plan, const struct cuda_class *class,
                                 const struct cuda_problem *p, struct attend_args *args, void *workspace,
                                 cu_stream stream)
{
    struct cuda_work work = class->work;
    struct cuda_span span = class->span;
    struct cuda_decode decode = class->decode;
    decode.n_k_ids = p->k_ids.n;
    decode.n_v_ids = p->v_ids.data ? p->v_ids.n : p->k_ids.n;
    const struct cuda_launch launch = { .function = class->function,
                                        .grid = work.n_groups * plan->n_kv_heads,
                                        .block = class->block,
                                        .shared_bytes = class->shared_bytes,
                                        .stream = stream,
                                        .overlaps = class->config >= CUDA_DECODE };
    struct cu_tensor_map k_maps[2], v_maps[2];
    if (workspace)
        folio__cuda_workspace_place(&work, class, workspace);
    if (class->config >= CUDA_DECODE)
        FOLIO_TRY(folio__cuda_decode_maps(k_maps, v_maps, plan, class, args));
    void *parameters[] = { args, &work, &span, &decode, k_maps, v_maps }; /* the generic kernel takes three */
    return folio__cuda_launch(plan->device, &launch, parameters);
}

static folio_status launch(const struct cuda_plan *plan, const struct cuda_problem *p, void *workspace,
                           cu_stream stream)
{
    if (p->batch == 0 || p->n_tokens == 0)
        return FOLIO_OK;
    struct attend_args args = p->args;
    FOLIO_TRY(read_tables(&args, plan, p, stream));
    FOLIO_TRY(clear_workspace(plan, workspace, stream));
    for (i32 i = 0; i < plan->n_classes; i++)
        FOLIO_TRY(launch_class(plan, &plan->classes[i], p, &args, workspace, stream));
    return FOLIO_OK;
}

/* Plan, update, attend and give the memory back, all in the stream's order. */
static folio_status attend_once(folio_context *ctx, const struct cuda_problem *p, cu_stream stream)
{
    struct cuda_device *device = ctx->cuda;
    struct cuda_plan plan;
    bool capturing;
    FOLIO_TRY(folio__cuda_is_capturing(&capturing, device, stream));
    FOLIO_REQUIRE(!capturing, FOLIO_EBUSY, "the stream is being captured: make a plan before, and attend with it");
    FOLIO_TRY(folio__cuda_plan_prepare(&plan, ctx, p));
    FOLIO_TRY(folio__cuda_error_ready(device));
    cu_ptr memory;
    if (device->has_pools)
        CUDA_TRY(device->api, mem_alloc_async, (&memory, (size_t)plan.total_bytes, stream));
    else
        FOLIO_TRY(folio__cuda_alloc(&memory, device, (size_t)plan.total_bytes));
    folio__cuda_plan_place(&plan, memory);
    folio_status status = folio__cuda_plan_launch(&plan, p, stream);
    if (status == FOLIO_OK)
        status = launch(&plan, p, NULL, stream);
    if (device->has_pools)
        device->api->mem_free_async(memory, stream);
    else
        folio__cuda_retire(device, memory);
    return status;
}

folio_status folio__cuda_attend(folio_context *ctx, const struct cuda_plan *plan, const struct cuda_problem *problem,
                                void *workspace, void *stream)
{
    struct cuda_device *device = ctx->cuda;
    const i32 error_index = plan ? plan->error_index : 0;
    struct cuda_scope scope;
    FOLIO_TRY(folio__cuda_error_report(device, error_index)); /* what an earlier call's kernels found */
    FOLIO_TRY(folio__cuda_enter(&scope, device));
    folio_status status = folio__cuda_check_stream(device, stream);
    if (status == FOLIO_OK)
        status = plan ? launch(plan, problem, workspace, stream) : attend_once(ctx, problem, stream);
    if (status == FOLIO_OK)
        status = folio__cuda_check_now(device, error_index, stream);
    folio__cuda_leave(&scope);
    return status;
}

folio_status folio__cuda_merge(folio_context *ctx, const struct merge_args *args, i64 n_tokens, void *stream)
{
    struct cuda_merge_args a = { .args = *args, .n_tokens = n_tokens };
    const i64 n_rows = n_tokens * args->n_heads;
    if (n_rows == 0)
        return FOLIO_OK;
    FOLIO_REQUIRE(ceil_div(n_rows, MERGE_THREADS / 32) <= INT32_MAX, FOLIO_ENOTSUP, "outs: %lld rows: too many",
                  (long long)n_rows);
    struct cuda_scope scope;
    FOLIO_TRY(folio__cuda_enter(&scope, ctx->cuda));
    struct cuda_launch launch = { .grid = (i32)ceil_div(n_rows, MERGE_THREADS / 32),
                                  .block = MERGE_THREADS,
                                  .stream = stream };
    folio_status status = folio__cuda_check_stream(ctx->cuda, stream);
    if (status == FOLIO_OK)
        status = folio__cuda_function(&launch.function, ctx->cuda, CUDA_MERGE, 0);
    void *parameters[] = { &a };
    if (status == FOLIO_OK)
        status = folio__cuda_launch(ctx->cuda, &launch, parameters);
    folio__cuda_leave(&scope);
    return status;
}
