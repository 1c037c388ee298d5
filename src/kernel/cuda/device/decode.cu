/* SPDX-License-Identifier: Apache-2.0
 * decode.cu: K1a, attention of few packed rows (group x query rows) at the speed of memory. A block is a (group of
 * the line, kv head). Each of 4 consumer warps (of each half of the rows) owns 16 or 32 tokens of every tile and its
 * own m, l, o over these rows, so that every byte of K and V is read from shared memory once or twice; the four meet
 * once a leaf, in the hands of the mergers.
 *
 * Compiled for CONFIG_DTYPE (of q and pages), CONFIG_D_QK, CONFIG_D_V, CONFIG_ROWS (8, 16 or 32 rows of a tile),
 * CONFIG_LOADER (how pages are read), CONFIG_FULL (softcap and ALiBi), CONFIG_PROBE (read only, to measure reading). */
#include "kernel/cuda/device/ahead.cuh"
#include "kernel/cuda/device/fragments.cuh"
#include "kernel/cuda/device/jobs.cuh"
enum {
    LANE_COLUMNS = CONFIG_D_V / 32,
    AT_A_TIME = CONFIG_ROWS / MERGER_WARPS >= 2 && CONFIG_D_V <= 128 && THREADS <= 384 ? 2 : 1, /* rows of a merger */
};
#define TREE_WARPS MERGER_WARPS
#define TREE_TID ((i32)threadIdx.x - 32 * FIRST_MERGER)
#define TREE_D_V CONFIG_D_V
#define TREE_PITCH (CONFIG_D_V + 4) /* the consumers' stores then fall into different banks */
#define TREE_AHEAD (CONFIG_ROWS >= 32 || __CUDA_ARCH__ < 900 ? 4 : 8) /* as there are registers */
#define TREE_ROWS AT_A_TIME
#define TREE_LEAF_FOLD leaf_fold
#include "kernel/cuda/device/leaf.cuh"

/* ---- consumers */

/* Weights of a tile's tokens for all rows; `empty` is told once K has been read. */
DEVICE void weigh_tile(u32 p[STEPS][ROW_TILES][2], struct fragments *f, const struct consumer *c, const struct job *job,
                       u32 k_at, u64 *empty, i32 first, bool is_edge)
{
#pragma unroll
    for (i32 t0 = 0; t0 < ROW_TILES; t0 += AT_ONCE) {
        float s[STEPS][AT_ONCE][4];
#pragma unroll
        for (i32 step = 0; step < STEPS; step++)
            scores(s[step], f, t0, k_at + c->k_offset[step], c);
        if (t0 + AT_ONCE == ROW_TILES)
            warp_arrive(empty);
#pragma unroll
        for (i32 t = 0; t < AT_ONCE; t++) {
            float x[STEPS][4], top[2];
#pragma unroll
            for (i32 step = 0; step < STEPS; step++) {
#pragma unroll
                for (i32 i = 0; i < 4; i++)
                    x[step][i] = s[step][t][i];
                finish_scores(x[step], job, t0 + t, first + step * 16, is_edge);
            }
            raise(top, f, t0 + t, x);
#pragma unroll
            for (i32 step = 0; step < STEPS; step++)
                weigh(p[step][t0 + t], f, t0 + t, x[step], top);
        }
    }
}

/* Once the slot is full. */
DEVICE bool is_bad_tile(const struct ring *ring, i32 slot)
{
    bool is_bad = false;
#pragma unroll
    for (i32 i = 0; i < PRODUCERS; i++)
        is_bad |= ring->is_bad[slot][i] != 0;
    return is_bad;
}

/* One tile. True when it had a bad page. is_edge is a constant where this is inlined: tiles that every row sees whole,
 * all but a few, then have no branches. */
