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
 * Whoever is the last to announce leaves of a node or a unit (a counter of leaves) folds it. Row r is always handled by
 * warp r % TREE_WARPS, and warps know nothing of one another: each counts the leaves of its rows.
 *
 * The first word of each 16 bytes of a slot is SLOT_EMPTY, which no result is, until they are written; who folds reads
 * them until they are, and leaves them empty for the next launch. So nothing depends on the order of stores, no fence
 * waits for them, and leaves are announced before they are computed. Who folds waits, but only for blocks that run
 * already, and what those wait for before they store lies before it on the line: so nobody waits in a circle.
 *
 * The including kernel defines TREE_WARPS and TREE_TID (0 ..) of the threads that fold, TREE_D_V, the columns of o,
 * TREE_PITCH, floats from a row of o in shared memory to the next, TREE_AHEAD, slots whose loads are in flight, of
 * TREE_ROWS rows, and TREE_LEAF_FOLD, a function that folds the leaf that has just been computed into a part, for the
 * warp's own rows. In shared memory lane i has columns i, i + 32, i + 64 ..., in slots four side by side, from 4 i on,
 * of every 128.
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

/* What lies complete in slots once all who announced it have stored it, for this warp to fold. */
struct due {
    bool node, unit;
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
    const i64 place = ((i64)region * t->n_kv_heads + t->head) * w->n_nodes + node - (u->leaf_begin >> u->node_shift);
    return w->node_slots + place * w->slot_floats;
}

/* Arithmetic gives one NaN only; what else came here from elsewhere becomes it. */
DEVICE float not_empty(float x)
{
    return x == x ? x : NAN_F;
}

DEVICE void slot_store(float *slot, const struct part *src, i32 n_rows)
{
    FOR_ROWS(r, n_rows)
    {
        float *to = slot + r * (slot_columns() + SLOT_EXTRA);
        const float *o = src->o + r * TREE_PITCH;
        for (i32 d = 4 * TREE_LANE; d < slot_columns(); d += 128) {
            const float4 x = { not_empty(o[d]), d + 1 < TREE_D_V ? o[d + 1] : 0.0f, d + 2 < TREE_D_V ? o[d + 2] : 0.0f,
                               d + 3 < TREE_D_V ? o[d + 3] : 0.0f };
            write_now(to + d, x);
        }
        if (TREE_LANE == 0)
            write_pair_now(to + slot_columns(), make_float2(not_empty(src->m[r]), src->l[r]));
    }
}

DEVICE float fold_one(float sum, float keep, float x, float take)
{
    return __fmaf_rn(sum, keep, __fmul_rn(x, take));
}

/* A row of n <= 32 slots: columns of the first TREE_AHEAD, or of later ones; of slot `lane` its m and l, then what to
 * multiply the sum so far and the slot by. */
struct slots_row {
    float4 x[TREE_AHEAD];
    float m, l, keep, take;
};

/* Columns d .. d + 3 of slots first .. first + TREE_AHEAD - 1; slots behind the last are -0, which changes no sum.
 * slots: the row in slot 0. */
DEVICE void slots_load(struct slots_row *s, const float *slots, i64 slot_floats, i32 first, i32 n, i32 d)
{
    const float *at = slots + first * slot_floats + min(d, slot_columns() - 4);
#pragma unroll
    for (i32 i = 0; i < TREE_AHEAD; i++, at += slot_floats) {
        s->x[i] = make_float4(-0.0f, -0.0f, -0.0f, -0.0f);
        if (first + i < n)
            s->x[i] = read_now(at);
    }
}

/* Whether one of these is not there yet, for any lane. */
DEVICE bool slots_lack(const struct slots_row *s)
{
    u32 top = __float_as_uint(s->m);
#pragma unroll
    for (i32 i = 0; i < TREE_AHEAD; i++)
        top = max(top, __float_as_uint(s->x[i].x));
    return __any_sync(~0u, top == SLOT_EMPTY);
}

