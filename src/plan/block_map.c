/* SPDX-License-Identifier: Apache-2.0
 * block_map.c: where causal, window, mask mods and block masks meet: the keys of a tile of rows that are worth an item.
 *
 *   keys            0 ....................................... kv_len
 *   causal, window       [##################################)           one interval a row
 *   block mask           [###)    [########)      [####)
 *   mask_mod                 [..some..][all][..some..]                  by interval analysis of its expression
 *   items                         [#########)                           the hull; kernels skip what is empty inside */
#include "base/bits.h"
#include "mod/keep.h"
#include "plan/plan.h"

struct plan_keys folio__plan_kept_keys(const struct plan_shape *shape, i64 seq, i64 q_len, i64 kv_len, i64 row_begin,
                                       i64 row_end)
{
    enum { QUANTUM = 128 }; /* keys; a finer hull would save nothing: splits are longer */
    const struct plan_keys visible = folio__plan_visible_keys(shape, q_len, kv_len, row_begin, row_end);
    if (visible.begin >= visible.end || (!shape->mask_mod && !shape->block_mask))
        return visible;
    const struct keep keep = { .mask_mod = shape->mask_mod,
                               .block_mask = shape->block_mask,
                               .ranges = shape->ranges,
                               .captures_are_fixed = false,
                               .b = seq,
                               .q_len = q_len,
                               .kv_len = kv_len,
                               .group = shape->group,
                               .pos_offset = shape->align == ALIGN_TOP_LEFT ? 0 : kv_len - q_len,
                               .row_begin = row_begin,
                               .row_end = row_end,
                               .head_begin = 0,
                               .head_end = (i64)shape->n_kv_heads * shape->group };
    struct plan_keys kept;
    if (!folio__keep_hull(&keep, visible.begin, visible.end, QUANTUM, &kept.begin, &kept.end))
        return (struct plan_keys){ visible.begin, visible.begin };
    return kept;
}
