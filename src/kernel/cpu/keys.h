/* SPDX-License-Identifier: Apache-2.0
 * keys.h: which keys causal masking and the window leave to a row: always one interval.
 *
 *   keys of a row      0 ......[begin ########## end)...... kv_len
 *   both families skip what lies outside the union of their rows, and mask the ragged edges */
#ifndef FOLIO_KERNEL_CPU_KEYS_H
#define FOLIO_KERNEL_CPU_KEYS_H

#include "base/bits.h"
#include "kernel/args.h"

struct keys {
    i64 begin, end; /* empty when begin >= end */
};

static inline const struct shared_row *shared_row(const struct attend_args *args, const struct attend_item *item,
                                                  i64 row)
{
    return &args->shared_rows[item->rows - 1 + row];
}

/* Row `row` of the item's sequence, in q and out. */
static inline i64 row_token(const struct attend_args *args, const struct attend_item *item, i64 row)
{
    return item->rows ? shared_row(args, item, row)->token : item->q_token + row;
}

/* Where it stands among the keys, for the window and ALiBi. */
static inline i64 row_position(const struct attend_args *args, const struct attend_item *item, i64 row)
{
    if (item->rows)
        return shared_row(args, item, row)->position;
    return args->align == ALIGN_TOP_LEFT ? row : row + item->kv_len - item->q_len;
}

static inline struct keys keys_of_row(const struct attend_args *args, const struct attend_item *item, i64 row)
{
    const i64 n = item->kv_len, p = row_position(args, item, row);
    struct keys keys = { 0, n };
    if (item->rows)
        return keys;
    if (args->causal == CAUSAL_TOP_LEFT)
        keys.end = min_i64(n, row + 1);
    else if (args->causal == CAUSAL_BOTTOM_RIGHT)
        keys.end = min_i64(n, row + n - item->q_len + 1);
    if (args->window_left >= 0 && args->window_left < p) /* compared first: the limits may be huge */
        keys.begin = p - args->window_left;
    if (args->window_right >= 0 && args->window_right < keys.end - 1 - p)
        keys.end = p + args->window_right + 1;
    keys.begin = max_i64(keys.begin, item->key_begin);
    return keys;
}

/* The part of `keys` inside [begin, end). */
static inline struct keys keys_within(struct keys keys, i64 begin, i64 end)
{
    return (struct keys){ max_i64(keys.begin, begin), min_i64(keys.end, end) };
}

/* The smallest interval that holds both. */
static inline struct keys keys_union(struct keys a, struct keys b)
{
    if (a.begin >= a.end)
        return b;
    if (b.begin >= b.end)
        return a;
    return (struct keys){ min_i64(a.begin, b.begin), max_i64(a.end, b.end) };
}

static inline struct keys keys_of_rows(const struct attend_args *args, const struct attend_item *item, i64 begin,
                                       i64 end)
{
    struct keys keys = { 0, 0 };
    for (i64 row = begin; row < end; row++)
        keys = keys_union(keys, keys_of_row(args, item, row));
    return keys;
}

#endif
