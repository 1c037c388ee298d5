/* SPDX-License-Identifier: Apache-2.0
 * loader.cuh: producer warps: pages -> slots of a ring, through a page table.
 *
 * Box loader: lane j knows the page of the j-th box of a window of 32, the next window's ids are already on their
 * way, and issues that box itself. Fine loader (page sizes that are no multiple of 8): the boxes that fit into a tile
 * whole, and the tokens before and behind them one by one. Gather loader (strides that boxes can't take, devices
 * without them): 16-byte copies, token by token. */
#pragma once
#include "kernel/cuda/device/error.cuh"
#include "kernel/cuda/device/tiles.cuh"

struct tensor_maps {
    struct tensor_map box;
#if CONFIG_LOADER == LOAD_FINE
    struct tensor_map token; /* the same with boxes of one token */
#endif
};

struct source { /* K or V */
    const struct pages_view *pages;
    const struct table_view *table;
    const struct tensor_maps *maps;
    struct ring *ring;
    u8 *slots;       /* [n_slots][TILE][lines][LINE] shared */
    i32 lines, part; /* part: which of PRODUCERS parts of every tile */
    i32 code;        /* of a bad page */
    i32 head, n_slots, box_shift, box_rows, n_windows;
    u32 page_size, box_inverse; /* 2^16 / box_rows, up */
    struct cuda_error *error;
};

/* A page table entry on its way: nothing looks at low and high before it is needed. */
struct entry {
    u32 low, high;
    u32 column;
    i32 slot; /* in the page; -1 = none was asked for */
};

/* Lines of a token. */
DEVICE i32 lines_of(const struct source *s)
{
    return K_LINES == V_LINES ? K_LINES : s->lines;
}

struct page_slot {
    i32 id, slot; /* id -1 = not a page (reported), or none was asked for */
};

DEVICE i64 table_row(const struct table_view *table, i32 seq)
{
    return table->indptr ? load_index(table->indptr, table->indptr_is_i64, seq) : (i64)seq * table->row_stride;
}

DEVICE struct entry entry_load(const struct source *s, i64 row, i32 token, i32 behind)
{
    struct entry e = { 0, 0, 0, -1 };
    if (token >= behind)
        return e;
    e.column = (u32)token / s->page_size;
    const i64 at = row + e.column;
    const u32 *words = (const u32 *)s->table->ids + (s->table->ids_are_i64 ? 2 * at : at);
    e.low = words[0];
    if (s->table->ids_are_i64)
        e.high = words[1];
    e.slot = (i32)((u32)token - e.column * s->page_size);
    return e;
}

DEVICE struct page_slot entry_use(const struct source *s, i32 seq, const struct entry *e)
{
    struct page_slot p = { -1, e->slot };
    if (e->slot < 0)
        return p;
    const i64 id = s->table->ids_are_i64 ? (i64)((u64)e->high << 32 | e->low) : (i64)(i32)e->low;
    if (id >= 0 && id < s->pages->n_pages)
        p.id = (i32)id;
    else
        report_error(s->error, s->code, seq, e->column, id);
    return p;
}

#if CONFIG_LOADER == LOAD_BOXES
/* Box `which` of a tile: whole, or a column of 64 elements at a time. */
DEVICE void load_box(const struct source *s, const struct page_slot *at, i32 which, u64 *full, i32 slot, u64 policy)
{
    const u32 tile = shared_address(s->slots + slot * (TILE * lines_of(s) * LINE));
    const u32 first = tile + (u32)((which << s->box_shift) * (HAS_COLUMNS ? 1 : lines_of(s)) * LINE);
    if (!HAS_COLUMNS)
        box_5d(first, &s->maps->box, full, at->slot, s->head, at->id, policy);
    for (i32 line = 0; line < (HAS_COLUMNS ? lines_of(s) : 0); line++)
        column_box_5d(first + (u32)(line * TILE * LINE), &s->maps->box, full, at->slot, line, s->head, at->id, policy);
}