DEVICE bool use_tile(struct fragments *f, struct consumer *c, struct shared *sh, const struct job *job, i32 token,
                     i32 n_slots, bool is_edge)
{
    const i32 first = token + token_warp() * STEPS * 16;
    u32 p[STEPS][ROW_TILES][2];
    barrier_wait(&sh->k.full[c->tile.slot], c->tile.phase);
    bool is_bad = is_bad_tile(&sh->k, c->tile.slot);
    weigh_tile(p, f, c, job, c->k_slots + (u32)c->tile.slot * K_BYTES, &sh->k.empty[c->tile.slot], first, is_edge);
    barrier_wait(&sh->v.full[c->tile.slot], c->tile.phase);
    is_bad |= is_bad_tile(&sh->v, c->tile.slot);
#pragma unroll
    for (i32 step = 0; step < STEPS; step++)
        add_values(f, p[step], c->v_slots + (u32)c->tile.slot * V_BYTES + c->v_offset[step], c, first + step * 16,
                   &job->share.unit.keys, is_edge);
    warp_arrive(&sh->v.empty[c->tile.slot]);
    place_next(&c->tile, n_slots);
    return is_bad;
}

DEVICE void skip_tile(struct consumer *c, struct shared *sh, i32 n_slots)
{
    barrier_wait(&sh->k.full[c->tile.slot], c->tile.phase);
    barrier_wait(&sh->v.full[c->tile.slot], c->tile.phase);
    __syncwarp();
    if ((threadIdx.x & 31) == 0) {
        barrier_arrive(&sh->k.empty[c->tile.slot]);
        barrier_arrive(&sh->v.empty[c->tile.slot]);
    }
    place_next(&c->tile, n_slots);
}

DEVICE void find_q(struct fragments *f, struct consumer *c, const struct shared *sh, u8 *memory,
                   const struct cuda_decode *decode)
{
    const u32 piece = ((u32)first_row() + threadIdx.x % 8) * Q_PITCH + threadIdx.x % 32 / 8 * 16;
    c->q = shared_address(q_slots(memory, decode)) + sh->n_jobs[threadIdx.x / 32] % N_JOBS * Q_BYTES + piece;
    load_q(f, c);
}

DEVICE void use_leaf(struct fragments *f, struct consumer *c, struct shared *sh, const struct job *job, i32 leaf,
                     u8 *memory, const struct cuda_work *work, const struct cuda_decode *decode)
{
    const i32 warp = threadIdx.x / 32, rows = part_rows(work);
    const struct tiles tiles = tiles_of(&job->share.unit.keys, job->share.unit.leaf, leaf);
    bool is_bad = false;
    const bool has_rows = !CONFIG_PROBE && (HALVES == 1 || first_row() < job->share.unit.n_rows);
    if (!has_rows)
        for (i32 token = tiles.begin; token < tiles.end; token += TILE)
            skip_tile(c, sh, decode->n_slots);
    if (CONFIG_PROBE)
        return;
    if (HAS_RELAY) /* at the end of a leaf it has no registers for Q */
        find_q(f, c, sh, memory, decode);
    fragments_clear(f);
    for (i32 token = has_rows ? tiles.begin : tiles.end; token < tiles.end; token += TILE) {
        const bool is_edge = token < job->all_begin || token + TILE > job->all_end;
        if (HAS_PLAIN_TILES && !is_edge)
            is_bad |= use_tile(f, c, sh, job, token, decode->n_slots, false);
        else
            is_bad |= use_tile(f, c, sh, job, token, decode->n_slots, is_edge);
    }
    const u32 n = sh->n_leaves[warp], slot = n & (u32)(decode->n_parts - 1), phase = n >> (decode->n_parts - 1) & 1;
    if (HAS_RELAY) {
        const struct target target = target_of(&job->share.unit, leaf, job->share.begin, job->share.end);
        const struct part part = part_at(memory, decode, rows, 0);
        const struct part node = part_at(memory, decode, rows, target.is_root ? 2 : 1);
        relay(f, sh, &part, &node, n & 1, target.is_new, is_bad);
    } else {
        const struct part p = part_at(memory, decode, rows, (i32)slot * TOKEN_WARPS + token_warp());
        barrier_wait(&sh->part_empty[slot], phase ^ 1);
        fragments_store(f, p.o, p.m, p.l, TREE_PITCH, rows, is_bad);
    }
    __syncwarp();
    if ((threadIdx.x & 31) == 0) {
        sh->n_leaves[warp] = n + 1;
        if (!HAS_RELAY)
            barrier_arrive(&sh->part_full[slot]);
    }
    __syncwarp();
}

