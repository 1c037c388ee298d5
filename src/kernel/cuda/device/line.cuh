/* SPDX-License-Identifier: Apache-2.0
 * line.cuh: the line of work (work.h): which leaves a sequence and a row tile have. The plan kernel cuts it, the
 * attention kernels walk it; both by these functions. */
#pragma once
#include "kernel/cuda/device/numbers.cuh"
#include "kernel/cuda/device/work.h"

/* Of a sequence of many rows: a power of two. Up to 16 leaves, which are one node: fewer, the more tiles there are to
 * spread. */
DEVICE i32 wide_leaf(const struct cuda_span *span, i32 m, i32 n)
{
    const i32 tiles = (i32)(((i64)m * span->group + WIDE_ROWS - 1) / WIDE_ROWS);
    const i32 most = max(NODE_LEAVES / max(tiles, 1), 1), even = (n + most - 1) / most;
    const i32 least = n <= 512 ? 128 : n <= 2048 ? 256 : 512;
    return even <= least ? least : 1 << (32 - __clz(even - 1));
}

/* Keys of a leaf: a function of the sequence's own length only. Short sequences get short leaves, so that one sequence
 * alone still spreads over the machine. */
DEVICE i32 leaf_tokens(const struct cuda_span *span, i32 m, i32 n)
{
    if (span->is_wide)
        return wide_leaf(span, m, n);
    return min(max(n <= 512 ? 64 : n <= 1024 ? 128 : n <= 4096 ? 256 : 512, span->min_leaf), span->max_leaf);
}

/* log2 of the leaves of a node. A unit of up to 64 leaves is one node of up to 16 or up to 16 nodes of 4: so where
 * groups hold whole nodes, they put up to 16 parts together in one step, not two. */
DEVICE i32 node_shift(const struct cuda_span *span, i32 n, i32 leaf)
{
    const bool is_short = !span->is_wide && n > SHORT_UNIT && n <= (NODE_LEAVES << SHORT_NODE_SHIFT) * leaf;
    return is_short ? SHORT_NODE_SHIFT : NODE_SHIFT;
}

/* Keys that at least one of the rows first .. last sees through causal and window. */
DEVICE struct keys visible_keys(const struct cuda_span *span, i32 m, i32 n, i32 first, i32 last)
{
    i64 begin = 0, end = n;
    const i64 shift = span->align == ALIGN_BOTTOM_RIGHT ? (i64)n - m : 0;
    if (span->causal == CAUSAL_TOP_LEFT)
        end = min(end, (i64)last + 1);
    else if (span->causal == CAUSAL_BOTTOM_RIGHT)
        end = min(end, (i64)last + n - m + 1);
    if (span->window_left >= 0)
        begin = max(begin, first + shift - span->window_left);
    if (span->window_right >= 0)
        end = min(end, last + shift + span->window_right + 1);
    struct keys keys = { (i32)clamp64(begin, 0, n), (i32)clamp64(end, 0, n) };
    return keys;
}

DEVICE bool key_is_visible(const struct cuda_span *span, i32 m, i32 n, i32 row, i32 key)
{
    const struct keys keys = visible_keys(span, m, n, row, row);
    return key >= keys.begin && key < keys.end;
}

/* A sequence on the line: n_tiles * n_leaves places, of which a tile uses those of its visible keys. */
struct line {
    i32 leaf, shift;    /* keys of a leaf, and their log2 */
    i32 base, n_leaves; /* leaves base .. base + n_leaves - 1 hold all that any tile sees; n_leaves >= 1 */
    i32 n_tiles;        /* 0 when there are no rows */
};

DEVICE i32 last_row(const struct cuda_span *span, i32 m, i32 tile)
{
    return m <= 1 ? m - 1 : min(((tile + 1) * span->tile_rows - 1) / span->group, m - 1);
}

/* Tiles of m rows, in all passes. Here and below what is so nearly always needs no division: they were most of the time
 * that a producer takes from one unit to the next. */
DEVICE i32 tiles_of_rows(const struct cuda_span *span, i32 m)
{
    const i64 packed = (i64)m * span->group;
    return packed <= span->tile_rows ? packed > 0 : (i32)divide(packed + span->tile_rows - 1, span->tile_rows);
}

/* Which tile of a round of n_passes is a pass's. Of many rows every second round goes the other way: then passes of a
 * causal sequence, whose later tiles see more, have equal work. */
