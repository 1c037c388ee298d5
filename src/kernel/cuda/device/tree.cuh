/* SPDX-License-Identifier: Apache-2.0
 * tree.cuh: folding leaves into nodes and nodes into a result, across thread blocks, in one fixed order.
 *
 * A part is (m, l, o) a row: m the largest base-2 score, l the sum of 2^(s - m), o the sum of 2^(s - m) v.
 * Slots of one (group, kv head), for what is cut between groups:
 *
 *   0 .. 15            leaves of the node cut where the group begins, by leaf % 16
 *   SLOT_PREFIX        the leading leaves, folded, of the node cut where the group ends
 *   SLOT_NODES + i     whole nodes of the unit cut where the group begins, i-th whose first leaf is the group's
 *   .. + n_nodes + i   the same for the unit that begins in this group and is cut where it ends
 *
 * Whoever completes a node or a unit (a counter of leaves, acquire-release) folds it; nobody waits for anybody. The
 * including kernel defines TREE_THREADS, TREE_TID (0 ..) and TREE_SYNC() for the threads that fold, TREE_D_V, the
 * columns of o, and TREE_PITCH, floats from a row of o in shared memory to the next,
 * and TREE_AHEAD, slots whose loads are in flight. Row r is always handled by warp
 * r % (TREE_THREADS / 32), so that only arrivals need a barrier; in every 128 columns lane i has i, i + 32, i + 64,
 * i + 96.
 *
 * Folding left to right means, for part i with maximum m[i]: M[i] = max(M[i-1], m[i]), o = fma(o, 2^(M[i-1] - M[i]),
 * o[i] * 2^(m[i] - M[i])), and l alike, from M = -inf, o = l = 0. All code below does these operations in this
 * order, one part at a time or many at once, so that where a fold happens changes no bit. */
#pragma once
#include "kernel/cuda/device/line.cuh"
#include "kernel/cuda/device/ptx.cuh"

struct part {     /* in shared memory */
    float *o;     /* [rows][TREE_PITCH] */
    float *m, *l; /* [rows] */
};

struct tree {
    const struct cuda_work *work;
    struct part leaf, node, root;
    i32 *flag; /* shared */
    i32 group, head, n_kv_heads;
    struct cuda_start start; /* of the group */
};

#define FOR_ROWS(r, n_rows) for (i32 r = TREE_TID >> 5; r < (n_rows); r += TREE_THREADS / 32)
#define FOR_COLUMNS(d) _Pragma("unroll 4") for (i32 d = TREE_TID & 31; d < TREE_D_V; d += 32)

/* What the sum so far counts when the maximum goes from old_m to m: 0 when there is no sum. */
DEVICE float factor(float old_m, float m)
{
    return old_m == -INFINITY_F ? 0.0f : exp2_fast(__fsub_rn(old_m, m));
}

/* One part in shared memory into another, by one warp for one row. is_first: into an empty one. */
DEVICE void fold_row(float *o, float *m, float *l, const float *src_o, float src_m, float src_l, bool is_first)
{
    const float old_m = is_first ? -INFINITY_F : *m, old_l = is_first ? 0.0f : *l;
    const float new_m = fmaxf(old_m, src_m), keep = factor(old_m, new_m), take = factor(src_m, new_m);
    FOR_COLUMNS(d)
    o[d] = __fmaf_rn(is_first ? 0.0f : o[d], keep, __fmul_rn(src_o[d], take));
    __syncwarp();
    if ((TREE_TID & 31) == 0) {
        *m = new_m;
        *l = __fmaf_rn(old_l, keep, __fmul_rn(src_l, take));
    }
    __syncwarp();
}

DEVICE void part_fold(const struct part *dst, const struct part *src, i32 n_rows, bool is_first)
{
    FOR_ROWS(r, n_rows)
    fold_row(dst->o + r * TREE_PITCH, dst->m + r, dst->l + r, src->o + r * TREE_PITCH, src->m[r], src->l[r], is_first);
}

/* ---- slots: o [tile_rows][d_v], m [tile_rows], l [tile_rows] */

