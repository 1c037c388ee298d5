/* SPDX-License-Identifier: Apache-2.0
 * visible.c: which keys causal masking and the window leave to some rows. */
#include "kernel/visible.h"
#include "plan/plan.h"

/* Of one row: [begin, end) within the sequence's keys. */
static struct plan_keys keys_of_row(const struct plan_shape *shape, i64 q_len, i64 kv_len, i64 row)
{
    const struct visible_rule rule = { shape->window_left, shape->window_right, shape->causal, shape->align };
    const struct visible_keys keys = visible_keys_of_row(rule, q_len, kv_len, row);
    return (struct plan_keys){ keys.begin, max_i64(keys.end, keys.begin) };
}

/* Neither end ever falls from row to row: from the first row's begin to the last row's end holds them all. */
struct plan_keys folio__plan_visible_keys(const struct plan_shape *shape, i64 q_len, i64 kv_len, i64 row_begin,
                                          i64 row_end)
{
    const struct plan_keys first = keys_of_row(shape, q_len, kv_len, row_begin);
    const struct plan_keys last = keys_of_row(shape, q_len, kv_len, row_end - 1);
    const i64 begin = min_i64(first.begin, kv_len), end = clamp_i64(last.end, begin, kv_len);
    return (struct plan_keys){ begin, end };
}
