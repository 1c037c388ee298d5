/* SPDX-License-Identifier: Apache-2.0
 * check_case.h: one attention problem, as numbers: what a row of the check's list is. Cases are numbered: first an edge
 * list (every option alone, every length next to a page boundary), then random ones, a function of seed and number. */
#ifndef CLI_CHECK_CASE_H
#define CLI_CHECK_CASE_H

#include "model.h"
#include "pagepool.h"

enum { CASE_MAX_BATCH = 6 };

enum score_input { SCORE_NONE, SCORE_FULL, SCORE_BY_KEY, SCORE_BY_HEAD }; /* [t, h, j] | [1, 1, j] | [1, h, j] */

struct case_options {  /* zeros: plain, non-causal attention */
    i32 causal, align; /* folio_causal, folio_align */
    bool has_window, has_scale;
    i64 window_left, window_right;
    double softcap, scale;
    bool alibi, sinks;
    enum score_input bias, mask;
    bool csr, wide_ids; /* CSR instead of padded rows; i64 instead of i32 */
    bool v_table;       /* V's pages elsewhere than K's */
    bool gaps;          /* q, out and lse with room between tokens */
    i32 num_splits;
};

struct check_case {
    i64 number;
    u64 seed;                           /* of its values */
    enum element q_element, kv_element; /* set by whoever runs it */
    enum layout layout;
    i32 n_kv_heads, group, dim_qk, dim_v;
    i64 page_size, batch;
    i64 q_lens[CASE_MAX_BATCH], kv_lens[CASE_MAX_BATCH]; /* [batch] */
    bool decode;                                         /* no q_indptr: one row a sequence */
    struct case_options options;
};

i64 case_n_edges(void);
/* Case `number`: an edge below case_n_edges(), else random. */
void case_make(struct check_case *c, i64 number, u64 seed);
/* One line with every number of it, into text [n]. */
void case_describe(const struct check_case *c, char *text, size_t n);

i64 case_n_tokens(const struct check_case *c);
i64 case_max_kv_len(const struct check_case *c);

#endif
