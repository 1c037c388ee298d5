/* SPDX-License-Identifier: Apache-2.0
 * wide.cu: K1b, attention of many packed rows (group x query rows) by products of warpgroups. A block is a (group of
 * the line, kv head). Each of two warpgroups has 64 of a tile's 128 rows and reads every tile of K and V; scores,
 * weights and sums stay in its registers from a leaf's first key to its last, and so do the leaves folded so far.
 *
 * Compiled for CONFIG_DTYPE (of q and pages), CONFIG_D_QK, CONFIG_D_V (128), CONFIG_LOADER (boxes, or
 * 16-byte copies), CONFIG_FULL (softcap and ALiBi). */
#include "kernel/cuda/device/wide_tile.cuh"
#include "kernel/cuda/device/loader.cuh"

/* ---- Q */

DEVICE void q_piece(u8 *to, const struct attend_args *a, const struct unit *u, i32 head, i32 r, i32 piece,
                    bool is_aligned)
{
    uint4 x = { 0, 0, 0, 0 };
    if (r < u->n_rows) {
        const i32 packed = u->row_begin + r;
        const u8 *from = a->q.data + row_token(u, packed, a->group) * a->q.token_stride +
                         row_head(head, packed, a->group) * a->q.head_stride + piece * 16;
        if (is_aligned) {
            x = *(const uint4 *)from;
        } else {
            const u16 *e = (const u16 *)from;
            x.x = e[0] | (u32)e[1] << 16, x.y = e[2] | (u32)e[3] << 16;
            x.z = e[4] | (u32)e[5] << 16, x.w = e[6] | (u32)e[7] << 16;
        }
    }
    *(uint4 *)to = x;
}

/* This warpgroup's rows; what the unit lacks is zero. */
DEVICE void read_q(u8 *q, i32 group, const struct attend_args *a, const struct unit *u, i32 head)
{
    enum { PIECES = CONFIG_D_QK / 8 };
    const bool is_aligned = (((u64)a->q.data | a->q.token_stride | a->q.head_stride) & 15) == 0;
    group_sync(group); /* the products of the job before are done with it */
#pragma unroll 8
    for (i32 i = (i32)threadIdx.x % GROUP_THREADS; i < GROUP_ROWS * PIECES; i += GROUP_THREADS) {
        const i32 r = i / PIECES, piece = i % PIECES;
        q_piece(q + piece / 8 * GROUP_ROWS * LINE + r * LINE + ((piece ^ r) & 7) * 16, a, u, head,
                group * GROUP_ROWS + r, piece, is_aligned);
    }
    writes_visible_to_products();
    group_sync(group);
}

/* ---- a leaf, a share */

DEVICE void use_leaf(struct sums *s, struct consumer *c, struct shared *sh, const struct job *job, i32 leaf)
{
    const struct tiles tiles = tiles_of(&job->share.unit.keys, job->share.unit.leaf, leaf);
    const struct keys *any = &job->any[c->group];
    const i32 end = c->group * GROUP_ROWS < job->share.unit.n_rows ? min(tiles.end, any->end) : tiles.begin;
    i32 token = tiles.begin;
    bool is_bad = false;
    sums_clear(s);
    for (; token < end && token + TILE <= any->begin; token += TILE)
        is_bad |= skip_tile(c, sh);
    if (token < end) {
        is_bad |= use_tiles(s, c, sh, job, token, end);
        token += (end - token + TILE - 1) / TILE * TILE;
    }
    for (; token < tiles.end; token += TILE)
        is_bad |= skip_tile(c, sh);
#pragma unroll
    for (i32 row = 0; row < 2; row++) {
        s->l[row] += __shfl_xor_sync(~0u, s->l[row], 1);
        s->l[row] += __shfl_xor_sync(~0u, s->l[row], 2);
        s->m[row] = is_bad ? 0.0f : s->m[row];
        s->l[row] = is_bad ? NAN_F : s->l[row];
    }
}

