/* SPDX-License-Identifier: Apache-2.0
 * tree.cuh: folding leaves into nodes and nodes into a result, across thread blocks, in one fixed order.
 *
 * A part is (m, l, o) a row: m the largest base-2 score, l the sum of 2^(s - m), o the sum of 2^(s - m) v.
 * Slots hold the parts of what is cut between groups, for each kv head; where is known without a look at anything:
 *
 *   leaf slots of group g    of the node that begins in g and is cut at its end, by leaf % 16:
 *                              . . . P L L L . .       P: the leading leaves, folded, in the place of the last of them
 *   node slots of a region   of a unit that is cut: every node of it, by number
 *
 * Whoever completes a node or a unit (a counter of leaves, acquire-release) folds it; nobody waits for anybody. Row r
 * is always handled by warp r % TREE_WARPS, and warps know nothing of one another: each counts the leaves of its rows.
 *
 * The including kernel defines TREE_WARPS and TREE_TID (0 ..) of the threads that fold, TREE_D_V, the columns of o,
 * TREE_PITCH, floats from a row of o in shared memory to the next, and TREE_AHEAD, slots whose loads are in flight. In
 * shared memory lane i has columns i, i + 32, i + 64 ..., in slots four side by side: 4 i .. 4 i + 3 of every 128.
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
    i32 group, head, n_kv_heads;
    const struct cut *cut; /* where the group begins */
    i32 done;              /* leaves of the unit at hand that are in nodes that are whole in slots */
};

