/* SPDX-License-Identifier: Apache-2.0
 * host.c: plans and attends on the CPU: one counter deals items to workers, the last arriver of a unit folds it.
 *
 *   workspace   [cursor][arrivals, one a unit][partial o][partial m][partial l][scratch of worker 0][worker 1] ... */
#include <string.h>

#include "base/alloc.h"
#include "base/bits.h"
#include "base/status.h"
#include "kernel/mod_scalar.h"
#include "mod/failure.h"
#include "mod/range.h"
#include "run/backend.h"

struct workspace {
    atomic_llong *cursor; /* [1] next place in the plan's order */
    atomic_int *arrivals; /* [n_units] items done */
    struct partials part; /* [n_partial_rows] */
    u8 *scratch;          /* [width][scratch_bytes] */
};

/* Where things lie from base on. Gives the bytes they take; sizes are capped where rooms are made (plan/bounds.c). */
static size_t lay_out(struct workspace *w, const folio_plan *plan, u8 *base)
{
    const struct plan_bounds *room = &plan->work.bounds;
    size_t end = 0;
#define PART(pointer, n_bytes)                               \
    do {                                                     \
        (pointer) = base ? (void *)(base + end) : NULL;      \
        end += round_up((size_t)(n_bytes), WORKSPACE_ALIGN); \
    } while (0)
    PART(w->cursor, sizeof *w->cursor);
    PART(w->arrivals, room->n_units * (i64)sizeof *w->arrivals);
    PART(w->part.o, room->n_partial_rows * plan->shape.head_dim_v * (i64)sizeof *w->part.o);
    PART(w->part.m, room->n_partial_rows * (i64)sizeof *w->part.m);
    PART(w->part.l, room->n_partial_rows * (i64)sizeof *w->part.l);
    PART(w->scratch, plan->shape.width * (i64)plan->scratch_bytes);
#undef PART
    return end;
}

static struct plan_shape shape_of(const folio_plan *plan)
{
    const struct problem *p = &plan->problem;
    const struct attend_args *kernel = &p->kernel;
    return (struct plan_shape){ .tiling = plan->ctx->kernels->tiling(kernel),
                                .batch = p->batch,
                                .n_tokens = p->n_tokens,
                                .max_q_len = p->max_q_len,
                                .max_kv_len = p->max_kv_len,
                                .window_left = kernel->window_left,
                                .window_right = kernel->window_right,
                                .causal = kernel->causal,
                                .align = kernel->align,
                                .num_splits = p->num_splits,
                                .width = folio__pool_n_threads(plan->ctx->pool),
                                .n_kv_heads = kernel->n_kv_heads,
                                .group = kernel->group,
                                .head_dim_qk = kernel->q.dim,
                                .head_dim_v = kernel->v.head_dim,
                                .mask_mod = kernel->mask_mod,
                                .block_mask = kernel->block_mask,
                                .ranges = plan->mask_ranges,
                                .may_share = p->cascade && !mod_is_used(kernel) };
}