/* A finished row's columns, by the four lanes that have it. */
DEVICE void write_wide_row(const struct attend_args *a, const struct unit *u, i32 head, const struct sums *s, i32 row)
{
    const i32 r = my_row() + row * 8, packed = u->row_begin + r;
    if (r >= u->n_rows)
        return;
    const i32 q_head = row_head(head, packed, a->group), first = (i32)(threadIdx.x & 3) * 2;
    const i64 token = row_token(u, packed, a->group);
    float factor, lse = close_row(a, q_head, s->m[row], s->l[row], &factor);
    if (u->is_poisoned)
        lse = factor = NAN_F;
    u8 *out = a->out.data + token * a->out.token_stride + q_head * a->out.head_stride;
    const i32 bytes = number_bytes(a->out.dtype);
    const bool is_pair = bytes == 2 && a->out.dtype == CONFIG_DTYPE && ((u64)out & 3) == 0;
#pragma unroll
    for (i32 j = 0; j < SUMS / 4; j++) {
        const float x = u->is_poisoned ? NAN_F : s->o[4 * j + 2 * row] * factor;
        const float y = u->is_poisoned ? NAN_F : s->o[4 * j + 2 * row + 1] * factor;
        u8 *to = out + (i64)(first + 8 * j) * bytes;
        if (is_pair) {
            *(u32 *)to = pack(x, y);
        } else {
            store_number(to, a->out.dtype, x);
            store_number(to + bytes, a->out.dtype, y);
        }
    }
    if (first == 0 && a->lse)
        *(float *)((u8 *)a->lse + token * a->lse_token_stride + q_head * a->lse_head_stride) = lse;
}

DEVICE void write_sums(const struct attend_args *a, const struct unit *u, i32 head, const struct sums *s)
{
    write_wide_row(a, u, head, s, 0);
    write_wide_row(a, u, head, s, 1);
}

/* The rows of this warp that a share's leaves have been folded into, or that are in slots: on their way. */
DEVICE void close_share(struct sums *sum, struct pieces *p, const struct share *share, i32 node_leaf,
                        const struct attend_args *a)
{
    const struct unit *u = &share->unit;
    const bool begins = share->begin == u->leaf_begin, ends = share->end == u->leaf_end;
    if (!begins || !ends) {
        const i32 cut = begins ? share->end : node_leaf; /* the leaves before it are in one slot */
        if (begins)
            piece_store(piece_slot(p, share->end - 1), sum);
        if (!pieces_arrive(p, share->end - share->begin, u->leaf_end - u->leaf_begin))
            return;
        pieces_fold(sum, p, piece_slot(p, cut - 1), 1 + u->leaf_end - cut);
    }
    write_sums(a, u, p->head, sum);
}

DEVICE void use_share(struct consumer *c, struct pieces *p, struct shared *sh, const struct job *job,
                      const struct cut *cut, float4 *parked, const struct attend_args *a)
{
    const struct share *share = &job->share;
    struct sums sum, leaf;
    const bool has_rows = (i32)(threadIdx.x / 32) * WARP_ROWS < share->unit.n_rows;
    const bool begins = share->begin == share->unit.leaf_begin;
    p->first = begins ? (i32)blockIdx.x / a->n_kv_heads : cut->unit_first;
    sums_clear(&sum);
    sums_park(parked, &sum);
    for (i32 i = share->begin; i < share->end; i++) {
        use_leaf(&leaf, c, sh, job, i);
        sums_unpark(&sum, parked);
        if (begins)
            sums_fold(&sum, &leaf);
        else if (has_rows)
            piece_store(piece_slot(p, i), &leaf);
        sums_park(parked, &sum);
    }
    sums_unpark(&sum, parked);
    if (has_rows)
        close_share(&sum, p, share, cut->node_leaf, a);
}

DEVICE void consume(struct shared *sh, u8 *memory, const struct attend_args *a, const struct cuda_work *work,
                    const struct cuda_decode *decode)
{
    const i32 group = my_group();
    u8 *q = q_rows(memory, decode, group);
    struct consumer c = { shared_address(memory), shared_address(v_slots(memory, decode)), shared_address(q), group };
    struct pieces p = { work, 0, (i32)blockIdx.x % a->n_kv_heads, a->n_kv_heads };
    const struct cut *cut = &work->starts[(i32)blockIdx.x / a->n_kv_heads].cut;
    c.k_tile.slot = c.v_tile.slot = 0;
    c.k_tile.phase = c.v_tile.phase = 0;
    c.n_slots = decode->n_slots;
    for (struct place place = { 0, 0 };; place_next(&place, N_JOBS)) {
        barrier_wait(&sh->job_full[place.slot], place.phase);
        const struct job *job = &sh->jobs[place.slot];
        if (share_is_none(&job->share))
            return;
        read_q(q, group, a, &job->share.unit, p.head);
        use_share(&c, &p, sh, job, cut, parked_sums(memory, decode), a);
        warp_arrive(&sh->job_empty[place.slot]);
    }
}

/* ---- producers */

