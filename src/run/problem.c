/* SPDX-License-Identifier: Apache-2.0
 * problem.c: the checks of an attend in order, and what follows from them. */
#include "run/problem.h"

#include <math.h>

#include "base/bits.h"
#include "base/status.h"
#include "run/check.h"

/* clang-format off */
const struct problem_check folio__problem_checks[] = {
    { 0, folio__check_options },
    { 0, folio__read_q }, { 0, folio__read_k_pages }, { 0, folio__read_v_pages }, { 0, folio__read_k_table },
    { 0, folio__read_v_table }, { 0, folio__read_kv_lens }, { 0, folio__read_q_indptr },
    { 0, folio__read_alibi_slopes }, { 0, folio__read_sinks }, { 0, folio__read_out }, { 0, folio__read_lse },
    { 1, folio__relate_dtypes }, { 1, folio__relate_head_dims }, { 1, folio__relate_heads }, { 1, folio__relate_pages },
    { 1, folio__relate_batch }, { 1, folio__relate_outputs },
    { 2, folio__spread_vectors }, { 2, folio__spread_bias }, { 2, folio__spread_mask },
    { 2, folio__relate_mods }, { 2, folio__relate_k_scale }, { 2, folio__relate_v_scale },
};
/* clang-format on */
const i32 folio__n_problem_checks = COUNT_OF(folio__problem_checks);

/* Without pages every key range is empty: one kv head a query head, nothing behind it. */
static void stand_in_for_pages(struct attend_args *kernel)
{
    kernel->k = (struct pages_view){ .head_dim = kernel->q.dim, .dtype = kernel->q.dtype };
    kernel->v = (struct pages_view){ .head_dim = kernel->out.dim, .dtype = kernel->q.dtype };
    kernel->n_kv_heads = kernel->n_q_heads;
    kernel->page_size = 1;
}

static void derive(struct problem *p, const folio_attend_args *args)
{
    struct attend_args *kernel = &p->kernel;
    if (!p->has_pages)
        stand_in_for_pages(kernel);
    kernel->group = kernel->n_q_heads / kernel->n_kv_heads;
    if (!(args->flags & FOLIO_SCALE_IS_SET))
        kernel->scale = 1 / sqrt((double)kernel->q.dim);
    if (!p->has_v_table) {
        kernel->v_table = kernel->k_table;
        p->v_columns = p->k_columns;
    }
    p->max_q_len = args->max_q_len ? min_i64(args->max_q_len, p->n_tokens) : p->n_tokens;
    p->max_kv_len = args->max_kv_len;
    if (!p->has_max_kv_len && !mul_fits(p->k_columns, kernel->page_size, &p->max_kv_len))
        p->max_kv_len = INT64_MAX;
}

folio_status folio__problem_read(struct problem *p, const folio_context *ctx, const folio_attend_args *args)
{
    *p = (struct problem){ 0 };
    for (i32 i = 0; i < folio__n_problem_checks; i++)
        FOLIO_TRY(folio__problem_checks[i].run(p, ctx, args));
    derive(p, args);
    return FOLIO_OK;
}