static folio_status host_create(folio_plan *plan)
{
    const struct mod_program *mask_mod = plan->problem.kernel.mask_mod;
    plan->mask_ranges = folio__alloc((mask_mod ? (size_t)mask_mod->n_steps : 0) * sizeof *plan->mask_ranges);
    FOLIO_REQUIRE(plan->mask_ranges, FOLIO_ENOMEM, "no memory for a plan");
    plan->shape = shape_of(plan);
    if (!mod_uses_callback(&plan->problem.kernel)) /* a callback is told how large its tiles are */
        plan->shape.tiling.tile_rows = folio__plan_tile_rows(&plan->shape);
    plan->scratch_bytes = round_up(plan->ctx->kernels->scratch_bytes(&plan->problem.kernel), WORKSPACE_ALIGN);
    FOLIO_TRY(folio__plan_work_create(&plan->work, &plan->shape));
    struct workspace w;
    plan->workspace_bytes = lay_out(&w, plan, NULL);
    const size_t batch = (size_t)plan->problem.batch;
    plan->workspace_room = plan->workspace_bytes;
    plan->workspace = plan->problem.is_for_one_call ? folio__spare_take(&plan->ctx->spare, &plan->workspace_room)
                                                    : folio__reserve_zero(plan->workspace_room);
    plan->workspace_is_busy = folio__alloc_zero(sizeof *plan->workspace_is_busy);
    plan->kv_lens = folio__alloc_zero(batch * sizeof *plan->kv_lens);
    plan->q_begin = folio__alloc_zero((batch + 1) * sizeof *plan->q_begin);
    plan->kv_begin = folio__alloc_zero((batch + 1) * sizeof *plan->kv_begin);
    FOLIO_REQUIRE(plan->workspace && plan->workspace_is_busy && plan->kv_lens && plan->q_begin && plan->kv_begin,
                  FOLIO_ENOMEM, "no memory for a plan with a workspace of %zu bytes", plan->workspace_bytes);
    return FOLIO_OK;
}

static void host_destroy(folio_plan *plan)
{
    folio__plan_work_destroy(&plan->work);
    if (plan->problem.is_for_one_call)
        folio__spare_give(&plan->ctx->spare, plan->workspace, plan->workspace_room);
    else
        folio__free(plan->workspace);
    folio__free(plan->workspace_is_busy);
    folio__free(plan->kv_lens);
    folio__free(plan->q_begin);
    folio__free(plan->kv_begin);
    folio__free(plan->mask_ranges);
}

/* A CSR table's rows are those of the last update. */
static struct plan_tables tables_of(const folio_plan *plan, const struct attend_args *args)
{
    struct plan_tables tables = { .k = args->k_table, .page_size = args->page_size };
    if (plan->problem.is_csr) {
        tables.k.indptr = plan->kv_begin;
        tables.k.indptr_is_i64 = 1;
    }
    if (plan->problem.has_v_table)
        tables.v = args->v_table;
    return tables;
}

static folio_status host_update(folio_plan *plan, const struct problem *p, void *stream)
{
    (void)stream;
    struct lengths lengths = { .q_begin = plan->q_begin, .kv_lens = plan->kv_lens, .kv_begin = plan->kv_begin };
    FOLIO_TRY(folio__problem_lengths(p, &lengths));
    plan->max_kv_len = lengths.max_kv_len;
    const struct plan_tables tables = tables_of(plan, &p->kernel);
    plan->shape.tables = plan->shape.may_share ? &tables : NULL;
    folio__plan_make(&plan->work, &plan->shape, plan->q_begin, plan->kv_lens);
    plan->shape.tables = NULL;
    return FOLIO_OK;
}

/* One attend in flight. */
struct flight {
    const folio_plan *plan;
    const struct kernels *kernels;
    const struct attend_args *args;
    struct workspace w;
};

/* Every item of the unit has written its partials: the last one to say so folds them. */
static void arrive(const struct flight *flight, i32 unit)
{
    const struct plan_unit *u = &flight->plan->work.units[unit];
    if (atomic_fetch_add_explicit(&flight->w.arrivals[unit], 1, memory_order_acq_rel) + 1 == u->n_items)
        flight->kernels->fold(flight->args, &u->whole);
}

/* An item for several sequences has written partials of each. */
static void arrive_for_all(const struct flight *flight, const struct attend_item *item)
{
    const struct shared_row *rows = flight->plan->work.shared_rows + item->rows - 1;
    for (i64 i = 0; i < item->n_rows; i++)
        if (i == 0 || rows[i].unit != rows[i - 1].unit)
            arrive(flight, rows[i].unit);
}