DEVICE void consume(struct shared *sh, u8 *memory, const struct attend_args *a, const struct cuda_work *work,
                    const struct cuda_decode *decode)
{
    struct consumer c;
    struct fragments f;
    c.k_slots = shared_address(memory);
    c.v_slots = shared_address(v_slots(memory, decode));
    c.tile.slot = 0;
    c.tile.phase = 0;
    find_lines(&c, IS_GATHER ? STEPS + 5 : decode->box_shift); /* log2 of TILE: a constant */
    for (;;) {
        const u32 *n = &sh->n_jobs[threadIdx.x / 32]; /* read again when needed: there are too few registers */
        barrier_wait(&sh->job_full[*n % N_JOBS], *n / N_JOBS & 1);
        const struct job *job = &sh->jobs[*n % N_JOBS];
        if (share_is_none(&job->share))
            return;
        if (!HAS_RELAY)
            find_q(&f, &c, sh, memory, decode);
        for (i32 leaf = job->share.begin; leaf < job->share.end; leaf++)
            use_leaf(&f, &c, sh, job, leaf, memory, work, decode);
        __syncwarp();
        if ((threadIdx.x & 31) == 0) {
            barrier_arrive(&sh->job_empty[*n % N_JOBS]);
            sh->n_jobs[threadIdx.x / 32] = *n + 1;
        }
        __syncwarp();
    }
}

/* ---- producers */

DEVICE void produce(bool is_v, const struct tensor_maps *maps, struct shared *sh, u8 *memory,
                    const struct attend_args *a, const struct cuda_work *work, const struct cuda_span *span,
                    const struct cuda_decode *decode)
{
    struct source s = { is_v ? &a->v : &a->k, is_v ? &a->v_table : &a->k_table, maps, is_v ? &sh->v : &sh->k,
                        is_v ? v_slots(memory, decode) : memory };
    s.part = ((i32)threadIdx.x / 32 - CONSUMER_WARPS) % PRODUCERS;
    s.lines = is_v ? V_LINES : K_LINES;
    s.code = is_v ? CUDA_ERROR_V_PAGE : CUDA_ERROR_PAGE;
    const bool writes_jobs = !HAS_CLERK && is_v && s.part == 0;
    const struct cuda_start *start = &work->starts[(i32)blockIdx.x / a->n_kv_heads];
    struct share share = start->first;
    struct walk walk = start->walk;
    struct place place = { 0, 0 }, job = { 0, 0 }, claim = { 0, 0 };
    u64 policy = 0;
    s.page_size = (u32)a->page_size;
    s.error = work->error;
    s.head = (i32)blockIdx.x % a->n_kv_heads;
    s.n_slots = decode->n_slots;
    s.box_shift = decode->box_shift;
    s.box_rows = decode->box_rows;
    s.box_inverse = (65535u + (u32)decode->box_rows) / (u32)decode->box_rows;
    s.n_windows = decode->n_windows;
#if CONFIG_LOADER != LOAD_GATHER
    policy = policy_evict_first();
#endif
    for (;; share = walk_next(&walk, span, work)) {
        if (__builtin_expect(share_is_none(&share), 0)) { /* out of the way of the first page */
            const bool claims = CLAIMS && start->n_claims > 0;
            if (claims && !is_v && s.part == 0)
                tell_claim(sh, &claim, work, a->n_kv_heads, start->n_claims);
            if (!claims || !hear_claim(&walk, &s.head, sh, &claim))
                break;
            continue;
        }
        if (writes_jobs)
            write_job(sh, q_slots(memory, decode), &job, a, span, &share, s.head);
        load_share(&s, &share, &place, policy);
    }
    if (writes_jobs)
        write_job(sh, q_slots(memory, decode), &job, a, span, &share, s.head);
}

