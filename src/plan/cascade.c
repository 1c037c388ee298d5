/* SPDX-License-Identifier: Apache-2.0
 * cascade.c: a group of sequences with equal leading pages -> items.
 *
 *   keys of the group   [ piece 0 | piece 1 | ... ]          for the rows of all members, stacked: a tile of rows,
 *                                                            or, when they are few, one ROWS item with all heads
 *   keys of a member                    [ own 0 | own 1 ]    behind the shared ones, cut by its own length
 *   partials of a member   piece 0, piece 1 ..., own 0, own 1 ...   in this order: one unit, folded by the last to come
 *
 * What a piece holds depends on the group, never on threads. */
#include "base/bits.h"
#include "plan/cost.h"

static i64 n_pieces(const struct plan_group *group)
{
    return ceil_div(group->tokens, group->piece_tokens);
}

/* Rows of one item over the group's keys. */
static i64 rows_at_once(const struct plan_shape *shape, const struct plan_group *group, bool are_few)
{
    return are_few ? group->n_rows : shape->tiling.tile_rows;
}

/* A member's unit and its rows in the list; partials of pieces come before its own. */
static void add_rows(struct plan_work *work, const struct plan_shape *shape, const struct plan_group *group, i64 *row,
                     const struct attend_item *member, i64 n_own)
{
    const i64 head_rows = member->n_rows * shape->group;
    struct attend_item unit = *member;
    unit.split_begin = 0;
    unit.n_splits = n_pieces(group) + n_own;
    unit.partial = work->n_partial_rows;
    unit.unit = (i32)work->n_units;
    for (i64 i = 0; i < member->q_len; i++)
        work->shared_rows[(*row)++] = (struct shared_row){
            .token = member->q_token + i,
            .position = shape->align == ALIGN_TOP_LEFT ? i : i + member->kv_len - member->q_len,
            .partial = unit.partial + i * shape->group,
            .head_rows = head_rows,
            .unit = unit.unit,
        };
    assert(work->n_units < work->bounds.n_units);
    work->n_partial_rows += unit.n_splits * shape->n_kv_heads * head_rows;
    assert(work->n_partial_rows <= work->bounds.n_partial_rows);
    work->units[work->n_units++] = (struct plan_unit){ .whole = unit, .n_items = (i32)n_own };
}

/* Its unit, and an item for each piece of its own keys. */
static void add_member(struct plan_work *work, const struct plan_shape *shape, const struct plan_group *group,
                       struct attend_item member, i64 *row)
{
    const i64 usual = shape->tiling.rows_split_tokens;
    member.split_tokens = ceil_div(ceil_div(member.kv_len, PLAN_OWN_PIECES - 1), usual) * usual;
    const i64 first = group->tokens / member.split_tokens, end = ceil_div(member.kv_len, member.split_tokens);
    assert(end - first <= PLAN_OWN_PIECES);
    add_rows(work, shape, group, row, &member, end - first);
    const struct attend_item *unit = &work->units[work->n_units - 1].whole;
    member.unit = unit->unit;
    member.key_begin = group->tokens;
    member.n_splits = 1;
    for (i64 split = first; split < end; split++) {
        member.split_begin = split;
        member.partial =
            unit->partial + (n_pieces(group) + split - first) * member.n_heads * member.n_rows * shape->group;
        const i64 keys = min_i64((split + 1) * member.split_tokens, member.kv_len) -
                         max_i64(split * member.split_tokens, group->tokens);
        folio__plan_add_item(work, &member, plan_cost(shape, keys, member.n_rows, member.n_heads));
    }
}

/* Every unit that has rows in the item waits for it. */
static void add_shared_item(struct plan_work *work, const struct plan_shape *shape, const struct attend_item *item)
{
    const struct shared_row *rows = work->shared_rows + item->rows - 1;
    for (i64 i = 0; i < item->n_rows; i++)
        if (i == 0 || rows[i].unit != rows[i - 1].unit)
            work->units[rows[i].unit].n_items++;
    const i64 keys = min_i64(item->split_tokens, item->kv_len - item->split_begin * item->split_tokens);
    folio__plan_add_item(work, item, plan_cost(shape, keys, item->n_rows, item->n_heads));
}

static void add_pieces(struct plan_work *work, const struct plan_shape *shape, const struct plan_group *group)
{
    const bool are_few = group->n_rows <= shape->tiling.max_packed_rows / shape->group;
    const i64 at_once = rows_at_once(shape, group, are_few);
    const i32 heads = are_few ? shape->n_kv_heads : 1;
    for (i64 row = 0; row < group->n_rows; row += at_once)
        for (i64 piece = 0; piece < n_pieces(group); piece++)
            for (i32 head = 0; head < shape->n_kv_heads; head += heads) {
                const i64 n_rows = min_i64(at_once, group->n_rows - row);
                const struct attend_item item = { .q_len = n_rows,
                                                  .kv_len = group->tokens,
                                                  .n_rows = n_rows,
                                                  .split_begin = piece,
                                                  .n_splits = 1,
                                                  .split_tokens = group->piece_tokens,
                                                  .seq = work->members[group->member_begin],
                                                  .head_begin = head,
                                                  .n_heads = heads,
                                                  .family = are_few ? ATTEND_ROWS : ATTEND_TILE,
                                                  .unit = -1,
                                                  .rows = (i32)(group->row_begin + row + 1) };
                add_shared_item(work, shape, &item);
            }
}

void folio__plan_add_group(struct plan_work *work, const struct plan_shape *shape, const struct plan_group *group,
                           const i64 *q_begin, const i64 *kv_lens)
{
    i64 row = group->row_begin;
    for (i32 i = 0; i < group->n_members; i++) {
        const i32 seq = work->members[group->member_begin + i];
        const i64 q_len = q_begin[seq + 1] - q_begin[seq];
        add_member(work, shape, group,
                   (struct attend_item){ .q_token = q_begin[seq],
                                         .q_len = q_len,
                                         .kv_len = kv_lens[seq],
                                         .n_rows = q_len,
                                         .seq = seq,
                                         .n_heads = shape->n_kv_heads,
                                         .family = ATTEND_ROWS },
                   &row);
    }
    add_pieces(work, shape, group);
}
