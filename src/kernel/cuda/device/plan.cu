/* SPDX-License-Identifier: Apache-2.0
 * plan.cu: lengths on the device -> the line of work, cut into the groups' ranges. One block a class of
 * sequences; once a step. */
#include "kernel/cuda/device/error.cuh"
#include "kernel/cuda/device/line.cuh"

/* Read and check one sequence. What is wrong is reported, and leaves a sequence whose rows are NaN and read nothing. */
DEVICE struct cuda_seq read_seq(const struct cuda_plan_args *p, i32 b)
{
    struct cuda_seq s = { 0, 0, 0, 0, 0 };
    i64 q_begin = b, q_end = b + 1;
    if (p->q_indptr) {
        q_begin = load_index(p->q_indptr, p->q_indptr_is_i64, b);
        q_end = load_index(p->q_indptr, p->q_indptr_is_i64, b + 1);
        const bool begins = b > 0 || q_begin == 0, ends = b < p->work.batch - 1 || q_end == p->n_tokens;
        if (q_begin < 0 || q_end < q_begin || q_end > p->n_tokens || q_end - q_begin > p->max_q_len || !begins ||
            !ends) {
            const i64 value = begins ? q_end : q_begin;
            report_error(p->work.error, CUDA_ERROR_Q_INDPTR, b + (begins ? 1 : 0), 0, value);
            q_begin = clamp64(q_begin, 0, p->n_tokens);
            q_end = clamp64(q_end, q_begin, min(p->n_tokens, q_begin + p->max_q_len));
            s.is_poisoned = 1;
        }
    }
    i64 capacity = p->capacity;
    if (p->kv_indptr) {
        const i64 begin = load_index(p->kv_indptr, p->kv_indptr_is_i64, b);
        const i64 end = load_index(p->kv_indptr, p->kv_indptr_is_i64, b + 1);
        if (begin < 0 || end < begin || end > p->capacity / p->page_size || (b == 0 && begin != 0)) {
            report_error(p->work.error, CUDA_ERROR_KV_INDPTR, b + 1, 0, end);
            s.is_poisoned = 1;
        }
        capacity = (end - begin) * p->page_size;
        p->work.rows[b] = begin;
    }
    const i64 n = load_index(p->kv_lens, p->kv_lens_are_i64, b);
    if (!s.is_poisoned && (n < 0 || n > capacity || n > p->max_kv_len)) {
        report_error(p->work.error, CUDA_ERROR_KV_LEN, b, 0, n);
        s.is_poisoned = 1;
    }
    s.q_begin = (i32)q_begin;
    s.q_len = (i32)(q_end - q_begin);
    s.kv_len = s.is_poisoned ? 0 : (i32)n;
    const i64 rows = (i64)s.q_len * p->span.group;
    if (rows < p->span.least_rows || rows > p->span.most_rows) /* another kernel's */
        s.q_len = 0;
    return s;
}

DEVICE i64 leaf_cost(const struct line *line)
{
    return line->leaf + LEAF_OVERHEAD;
}

/* Sum over the block of x, and the sum of the threads before this one. */
DEVICE i64 block_scan(i64 x, i64 *before, i64 *warp_sums)
{
    const i32 lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
    i64 sum = x;
    for (i32 i = 1; i < 32; i *= 2) {
        const i64 other = __shfl_up_sync(~0u, sum, i);
        sum += lane >= i ? other : 0;
    }
    __syncthreads();
    if (lane == 31)
        warp_sums[warp] = sum;
    __syncthreads();
    i64 all = 0, mine = sum - x;
    for (i32 w = 0; w < PLAN_THREADS / 32; w++) {
        mine += w < warp ? warp_sums[w] : 0;
        all += warp_sums[w];
    }
    *before = mine;
    return all;
}

/* The last sequence whose line begins at or before this cost, and that has any. */
DEVICE i32 find_seq(const i64 *cost, i32 batch, i64 target)
{
    i32 low = 0, high = batch; /* cost[low] <= target < cost[high], at the end */
    while (high - low > 1) {
        const i32 middle = (low + high) / 2;
        if (cost[middle] <= target)
            low = middle;
        else
            high = middle;
    }
    return low;
}

