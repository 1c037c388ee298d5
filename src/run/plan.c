/* SPDX-License-Identifier: Apache-2.0
 * plan.c: folio_plan: made once a shape, updated once a step. */
#include "base/alloc.h"
#include "base/status.h"
#include "run/backend.h"

#define FOLIO__PLAN_MAGIC UINT64_C(0x66506c616e202020) /* "fPlan" */

const struct backend *folio__backend_of(const folio_context *ctx)
{
    return ctx->backend == FOLIO_BACKEND_CUDA ? &folio__backend_cuda : &folio__backend_host;
}

folio_status folio__plan_require(const folio_plan *plan)
{
    FOLIO_REQUIRE(plan, FOLIO_EINVAL, "plan: NULL");
    FOLIO_REQUIRE(plan->magic == FOLIO__PLAN_MAGIC, FOLIO_EHANDLE, "plan %p: destroyed, or never created",
                  (const void *)plan);
    return FOLIO_OK;
}

static void free_plan(folio_plan *plan)
{
    folio__backend_of(plan->ctx)->destroy(plan);
    plan->magic = 0;
    folio__free(plan);
}

folio_status folio__plan_new(folio_plan **out, folio_context *ctx, const struct problem *p,
                             const folio_attend_args *args)
{
    folio_plan *plan = folio__alloc_zero(sizeof *plan);
    FOLIO_REQUIRE(plan, FOLIO_ENOMEM, "no memory for a plan");
    plan->magic = FOLIO__PLAN_MAGIC;
    plan->ctx = ctx;
    plan->problem = *p;
    folio__plan_see(plan, args);
    const folio_status status = folio__backend_of(ctx)->create(plan);
    if (status != FOLIO_OK) {
        free_plan(plan);
        return status;
    }
    *out = plan;
    return FOLIO_OK;
}

folio_status folio_plan_create(folio_plan **out, folio_context *ctx, const folio_attend_args *args)
{
    FOLIO_REQUIRE(out, FOLIO_EINVAL, "out: NULL");
    FOLIO_TRY(folio__context_require(ctx));
    folio_attend_args a;
    struct problem p;
    FOLIO_TRY(folio__read_struct("args", &a, sizeof a, args));
    FOLIO_TRY(folio__problem_read(&p, ctx, &a));
    return folio__plan_new(out, ctx, &p, &a);
}

folio_status folio_plan_update(folio_plan *plan, const folio_attend_args *args, void *stream)
{
    FOLIO_TRY(folio__plan_require(plan));
    folio_attend_args a;
    struct problem p;
    FOLIO_TRY(folio__read_struct("args", &a, sizeof a, args));
    FOLIO_TRY(folio__problem_read(&p, plan->ctx, &a));
    FOLIO_TRY(folio__same_problem(&p, &plan->problem));
    FOLIO_TRY(folio__backend_of(plan->ctx)->update(plan, &p, stream));
    plan->is_updated = true;
    return FOLIO_OK;
}

void folio_plan_destroy(folio_plan **plan)
{
    if (!plan || !*plan || (*plan)->magic != FOLIO__PLAN_MAGIC) /* says nothing: the last error may be of interest */
        return;
    free_plan(*plan);
    *plan = NULL;
}

folio_status folio_plan_workspace(const folio_plan *plan, size_t *bytes, size_t *align)
{
    FOLIO_TRY(folio__plan_require(plan));
    FOLIO_REQUIRE(bytes && align, FOLIO_EINVAL, "%s: NULL", bytes ? "align" : "bytes");
    *bytes = plan->workspace_bytes;
    *align = WORKSPACE_ALIGN;
    return FOLIO_OK;
}

folio_status folio_plan_wait(folio_plan *plan)
{
    FOLIO_TRY(folio__plan_require(plan));
    FOLIO_TRY(folio__backend_of(plan->ctx)->wait(plan));
    return folio__backend_of(plan->ctx)->status(plan);
}

folio_status folio_plan_status(folio_plan *plan)
{
    FOLIO_TRY(folio__plan_require(plan));
    return folio__backend_of(plan->ctx)->status(plan);
}
