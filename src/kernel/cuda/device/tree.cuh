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
 * Whoever completes a node or a unit (a counter of leaves, acquire-release) folds it; nobody waits for anybody.
 * The including kernel defines TREE_THREADS, TREE_TID (0 ..) and TREE_SYNC() for the threads that fold; row r is always
 * handled by warp r % (TREE_THREADS / 32), so that only arrivals need a barrier. */
#pragma once
#include "kernel/cuda/device/line.cuh"

struct part {     /* in shared memory */
    float *o;     /* [rows][d_v] */
    float *m, *l; /* [rows] */
};

struct tree {
    const struct cuda_work *work;
    struct part leaf, node, root;
    i32 *flag; /* shared */
    i32 group, head, n_kv_heads, d_v;
    struct cuda_start start; /* of the group */
};

/* The only fold there is: explicit operations, so that no compiler contracts them one way here and another there. */
DEVICE void fold_row(float *o, float *m, float *l, const float *src_o, float src_m, float src_l, i32 d_v, bool is_slot)
{
    const i32 lane = TREE_TID & 31;
    const float old_m = *m, old_l = *l;
    const float new_m = fmaxf(old_m, src_m);
    const float keep = old_m == -INFINITY_F ? 0.0f : exp2_fast(__fsub_rn(old_m, new_m));
    const float take = src_m == -INFINITY_F ? 0.0f : exp2_fast(__fsub_rn(src_m, new_m));
    for (i32 d = lane; d < d_v; d += 32) {
        const float x = is_slot ? __ldcg(src_o + d) : src_o[d];
        o[d] = __fmaf_rn(o[d], keep, __fmul_rn(x, take));
    }
    __syncwarp();
    if (lane == 0) {
        *m = new_m;
        *l = __fmaf_rn(old_l, keep, __fmul_rn(src_l, take));
    }
    __syncwarp();
}

#define FOR_ROWS(r, n_rows) for (i32 r = TREE_TID >> 5; r < (n_rows); r += TREE_THREADS / 32)

DEVICE void part_clear(const struct part *p, i32 n_rows, i32 d_v)
{
    FOR_ROWS(r, n_rows)
    {
        for (i32 d = TREE_TID & 31; d < d_v; d += 32)
            p->o[r * d_v + d] = 0.0f;
        p->m[r] = -INFINITY_F;
        p->l[r] = 0.0f;
        __syncwarp();
    }
}

DEVICE void part_fold(const struct part *dst, const struct part *src, i32 n_rows, i32 d_v)
{
    FOR_ROWS(r, n_rows)
    fold_row(dst->o + r * d_v, dst->m + r, dst->l + r, src->o + r * d_v, src->m[r], src->l[r], d_v, false);
}

DEVICE float *slot_at(const struct tree *t, i32 group, i32 slot)
{
    return t->work->slots + (((i64)group * t->n_kv_heads + t->head) * t->work->n_slots + slot) * t->work->slot_floats;
}

DEVICE void slot_store(const struct tree *t, i32 group, i32 slot, const struct part *src, i32 n_rows)
{
    float *to = slot_at(t, group, slot);
    float *to_m = to + (i64)t->work->tile_rows * t->d_v, *to_l = to_m + t->work->tile_rows;
    FOR_ROWS(r, n_rows)
    {
        for (i32 d = TREE_TID & 31; d < t->d_v; d += 32)
            to[r * t->d_v + d] = src->o[r * t->d_v + d];
        if ((TREE_TID & 31) == 0) {
            to_m[r] = src->m[r];
            to_l[r] = src->l[r];
        }
    }
}

DEVICE void slot_fold(const struct tree *t, const struct part *dst, i32 group, i32 slot, i32 n_rows)
{
    const float *from = slot_at(t, group, slot);
    const float *from_m = from + (i64)t->work->tile_rows * t->d_v, *from_l = from_m + t->work->tile_rows;
    FOR_ROWS(r, n_rows)
    fold_row(dst->o + r * t->d_v, dst->m + r, dst->l + r, from + r * t->d_v, __ldcg(from_m + r), __ldcg(from_l + r),
             t->d_v, true);
}

/* Add n leaves to a counter; true for whoever makes it n_all: all slots are visible then, and the counter is 0. */
DEVICE bool arrive(const struct tree *t, i32 group, i32 which, i32 n, i32 n_all)
{
    u32 *counter = t->work->counters + ((i64)group * t->n_kv_heads + t->head) * 2 + which;
    TREE_SYNC();
    if (TREE_TID == 0) {
        __threadfence();
        const i32 is_last = atomicAdd(counter, (u32)n) + (u32)n == (u32)n_all;
        if (is_last)
            *counter = 0;
        __threadfence();
        *t->flag = is_last;
    }
    TREE_SYNC();
    return *(volatile i32 *)t->flag;
}

