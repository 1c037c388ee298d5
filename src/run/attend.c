/* SPDX-License-Identifier: Apache-2.0
 * attend.c: folio_attend: with a plan, check and go; without one, plan first. */
#include "base/bits.h"
#include "base/status.h"
#include "run/backend.h"

/* The caller's workspace, or the plan's own while nobody else has it. */
static folio_status take_workspace(const folio_plan *plan, const folio_attend_args *args, void **workspace)
{
    if (!args->workspace) {
        FOLIO_REQUIRE(!plan->workspace_is_busy || !atomic_flag_test_and_set(plan->workspace_is_busy), FOLIO_EBUSY,
                      "workspace: NULL, and the plan's own is in use by another attend; bring one of %zu bytes",
                      plan->workspace_bytes);
        *workspace = plan->workspace;
        return FOLIO_OK;
    }
    FOLIO_REQUIRE(args->workspace_bytes >= plan->workspace_bytes, FOLIO_EINVAL,
                  "workspace_bytes %zu; this plan needs %zu", args->workspace_bytes, plan->workspace_bytes);
    FOLIO_REQUIRE((uintptr_t)args->workspace % WORKSPACE_ALIGN == 0, FOLIO_EINVAL,
                  "workspace %p: must be aligned to %d bytes", args->workspace, WORKSPACE_ALIGN);
    *workspace = args->workspace;
    return FOLIO_OK;
}

static void give_workspace_back(const folio_plan *plan, const folio_attend_args *args)
{
    if (!args->workspace && plan->workspace_is_busy)
        atomic_flag_clear(plan->workspace_is_busy);
}

static folio_status attend_planned(const folio_plan *plan, const folio_attend_args *args, void *stream)
{
    FOLIO_REQUIRE(plan->is_updated, FOLIO_EINVAL, "plan: no lengths yet; call folio_plan_update first");
    struct attend_args bound;
    void *workspace = NULL;
    FOLIO_TRY(folio__plan_bind(plan, args, &bound));
    FOLIO_TRY(take_workspace(plan, args, &workspace));
    const folio_status status = folio__backend_of(plan->ctx)->attend(plan, &bound, workspace, stream);
    give_workspace_back(plan, args);
    return status;
}

/* For this one call the lengths are known, so room for longer ones is not needed. */
static folio_status plan_for_one_call(folio_plan **plan, folio_context *ctx, const folio_attend_args *args)
{
    struct problem p;
    FOLIO_TRY(folio__problem_read(&p, ctx, args));
    if (ctx->backend != FOLIO_BACKEND_CUDA) {
        struct lengths lengths = { 0 };
        FOLIO_TRY(folio__problem_lengths(&p, &lengths));
        p.max_q_len = lengths.max_q_len;
        p.max_kv_len = lengths.max_kv_len;
    }
    p.is_for_one_call = true;
    FOLIO_TRY(folio__plan_new(plan, ctx, &p, args));
    const folio_status status = folio__backend_of(ctx)->update(*plan, &p, NULL);
    (*plan)->is_updated = status == FOLIO_OK;
    return status;
}

/* Without a plan on CUDA: nothing may be freed before the stream is through, so it has its own way. */
static folio_status attend_on_device(folio_context *ctx, const folio_attend_args *args, void *stream)
{
    struct attend_args bound;
    folio_plan shape = { .ctx = ctx };
    FOLIO_TRY(folio__problem_read(&shape.problem, ctx, args));
    shape.max_kv_len = shape.problem.max_kv_len;
    folio__plan_see(&shape, args);
    FOLIO_TRY(folio__plan_bind(&shape, args, &bound));
    return folio__cuda_attend_unplanned(ctx, &shape.problem, &bound, stream);
}

folio_status folio_attend(folio_context *ctx, const folio_plan *plan, const folio_attend_args *args, void *stream)
{
    FOLIO_TRY(folio__context_require(ctx));
    folio_attend_args a;
    FOLIO_TRY(folio__read_struct("args", &a, sizeof a, args));
    if (plan) {
        FOLIO_TRY(folio__plan_require(plan));
        FOLIO_REQUIRE(plan->ctx == ctx, FOLIO_EHANDLE, "plan %p: made from another context", (const void *)plan);
        return attend_planned(plan, &a, stream);
    }
    if (ctx->backend == FOLIO_BACKEND_CUDA)
        return attend_on_device(ctx, &a, stream);
    folio_plan *own = NULL;
    folio_status status = plan_for_one_call(&own, ctx, &a);
    if (status == FOLIO_OK)
        status = attend_planned(own, &a, stream);
    folio_plan_destroy(&own);
    return status;
}
