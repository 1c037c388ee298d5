/* SPDX-License-Identifier: Apache-2.0
 * verify.h: which rows of a step are checked against the oracle, and what came of it.
 *
 * Checked: the last row of every prompt and the last row of every request (these read every page their sequence has),
 * and so many rows at random each step. Each at one layer and one kv head, at random. */
#ifndef CLI_VERIFY_H
#define CLI_VERIFY_H

#include "engine.h"
#include "oracle.h"

enum { VERIFY_MAX_SHOWN = 5 };

struct verify_pick {
    struct oracle_row row;
    i64 token; /* its row in the step */
};

struct verify_error { /* one wrong row */
    struct oracle_row row;
    i32 q_head, dim; /* dim -1 = the LSE */
    double got, want, error, allowed;
};

struct verify {
    struct oracle oracle;
    enum element element;
    i32 n_layers;
    i64 n_random; /* rows a step */
    u64 state;    /* of the random numbers */

    struct verify_pick *picks; /* [n_picks] of this step */
    i64 n_picks, room;
    double *out, *lse, *spread; /* [group][dim_v], [group], [group] of the oracle */

    i64 n_rows, n_wrong;                         /* so far */
    double worst_error;                          /* largest difference of an output */
    double worst_share;                          /* largest difference as a share of what is allowed */
    struct verify_error shown[VERIFY_MAX_SHOWN]; /* the first wrong rows */
};

/* A sequence's part of a step. */
struct verify_item {
    i64 request, first_position, n_tokens;
    bool ends_prompt_or_request; /* its last row is checked for sure */
};

/* room: rows that are checked for sure in one step, at most. */
bool verify_init(struct verify *v, const struct trace *trace, const struct shape *shape, i64 room, u64 seed);
void verify_free(struct verify *v);
void verify_choose(struct verify *v, const struct verify_item *items, i64 n);
/* After the layer's attention. */
void verify_layer(struct verify *v, const struct engine *engine, i32 layer);

#endif