/* These columns: every lane has read them. */
DEVICE void slots_empty(float *slots, i64 slot_floats, i32 first, i32 n, i32 d)
{
    const float none = __uint_as_float(SLOT_EMPTY);
    float *at = slots + first * slot_floats + d;
#pragma unroll
    for (i32 i = 0; i < TREE_AHEAD; i++, at += slot_floats)
        if (first + i < n && d < slot_columns())
            *(float4 *)at = make_float4(none, none, none, none);
}

/* Everything of a row that can be asked for before anything is known. */
DEVICE void slots_ask(struct slots_row *s, const float *slots, i64 slot_floats, i32 n)
{
    const i32 lane = TREE_LANE;
    const float2 mine = read_pair_now(slots + min(lane, n - 1) * slot_floats + slot_columns());
    slots_load(s, slots, slot_floats, 0, n, 4 * lane);
    s->m = mine.x;
    s->l = mine.y;
}

/* All n slots, in order, into one row: its columns at o, m, l. They have been asked for, and are empty then. */
DEVICE void slots_sum(struct slots_row *s, float *o, float *m, float *l, float *slots, i64 slot_floats, i32 n,
                      bool is_first)
{
    const i32 lane = TREE_LANE;
    while (slots_lack(s))
        slots_ask(s, slots, slot_floats, n);
    if (lane < n)
        *(float2 *)(slots + lane * slot_floats + slot_columns()) =
            make_float2(__uint_as_float(SLOT_EMPTY), __uint_as_float(SLOT_EMPTY));
    s->m = lane < n ? s->m : -INFINITY_F;
    s->l = lane < n ? s->l : -0.0f;
    const float base = is_first ? -INFINITY_F : *m;
    float top = s->m, sum = is_first ? 0.0f : *l;
    for (i32 i = 1; i < 32; i *= 2) {
        const float other = __shfl_up_sync(~0u, top, i);
        top = lane >= i ? fmaxf(top, other) : top;
    }
    top = fmaxf(base, top);
    const float up = __shfl_up_sync(~0u, top, 1), before = lane == 0 ? base : up;
    s->keep = factor(before, top);
    s->take = factor(s->m, top);
    for (i32 d = 4 * lane; d - 4 * lane < TREE_D_V; d += 128) {
        float y[4];
#pragma unroll
        for (i32 c = 0; c < 4; c++)
            y[c] = !is_first && d + c < TREE_D_V ? o[d + c] : 0.0f;
        for (i32 first = 0; first < n; first += TREE_AHEAD) {
            if (first > 0 || d >= 128)
                do
                    slots_load(s, slots, slot_floats, first, n, d);
                while (slots_lack(s));
            slots_empty(slots, slot_floats, first, n, d);
#pragma unroll
            for (i32 i = 0; i < TREE_AHEAD; i++) {
                const i32 from = (first + i) & 31;
                const float keep = __shfl_sync(~0u, s->keep, from), take = __shfl_sync(~0u, s->take, from);
                const float part_l = __shfl_sync(~0u, s->l, from), all = fold_one(sum, keep, part_l, take);
                y[0] = fold_one(y[0], keep, s->x[i].x, take), y[1] = fold_one(y[1], keep, s->x[i].y, take);
                y[2] = fold_one(y[2], keep, s->x[i].z, take), y[3] = fold_one(y[3], keep, s->x[i].w, take);
                sum = d < 128 ? all : sum;
            }
        }
#pragma unroll
        for (i32 c = 0; c < 4; c++)
            if (d + c < TREE_D_V)
                o[d + c] = y[c];
    }
    const float last = __shfl_sync(~0u, top, 31);
    __syncwarp();
    if (lane == 0) {
        *m = last;
        *l = sum;
    }
    __syncwarp();
}

/* n slots, in order, into dst. All loads but those beyond TREE_AHEAD are on their way, of TREE_ROWS rows, before the
 * first is looked at: the way to the slots is long. */