/* First leaf of a node within a unit. */
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

/* Slot of a whole node in the group that holds its first leaf; begin = start_leaf of that group. */
DEVICE i32 node_slot(const struct tree *t, const struct unit *u, i32 begin, i32 node)
{
    if (begin <= u->leaf_begin)
        return SLOT_NODES + t->work->n_nodes + node - u->leaf_begin / NODE_LEAVES;
    const i32 cut = begin / NODE_LEAVES;
    return SLOT_NODES + node - (begin == node_begin(u, cut) ? cut : cut + 1);
}

/* A node that is complete in slots -> t->node, then its own slot. */
DEVICE void node_finish(const struct tree *t, const struct unit *u, i32 node, i32 first)
{
    const i32 begin = node_begin(u, node), end = node_end(u, node);
    part_clear(&t->node, u->n_rows, t->d_v);
    slot_fold(t, &t->node, first, SLOT_PREFIX, u->n_rows);
    i32 leaf = start_leaf(t, u, first + 1);
    for (i32 g = first + 1; leaf < end; g++) {
        const i32 stop = min(end, start_leaf(t, u, g + 1));
        for (; leaf < stop; leaf++)
            slot_fold(t, &t->node, g, leaf % NODE_LEAVES, u->n_rows);
    }
    (void)begin;
    slot_store(t, first, node_slot(t, u, start_leaf(t, u, first), node), &t->node, u->n_rows);
}

/* A unit whose nodes are all in slots -> t->root. */
DEVICE void unit_finish(const struct tree *t, const struct unit *u, i32 first)
{
    part_clear(&t->root, u->n_rows, t->d_v);
    i32 g = first, begin = start_leaf(t, u, g), next = start_leaf(t, u, g + 1);
    const i32 n_nodes = (u->leaf_end + NODE_LEAVES - 1) / NODE_LEAVES;
    for (i32 node = u->leaf_begin / NODE_LEAVES; node < n_nodes; node++) {
        while (next <= node_begin(u, node)) {
            g++;
            begin = next;
            next = start_leaf(t, u, g + 1);
        }
        slot_fold(t, &t->root, g, node_slot(t, u, begin, node), u->n_rows);
    }
}

/* t->leaf holds a leaf of the unit, of which this group has begin .. end - 1. *done counts leaves of nodes that are
 * whole in slots. Call for every leaf in order; when it returns true, t->root is the unit's result, for this block to
 * write. */
DEVICE bool tree_add(const struct tree *t, const struct unit *u, i32 leaf, i32 begin, i32 end, i32 *done)
{
    const i32 node = leaf / NODE_LEAVES, n_begin = node_begin(u, node), n_end = node_end(u, node);
    const bool is_cut = begin > n_begin; /* the node began in an earlier group */
    const bool is_whole = begin == u->leaf_begin && end == u->leaf_end;
    const bool is_last = leaf == end - 1;
    if (!is_cut) {
        if (leaf == n_begin)
            part_clear(&t->node, u->n_rows, t->d_v);
        part_fold(&t->node, &t->leaf, u->n_rows, t->d_v);
        if (leaf == n_end - 1) {
            if (is_whole) {
                if (n_begin == u->leaf_begin)
                    part_clear(&t->root, u->n_rows, t->d_v);
                part_fold(&t->root, &t->node, u->n_rows, t->d_v);
                return is_last;
            }
            slot_store(t, t->group, node_slot(t, u, begin, node), &t->node, u->n_rows);
            *done += n_end - n_begin;
        } else if (is_last) {
            slot_store(t, t->group, SLOT_PREFIX, &t->node, u->n_rows);
            if (arrive(t, t->group, 0, end - n_begin, n_end - n_begin)) {
                node_finish(t, u, node, t->group);
                *done += n_end - n_begin;
            }
        }
    } else {
        slot_store(t, t->group, leaf % NODE_LEAVES, &t->leaf, u->n_rows);
        if ((is_last || leaf == n_end - 1) && arrive(t, t->start.node_first, 0, leaf + 1 - begin, n_end - n_begin)) {
            node_finish(t, u, node, t->start.node_first);
            *done += n_end - n_begin;
        }
    }
    if (!is_last || *done == 0)
        return false;
    const i32 first = begin > u->leaf_begin ? t->start.unit_first : t->group;
    if (!arrive(t, first, 1, *done, u->leaf_end - u->leaf_begin))
        return false;
    unit_finish(t, u, first);
    return true;
}
