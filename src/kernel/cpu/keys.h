/* SPDX-License-Identifier: Apache-2.0
 * keys.h: the interval of keys that a row of an item sees, and intervals of several rows: both families skip what lies
 * outside the union of their rows, and mask the ragged edges. */
#ifndef FOLIO_KERNEL_CPU_KEYS_H
#define FOLIO_KERNEL_CPU_KEYS_H

#include "base/bits.h"
#include "kernel/args.h"
#include "kernel/visible.h"

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
    return visible_position(args->align, item->q_len, item->kv_len, row);
}

static inline struct keys keys_of_row(const struct attend_args *args, const struct attend_item *item, i64 row)
{
    if (item->rows)
        return (struct keys){ 0, item->kv_len };
    const struct visible_rule rule = { args->window_left, args->window_right, args->causal, args->align };
    const struct visible_keys keys = visible_keys_of_row(rule, item->q_len, item->kv_len, row);
    return (struct keys){ max_i64(keys.begin, item->key_begin), keys.end };
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