/* ---- the clerk */

DEVICE void write_jobs(struct shared *sh, u8 *memory, const struct attend_args *a, const struct cuda_work *work,
                       const struct cuda_span *span, const struct cuda_decode *decode)
{
    const struct cuda_start *start = &work->starts[(i32)blockIdx.x / a->n_kv_heads];
    struct walk walk = start->walk;
    struct place place = { 0, 0 }, claim = { 0, 0 };
    i32 head = (i32)blockIdx.x % a->n_kv_heads;
    for (struct share share = start->first;; share = walk_next(&walk, span, work)) {
        if (CLAIMS && share_is_none(&share) && start->n_claims > 0 && hear_claim(&walk, &head, sh, &claim))
            continue;
        write_job(sh, q_slots(memory, decode), &place, a, span, &share, head);
        if (share_is_none(&share))
            return;
    }
}

/* ---- mergers */

DEVICE void merge_leaf(struct tree *tree, const struct job *job, i32 leaf, struct due due, const struct attend_args *a)
{
    const struct share *share = &job->share;
    const struct unit *u = &share->unit;
    const i32 head = CLAIMS ? job->head : tree->head;
    if (tree_add(tree, u, leaf, share->begin, share->end, due))
        FOR_ROWS(r, u->n_rows)
    write_row(a, u, head, u->row_begin + r, tree->root.o + r * TREE_PITCH, tree->root.m[r], tree->root.l[r]);
}

DEVICE void merge(struct shared *sh, u8 *memory, const struct attend_args *a, const struct cuda_work *work,
                  const struct cuda_decode *decode)
{
    const i32 rows = part_rows(work), n_parts = decode->n_parts;
    const struct cut cut = work->starts[(i32)blockIdx.x / a->n_kv_heads].cut;
    struct tree tree;
    struct place part = { 0, 0 }, job = { 0, 0 };
    tree.work = work;
    tree.node = part_at(memory, decode, rows, n_parts * LEAF_PARTS);
    tree.root = part_at(memory, decode, rows, n_parts * LEAF_PARTS + 1);
    tree.group = (i32)blockIdx.x / a->n_kv_heads;
    tree.head = (i32)blockIdx.x % a->n_kv_heads; /* of what is cut; what is claimed is not */
    tree.n_kv_heads = a->n_kv_heads;
    tree.cut = &cut;
    for (;; place_next(&job, N_JOBS)) {
        barrier_wait(&sh->job_full[job.slot], job.phase);
        const struct share *share = &sh->jobs[job.slot].share;
        if (share_is_none(share))
            return;
        for (i32 leaf = share->begin; leaf < share->end; leaf++) {
            const struct due due = tree_announce(&tree, &share->unit, leaf, share->begin, share->end);
            barrier_wait(&sh->part_full[part.slot], part.phase);
            tree.leaf = part_at(memory, decode, rows, part.slot * LEAF_PARTS);
            merge_leaf(&tree, &sh->jobs[job.slot], leaf, due, a);
            warp_arrive(&sh->part_empty[part.slot]);
            place_next(&part, n_parts);
        }
        warp_arrive(&sh->job_empty[job.slot]);
    }
}

/* ---- the block */