DEVICE float *slot_at(const struct tree *t, i32 group, i32 slot)
{
    return t->work->slots + (((i64)group * t->n_kv_heads + t->head) * t->work->n_slots + slot) * t->work->slot_floats;
}

DEVICE void slot_store(const struct tree *t, i32 group, i32 slot, const struct part *src, i32 n_rows)
{
    float *to = slot_at(t, group, slot), *to_m = to + (i64)t->work->tile_rows * TREE_D_V;
    FOR_ROWS(r, n_rows)
    {
        FOR_COLUMNS(d)
        to[r * TREE_D_V + d] = src->o[r * TREE_PITCH + d];
        if ((TREE_TID & 31) == 0) {
            to_m[r] = src->m[r];
            to_m[t->work->tile_rows + r] = src->l[r];
        }
    }
}

/* Four columns d, d + 32, d + 64, d + 96 of a row, summed over n <= 32 slots; keep, take: of slot `lane`. Loads run
 * ahead of the sums, behind the last slot too: the way to the slots is long. */
DEVICE void fold_columns(float o[4], const float *mine, i64 row, i32 d, float keep, float take, i32 n)
{
    for (i32 first = 0; first < n; first += TREE_AHEAD) {
        float x[TREE_AHEAD][4];
#pragma unroll
        for (i32 i = 0; i < TREE_AHEAD; i++) {
            const float *from = (const float *)__shfl_sync(~0u, (u64)mine, min(first + i, n - 1)) + row;
#pragma unroll
            for (i32 c = 0; c < 4; c++)
                x[i][c] = __ldcg(from + min(d + 32 * c, TREE_D_V - 1));
        }
#pragma unroll
        for (i32 i = 0; i < TREE_AHEAD; i++) {
            const float k = __shfl_sync(~0u, keep, (first + i) & 31), t = __shfl_sync(~0u, take, (first + i) & 31);
#pragma unroll
            for (i32 c = 0; c < 4; c++)
                o[c] = first + i < n ? __fmaf_rn(o[c], k, __fmul_rn(x[i][c], t)) : o[c];
        }
    }
}

/* n <= 32 slots, in order, into dst; mine: the slot of place `lane`. */
DEVICE void slots_fold(const struct tree *t, const struct part *dst, const float *mine, i32 n, i32 n_rows,
                       bool is_first)
{
    const i32 lane = TREE_TID & 31, rows = t->work->tile_rows;
    const i64 m_at = (i64)rows * TREE_D_V;
    FOR_ROWS(r, n_rows)
    {
        const float base = is_first ? -INFINITY_F : dst->m[r];
        const float m = lane < n ? __ldcg(mine + m_at + r) : -INFINITY_F;
        float top = m;
        for (i32 i = 1; i < 32; i *= 2) {
            const float other = __shfl_up_sync(~0u, top, i);
            top = lane >= i ? fmaxf(top, other) : top;
        }
        top = fmaxf(base, top);
        const float up = __shfl_up_sync(~0u, top, 1), before = lane == 0 ? base : up;
        const float keep = factor(before, top), take = factor(m, top);
        const float part_l = lane < n ? __ldcg(mine + m_at + rows + r) : 0.0f;
        float l = is_first ? 0.0f : dst->l[r];
        for (i32 i = 0; i < n; i++)
            l = __fmaf_rn(l, __shfl_sync(~0u, keep, i),
                          __fmul_rn(__shfl_sync(~0u, part_l, i), __shfl_sync(~0u, take, i)));
        const float last = __shfl_sync(~0u, top, n - 1);
        float *to = dst->o + r * TREE_PITCH;
        for (i32 d = lane; d < (TREE_D_V + 31) / 32 * 32; d += 128) {
            float o[4];
#pragma unroll
            for (i32 c = 0; c < 4; c++)
                o[c] = is_first || d + 32 * c >= TREE_D_V ? 0.0f : to[d + 32 * c];
            fold_columns(o, mine, r * TREE_D_V, d, keep, take, n);
#pragma unroll
            for (i32 c = 0; c < 4; c++)
                if (d + 32 * c < TREE_D_V)
                    to[d + 32 * c] = o[c];
        }
        __syncwarp();
        if (lane == 0) {
            dst->m[r] = last;
            dst->l[r] = l;
        }
        __syncwarp();
    }
}

