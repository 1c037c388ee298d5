/* SPDX-License-Identifier: Apache-2.0
 * oracle.h: what a row of attention must be, in double precision, from token identities alone. It never sees a page, a
 * table or a slot: whatever goes wrong with those shows as a difference. */
#ifndef CLI_ORACLE_H
#define CLI_ORACLE_H

#include "model.h"
#include "trace.h"

struct oracle {
    const struct trace *trace;
    struct shape shape;
    u64 seed;
    double *scores; /* [group][longest] */
    i8 *q;          /* [group][MODEL_MAX_HEAD_DIM] codes */
    i64 longest;    /* keys */
};

/* One query token at one kv head of one layer: the rows of the `group` query heads that share it. */
struct oracle_row {
    i64 request, position; /* it sees the keys 0 .. position */
    i32 layer, kv_head;
};

bool oracle_init(struct oracle *oracle, const struct trace *trace, const struct shape *shape, u64 seed);
void oracle_free(struct oracle *oracle);

/* out [group][dim_v], lse [group]; spread [group]: the root of the sum of the squared weights, 1 / sqrt(keys) when all
 * are equal: how far rounding errors of the weights add up. */
void oracle_compute(const struct oracle *oracle, const struct oracle_row *row, double *out, double *lse,
                    double *spread);

/* How far a right result may be from the oracle's `want`: what rounding to `element` and f32 arithmetic can do. */
double oracle_tolerance(enum element element, double want);
/* On top, for kernels that round every weight to the 8 bits of bf16 before they multiply it with V. */
double oracle_weight_rounding(double spread);

#endif