DEVICE void produce(bool is_v, const struct tensor_maps *maps, struct shared *sh, u8 *memory,
                    const struct attend_args *a, const struct cuda_work *work, const struct cuda_decode *decode)
{
    struct source s = { is_v ? &a->v : &a->k, is_v ? &a->v_table : &a->k_table, maps, is_v ? &sh->v : &sh->k,
                        is_v ? v_slots(memory, decode) : memory };
    s.part = ((i32)threadIdx.x / 32 - CONSUMER_WARPS) % PRODUCERS;
    s.lines = is_v ? V_LINES : K_LINES;
    s.code = is_v ? CUDA_ERROR_V_PAGE : CUDA_ERROR_PAGE;
    s.page_size = (u32)a->page_size;
    s.error = work->error;
    s.head = (i32)blockIdx.x % a->n_kv_heads;
    s.n_slots = decode->n_slots;
    s.box_shift = decode->box_shift;
    struct place place = { 0, 0 };
    u64 policy = 0;
#if CONFIG_LOADER != LOAD_GATHER
    policy = policy_evict_first();
#endif
    struct share share = work->starts[(i32)blockIdx.x / a->n_kv_heads].first; /* before the clerk has written it */
    for (struct place job = { 0, 0 }; !share_is_none(&share);) {
        load_share(&s, &share, &place, policy);
        barrier_wait(&sh->job_full[job.slot], job.phase);
        warp_arrive(&sh->job_empty[job.slot]);
        place_next(&job, N_JOBS);
        barrier_wait(&sh->job_full[job.slot], job.phase);
        share = sh->jobs[job.slot].share;
    }
}

/* ---- the clerk */

DEVICE void write_jobs(struct shared *sh, const struct attend_args *a, const struct cuda_work *work,
                       const struct cuda_span *span)
{
    const struct cuda_start *start = &work->starts[(i32)blockIdx.x / a->n_kv_heads];
    struct walk walk = start->walk;
    struct place place = { 0, 0 };
    for (struct share share = start->first;; share = walk_next(&walk, span, work)) {
        write_job(sh, &place, a, span, &share, (i32)blockIdx.x % a->n_kv_heads);
        if (share_is_none(&share))
            return;
    }
}

/* ---- the block */

DEVICE void make_barriers(struct shared *sh, i32 n_slots)
{
    /* every lane's copies, and a word that all were issued; or the word that tells how many bytes come */
    const i32 i = (i32)threadIdx.x, fills = IS_GATHER ? PRODUCERS * 33 : PRODUCERS;
    if (i < n_slots) {
        barrier_init(&sh->k.full[i], fills);
        barrier_init(&sh->v.full[i], fills);
        barrier_init(&sh->k.empty[i], CONSUMER_WARPS);
        barrier_init(&sh->v.empty[i], CONSUMER_WARPS);
    }
    if (i < N_JOBS) {
        barrier_init(&sh->job_full[i], 1);
        barrier_init(&sh->job_empty[i], CONSUMER_WARPS + 2 * PRODUCERS);
    }
    barriers_visible_to_copies();
    __syncthreads();
}

extern "C" __global__ void __launch_bounds__(THREADS, 1)
    folio_wide(const __grid_constant__ struct attend_args a, const __grid_constant__ struct cuda_work work,
               const __grid_constant__ struct cuda_span span, const __grid_constant__ struct cuda_decode decode,
               const __grid_constant__ struct tensor_maps k_maps, const __grid_constant__ struct tensor_maps v_maps)
{
    DYNAMIC_SHARED(1024, dynamic);
    __shared__ struct shared sh;
    u8 *memory = dynamic + (-shared_address(dynamic) & 1023);
    const i32 warp = (i32)threadIdx.x / 32;
    make_barriers(&sh, decode.n_slots);
    if (!IS_GATHER && threadIdx.x == 32 * CONSUMER_WARPS) {
        map_prefetch(&k_maps.box);
        map_prefetch(&v_maps.box);
    }
    grid_wait(); /* all above may run beside the end of the grid before */
    grid_launch_next();
    if (warp < CONSUMER_WARPS) {
        take_registers();
        consume(&sh, memory, &a, &work, &decode);
    } else {
        give_registers();
        const bool is_v = warp >= CONSUMER_WARPS + PRODUCERS;
        if (warp == CLERK)
            write_jobs(&sh, &a, &work, &span);
        else if (warp < CLERK)
            produce(is_v, is_v ? &v_maps : &k_maps, &sh, memory, &a, &work, &decode);
    }
}
