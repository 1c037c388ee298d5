/* SPDX-License-Identifier: Apache-2.0
 * check_moves.h: the kernels that move rows (append, gather) and that fold partial results (merge), against ref. */
#ifndef CLI_CHECK_MOVES_H
#define CLI_CHECK_MOVES_H

#include "folio/folio.h"
#include "model.h"

struct moves_result {
    i64 n_run, n_wrong;
    double worst_share; /* of merge; append and gather must agree to the bit */
};

/* Failures are printed with their numbers. */
struct moves_result check_moves(folio_context *ctx, folio_context *ref, u64 seed, const char *level);

/* How far a right result may be from ref's, which is rounded too. Biases, caps and slopes make scores of up to 30. */
double check_tolerance(enum element element, double want);

#endif
