/* SPDX-License-Identifier: Apache-2.0
 * check.h: the checks that problem.c puts in order. Each fills its part of the problem. */
#ifndef FOLIO_RUN_CHECK_H
#define FOLIO_RUN_CHECK_H

#include "run/problem.h"

#define FOLIO__CHECK(name) \
    folio_status folio__##name(struct problem *p, const folio_context *ctx, const folio_attend_args *args)

/* Stage 0, check_tensors.c: a tensor by itself. Absent ones leave zeroes. */
FOLIO__CHECK(read_q);
FOLIO__CHECK(read_k_pages);
FOLIO__CHECK(read_v_pages);
FOLIO__CHECK(read_k_table);
FOLIO__CHECK(read_v_table);
FOLIO__CHECK(read_kv_lens);
FOLIO__CHECK(read_q_indptr);
FOLIO__CHECK(read_alibi_slopes);
FOLIO__CHECK(read_sinks);
FOLIO__CHECK(read_out);
FOLIO__CHECK(read_lse);

/* Stage 1, check_relations.c: tensors against each other. */
FOLIO__CHECK(relate_dtypes);
FOLIO__CHECK(relate_head_dims);
FOLIO__CHECK(relate_heads);
FOLIO__CHECK(relate_pages);
FOLIO__CHECK(relate_batch);
FOLIO__CHECK(relate_outputs);

/* Stage 2, check_scales.c: the scales of quantised pages. */
FOLIO__CHECK(relate_k_scale);
FOLIO__CHECK(relate_v_scale);

/* Stage 2, check_scores.c: what spreads over [n_tokens, n_q_heads, keys]. */
FOLIO__CHECK(spread_vectors);
FOLIO__CHECK(spread_bias);
FOLIO__CHECK(spread_mask);

/* Stage 2, check_mods.c: score_mod, mask_mod, block_mask. */
FOLIO__CHECK(relate_mods);

#endif