DEVICE void slots_fold(const struct tree *t, const struct part *dst, float *slots, i32 n, i32 n_rows)
{
    const i64 slot_floats = t->work->slot_floats;
#pragma unroll 1
    for (i32 done = 0; done < n; done += 32)
#pragma unroll 1
        for (i32 first = TREE_WARP; first < n_rows; first += TREE_ROWS * TREE_WARPS) {
            struct slots_row rows[TREE_ROWS];
            float *at = slots + done * slot_floats + first * (slot_columns() + SLOT_EXTRA);
#pragma unroll
            for (i32 k = 0; k < TREE_ROWS; k++)
                if (k == 0 || first + k * TREE_WARPS < n_rows)
                    slots_ask(&rows[k], at + k * TREE_WARPS * (slot_columns() + SLOT_EXTRA), slot_floats,
                              min(32, n - done));
#pragma unroll
            for (i32 k = 0; k < TREE_ROWS; k++) {
                const i32 r = first + k * TREE_WARPS;
                if (k == 0 || r < n_rows)
                    slots_sum(&rows[k], dst->o + r * TREE_PITCH, dst->m + r, dst->l + r,
                              at + k * TREE_WARPS * (slot_columns() + SLOT_EXTRA), slot_floats, min(32, n - done),
                              done == 0);
            }
        }
}

/* Add n leaves to this warp's counter; true for whoever makes it n_all: the counter is 0 then. */
DEVICE bool announce(const struct tree *t, i32 group, i32 which, i32 n, i32 n_all)
{
    const i64 place = (((i64)group * t->n_kv_heads + t->head) * 2 + which) * FOLD_WARPS + TREE_WARP;
    u32 *counter = t->work->counters + place;
    u32 sum = 0;
    if (TREE_LANE == 0) {
        sum = add_relaxed(counter, (u32)n) + (u32)n;
        if (sum == (u32)n_all)
            *counter = 0;
    }
    return __shfl_sync(~0u, sum, 0) == (u32)n_all;
}

/* ---- places */

/* First leaf of a node within a unit, and the one behind its last. */
DEVICE i32 node_begin(const struct unit *u, i32 node)
{
    return max(u->leaf_begin, node << u->node_shift);
}

DEVICE i32 node_end(const struct unit *u, i32 node)
{
    return min(u->leaf_end, (node + 1) << u->node_shift);
}

/* Where a leaf is folded to, by a group that has begin .. end - 1 of the unit. */
struct target {
    bool is_root; /* not node */
    bool is_new;  /* nothing is there yet */
};

DEVICE struct target target_of(const struct unit *u, i32 leaf, i32 begin, i32 end)
{
    const i32 node = leaf >> u->node_shift, n_begin = node_begin(u, node), n_end = node_end(u, node);
    const bool is_all = begin == u->leaf_begin && end == u->leaf_end && n_begin == begin && n_end == end;
    const struct target target = { is_all, leaf == n_begin || begin > n_begin };
    return target;
}

/* ---- a leaf more */

DEVICE void TREE_LEAF_FOLD(const struct tree *t, const struct part *dst, i32 n_rows, bool is_first);

/* Into which of the two a node is folded. By value: an address that depends on data would put the tree into memory. */
DEVICE struct part part_of(const struct tree *t, bool is_root)
{
    const struct part part = { is_root ? t->root.o : t->node.o, is_root ? t->root.m : t->node.m,
                               is_root ? t->root.l : t->node.l };
    return part;
}

/* The leaf of a node that began in this group: folded; the node, when it ends here, too. */
DEVICE void add_to_node(struct tree *t, const struct unit *u, i32 leaf, i32 begin, i32 end)
{
    const i32 node = leaf >> u->node_shift, n_begin = node_begin(u, node), n_end = node_end(u, node);
    const bool is_whole = begin == u->leaf_begin && end == u->leaf_end;
    const struct part sum = part_of(t, is_whole && n_begin == begin && n_end == end);
    TREE_LEAF_FOLD(t, &sum, u->n_rows, leaf == n_begin);
    if (is_whole) {
        if (leaf == n_end - 1 && (n_begin > begin || n_end < end))
            part_fold(&t->root, &t->node, u->n_rows, n_begin == begin);
    } else if (leaf == n_end - 1)
        slot_store(node_slot(t, u, begin > u->leaf_begin ? t->cut->unit_first : t->group, node), &t->node, u->n_rows);
    else if (leaf == end - 1)
        slot_store(leaf_slot(t, t->group, leaf), &t->node, u->n_rows);
}