DEVICE void make_barriers(struct shared *sh, i32 n_slots, i32 n_windows)
{
    /* every lane's copies, and a word that all were issued; or the word that tells how many bytes come */
    const i32 fills = CONFIG_LOADER == LOAD_GATHER ? PRODUCERS * 33 : PRODUCERS * n_windows;
    const i32 i = (i32)threadIdx.x;
    if (i < n_slots) {
        barrier_init(&sh->k.full[i], fills);
        barrier_init(&sh->v.full[i], fills);
        barrier_init(&sh->k.empty[i], CONSUMER_WARPS);
        barrier_init(&sh->v.empty[i], CONSUMER_WARPS);
    }
    if (i < CONSUMER_WARPS)
        sh->n_leaves[i] = sh->n_jobs[i] = 0;
    if (i == 0)
        sh->is_late = 0;
    if (i < N_CLAIMS) {
        barrier_init(&sh->claim_full[i], 1);
        barrier_init(&sh->claim_empty[i], 2 * PRODUCERS + HAS_CLERK);
    }
    if (i < N_JOBS) {
        barrier_init(&sh->job_full[i], 1);
        barrier_init(&sh->job_empty[i], CONSUMER_WARPS + (CONFIG_PROBE ? 0 : MERGER_WARPS));
    }
    if (i < MAX_PARTS) {
        barrier_init(&sh->part_full[i], HAS_RELAY ? HALVES : CONSUMER_WARPS);
        barrier_init(&sh->part_empty[i], MERGER_WARPS);
    }
    if (i < HALVES * TOKEN_WARPS)
        barrier_init(&sh->part_turn[i / TOKEN_WARPS][i % TOKEN_WARPS], 1);
#if CONFIG_LOADER != LOAD_GATHER
    barriers_visible_to_copies();
#endif
    __syncthreads();
}

extern "C" __global__ void __launch_bounds__(THREADS, 1)
    folio_decode(const __grid_constant__ struct attend_args a, const __grid_constant__ struct cuda_work work,
                 const __grid_constant__ struct cuda_span span, const __grid_constant__ struct cuda_decode decode,
                 const __grid_constant__ struct tensor_maps k_maps, const __grid_constant__ struct tensor_maps v_maps)
{
    DYNAMIC_SHARED(1024, dynamic);
    __shared__ struct shared sh;
    u8 *memory = dynamic + (-shared_address(dynamic) & 1023);
    const i32 warp = (i32)threadIdx.x / 32;
    make_barriers(&sh, decode.n_slots, decode.n_windows);
#if CONFIG_LOADER != LOAD_GATHER
    if (threadIdx.x == 32 * CONSUMER_WARPS) { /* a lane of the first producer */
        map_prefetch(&k_maps.box);
        map_prefetch(&v_maps.box);
    }
    if (warp == FIRST_MERGER || warp == FIRST_MERGER + 1) { /* they have nothing to do for long */
        const bool is_v = warp > FIRST_MERGER;
        ask_ahead(&a, &work, &decode, is_v ? &v_maps.box : &k_maps.box, is_v, &sh.is_late);
    }
#endif
    grid_wait(); /* all above may run beside the end of the grid before */
    grid_launch_next();
    if (threadIdx.x == 0)
        *(volatile u32 *)&sh.is_late = 1;
    if (warp < CONSUMER_WARPS) {
        consume(&sh, memory, &a, &work, &decode);
    } else if (warp < CONSUMER_WARPS + 2 * PRODUCERS) {
        const bool is_v = warp >= CONSUMER_WARPS + PRODUCERS;
        /* One code for K and V: loops of their own would not stay in the instruction cache beside the consumers' and
         * the mergers'. Only 16-byte copies, whose addresses are most of the work, gain by knowing which they are. */
        if (CONFIG_LOADER != LOAD_GATHER)
            produce(is_v, is_v ? &v_maps : &k_maps, &sh, memory, &a, &work, &span, &decode);
        else if (is_v)
            produce(true, &v_maps, &sh, memory, &a, &work, &span, &decode);
        else
            produce(false, &k_maps, &sh, memory, &a, &work, &span, &decode);
    } else if (HAS_CLERK && warp == CLERK) {
        write_jobs(&sh, memory, &a, &work, &span, &decode);
    } else if (!CONFIG_PROBE) {
        merge(&sh, memory, &a, &work, &decode);
    }
}
