/* SPDX-License-Identifier: Apache-2.0
 * make.c: lengths -> items.
 *
 *   pass 1    what everything costs                   ─► the fair share of one worker, and from it the size of a cut
 *   pass 2    each sequence, tile and range of heads  ─► one item, or several cuts of its splits
 *   order     costly first */
#include <math.h>
#include <string.h>

#include "base/bits.h"
#include "plan/cost.h"

/* Where pass 2 stands. */
struct maker {
    const struct plan_shape *shape;
    struct plan_work *work;
    double cut; /* cost above which a unit is cut */
};

/* One tile of rows of one sequence, all kv heads. */
struct tile {
    struct attend_item item; /* head range of all heads, all visible splits */
    i64 n_keys;              /* visible */
};

i32 folio__plan_family(const struct plan_shape *shape, i64 q_len)
{
    return q_len <= shape->tiling.max_packed_rows / shape->group ? ATTEND_ROWS : ATTEND_TILE;
}

/* num_splits n: n // (n_keys // n) >= n pieces, fewer than 2 n. */
i64 folio__plan_split_tokens(const struct plan_shape *shape, i32 family, i64 kv_len)
{
    const i64 usual = family == ATTEND_ROWS ? shape->tiling.rows_split_tokens : shape->tiling.tile_split_tokens;
    const bool kernel_splits = usual < INT64_MAX;
    return kernel_splits && shape->num_splits > 0 ? max_i64(kv_len / shape->num_splits, 1) : usual;
}

/* Halves tiles until there are enough for the workers to end together. The rows of a tile share the packing of keys,
 * which is what halving costs: down to 512 packed rows for 8 tiles a worker, to 256 only for 4. */
i32 folio__plan_tile_rows(const struct plan_shape *shape)
{
    enum { CHEAP_ROWS = 512, CHEAP_TILES = 8, LEAST_ROWS = 256, LEAST_TILES = 4 };
    i32 rows = shape->tiling.tile_rows;
    if (shape->width == 1 || shape->may_share || shape->max_q_len == 0 ||
        folio__plan_family(shape, shape->max_q_len) == ATTEND_ROWS)
        return rows;
    for (i32 half = rows / 2; half > 0 && (i64)half * shape->group >= LEAST_ROWS; half /= 2) {
        const double n_tiles = (double)ceil_div(shape->n_tokens, min_i64(rows, shape->max_q_len)) * shape->n_kv_heads;
        if (n_tiles >= (double)shape->width * ((i64)half * shape->group < CHEAP_ROWS ? LEAST_TILES : CHEAP_TILES))
            break;
        rows = half;
    }
    return rows;
}

static i64 tile_rows(const struct plan_shape *shape, i32 family, i64 q_len)
{
    return family == ATTEND_ROWS ? q_len : min_i64(shape->tiling.tile_rows, q_len);
}

static struct tile tile_of(const struct plan_shape *shape, i64 seq, i64 q_token, i64 q_len, i64 kv_len, i64 row)
{
    const i32 family = folio__plan_family(shape, q_len);
    const i64 n_rows = min_i64(tile_rows(shape, family, q_len), q_len - row);
    const i64 split_tokens = folio__plan_split_tokens(shape, family, kv_len);
    const struct plan_keys keys = folio__plan_kept_keys(shape, seq, q_len, kv_len, row, row + n_rows);
    const i64 split_begin = keys.begin / split_tokens;
    return (
        struct tile){ .item = { .q_token = q_token,
                                .q_len = q_len,
                                .kv_len = kv_len,
                                .row_begin = row,
                                .n_rows = n_rows,
                                .split_begin = split_begin,
                                .n_splits = keys.begin < keys.end ? ceil_div(keys.end, split_tokens) - split_begin : 0,
                                .split_tokens = split_tokens,
                                .partial = -1,
                                .seq = (i32)seq,
                                .n_heads = shape->n_kv_heads,
                                .family = family,
                                .unit = -1 },
                      .n_keys = keys.end - keys.begin };
}

static double sequence_cost(const struct plan_shape *shape, i64 seq, i64 q_len, i64 kv_len)
{
    double cost = 0;
    i64 n_rows;
    for (i64 row = 0; row < q_len; row += n_rows) {
        const struct tile tile = tile_of(shape, seq, 0, q_len, kv_len, row);
        n_rows = tile.item.n_rows;
        cost += plan_cost(shape, tile.n_keys, n_rows, shape->n_kv_heads);
    }
    return cost;
}

void folio__plan_add_item(struct plan_work *work, const struct attend_item *item, double cost)
{
    assert(work->n_items < work->bounds.n_items);
    work->rank[work->n_items] = plan_rank(cost);
    work->items[work->n_items++] = *item;
}

/* unit, cut into items of a_cut splits each. */
static void add_cuts(struct maker *maker, struct attend_item unit, double cost, i64 a_cut, i64 n_items)
{
    struct plan_work *work = maker->work;
    const i64 rows_a_split = unit.n_heads * unit.n_rows * maker->shape->group;
    unit.unit = (i32)work->n_units;
    unit.partial = work->n_partial_rows;
    work->units[work->n_units++] = (struct plan_unit){ .whole = unit, .n_items = (i32)n_items };
    work->n_partial_rows += unit.n_splits * rows_a_split;
    work->n_cut_items += n_items;

    const i64 end = unit.split_begin + unit.n_splits;
    for (struct attend_item item = unit; item.split_begin < end; item.split_begin += a_cut) {
        item.n_splits = min_i64(a_cut, end - item.split_begin);
        item.partial = unit.partial + (item.split_begin - unit.split_begin) * rows_a_split;
        folio__plan_add_item(work, &item, cost * (double)item.n_splits / (double)unit.n_splits);
    }
}