DEVICE i32 tile_in_round(const struct cuda_span *span, i32 pass, i32 round)
{
    return span->is_wide && round % 2 ? span->n_passes - 1 - pass : pass;
}

DEVICE i32 tiles_of_pass(const struct cuda_span *span, i32 pass, i32 tiles)
{
    const i32 whole = tiles / span->n_passes;
    return whole + (tile_in_round(span, pass, whole) < tiles - whole * span->n_passes);
}

DEVICE struct line line_of(const struct cuda_span *span, const struct cuda_seq *s)
{
    const i32 m = s->q_len, n = s->kv_len, tiles = tiles_of_rows(span, m);
    struct line line;
    line.leaf = leaf_tokens(span, m, n);
    line.shift = 31 - __clz(line.leaf);
    line.n_tiles = span->n_passes == 1 ? tiles : tiles_of_pass(span, s->pass, tiles);
    line.base = 0;
    line.n_leaves = 1;
    if (line.n_tiles == 0)
        return line;
    const struct keys head = visible_keys(span, m, n, 0, last_row(span, m, 0));
    const struct keys tail = visible_keys(span, m, n, m - 1, m - 1);
    line.base = min(head.begin, max(n - 1, 0)) >> line.shift;
    const i32 end = (max(head.end, tail.end) + line.leaf - 1) >> line.shift;
    line.n_leaves = max(end - line.base, 1);
    return line;
}

/* Which tile of its pass a place on the sequence's line is in. */
DEVICE i32 tile_at(const struct line *line, i64 pos)
{
    return pos < line->n_leaves ? 0 : (i32)divide(pos, line->n_leaves);
}

/* index: of the tile in its pass. */
DEVICE struct unit unit_of(const struct cuda_span *span, const struct cuda_seq *s, i32 seq, i32 index)
{
    const struct line line = line_of(span, s);
    const i32 tile = span->n_passes * index + tile_in_round(span, s->pass, index);
    struct unit u;
    u.seq = seq;
    u.tile = tile;
    u.m = s->q_len;
    u.n = s->kv_len;
    u.q_begin = s->q_begin;
    u.is_poisoned = s->is_poisoned;
    u.row_begin = tile * span->tile_rows;
    u.n_rows = min(span->tile_rows, s->q_len * span->group - u.row_begin);
    u.keys = visible_keys(span, s->q_len, s->kv_len, u.row_begin == 0 ? 0 : u.row_begin / span->group,
                          last_row(span, s->q_len, tile));
    u.leaf = line.leaf;
    u.leaf_begin = min(max(u.keys.begin >> line.shift, line.base), line.base + line.n_leaves - 1);
    u.leaf_end = min((u.keys.end + line.leaf - 1) >> line.shift, line.base + line.n_leaves);
    u.leaf_end = max(u.leaf_end, u.leaf_begin + 1);
    u.node_shift = node_shift(span, s->kv_len, line.leaf);
    u.place = (i64)index * line.n_leaves - line.base;
    return u;
}

/* The next share of a group's range. Both kinds of kernels walk by it, only the plan kernel takes the first step. */
DEVICE struct share walk_next(struct walk *walk, const struct cuda_span *span, const struct cuda_work *work)
{
    struct share share;
    share.begin = share.end = 0;
    while (walk->seq < walk->end_seq || (walk->seq == walk->end_seq && walk->pos < walk->end_pos)) {
        const struct line line = line_of(span, &walk->at);
        const i32 index = tile_at(&line, walk->pos);
        if (index >= line.n_tiles) {
            walk->pos = 0;
            if (++walk->seq < work->batch * span->n_passes && (walk->seq < walk->end_seq || walk->end_pos > 0))
                walk->at = work->seqs[walk->seq];
            continue;
        }
        share.unit = unit_of(span, &walk->at, walk->seq - walk->at.pass * work->batch, index);
        const i64 stop = walk->seq == walk->end_seq ? walk->end_pos : (i64)line.n_tiles * line.n_leaves;
        share.begin = (i32)max((i64)share.unit.leaf_begin, walk->pos - share.unit.place);
        share.end = (i32)min((i64)share.unit.leaf_end, stop - share.unit.place);
        walk->pos = (i64)(index + 1) * line.n_leaves;
        if (share.begin < share.end)
            break;
    }
    return share;
}

DEVICE bool share_is_none(const struct share *share)
{
    return share->begin >= share->end;
}