DEVICE void load_share(const struct source *s, const struct share *share, struct place *place, u64 policy)
{
    const i32 lane = threadIdx.x & 31, box_rows = 1 << s->box_shift, box_bytes = box_rows * lines_of(s) * LINE;
    const struct unit *u = &share->unit;
    const i64 row = table_row(s->table, u->seq);
    i32 window = -1;
    struct page_slot here = { -1, 0 };
    struct entry next = { 0, 0, 0, -1 };
    for (i32 leaf = share->begin; leaf < share->end; leaf++) {
        const struct tiles tiles = tiles_of(&u->keys, u->leaf, leaf);
        for (i32 token = tiles.begin; token < tiles.end; token += TILE) {
            const i32 box = token >> s->box_shift;
            const i32 n_boxes = (min(TILE, tiles.end - token) + box_rows - 1) >> s->box_shift;
            if (box / 32 != window) {
                if (window < 0 || box / 32 != window + 1)
                    next = entry_load(s, row, (box / 32 * 32 + lane) << s->box_shift, u->n);
                window = box / 32;
                const struct entry after = entry_load(s, row, ((window + 1) * 32 + lane) << s->box_shift, u->n);
                here = entry_use(s, u->seq, &next);
                next = after;
            }
            const i32 mine = lane - box % 32;
            const bool is_mine = mine >= 0 && mine < n_boxes;
            const u32 good = __ballot_sync(~0u, is_mine && here.id >= 0);
            u64 *full = &s->ring->full[place->slot];
            barrier_wait(&s->ring->empty[place->slot], place->phase ^ 1);
            if (lane == 0) {
                s->ring->is_bad[place->slot][0] = __popc(good) != n_boxes;
                barrier_expect(full, (u32)(__popc(good) * box_bytes));
            }
            __syncwarp();
            if (is_mine && here.id >= 0)
                load_box(s, &here, mine, full, place->slot, policy);
            place_next(place, s->n_slots);
        }
    }
}
#elif CONFIG_LOADER == LOAD_FINE
/* A tile in pieces, in order: n_head tokens of a box that begins before it, n_boxes whole boxes, and tokens of the box
 * that would end behind it. */
struct pieces {
    i32 begin, n_head, n_boxes, n;
};

/* x / box_rows where x <= 2 * TILE. */
DEVICE i32 div_rows(const struct source *s, i32 x)
{
    return (i32)((u32)x * s->box_inverse >> 16);
}

DEVICE struct pieces pieces_of(const struct source *s, i32 begin, i32 end)
{
    const i32 rows = s->box_rows, n_tokens = min(TILE, end - begin), into = (i32)((u32)begin % (u32)rows);
    struct pieces p = { begin, min(into ? rows - into : 0, n_tokens), 0, 0 };
    const i32 rest = n_tokens - p.n_head;
    p.n_boxes = div_rows(s, min(TILE - p.n_head, rest + rows - 1));
    p.n = p.n_head + p.n_boxes + max(rest - p.n_boxes * rows, 0);
    return p;
}

/* 32 pieces of each producer, one a lane. */
struct window {
    struct tiles tiles;
    struct pieces pieces;
    i32 leaf, token, index;
};

/* False when the unit has no more. */
DEVICE bool window_next(struct window *w, const struct source *s, const struct unit *u, i32 end)
{
    if (++w->index < s->n_windows)
        return true;
    w->index = 0;
    w->token += TILE;
    while (w->token >= w->tiles.end) {
        if (++w->leaf >= end)
            return false;
        w->tiles = tiles_of(&u->keys, u->leaf, w->leaf);
        w->token = w->tiles.begin;
    }
    w->pieces = pieces_of(s, w->token, w->tiles.end);
    return true;
}

DEVICE i32 my_piece(const struct source *s, const struct window *w)
{
    return (w->index * 32 + (i32)(threadIdx.x & 31)) * PRODUCERS + s->part;
}

/* The first token of piece i, from the tile's first on. */
DEVICE i32 piece_at(const struct source *s, const struct pieces *p, i32 i)
{
    return i + clamp(i - p->n_head, 0, p->n_boxes) * (s->box_rows - 1);
}

DEVICE struct entry piece_load(const struct source *s, i64 row, const struct window *w)
{
    const i32 i = my_piece(s, w), token = w->token + piece_at(s, &w->pieces, i);
    return entry_load(s, row, token, i < w->pieces.n ? 0x7fffffff : 0);
}

/* A window's boxes. A page that is none is read as page 0: nothing of the sequence's result will stay. */
DEVICE void copy_window(const struct source *s, i32 seq, const struct window *w, const struct entry *e,
                        const struct place *place, u64 policy)
{
    u64 *full = &s->ring->full[place->slot];
    const i32 i = my_piece(s, w), line_bytes = lines_of(s) * LINE;
    const bool is_mine = i < w->pieces.n, is_box = (u32)(i - w->pieces.n_head) < (u32)w->pieces.n_boxes;
    const struct page_slot at = entry_use(s, seq, e);
    const i32 n_pieces = __popc(__ballot_sync(~0u, is_mine)), n_boxes = __popc(__ballot_sync(~0u, is_box));
    const bool is_bad = __any_sync(~0u, is_mine && at.id < 0);
    if (w->index == 0)
        barrier_wait(&s->ring->empty[place->slot], place->phase ^ 1);
    if ((threadIdx.x & 31) == 0) {
        u8 *flag = &s->ring->is_bad[place->slot][s->part];
        *flag = is_bad || (w->index > 0 && *flag);
        barrier_expect(full, (u32)((n_pieces + n_boxes * (s->box_rows - 1)) * line_bytes));
    }
    __syncwarp();
    const u32 to = shared_address(s->slots) + (u32)(place->slot * TILE + piece_at(s, &w->pieces, i)) * (u32)line_bytes;
    if (is_mine)
        fine_box_5d(to, is_box ? &s->maps->box : &s->maps->token, full, at.slot, s->head, max(at.id, 0), policy);
}

