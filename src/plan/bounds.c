/* SPDX-License-Identifier: Apache-2.0
 * bounds.c: room for the worst lengths, and the memory for it, taken once. */
#include "plan/plan.h"

#include <string.h>

#include "base/alloc.h"
#include "base/bits.h"
#include "base/status.h"
#include "plan/cost.h"

enum { MAX_PARTIAL_BYTES = 256 << 20 };

/* Partial rows that one unit may need; make leaves units whole when the room is used up, so any number is right. */
static i64 partial_rows_of_unit(const struct plan_shape *shape, i32 family)
{
    const i64 longest = max_i64(shape->max_kv_len, 1);
    const i64 n_splits = ceil_div(longest, folio__plan_split_tokens(shape, family, longest));
    const i64 rows = family == ATTEND_TILE
                         ? min_i64(shape->max_q_len, shape->tiling.tile_rows) * shape->group
                         : min_i64(shape->max_q_len * shape->group, shape->tiling.max_packed_rows) * shape->n_kv_heads;
    i64 all;
    return mul_fits(n_splits, rows, &all) ? all : INT64_MAX;
}

folio_status folio__plan_bounds(struct plan_bounds *bounds, const struct plan_shape *shape)
{
    const i64 n_cuts = (i64)shape->width * CUTS_A_WORKER; /* items that one worker's fair share is cut into */
    i64 n_tiles, n_units;
    const bool fits = add_fits(shape->batch, shape->n_tokens / shape->tiling.tile_rows, &n_tiles) &&
                      mul_fits(n_tiles, shape->n_kv_heads, &n_units) && n_units <= INT32_MAX - 4 * n_cuts;
    FOLIO_REQUIRE(fits, FOLIO_ENOMEM, "batch %lld with %lld query tokens and %d kv heads: more than 2^31 work items",
                  (long long)shape->batch, (long long)shape->n_tokens, (int)shape->n_kv_heads);
    const i64 row_bytes = (shape->head_dim_v + 2) * (i64)sizeof(float);
    i64 n_rows = 0;
    if (shape->width > 1 && shape->max_q_len > 0)
        for (i32 family = ATTEND_ROWS; family <= folio__plan_family(shape, shape->max_q_len); family++) {
            i64 rows;
            if (!mul_fits(partial_rows_of_unit(shape, family), min_i64(n_units, n_cuts), &rows))
                rows = INT64_MAX;
            n_rows = max_i64(n_rows, rows);
        }
    *bounds = (struct plan_bounds){ .n_items = n_units + 3 * n_cuts,
                                    .n_cut_items = 3 * n_cuts,
                                    .n_units = min_i64(n_units, n_cuts),
                                    .n_partial_rows = min_i64(n_rows, MAX_PARTIAL_BYTES / row_bytes) };
    return shape->may_share ? folio__plan_share_bounds(bounds, shape) : FOLIO_OK;
}

folio_status folio__plan_work_create(struct plan_work *work, const struct plan_shape *shape)
{
    *work = (struct plan_work){ 0 };
    FOLIO_TRY(folio__plan_bounds(&work->bounds, shape));
    const size_t n_items = (size_t)work->bounds.n_items, n_units = (size_t)work->bounds.n_units;
    work->items = folio__reserve_zero(n_items * sizeof *work->items);
    work->rank = folio__reserve_zero(n_items * sizeof *work->rank);
    work->order = folio__reserve_zero(n_items * sizeof *work->order);
    work->units = folio__reserve_zero(n_units * sizeof *work->units);
    const size_t batch = shape->may_share ? (size_t)shape->batch : 0;
    const size_t n_rows = shape->may_share ? (size_t)shape->n_tokens : 0;
    work->groups = folio__reserve_zero(batch * sizeof *work->groups);
    work->members = folio__reserve_zero(batch * sizeof *work->members);
    work->alike = folio__reserve_zero(batch * sizeof *work->alike);
    work->shared_rows = folio__reserve_zero(n_rows * sizeof *work->shared_rows);
    if (work->items && work->rank && work->order && work->units && work->groups && work->members && work->alike &&
        work->shared_rows)
        return FOLIO_OK;
    folio__plan_work_destroy(work);
    return folio__fail(FOLIO_ENOMEM, "no memory for a plan of up to %zu work items", n_items);
}

void folio__plan_work_destroy(struct plan_work *work)
{
    folio__free(work->items);
    folio__free(work->rank);
    folio__free(work->order);
    folio__free(work->units);
    folio__free(work->groups);
    folio__free(work->members);
    folio__free(work->alike);
    folio__free(work->shared_rows);
    *work = (struct plan_work){ 0 };
}
