/* SPDX-License-Identifier: Apache-2.0
 * reads.c: how many keys the items of a plan read, for people: what block masks and mask mods save. */
#include "base/bits.h"
#include "mod/keep.h"
#include "plan/plan.h"

/* The keys of an item's splits that causal and window leave to its rows. */
static struct plan_keys keys_of_item(const struct plan_shape *shape, const struct attend_item *item)
{
    struct plan_keys keys = { item->key_begin, item->kv_len };
    if (item->split_tokens < item->kv_len) {
        keys.begin = max_i64(keys.begin, item->split_begin * item->split_tokens);
        keys.end = min_i64(keys.end, (item->split_begin + item->n_splits) * item->split_tokens);
    }
    if (item->rows) /* of several sequences, which see all of them */
        return keys;
    const struct plan_keys visible =
        folio__plan_visible_keys(shape, item->q_len, item->kv_len, item->row_begin, item->row_begin + item->n_rows);
    keys.begin = max_i64(keys.begin, visible.begin);
    keys.end = max_i64(keys.begin, min_i64(keys.end, visible.end));
    return keys;
}

/* Of those, what the masks leave: to tiles of keys, as the kernels skip. */
static i64 kept_keys(const struct plan_shape *shape, const struct attend_item *item, struct plan_keys keys)
{
    enum { QUANTUM = 64 };
    if (!shape->mask_mod && !shape->block_mask)
        return keys.end - keys.begin;
    const struct keep keep = { .mask_mod = shape->mask_mod,
                               .block_mask = shape->block_mask,
                               .ranges = shape->ranges,
                               .captures_are_fixed = true,
                               .b = item->seq,
                               .q_len = item->q_len,
                               .kv_len = item->kv_len,
                               .group = shape->group,
                               .pos_offset = shape->align == ALIGN_TOP_LEFT ? 0 : item->kv_len - item->q_len,
                               .row_begin = item->row_begin,
                               .row_end = item->row_begin + item->n_rows,
                               .head_begin = (i64)item->head_begin * shape->group,
                               .head_end = ((i64)item->head_begin + item->n_heads) * shape->group };
    i64 n = 0;
    struct keep_piece piece;
    for (i64 at = keys.begin; folio__keep_next(&keep, at, keys.end, QUANTUM, &piece); at = piece.end)
        n += piece.end - piece.begin;
    return n;
}

i64 folio__plan_reads(const struct plan_work *work, const struct plan_shape *shape)
{
    i64 n = 0;
    for (i64 i = 0; i < work->n_items; i++)
        n += kept_keys(shape, &work->items[i], keys_of_item(shape, &work->items[i])) * work->items[i].n_heads;
    return n;
}