/* Add n leaves to a counter; true for whoever makes it n_all: all slots are visible then, and the counter is 0. */
DEVICE bool arrive(const struct tree *t, i32 group, i32 which, i32 n, i32 n_all)
{
    u32 *counter = t->work->counters + ((i64)group * t->n_kv_heads + t->head) * 2 + which;
    TREE_SYNC();
    if (TREE_TID == 0) {
        const i32 is_last = add_acq_rel(counter, (u32)n) + (u32)n == (u32)n_all;
        if (is_last)
            *counter = 0;
        *t->flag = is_last;
    }
    TREE_SYNC();
    return *(volatile i32 *)t->flag;
}

/* ---- places */

/* First leaf of a node within a unit, and the one behind its last. */
DEVICE i32 node_begin(const struct unit *u, i32 node)
{
    return max(u->leaf_begin, node * NODE_LEAVES);
}

DEVICE i32 node_end(const struct unit *u, i32 node)
{
    return min(u->leaf_end, (node + 1) * NODE_LEAVES);
}

/* Where a group's range begins, in leaves of a unit. */
DEVICE i32 start_leaf(const struct tree *t, const struct unit *u, i32 group)
{
    const struct cuda_start s = t->work->starts[group];
    if (s.seq != u->seq)
        return s.seq < u->seq ? u->leaf_begin : u->leaf_end;
    return (i32)clamp64(s.pos - u->place, u->leaf_begin, u->leaf_end);
}

/* The group that holds a leaf of a unit, the last that begins at or before it; first holds the unit's or node's
 * first. By a whole warp, a leaf a lane: 32 groups are looked up at once, and more only where the leaf is further. */
DEVICE i32 group_of_leaf(const struct tree *t, const struct unit *u, i32 first, i32 leaf)
{
    const i32 last = t->work->n_groups - 1, near = first + (TREE_TID & 31);
    const i32 begin = near <= last ? start_leaf(t, u, near) : 0x7fffffff;
    i32 low = 0;
#pragma unroll
    for (i32 step = 16; step; step /= 2)
        low += __shfl_sync(~0u, begin, low + step) <= leaf ? step : 0;
    i32 high = low == 31 ? last : first + low;
    low += first;
    while (low < high) {
        const i32 middle = (low + high + 1) / 2;
        if (start_leaf(t, u, middle) <= leaf)
            low = middle;
        else
            high = middle - 1;
    }
    __syncwarp();
    return low;
}

/* Slot of a whole node in the group that holds its first leaf; begin = start_leaf of that group. */
DEVICE i32 node_slot(const struct tree *t, const struct unit *u, i32 begin, i32 node)
{
    if (begin <= u->leaf_begin)
        return SLOT_NODES + t->work->n_nodes + node - u->leaf_begin / NODE_LEAVES;
    const i32 cut = begin / NODE_LEAVES;
    return SLOT_NODES + node - (begin == node_begin(u, cut) ? cut : cut + 1);
}

/* ---- what is cut */

DEVICE bool is_one_node(const struct unit *u)
{
    return u->leaf_begin / NODE_LEAVES == (u->leaf_end - 1) / NODE_LEAVES;
}

/* A node that is complete in slots -> t->node, then its own slot; or t->root, where it is the whole unit. */
DEVICE void node_finish(const struct tree *t, const struct unit *u, i32 node, i32 first)
{
    const i32 lane = TREE_TID & 31, end = node_end(u, node), behind = start_leaf(t, u, first + 1);
    const i32 leaf = min(behind + lane - 1, end - 1); /* lane 0: the prefix */
    const i32 holder = group_of_leaf(t, u, first, leaf), group = lane == 0 ? first : holder;
    const float *mine = slot_at(t, group, lane == 0 ? SLOT_PREFIX : leaf % NODE_LEAVES);
    slots_fold(t, &t->node, mine, 1 + end - behind, u->n_rows, true);
    if (is_one_node(u))
        part_fold(&t->root, &t->node, u->n_rows, true);
    else
        slot_store(t, first, node_slot(t, u, start_leaf(t, u, first), node), &t->node, u->n_rows);
}

