/* SPDX-License-Identifier: Apache-2.0
 * visible.h: which keys causal masking and the window leave to one row: always one interval. Plans and kernels both ask
 * here.
 *
 *   keys of a row      0 ......[begin ########## end)...... kv_len */
#ifndef FOLIO_KERNEL_VISIBLE_H
#define FOLIO_KERNEL_VISIBLE_H

#include "base/bits.h"
#include "kernel/args.h"

struct visible_rule {
    i64 window_left, window_right; /* -1 = none */
    i32 causal, align;             /* align is resolved: never AUTO */
};

struct visible_keys {
    i64 begin, end; /* empty when begin >= end */
};

/* Where row `row` of a sequence stands among its keys. */
static inline i64 visible_position(i32 align, i64 q_len, i64 kv_len, i64 row)
{
    return align == ALIGN_TOP_LEFT ? row : row + kv_len - q_len;
}

/* Limits are compared before they are added: they may be huge. */
static inline struct visible_keys visible_keys_of_row(struct visible_rule rule, i64 q_len, i64 kv_len, i64 row)
{
    const i64 p = visible_position(rule.align, q_len, kv_len, row);
    struct visible_keys keys = { 0, kv_len };
    if (rule.causal == CAUSAL_TOP_LEFT)
        keys.end = min_i64(kv_len, row + 1);
    else if (rule.causal == CAUSAL_BOTTOM_RIGHT)
        keys.end = min_i64(kv_len, row + kv_len - q_len + 1);
    if (rule.window_left >= 0 && rule.window_left < p)
        keys.begin = p - rule.window_left;
    if (rule.window_right >= 0 && rule.window_right < keys.end - 1 - p)
        keys.end = p + rule.window_right + 1;
    return keys;
}

#endif
