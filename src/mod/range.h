/* SPDX-License-Identifier: Apache-2.0
 * range.h: interval analysis: what a program's steps can be while b, h, q, kv ... run through a box.
 *
 *   mask  kv <= q && q - kv < 1024        q in [4096, 4191], kv in [0, 127]
 *     q - kv          [3969, 4191]
 *     q - kv < 1024   {false}             so the whole tile is skipped
 *
 * Every answer is a superset of what can happen, in every backend: where rounding may differ, bounds are widened. */
#ifndef FOLIO_MOD_RANGE_H
#define FOLIO_MOD_RANGE_H

#include "mod/eval.h"

enum { MOD_MAY_BE_FALSE = 1, MOD_MAY_BE_TRUE = 2 };

/* i64: lo .. hi. f32: flo .. fhi, and NaN if may_be_nan; when it can only be NaN, flo > fhi. bool: truth. */
struct mod_range {
    i64 lo, hi;
    float flo, fhi;
    bool may_be_nan;
    bool may_be_poison;
    u8 truth; /* MOD_MAY_BE_* */
};

struct mod_box {
    struct {
        i64 lo, hi;
    } leaf[MOD_POS - MOD_B + 1]; /* as in mod_env */
};

/* ranges [n_steps]. Captures may be read (read_captures) only while their values cannot change before the answer is
 * used. */
void folio__mod_ranges(const struct mod_program *program, const struct mod_box *box, bool read_captures,
                       struct mod_range *ranges);

/* One op on ranges of its arguments; not for CONST, SCORE, leaves, LOAD. */
struct mod_range folio__mod_range_of(enum mod_op op, const struct mod_range *const *args);

#endif