/* Where a group begins: what searches look at, in shared memory. */
struct begin {
    i64 pos;
    i32 seq, unused;
};

DEVICE bool start_is_before(const struct begin *s, i32 seq, i64 pos)
{
    return s->seq < seq || (s->seq == seq && s->pos <= pos);
}

/* The last group that begins at or before a place on the line: the one that holds it. */
DEVICE i32 group_of(const struct begin *starts, i32 upto, i32 seq, i64 pos)
{
    i32 low = 0, high = upto; /* starts[low] <= place */
    while (low < high) {
        const i32 middle = (low + high + 1) / 2;
        if (start_is_before(&starts[middle], seq, pos))
            low = middle;
        else
            high = middle - 1;
    }
    return low;
}

/* How the line is dealt out to groups. */
struct deal {
    i64 share;    /* cost of a group; 0: all have an equal share of the line */
    i32 n_claims; /* (sequence, kv head)s to be claimed, beside the first sequences of the groups */
};

/* The first sequence, and whether all cost what it does: a sum that fits by chance is not enough, claims are whole
 * sequences. */
struct model {
    i64 cost, node_cost;
    i32 are_alike;
};

/* x rounded up to whole pieces, where that adds little; else 0. */
DEVICE i64 round_share(i64 x, i64 piece)
{
    const i64 whole = divide(x + piece - 1, piece) * piece;
    return whole - x <= x / MOST_ROUNDED ? whole : 0;
}

DEVICE bool has_claims(const struct cuda_plan_args *p, i64 total)
{
    const struct cuda_work *w = &p->work;
    const i32 seqs_each = w->batch / w->n_groups;
    const bool are_even = w->batch == seqs_each * w->n_groups || seqs_each >= 4 * CLAIM_SEQS;
    return w->can_claim && p->span.n_passes == 1 && are_even && seqs_each >= CLAIM_SEQS &&
           total >= (i64)CLAIM_COST * w->n_groups;
}

/* Sequences that are alike are claimed whole where there are many. Else they are not cut, or not within a node, where
 * that adds little to a group's share: what is not cut need not be put together again, and the memory is as busy with
 * a few blocks less. */
DEVICE struct deal deal_of(const struct cuda_plan_args *p, i64 total, const struct model *model)
{
    const struct cuda_work *w = &p->work;
    struct deal deal = { 0, 0 };
    if (total == 0 || !model->are_alike)
        return deal;
    if (has_claims(p, total)) {
        deal.share = model->cost;
        deal.n_claims = (w->batch - w->n_groups) * p->n_kv_heads;
        return deal;
    }
    const i64 share = divide(total + w->n_groups - 1, w->n_groups);
    deal.share = round_share(share, model->cost);
    if (deal.share == 0)
        deal.share = round_share(share, model->node_cost);
    return deal;
}

DEVICE void cut(const struct cuda_plan_args *p, i64 total, const struct deal *deal, i32 g, const i64 *cost,
                struct begin *begin)
{
    const struct cuda_work *w = &p->work;
    struct cuda_start *s = &w->starts[g];
    s->seq = w->batch * p->span.n_passes;
    s->cut.node_first = s->cut.unit_first = g;
    s->cut.node_leaf = 0;
    s->pos = 0;
    s->n_claims = deal->n_claims;
    const i64 even = divide(total, w->n_groups), rest = total - even * w->n_groups;
    const i64 target = deal->share > 0 ? deal->share * g : even * g + divide(rest * g, w->n_groups);
    if ((g < w->n_groups || deal->n_claims > 0) && target < total) {
        const i32 b = find_seq(cost, w->batch * p->span.n_passes, target);
        const struct cuda_seq seq = w->seqs[b];
        const struct line line = line_of(&p->span, &seq);
        s->pos = g == 0 ? 0 : divide(target - cost[b], leaf_cost(&line));
        s->seq = g == 0 ? 0 : b;
    }
    begin->seq = s->seq;
    begin->pos = s->pos;
}

/* The first step of the group's walk: one read less, and no division, before its first page is asked for. seq: where it
 * begins. */
