/* SPDX-License-Identifier: Apache-2.0
 * visible.c: which keys causal masking and the window leave to some rows. */
#include "base/bits.h"
#include "plan/plan.h"

/* Of one row: [begin, end) within the sequence's keys. Limits are compared before they are added: they may be huge. */
static struct plan_keys keys_of_row(const struct plan_shape *shape, i64 q_len, i64 kv_len, i64 row)
{
    const i64 position = shape->align == ALIGN_TOP_LEFT ? row : row + kv_len - q_len;
    i64 begin = 0, end = kv_len;
    if (shape->causal == CAUSAL_TOP_LEFT)
        end = min_i64(end, row + 1);
    if (shape->causal == CAUSAL_BOTTOM_RIGHT)
        end = min_i64(end, row + kv_len - q_len + 1);
    if (shape->window_left >= 0 && position > shape->window_left)
        begin = position - shape->window_left;
    if (shape->window_right >= 0 && end - 1 - position > shape->window_right)
        end = position + shape->window_right + 1;
    return (struct plan_keys){ begin, max_i64(end, begin) };
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