static void work(void *arg, i32 worker)
{
    const struct flight *flight = arg;
    const struct plan_work *plan = &flight->plan->work;
    u8 *scratch = flight->w.scratch + (size_t)worker * flight->plan->scratch_bytes;
    for (;;) {
        const i64 at = atomic_fetch_add_explicit(flight->w.cursor, 1, memory_order_relaxed);
        if (at >= plan->n_items || mod_has_failed(flight->args->mod_failure))
            return;
        const struct attend_item *item = &plan->items[plan->order[at]];
        flight->kernels->attend(flight->args, item, scratch);
        if (item->rows)
            arrive_for_all(flight, item);
        else if (item->partial >= 0)
            arrive(flight, item->unit);
    }
}

static folio_status host_attend(const folio_plan *plan, const struct attend_args *bound, void *workspace, void *stream)
{
    (void)stream;
    struct attend_args args = *bound;
    struct mod_failure failure = { 0 };
    args.mod_failure = &failure;
    if (plan->problem.is_csr) { /* the rows of the last update */
        args.k_table.indptr = plan->kv_begin;
        args.k_table.indptr_is_i64 = 1;
        if (!plan->problem.has_v_table)
            args.v_table = args.k_table;
    }
    FOLIO_TRY(folio__check_pages(&args, plan->problem.batch, plan->kv_lens));
    FOLIO_TRY(folio__pages_scale_require("k_scale", &args.k, args.n_kv_heads));
    FOLIO_TRY(folio__pages_scale_require("v_scale", &args.v, args.n_kv_heads));
    const struct plan_tables tables = tables_of(plan, &args);
    FOLIO_REQUIRE(
        folio__plan_groups_hold(&plan->work, &tables), FOLIO_EINVAL,
        "page_table: not what it was at the plan's update; with FOLIO_CASCADE update the plan when it changes");
    args.shared_rows = plan->work.shared_rows;
    struct flight flight = { .plan = plan, .kernels = plan->ctx->kernels, .args = &args };
    lay_out(&flight.w, plan, workspace);
    args.part = flight.w.part;
    atomic_store_explicit(flight.w.cursor, 0, memory_order_relaxed);
    memset(flight.w.arrivals, 0, (size_t)plan->work.n_units * sizeof *flight.w.arrivals);
    folio__pool_run(plan->ctx->pool, work, &flight, plan->work.n_workers);
    return folio__mod_failure_report(&failure);
}

static folio_status host_status(folio_plan *plan)
{
    (void)plan; /* errors were returned where they were found */
    return FOLIO_OK;
}

struct merge_flight {
    const struct kernels *kernels;
    const struct merge_args *args;
    i64 n_tokens;
    i32 n_workers;
};

static void merge_share(void *arg, i32 worker)
{
    const struct merge_flight *flight = arg;
    const i64 share = ceil_div(flight->n_tokens, flight->n_workers);
    const i64 begin = min_i64(worker * share, flight->n_tokens);
    flight->kernels->merge(flight->args, begin, min_i64(begin + share, flight->n_tokens));
}

static folio_status host_merge(folio_context *ctx, const struct merge_args *args, i64 n_tokens, void *stream)
{
    (void)stream;
    enum { ELEMENTS_A_WORKER = 1 << 16 }; /* fewer are not worth waking a thread */
    const double elements = (double)n_tokens * args->n_parts * args->n_heads * args->out.dim;
    const i64 most = elements < 1e15 ? (i64)elements / ELEMENTS_A_WORKER + 1 : INT32_MAX;
    struct merge_flight flight = { .kernels = ctx->kernels, .args = args, .n_tokens = n_tokens };
    flight.n_workers = (i32)min_i64(min_i64(most, max_i64(n_tokens, 1)), folio__pool_n_threads(ctx->pool));
    folio__pool_run(ctx->pool, merge_share, &flight, flight.n_workers);
    return FOLIO_OK;
}

static folio_status host_wait(folio_plan *plan)
{
    (void)plan; /* a call returns when its work is done */
    return FOLIO_OK;
}

const struct backend folio__backend_host = {
    .create = host_create,
    .destroy = host_destroy,
    .update = host_update,
    .attend = host_attend,
    .status = host_status,
    .wait = host_wait,
    .merge = host_merge,
};