DEVICE void set_off(const struct cuda_plan_args *p, i32 g, const struct begin *begins, const struct cuda_seq *seq)
{
    const struct begin *here = &begins[g], *behind = &begins[g + 1];
    struct cuda_start *s = &p->work.starts[g];
    struct walk walk = { *seq, here->seq, behind->seq, here->pos, behind->pos };
    s->first = walk_next(&walk, &p->span, &p->work);
    s->walk = walk;
}

/* Who folds what is cut where group g begins. */
DEVICE void link(const struct cuda_plan_args *p, i32 g, const struct begin *begins, const struct cuda_seq *seq)
{
    const struct begin *here = &begins[g];
    struct cut *cut = &p->work.starts[g].cut;
    const struct line line = line_of(&p->span, seq);
    if (here->pos >= (i64)line.n_tiles * line.n_leaves)
        return;
    const struct unit u = unit_of(&p->span, seq, here->seq, tile_at(&line, here->pos));
    const i32 leaf = (i32)(here->pos - u.place);
    if (leaf <= u.leaf_begin || leaf >= u.leaf_end)
        return;
    cut->unit_first = group_of(begins, g, here->seq, u.place + u.leaf_begin);
    const i32 node = max(u.leaf_begin, leaf >> u.node_shift << u.node_shift);
    cut->node_first = group_of(begins, g, here->seq, u.place + node);
    cut->node_leaf = (i32)(begins[cut->node_first + 1].pos - u.place);
}

extern "C" __global__ void __launch_bounds__(PLAN_THREADS, 1)
    folio_plan(const __grid_constant__ struct cuda_plan_classes classes)
{
    const struct cuda_plan_args *p = &classes.of[blockIdx.x];
    __shared__ i64 warp_sums[PLAN_THREADS / 32];
    __shared__ struct model model;
    __shared__ i64 first_costs[PLAN_THREADS + 1];
    __shared__ struct begin begins[PLAN_GROUPS + 1];
    const struct cuda_work *w = &p->work;
    i64 total = 0;
    const i32 n_lines = w->batch * p->span.n_passes;
    i64 *cost_before = n_lines <= PLAN_THREADS ? first_costs : w->cost; /* searched: each step waits for the last */
    for (i32 pass = 0; pass < p->span.n_passes; pass++)
        for (i32 first = 0; first < w->batch; first += PLAN_THREADS) {
            const i32 b = first + (i32)threadIdx.x, at = pass * w->batch + b;
            i64 cost = 0, before;
            if (b < w->batch) {
                struct cuda_seq s = pass == 0 ? read_seq(p, b) : w->seqs[b]; /* this thread wrote it */
                s.pass = (u16)pass;
                w->seqs[at] = s;
                const struct line line = line_of(&p->span, &s);
                cost = (i64)line.n_tiles * line.n_leaves * leaf_cost(&line);
                if (at == 0) {
                    model.cost = cost;
                    model.node_cost = leaf_cost(&line) << node_shift(&p->span, s.kv_len, line.leaf);
                    model.are_alike = true;
                }
            }
            const i64 sum = block_scan(cost, &before, warp_sums);
            if (b < w->batch) {
                cost_before[at] = total + before;
                if (cost != model.cost)
                    model.are_alike = false; /* whoever sets it sets the same */
            }
            total += sum;
        }
    if (threadIdx.x == 0)
        cost_before[n_lines] = total;
    for (i64 i = threadIdx.x; i < (i64)w->n_groups * p->n_kv_heads * 2 * FOLD_WARPS; i += PLAN_THREADS)
        w->counters[i] = 0;
    if (threadIdx.x == 0)
        *w->claims = 0;
    __syncthreads();
    const struct deal deal = deal_of(p, total, &model);
    for (i32 g = (i32)threadIdx.x; g <= w->n_groups; g += PLAN_THREADS)
        cut(p, total, &deal, g, cost_before, &begins[g]);
    __syncthreads();
    for (i32 g = (i32)threadIdx.x; g < w->n_groups; g += PLAN_THREADS) {
        const bool has_any = begins[g].seq < n_lines;
        struct cuda_seq seq = { 0, 0, 0, 0, 0 };
        if (has_any)
            seq = w->seqs[begins[g].seq];
        set_off(p, g, begins, &seq);
        if (has_any)
            link(p, g, begins, &seq);
    }
}