static bool has_room(const struct plan_work *work, i64 n_cut_items, i64 n_splits, i64 rows_a_split)
{
    return work->n_units < work->bounds.n_units && work->n_cut_items + n_cut_items <= work->bounds.n_cut_items &&
           n_splits <= (work->bounds.n_partial_rows - work->n_partial_rows) / rows_a_split;
}

/* One range of heads of a tile. Without room for cuts it stays whole: slower on many threads, the same bits. */
static void add_unit(struct maker *maker, const struct attend_item *unit, i64 n_keys)
{
    const double cost = plan_cost(maker->shape, n_keys, unit->n_rows, unit->n_heads);
    const double pieces = cost / maker->cut;
    if (pieces > 1 && unit->n_splits > 1) {
        const i64 a_cut = max_i64((i64)((double)unit->n_splits / pieces), 1);
        const i64 n_items = ceil_div(unit->n_splits, a_cut);
        if (n_items > 1 &&
            has_room(maker->work, n_items, unit->n_splits, unit->n_heads * unit->n_rows * maker->shape->group)) {
            add_cuts(maker, *unit, cost, a_cut, n_items);
            return;
        }
    }
    folio__plan_add_item(maker->work, unit, cost);
}

/* kv heads of one unit: one for TILE; all for ROWS, unless there are too few splits to share. */
static i32 heads_of_unit(const struct maker *maker, const struct tile *tile)
{
    const i32 n_heads = maker->shape->n_kv_heads;
    if (tile->item.family == ATTEND_TILE)
        return 1;
    const double pieces = plan_cost(maker->shape, tile->n_keys, tile->item.n_rows, n_heads) / maker->cut;
    const double ranges = pieces / (double)max_i64(tile->item.n_splits, 1);
    if (ranges <= 1)
        return n_heads;
    return ranges >= n_heads ? 1 : (i32)ceil_div(n_heads, (i64)ceil(ranges));
}

static void add_sequence(struct maker *maker, i64 seq, i64 q_token, i64 q_len, i64 kv_len)
{
    i64 n_rows;
    for (i64 row = 0; row < q_len; row += n_rows) {
        const struct tile tile = tile_of(maker->shape, seq, q_token, q_len, kv_len, row);
        n_rows = tile.item.n_rows;
        const i32 a_unit = heads_of_unit(maker, &tile);
        struct attend_item unit = tile.item;
        for (unit.head_begin = 0; unit.head_begin < maker->shape->n_kv_heads; unit.head_begin += a_unit) {
            unit.n_heads = (i32)min_i64(a_unit, maker->shape->n_kv_heads - unit.head_begin);
            add_unit(maker, &unit, tile.n_keys);
        }
    }
}

/* Costly first, else as they were made: a stable sort by counting. */
static void order_items(struct plan_work *work)
{
    i32 begin[PLAN_RANKS + 1] = { 0 };
    for (i64 i = 0; i < work->n_items; i++)
        begin[PLAN_RANKS - work->rank[i]]++;
    for (i32 r = 1; r <= PLAN_RANKS; r++)
        begin[r] += begin[r - 1];
    for (i64 i = 0; i < work->n_items; i++)
        work->order[begin[PLAN_RANKS - 1 - work->rank[i]]++] = (i32)i;
}

void folio__plan_make(struct plan_work *work, const struct plan_shape *shape, const i64 *q_begin, const i64 *kv_lens)
{
    double cost = 0;
    work->n_items = work->n_units = work->n_cut_items = work->n_partial_rows = 0;
    folio__plan_find_groups(work, shape, q_begin, kv_lens);
    for (i64 seq = 0; seq < shape->batch; seq++)
        cost += sequence_cost(shape, seq, q_begin[seq + 1] - q_begin[seq], kv_lens[seq]);
    for (i64 i = 0; i < work->n_groups; i++) /* once for all but one of its members */
        cost -= (work->groups[i].n_members - 1) * plan_cost(shape, work->groups[i].tokens, 0, shape->n_kv_heads);

    const i32 n_workers =
        cost < (double)shape->width * WORTH_A_WORKER ? (i32)(cost / WORTH_A_WORKER) + 1 : shape->width;
    const double fair_cut = cost / ((double)n_workers * CUTS_A_WORKER);
    struct maker maker = { .shape = shape,
                           .work = work,
                           .cut = n_workers == 1 ? INFINITY : fmax(fair_cut, WORTH_A_WORKER) };
    for (i64 i = 0; i < work->n_groups; i++)
        folio__plan_add_group(work, shape, &work->groups[i], q_begin, kv_lens);
    for (i64 seq = 0; seq < shape->batch; seq++)
        if (work->n_groups == 0 || work->alike[seq] >= 0)
            add_sequence(&maker, seq, q_begin[seq], q_begin[seq + 1] - q_begin[seq], kv_lens[seq]);
    work->n_workers = (i32)min_i64(n_workers, work->n_items);
    order_items(work);
}
