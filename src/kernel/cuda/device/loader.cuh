/* SPDX-License-Identifier: Apache-2.0
 * loader.cuh: producer warps: pages -> slots of a ring, through a page table.
 *
 * Box loader: lane j knows the page of the j-th box of a window of 32, the next window's ids are already on their
 * way, and issues that box itself. Gather loader (strides or page sizes that boxes can't take): 16-byte copies,
 * token by token. */
#pragma once
#include "kernel/cuda/device/error.cuh"
#include "kernel/cuda/device/ring.cuh"

struct source { /* K or V; lines and code are constants where this is inlined */
    const struct pages_view *pages;
    const struct table_view *table;
    const struct tensor_map *map;
    struct ring *ring;
    u8 *slots; /* [n_slots][TILE][lines][LINE] shared */
    u32 page_size;
    struct cuda_error *error;
    i32 head, n_slots, lines, box_shift, code;
    i32 part; /* gather: which of PRODUCERS parts of every tile */
};

/* A page table entry on its way: nothing looks at low and high before it is needed. */
struct entry {
    u32 low, high;
    i32 token; /* -1 = none was asked for */
};

struct page_slot {
    i32 id, slot; /* id -1 = not a page (reported), or none was asked for */
};

DEVICE i64 table_row(const struct table_view *table, i32 seq)
{
    return table->indptr ? load_index(table->indptr, table->indptr_is_i64, seq) : (i64)seq * table->row_stride;
}

DEVICE struct entry entry_load(const struct source *s, i64 row, i32 token, i32 behind)
{
    struct entry e = { 0, 0, -1 };
    if (token >= behind)
        return e;
    const i64 at = row + (u32)token / s->page_size;
    const u32 *words = (const u32 *)s->table->ids + (s->table->ids_are_i64 ? 2 * at : at);
    e.low = words[0];
    if (s->table->ids_are_i64)
        e.high = words[1];
    e.token = token;
    return e;
}

DEVICE struct page_slot entry_use(const struct source *s, i32 seq, const struct entry *e)
{
    struct page_slot p = { -1, 0 };
    if (e->token < 0)
        return p;
    const i64 id = s->table->ids_are_i64 ? (i64)((u64)e->high << 32 | e->low) : (i64)(i32)e->low;
    const u32 column = (u32)e->token / s->page_size;
    p.slot = (i32)((u32)e->token - column * s->page_size);
    if (id >= 0 && id < s->pages->n_pages)
        p.id = (i32)id;
    else
        report_error(s->error, s->code, seq, column, id);
    return p;
}

#if !CONFIG_GATHER
DEVICE void load_share(const struct source *s, const struct share *share, struct place *place, u64 policy)
{
    const i32 lane = threadIdx.x & 31, box_rows = 1 << s->box_shift, box_bytes = box_rows * s->lines * LINE;
    const struct unit *u = &share->unit;
    const i64 row = table_row(s->table, u->seq);
    i32 window = -1;
    struct page_slot here = { -1, 0 };
    struct entry next = { 0, 0, -1 };
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
                box_5d(shared_address(s->slots + place->slot * (TILE * s->lines * LINE)) + (u32)(mine * box_bytes),
                       s->map, full, here.slot, s->head, here.id, policy);
            place_next(place, s->n_slots);
        }
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
    const i32 lane = threadIdx.x & 31, pieces = s->lines * 8;
#pragma unroll 8
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
        is_bad |= row.id < 0 && entries[i].token >= 0;
        const i64 offset =
            row.id * s->pages->page_stride + row.slot * s->pages->slot_stride + s->head * s->pages->head_stride;
        copy_rows(s, shared_address(s->slots + slot * (TILE * s->lines * LINE)), row.id < 0 ? -1 : offset,
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
