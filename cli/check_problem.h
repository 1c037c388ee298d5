/* SPDX-License-Identifier: Apache-2.0
 * check_problem.h: a case with memory: every tensor that folio_attend takes, hostile where the contract allows it.
 *
 *   pages     [n_pages][...]   NaN but in the slots that hold tokens; pages in random order, some never named
 *   table     entries behind a row's last page: 0x7fffffff
 *   out, lse  NaN before the call, in and between rows; what lies between must not change */
#ifndef CLI_CHECK_PROBLEM_H
#define CLI_CHECK_PROBLEM_H

#include "check_case.h"
#include "folio/folio.h"
#include "tensor.h"

enum { PROBLEM_MAX_BLOCKS = 24 };

struct problem {
    struct check_case c;
    i64 n_tokens, max_kv_len, n_pages, table_width;
    struct tensor q, k_pages, v_pages, table, v_table, kv_indptr, kv_lens, q_indptr, alibi, sinks, bias, mask, out, lse;
    folio_attend_args args;
    void *out_memory; /* [n_tokens][n_q_heads][dim_v] and gaps */
    float *lse_memory;
    size_t out_bytes, lse_bytes;
    void *blocks[PROBLEM_MAX_BLOCKS]; /* [n_blocks] to be freed */
    i32 n_blocks;
    bool no_memory;
};

bool problem_init(struct problem *p, const struct check_case *c); /* false: no memory */
void problem_free(struct problem *p);

/* Attends; with_plan: by a plan and an update, else in one call. out and lse are NaN before. */
folio_status problem_run(struct problem *p, folio_context *ctx, bool with_plan);

/* Element of out [n_tokens][n_q_heads][dim_v], of lse [n_tokens][n_q_heads]. */
double problem_out(const struct problem *p, i64 token, i32 head, i32 dim);
double problem_lse(const struct problem *p, i64 token, i32 head);
/* Is what lies between the rows of out and lse still NaN? */
bool problem_gaps_untouched(const struct problem *p);

#endif
