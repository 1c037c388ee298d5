/* SPDX-License-Identifier: Apache-2.0
 * ahead.cuh: a block's first tiles, asked into the L2 while the grid before still runs (programmatic dependent launch).
 *
 * A block may start when another of the grid before has ended; what that grid writes it must not read. But nothing
 * that the L2 is asked for can be wrong: there a later write finds it. So a warp that has nothing to do yet reads the
 * plan's record and page ids, past the L1, only to know what to ask for. They may be old, or never written: all is
 * checked against its bounds, and the producers read it again once they may. */
#pragma once
#include "kernel/cuda/device/ring.cuh"
#include "kernel/cuda/device/loader.cuh"

enum { AHEAD_TOKENS = 512 }; /* 256 KB of K and V at head_dim 128, 34 MB in all: a tile more than the ring has */

#if CONFIG_LOADER != LOAD_GATHER
/* The first share of the block, as far as it matters here; none: n <= 0. */
struct first_keys {
    i32 seq, begin, end;
};

DEVICE struct first_keys first_keys_of(const struct cuda_start *start, const struct cuda_work *work)
{
    const struct share *share = &start->first;
    const i32 begin = __ldcg(&share->begin), end = __ldcg(&share->end), leaf = __ldcg(&share->unit.leaf);
    const i32 from = __ldcg(&share->unit.keys.begin), behind = __ldcg(&share->unit.keys.end);
    struct first_keys keys = { __ldcg(&share->unit.seq), 0, 0 };
    keys.begin = max(begin * leaf, from);
    keys.end = min(min(end * leaf, behind), keys.begin + AHEAD_TOKENS);
    if (keys.seq < 0 || keys.seq >= work->batch || begin >= end || keys.begin < 0)
        keys.end = 0;
    return keys;
}

DEVICE i64 id_now(const struct table_view *table, i64 at)
{
    return table->ids_are_i64 ? __ldcg((const i64 *)table->ids + at) : __ldcg((const i32 *)table->ids + at);
}

/* By one warp, a lane a box. is_late: the grid before has ended, and the producers are on their way. */
DEVICE void ask_ahead(const struct attend_args *a, const struct cuda_work *work, const struct cuda_decode *decode,
                      const struct tensor_map *box, bool is_v, const volatile u32 *is_late)
{
    const struct first_keys keys = first_keys_of(&work->starts[(i32)blockIdx.x / a->n_kv_heads], work);
    const struct table_view *table = is_v ? &a->v_table : &a->k_table;
    const i64 n_ids = is_v ? decode->n_v_ids : decode->n_k_ids;
    const i32 rows = CONFIG_LOADER == LOAD_FINE ? decode->box_rows : 1 << decode->box_shift;
    if (keys.begin >= keys.end)
        return;
    const i64 row = table->indptr ? __ldcg((const i64 *)table->indptr + keys.seq) : (i64)keys.seq * table->row_stride;
    for (i32 token = (keys.begin / rows + (i32)(threadIdx.x & 31)) * rows; token < keys.end; token += 32 * rows) {
        const i32 column = (i32)((u32)token / (u32)a->page_size);
        if ((u64)(row + column) >= (u64)n_ids)
            continue;
        const i64 id = id_now(table, row + column);
        const i32 slot = token - column * (i32)a->page_size;
        if ((u64)id < (u64)(is_v ? a->v.n_pages : a->k.n_pages) && !*is_late)
            box_ahead_5d(box, CONFIG_LOADER == LOAD_FINE, slot, (i32)blockIdx.x % a->n_kv_heads, (i32)id);
    }
}
#endif
