/* SPDX-License-Identifier: Apache-2.0
 * cost.h: what the plan thinks work costs. It orders items and says how finely to cut; it never changes a result. */
#ifndef FOLIO_PLAN_COST_H
#define FOLIO_PLAN_COST_H

#include <math.h>
#include <string.h>

#include "plan/plan.h"

enum {
    CUTS_A_WORKER = 4,     /* pieces of an even share: fine enough to balance, coarse enough not to matter */
    LOAD_ROWS = 6,         /* reading a key costs as much as computing with so many rows */
    WORTH_A_WORKER = 8192, /* below, waking a thread or cutting costs more than it gains: about 5 us */
};

/* Of keys x rows x heads; 1 = one multiply-add of one row with 64 elements of K or V. double: lengths may be
 * anything. */
static inline double plan_cost(const struct plan_shape *shape, i64 n_keys, i64 n_rows, i64 n_heads)
{
    const double packed_rows = (double)n_rows * shape->group;
    return (double)n_keys * (double)n_heads * (packed_rows + LOAD_ROWS) *
               (double)(shape->head_dim_qk + shape->head_dim_v) / 64 +
           packed_rows * (double)n_heads;
}

enum { PLAN_RANKS = 256 };

/* A quarter of a power of two a step, 0 for 1 and less: the exponent and two more bits of a float. */
static inline u8 plan_rank(double cost)
{
    const float x = (float)fmax(cost, 1);
    u32 bits;
    memcpy(&bits, &x, sizeof bits);
    const u32 steps = (bits - 0x3f800000u) >> 21;
    return (u8)(steps < PLAN_RANKS ? steps : PLAN_RANKS - 1);
}

#endif
