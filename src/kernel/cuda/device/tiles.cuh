/* SPDX-License-Identifier: Apache-2.0
 * tiles.cuh: rings of tiles of K and of V between producers and consumers, of either kernel that has them.
 *
 * The including kernel says before: TILE, tokens of a tile; PRODUCERS, warps that fill K's ring and as many V's;
 * MAX_SLOTS, LINE, K_LINES, V_LINES, K_BYTES, V_BYTES; and HAS_COLUMNS: a tile lies as columns of 64 elements of all
 * its tokens, not box by box. */
#pragma once
#include "kernel/cuda/device/line.cuh"
#include "kernel/cuda/device/ptx.cuh"

struct ring {
    u64 full[MAX_SLOTS], empty[MAX_SLOTS];
    u8 is_bad[MAX_SLOTS][PRODUCERS]; /* a page id of the tile is none */
};

/* A place in a ring of n slots. */
struct place {
    i32 slot;
    u32 phase; /* of full; of empty it is the other one */
};

DEVICE void place_next(struct place *p, i32 n)
{
    if (++p->slot == n) {
        p->slot = 0;
        p->phase ^= 1;
    }
}

/* Tiles of a leaf that hold a visible key: tokens begin, begin + TILE, ... < end. */
struct tiles {
    i32 begin, end;
};

DEVICE struct tiles tiles_of(const struct keys *keys, i32 leaf_keys, i32 leaf)
{
    const i32 first = leaf * leaf_keys, behind = first + leaf_keys;
    struct tiles t;
    t.begin = first + max(keys->begin - first, 0) / TILE * TILE;
    t.end = min(behind, keys->end);
    return t;
}