/* The leaf of a node that began in an earlier group: kept as it is. */
DEVICE void keep_leaf(struct tree *t, const struct unit *u, i32 leaf)
{
    TREE_LEAF_FOLD(t, &t->node, u->n_rows, true);
    slot_store(leaf_slot(t, t->cut->node_first, leaf), &t->node, u->n_rows);
}

/* What will be for this warp to fold once it has this leaf of the unit, of which this group has begin .. end - 1. Call
 * for every leaf in order, before the leaf is waited for: the answer takes as long as a tile. */
DEVICE struct due tree_announce(struct tree *t, const struct unit *u, i32 leaf, i32 begin, i32 end)
{
    const i32 node = leaf >> u->node_shift, n_begin = node_begin(u, node), n_end = node_end(u, node);
    const i32 n_leaves = u->leaf_end - u->leaf_begin;
    const bool began_here = begin <= n_begin, ends_here = leaf == n_end - 1, is_one_node = n_end - n_begin == n_leaves;
    struct due due = { false, false };
    if (leaf == begin)
        t->done = 0;
    if (TREE_WARP >= u->n_rows || end - begin == n_leaves || (leaf != end - 1 && !ends_here))
        return due;
    if (!began_here || !ends_here)
        due.node =
            announce(t, began_here ? t->group : t->cut->node_first, 0, leaf + 1 - max(begin, n_begin), n_end - n_begin);
    if (due.node && is_one_node)
        return due;
    t->done += due.node || (began_here && ends_here) ? n_end - n_begin : 0;
    if (leaf == end - 1 && t->done > 0)
        due.unit = announce(t, begin > u->leaf_begin ? t->cut->unit_first : t->group, 1, t->done, n_leaves);
    return due;
}

/* That leaf, and what is due with it. When it returns true, t->root has the unit's result in the calling warp's rows,
 * to be written by it. */
DEVICE bool tree_add(struct tree *t, const struct unit *u, i32 leaf, i32 begin, i32 end, struct due due)
{
    const i32 node = leaf >> u->node_shift, n_begin = node_begin(u, node), n_end = node_end(u, node);
    const i32 n_leaves = u->leaf_end - u->leaf_begin,
              unit_first = begin > u->leaf_begin ? t->cut->unit_first : t->group;
    const bool began_here = begin <= n_begin, is_one_node = n_end - n_begin == n_leaves;
    if (TREE_WARP >= u->n_rows)
        return false;
    if (began_here)
        add_to_node(t, u, leaf, begin, end);
    else
        keep_leaf(t, u, leaf);
    if (end - begin == n_leaves)
        return leaf == end - 1;
    const i32 cut = began_here ? end : t->cut->node_leaf; /* the leaves before it are in one slot */
    float *slots = leaf_slot(t, began_here ? t->group : t->cut->node_first, cut - 1);
    i32 n = 1 + n_end - cut;
    while (due.node || due.unit) {
        const bool is_root = !due.node || is_one_node;
        const struct part sum = part_of(t, is_root);
        if (!due.node) {
            slots = node_slot(t, u, unit_first, u->leaf_begin >> u->node_shift);
            n = ((u->leaf_end - 1) >> u->node_shift) - (u->leaf_begin >> u->node_shift) + 1;
        }
        slots_fold(t, &sum, slots, n, u->n_rows); /* the one place of this code: it is long */
        if (is_root)
            return true;
        slot_store(node_slot(t, u, unit_first, node), &t->node, u->n_rows);
        due.node = false;
    }
    return false;
}
