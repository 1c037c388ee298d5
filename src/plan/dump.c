/* SPDX-License-Identifier: Apache-2.0
 * dump.c: the items as text, for explain and for eyes. */
#include <stdio.h>

#include "plan/plan.h"

size_t folio__plan_dump(const struct plan_work *work, char *text, size_t n)
{
    size_t used = 0;
#define PRINT(...)                                                                                        \
    do {                                                                                                  \
        const int length = snprintf(used < n ? text + used : NULL, used < n ? n - used : 0, __VA_ARGS__); \
        used += length > 0 ? (size_t)length : 0;                                                          \
    } while (0)
    PRINT("%lld items, %lld units in several items, %lld partial rows, %d workers\n", (long long)work->n_items,
          (long long)work->n_units, (long long)work->n_partial_rows, (int)work->n_workers);
    for (const struct plan_group *group = work->groups; group < work->groups + work->n_groups; group++) {
        PRINT("cascade: the first %lld keys once for %d sequences:", (long long)group->tokens, (int)group->n_members);
        for (i32 i = 0; i < group->n_members; i++)
            PRINT(" %d", (int)work->members[group->member_begin + i]);
        PRINT("\n");
    }
    for (i64 i = 0; i < work->n_items; i++) {
        const struct attend_item *item = &work->items[work->order[i]];
        PRINT("seq %d rows %lld+%lld of %lld heads %d+%d keys %lld splits %lld+%lld of %lld %s rank %d", (int)item->seq,
              (long long)item->row_begin, (long long)item->n_rows, (long long)item->q_len, (int)item->head_begin,
              (int)item->n_heads, (long long)item->kv_len, (long long)item->split_begin, (long long)item->n_splits,
              (long long)item->split_tokens, item->family == ATTEND_ROWS ? "rows" : "tile",
              (int)work->rank[work->order[i]]);
        if (item->rows)
            PRINT(" shared");
        else if (item->partial >= 0)
            PRINT(" partial %lld unit %d", (long long)item->partial, (int)item->unit);
        PRINT("\n");
    }
#undef PRINT
    return used;
}