DEVICE void load_share(const struct source *s, const struct share *share, struct place *place, u64 policy)
{
    const struct unit *u = &share->unit;
    const i64 row = table_row(s->table, u->seq);
    struct window next = { { 0, 0 }, { 0, 0, 0, 0 }, share->begin - 1, 0, s->n_windows };
    bool goes_on = window_next(&next, s, u, share->end);
    struct entry fetched = piece_load(s, row, &next);
    while (goes_on) {
        const struct window here = next;
        const struct entry entry = fetched;
        goes_on = window_next(&next, s, u, share->end);
        if (goes_on)
            fetched = piece_load(s, row, &next);
        copy_window(s, u->seq, &here, &entry, place, policy);
        if (here.index == s->n_windows - 1)
            place_next(place, s->n_slots);
    }
}
#else
/* A warp's tokens of a tile: lane i knows tokens i, i + 32, ... of them. */
enum { WARP_TOKENS = TILE / PRODUCERS, LANE_TOKENS = WARP_TOKENS / 32 };

DEVICE void load_entries(struct entry entries[LANE_TOKENS], const struct source *s, i64 row, const struct tiles *tiles,
                         i32 token)
{
#pragma unroll
    for (i32 i = 0; i < LANE_TOKENS; i++)
        entries[i] = entry_load(s, row, token + s->part * WARP_TOKENS + i * 32 + (i32)(threadIdx.x & 31), tiles->end);
}

/* Copies of 32 tokens from `first` of the tile on; offset: of this lane's token, -1 = none. */
DEVICE void copy_rows(const struct source *s, u32 slot, i64 offset, i32 first)
{
    const i32 lane = threadIdx.x & 31, pieces = lines_of(s) * 8;
#pragma unroll(HAS_COLUMNS ? 2 : 4)
    for (i32 i = 0; i < pieces; i++) {
        const i32 at = i * 32 + lane, token = at / pieces, piece = at % pieces, line = first + token;
        const i64 from = __shfl_sync(~0u, offset, token);
        if (from >= 0)
            copy_16(slot + (u32)(piece / 8 * TILE + line) * LINE + (u32)(((piece ^ line) & 7) * 16),
                    s->pages->data + from + piece * 16);
    }
}

/* True when a row of the tile has no page. */
DEVICE bool copy_tile(const struct source *s, i32 seq, const struct entry entries[LANE_TOKENS], i32 slot)
{
    bool is_bad = false;
#pragma unroll
    for (i32 i = 0; i < LANE_TOKENS; i++) {
        const struct page_slot row = entry_use(s, seq, &entries[i]);
        is_bad |= row.id < 0 && entries[i].slot >= 0;
        const i64 offset =
            row.id * s->pages->page_stride + row.slot * s->pages->slot_stride + s->head * s->pages->head_stride;
        copy_rows(s, shared_address(s->slots + slot * (TILE * lines_of(s) * LINE)), row.id < 0 ? -1 : offset,
                  s->part * WARP_TOKENS + i * 32);
    }
    return __any_sync(~0u, is_bad);
}

DEVICE void load_share(const struct source *s, const struct share *share, struct place *place, u64 policy)
{
    const struct unit *u = &share->unit;
    const i64 row = table_row(s->table, u->seq);
    struct entry next[LANE_TOKENS], here[LANE_TOKENS];
    struct tiles tiles = tiles_of(&u->keys, u->leaf, share->begin);
    load_entries(next, s, row, &tiles, tiles.begin);
    for (i32 leaf = share->begin; leaf < share->end; leaf++) {
        tiles = tiles_of(&u->keys, u->leaf, leaf);
        for (i32 token = tiles.begin; token < tiles.end; token += TILE) {
#pragma unroll
            for (i32 i = 0; i < LANE_TOKENS; i++)
                here[i] = next[i];
            const struct tiles after = tiles_of(&u->keys, u->leaf, leaf + 1);
            if (token + TILE < tiles.end)
                load_entries(next, s, row, &tiles, token + TILE);
            else if (leaf + 1 < share->end)
                load_entries(next, s, row, &after, after.begin);
            barrier_wait(&s->ring->empty[place->slot], place->phase ^ 1);
            const bool is_bad = copy_tile(s, u->seq, here, place->slot);
            copies_arrive(&s->ring->full[place->slot]);
            if ((threadIdx.x & 31) == 0) {
                s->ring->is_bad[place->slot][s->part] = is_bad;
                barrier_arrive(&s->ring->full[place->slot]);
            }
            place_next(place, s->n_slots);
        }
    }
}
#endif