/* A unit whose nodes are all in slots -> t->root. */
DEVICE void unit_finish(const struct tree *t, const struct unit *u, i32 first)
{
    const i32 lane = TREE_TID & 31, n_nodes = (u->leaf_end + NODE_LEAVES - 1) / NODE_LEAVES;
    const i32 first_node = u->leaf_begin / NODE_LEAVES;
    for (i32 node = first_node; node < n_nodes; node += 32) {
        const i32 mine = min(node + lane, n_nodes - 1);
        const i32 group = group_of_leaf(t, u, first, node_begin(u, mine));
        const float *slot = slot_at(t, group, node_slot(t, u, start_leaf(t, u, group), mine));
        slots_fold(t, &t->root, slot, min(32, n_nodes - node), u->n_rows, node == first_node);
    }
}

/* A leaf of a node that began in this group: folded; the node, when it ends here, too. */
DEVICE void add_to_node(const struct tree *t, const struct unit *u, i32 leaf, i32 begin, i32 end, i32 *done)
{
    const i32 node = leaf / NODE_LEAVES, n_begin = node_begin(u, node), n_end = node_end(u, node);
    part_fold(&t->node, &t->leaf, u->n_rows, leaf == n_begin);
    if (leaf == n_end - 1) {
        if (begin == u->leaf_begin && end == u->leaf_end) {
            part_fold(&t->root, &t->node, u->n_rows, n_begin == u->leaf_begin);
            return;
        }
        slot_store(t, t->group, node_slot(t, u, begin, node), &t->node, u->n_rows);
        *done += n_end - n_begin;
    } else if (leaf == end - 1) {
        slot_store(t, t->group, SLOT_PREFIX, &t->node, u->n_rows);
        if (arrive(t, t->group, 0, end - n_begin, n_end - n_begin)) {
            node_finish(t, u, node, t->group);
            *done += n_end - n_begin;
        }
    }
}

/* A leaf of a node that began in an earlier group: kept as it is. */
DEVICE void keep_leaf(const struct tree *t, const struct unit *u, i32 leaf, i32 begin, i32 end, i32 *done)
{
    const i32 node = leaf / NODE_LEAVES, n_begin = node_begin(u, node), n_end = node_end(u, node);
    slot_store(t, t->group, leaf % NODE_LEAVES, &t->leaf, u->n_rows);
    if ((leaf == end - 1 || leaf == n_end - 1) &&
        arrive(t, t->start.node_first, 0, leaf + 1 - begin, n_end - n_begin)) {
        node_finish(t, u, node, t->start.node_first);
        *done += n_end - n_begin;
    }
}

/* t->leaf holds a leaf of the unit, of which this group has begin .. end - 1. *done counts leaves of nodes that are
 * whole in slots. Call for every leaf in order; when it returns true, t->root is the unit's result, for this block to
 * write. */
DEVICE bool tree_add(const struct tree *t, const struct unit *u, i32 leaf, i32 begin, i32 end, i32 *done)
{
    if (begin > node_begin(u, leaf / NODE_LEAVES))
        keep_leaf(t, u, leaf, begin, end, done);
    else
        add_to_node(t, u, leaf, begin, end, done);
    if (leaf != end - 1)
        return false;
    if (begin == u->leaf_begin && end == u->leaf_end)
        return true;
    if (*done == 0 || is_one_node(u))
        return *done != 0; /* one arrival was enough */
    const i32 first = begin > u->leaf_begin ? t->start.unit_first : t->group;
    if (!arrive(t, first, 1, *done, u->leaf_end - u->leaf_begin))
        return false;
    unit_finish(t, u, first);
    return true;
}