#define TREE_LANE (TREE_TID & 31)
#define TREE_WARP (TREE_TID >> 5)
#define FOR_ROWS(r, n_rows) _Pragma("unroll 1") for (i32 r = TREE_WARP; r < (n_rows); r += TREE_WARPS)
#define FOR_COLUMNS(d) _Pragma("unroll 4") for (i32 d = TREE_LANE; d < TREE_D_V; d += 32)

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
    if (TREE_LANE == 0) {
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

/* ---- slots: [tile_rows] rows of columns, m, l */

DEVICE i32 slot_columns(void)
{
    return (TREE_D_V + 3) / 4 * 4;
}

DEVICE float *leaf_slot(const struct tree *t, i32 first, i32 leaf)
{
    const i64 place = ((i64)first * t->n_kv_heads + t->head) * NODE_LEAVES + leaf % NODE_LEAVES;
    return t->work->leaf_slots + place * t->work->slot_floats;
}

/* Of a node of a unit that begins in group `first`. */
DEVICE float *node_slot(const struct tree *t, const struct unit *u, i32 first, i32 node)
{
    const struct cuda_work *w = t->work;
    const i32 region = w->unit_stride ? u->seq * w->unit_stride + u->tile : first;
    const i64 place = ((i64)region * t->n_kv_heads + t->head) * w->n_nodes + node - u->leaf_begin / NODE_LEAVES;
    return w->node_slots + place * w->slot_floats;
}

DEVICE void slot_store(float *slot, const struct part *src, i32 n_rows)
{
    FOR_ROWS(r, n_rows)
    {
        float *to = slot + r * (slot_columns() + SLOT_EXTRA);
        FOR_COLUMNS(d)
        to[d] = src->o[r * TREE_PITCH + d];
        if (TREE_LANE == 0)
            *(float2 *)(to + slot_columns()) = make_float2(src->m[r], src->l[r]);
    }
}

/* Columns d .. d + 3 of slots first .. first + TREE_AHEAD - 1, of n. */
DEVICE void slots_load(float4 x[TREE_AHEAD], const float *slots, i64 slot_floats, i32 first, i32 n, i32 d)
{
#pragma unroll
    for (i32 i = 0; i < TREE_AHEAD; i++)
        if (first + i < n)
            x[i] = __ldcg((const float4 *)(slots + (first + i) * slot_floats + min(d, slot_columns() - 4)));
}

DEVICE float fold_one(float sum, float keep, float x, float take)
{
    return __fmaf_rn(sum, keep, __fmul_rn(x, take));
}

/* n <= 32 slots, in order, into one row: its columns at o, m, l. slots: the first one's row. All loads but those beyond
 * TREE_AHEAD are on their way before the first is looked at: the way to the slots is long. */
DEVICE void slots_fold_row(float *o, float *m, float *l, const float *slots, i64 slot_floats, i32 n, bool is_first)
{
    const i32 lane = TREE_LANE;
    float4 x[TREE_AHEAD];
    slots_load(x, slots, slot_floats, 0, n, 4 * lane);
    const float2 mine = __ldcg((const float2 *)(slots + min(lane, n - 1) * slot_floats + slot_columns()));
    const float base = is_first ? -INFINITY_F : *m, part_m = lane < n ? mine.x : -INFINITY_F;
    float top = part_m, sum = is_first ? 0.0f : *l;
    for (i32 i = 1; i < 32; i *= 2) {
        const float other = __shfl_up_sync(~0u, top, i);
        top = lane >= i ? fmaxf(top, other) : top;
    }
    top = fmaxf(base, top);
    const float up = __shfl_up_sync(~0u, top, 1), before = lane == 0 ? base : up;
    const float keep = factor(before, top), take = factor(part_m, top);
    for (i32 d = 4 * lane; d - 4 * lane < TREE_D_V; d += 128) {
        float4 y = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
        if (!is_first) {
            y.x = d < TREE_D_V ? o[d] : 0.0f, y.y = d + 1 < TREE_D_V ? o[d + 1] : 0.0f;
            y.z = d + 2 < TREE_D_V ? o[d + 2] : 0.0f, y.w = d + 3 < TREE_D_V ? o[d + 3] : 0.0f;
        }
        for (i32 first = 0; first < n; first += TREE_AHEAD) {
            if (first > 0 || d >= 128)
                slots_load(x, slots, slot_floats, first, n, d);
#pragma unroll
            for (i32 i = 0; i < TREE_AHEAD; i++) {
                const float k = __shfl_sync(~0u, keep, (first + i) & 31), t = __shfl_sync(~0u, take, (first + i) & 31);
                const float part_l = __shfl_sync(~0u, mine.y, (first + i) & 31);
                if (first + i < n) {
                    y.x = fold_one(y.x, k, x[i].x, t), y.y = fold_one(y.y, k, x[i].y, t);
                    y.z = fold_one(y.z, k, x[i].z, t), y.w = fold_one(y.w, k, x[i].w, t);
                    sum = d < 128 ? fold_one(sum, k, part_l, t) : sum;
                }
            }
        }
        const float out[4] = { y.x, y.y, y.z, y.w };
#pragma unroll
        for (i32 c = 0; c < 4; c++)
            if (d + c < TREE_D_V)
                o[d + c] = out[c];
    }
    __syncwarp();
    const float last = __shfl_sync(~0u, top, 31);
    if (lane == 0) {
        *m = last;
        *l = sum;
    }
    __syncwarp();
}

/* n slots, in order, into dst. */
DEVICE void slots_fold(const struct tree *t, const struct part *dst, const float *slots, i32 n, i32 n_rows)
{
    FOR_ROWS(r, n_rows)
    for (i32 i = 0; i < n; i += 32)
        slots_fold_row(dst->o + r * TREE_PITCH, dst->m + r, dst->l + r,
                       slots + i * t->work->slot_floats + r * (slot_columns() + SLOT_EXTRA), t->work->slot_floats,
                       min(32, n - i), i == 0);
}

/* Add n leaves to this warp's counter; true for whoever makes it n_all: all slots are visible then, and the counter is
 * 0. */
DEVICE bool arrive(const struct tree *t, i32 group, i32 which, i32 n, i32 n_all)
{
    const i64 place = (((i64)group * t->n_kv_heads + t->head) * 2 + which) * FOLD_WARPS + TREE_WARP;
    u32 *counter = t->work->counters + place;
    u32 sum = 0;
    __syncwarp();
    if (TREE_LANE == 0) {
        sum = add_acq_rel(counter, (u32)n) + (u32)n;
        if (sum == (u32)n_all)
            *counter = 0;
    }
    __syncwarp();
    return __shfl_sync(~0u, sum, 0) == (u32)n_all;
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

/* ---- a leaf more */

/* The leaf of a node that began in this group: folded; the node, when it ends here, too. True when the node is complete
 * in slots. */
DEVICE bool add_to_node(struct tree *t, const struct unit *u, i32 leaf, i32 begin, i32 end)
{
    const i32 node = leaf / NODE_LEAVES, n_begin = node_begin(u, node), n_end = node_end(u, node);
    part_fold(&t->node, &t->leaf, u->n_rows, leaf == n_begin);
    if (leaf == n_end - 1 && begin == u->leaf_begin && end == u->leaf_end) {
        part_fold(&t->root, &t->node, u->n_rows, n_begin == u->leaf_begin);
    } else if (leaf == n_end - 1) {
        slot_store(node_slot(t, u, begin > u->leaf_begin ? t->cut->unit_first : t->group, node), &t->node, u->n_rows);
        t->done += n_end - n_begin;
    } else if (leaf == end - 1) {
        slot_store(leaf_slot(t, t->group, leaf), &t->node, u->n_rows);
        return arrive(t, t->group, 0, end - n_begin, n_end - n_begin);
    }
    return false;
}

/* The leaf of a node that began in an earlier group: kept as it is. */
DEVICE bool keep_leaf(struct tree *t, const struct unit *u, i32 leaf, i32 begin, i32 end)
{
    const i32 node = leaf / NODE_LEAVES, n_end = node_end(u, node);
    slot_store(leaf_slot(t, t->cut->node_first, leaf), &t->leaf, u->n_rows);
    return (leaf == end - 1 || leaf == n_end - 1) &&
           arrive(t, t->cut->node_first, 0, leaf + 1 - begin, n_end - node_begin(u, node));
}

/* t->leaf holds a leaf of the unit, of which this group has begin .. end - 1. Call for every leaf in order; when it
 * returns true, t->root has the unit's result in the calling warp's rows, to be written by it. */
DEVICE bool tree_add(struct tree *t, const struct unit *u, i32 leaf, i32 begin, i32 end)
{
    const i32 node = leaf / NODE_LEAVES, n_begin = node_begin(u, node), n_end = node_end(u, node);
    const i32 n_leaves = u->leaf_end - u->leaf_begin;
    const bool began_here = begin <= n_begin, is_one_node = n_end - n_begin == n_leaves;
    if (TREE_WARP >= u->n_rows)
        return false;
    if (leaf == begin)
        t->done = 0;
    bool is_node = began_here ? add_to_node(t, u, leaf, begin, end) : keep_leaf(t, u, leaf, begin, end);
    if (end - begin == n_leaves)
        return leaf == end - 1;
    const i32 unit_first = begin > u->leaf_begin ? t->cut->unit_first : t->group;
    const i32 cut = began_here ? end : t->cut->node_leaf; /* the leaves before it are in one slot */
    const float *slots = leaf_slot(t, began_here ? t->group : t->cut->node_first, cut - 1);
    for (i32 n = is_node ? 1 + n_end - cut : 0;;
         n = (u->leaf_end - 1) / NODE_LEAVES - u->leaf_begin / NODE_LEAVES + 1) {
        const bool is_unit = !is_node && n > 0; /* the second time round */
        const bool is_root = is_unit || is_one_node;
        const struct part dst = { is_root ? t->root.o : t->node.o, is_root ? t->root.m : t->node.m,
                                  is_root ? t->root.l : t->node.l };
        slots_fold(t, &dst, slots, n, u->n_rows);
        if (is_unit || (is_node && is_one_node))
            return true;
        if (is_node) {
            slot_store(node_slot(t, u, unit_first, node), &t->node, u->n_rows);
            t->done += n_end - n_begin;
        }
        if (leaf != end - 1 || t->done == 0 || !arrive(t, unit_first, 1, t->done, n_leaves))
            return false;
        is_node = false;
        slots = node_slot(t, u, unit_first, u->leaf_begin / NODE_LEAVES);
    }
}
