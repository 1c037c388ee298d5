/* SPDX-License-Identifier: Apache-2.0
 * generic.cu: G, attention for every legal input: any dims, strides, page sizes, groups, masks. Right before fast: one
 * block a (group of the line, kv head); a thread a key for scores, a thread a column for values; f32 throughout.
 * Compiled for CONFIG_Q_DTYPE and CONFIG_PAGE_DTYPE (enum dtype). */
#include "kernel/cuda/device/error.cuh"
#define TREE_WARPS (GENERIC_THREADS / 32)
#define TREE_TID ((i32)threadIdx.x)
#define TREE_D_V generic_d_v
#define TREE_PITCH generic_d_v
__shared__ int generic_d_v;
#include "kernel/cuda/device/scores.cuh"
#define TREE_AHEAD 2 /* as there are registers */
#define TREE_ROWS 1
#define TREE_LEAF_FOLD leaf_fold
#include "kernel/cuda/device/tree.cuh"

enum {
    CHUNK = 4, /* rows that share one read of a key or value */
    ELEMENT = CONFIG_PAGE_DTYPE == DTYPE_F32 ? 4 : 2,
    VECTOR = 16 / ELEMENT, /* elements of a 16-byte read of K */
    QUAD = 4,              /* elements of a read of V */
};

/* t->leaf -> dst */
DEVICE void leaf_fold(const struct tree *t, const struct part *dst, i32 n_rows, bool is_first)
{
    part_fold(dst, &t->leaf, n_rows, is_first);
}

struct generic {
    struct part leaf, node, root; /* [tile_rows][d_v] ... */
    float *q;                     /* [tile_rows up to a multiple of CHUNK][d_qk padded to 8] */
    float *p;                     /* [tile_rows][GENERIC_LEAF] scores, then weights */
    float *sums;                  /* [GENERIC_THREADS][CHUNK] */
    i64 *k_at, *v_at;             /* [GENERIC_LEAF] byte offset of each key's row; -1 = not read */
    i32 *is_bad;
};

DEVICE i32 padded(i32 dim)
{
    return (dim + 7) / 8 * 8;
}

DEVICE void part_take(struct part *p, float **memory, i32 rows, i32 d_v)
{
    p->o = *memory;
    p->m = p->o + rows * d_v;
    p->l = p->m + rows;
    *memory = p->l + rows;
}

DEVICE void generic_layout(struct generic *g, u8 *memory, i32 rows, i32 d_qk, i32 d_v)
{
    g->k_at = (i64 *)memory;
    g->v_at = g->k_at + GENERIC_LEAF;
    g->q = (float *)(g->v_at + GENERIC_LEAF);
    g->p = g->q + (rows + CHUNK - 1) / CHUNK * CHUNK * padded(d_qk);
    g->sums = g->p + rows * GENERIC_LEAF;
    float *rest = g->sums + GENERIC_THREADS * CHUNK;
    part_take(&g->leaf, &rest, rows, d_v);
    part_take(&g->node, &rest, rows, d_v);
    part_take(&g->root, &rest, rows, d_v);
    g->is_bad = (i32 *)rest;
}

DEVICE void load_q(const struct generic *g, const struct attend_args *a, const struct unit *u, i32 head)
{
    const i32 d_qk = a->q.dim, width = padded(d_qk);
    for (i32 i = threadIdx.x; i < u->n_rows * width; i += GENERIC_THREADS) {
        const i32 r = i / width, d = i % width, packed = u->row_begin + r;
        const u8 *row = a->q.data + row_token(u, packed, a->group) * a->q.token_stride +
                        row_head(head, packed, a->group) * a->q.head_stride;
        g->q[i] = d < d_qk ? load_number(row + (i64)d * number_bytes(CONFIG_Q_DTYPE), CONFIG_Q_DTYPE) : 0.0f;
    }
    if (threadIdx.x == 0)
        *g->is_bad = 0;
}

/* Byte offset of (sequence, key, head) through a page table; -1 when the page id is bad. */
DEVICE i64 key_offset(const struct table_view *table, const struct pages_view *pages, const struct attend_args *a,
                      i32 seq, i32 key, i32 head, i32 code, struct cuda_error *error)
{
    const i32 column = key / (i32)a->page_size, slot = key % (i32)a->page_size;
    const i64 row = table->indptr ? load_index(table->indptr, table->indptr_is_i64, seq) : (i64)seq * table->row_stride;
    const i64 page = load_index(table->ids, table->ids_are_i64, row + column);
    if (page < 0 || page >= pages->n_pages) {
        report_error(error, code, seq, column, page);
        return -1;
    }
    return page * pages->page_stride + slot * pages->slot_stride + head * pages->head_stride;
}

/* Every id that the sequence uses, not only those this tile reads: a bad one makes all rows of the sequence NaN. */
DEVICE void check_table(const struct generic *g, const struct attend_args *a, const struct unit *u,
                        struct cuda_error *error)
{
    for (i64 key = threadIdx.x * a->page_size; key < u->n; key += GENERIC_THREADS * a->page_size)
        if (key_offset(&a->k_table, &a->k, a, u->seq, (i32)key, 0, CUDA_ERROR_PAGE, error) < 0 ||
            key_offset(&a->v_table, &a->v, a, u->seq, (i32)key, 0, CUDA_ERROR_V_PAGE, error) < 0)
            *g->is_bad = 1;
}

/* VECTOR elements as floats. */
DEVICE void unpack(float x[VECTOR], const uint4 raw)
{
    const u32 words[4] = { raw.x, raw.y, raw.z, raw.w };
#pragma unroll
    for (i32 i = 0; i < VECTOR; i++) {
        const u16 half = (u16)(words[i * ELEMENT / 4] >> (i % 2 * 16));
        x[i] = CONFIG_PAGE_DTYPE == DTYPE_F32   ? __uint_as_float(words[i * ELEMENT / 4])
               : CONFIG_PAGE_DTYPE == DTYPE_F16 ? f16_to_f32(half)
                                                : bf16_to_f32(half);
    }
}

/* q: 16-byte aligned, rows a multiple of 8 floats apart. */
DEVICE void dot_vector(float acc[CHUNK], const uint4 raw, const float *q, i32 width)
{
    float x[VECTOR];
    unpack(x, raw);
#pragma unroll
    for (i32 r = 0; r < CHUNK; r++)
#pragma unroll
        for (i32 i = 0; i < VECTOR; i += 4) {
            const float4 y = *(const float4 *)(q + r * width + i);
            acc[r] = fmaf(x[i], y.x, acc[r]);
            acc[r] = fmaf(x[i + 1], y.y, acc[r]);
            acc[r] = fmaf(x[i + 2], y.z, acc[r]);
            acc[r] = fmaf(x[i + 3], y.w, acc[r]);
        }
}

/* Dot products of one key's row with CHUNK rows of q. Several reads are on their way at a time: a thread reads its row
 * alone, and little else hides the memory's latency. */
DEVICE void dots(float acc[CHUNK], const u8 *k, const float *q, i32 d_qk, i32 width, bool is_vector)
{
    enum { AHEAD = ELEMENT == 4 ? 2 : 4 }; /* registers: 4 spill with f32 */
#pragma unroll
    for (i32 r = 0; r < CHUNK; r++)
        acc[r] = 0.0f;
    i32 d = 0;
    if (is_vector) {
#pragma unroll 1
        for (; d + AHEAD * VECTOR <= d_qk; d += AHEAD * VECTOR) {
            uint4 raw[AHEAD];
#pragma unroll
            for (i32 i = 0; i < AHEAD; i++)
                raw[i] = *(const uint4 *)(k + (d + i * VECTOR) * ELEMENT);
#pragma unroll
            for (i32 i = 0; i < AHEAD; i++)
                dot_vector(acc, raw[i], q + d + i * VECTOR, width);
        }
#pragma unroll 1
        for (; d < d_qk; d += VECTOR)
            dot_vector(acc, *(const uint4 *)(k + d * ELEMENT), q + d, width);
    }
    for (; d < d_qk; d++) {
        const float x = load_number(k + (i64)d * ELEMENT, CONFIG_PAGE_DTYPE);
#pragma unroll
        for (i32 r = 0; r < CHUNK; r++)
            acc[r] = fmaf(x, q[r * width + d], acc[r]);
    }
}

/* Scores of a leaf -> g->p; offsets of its keys -> g->k_at, g->v_at. */
DEVICE void leaf_scores(const struct generic *g, const struct attend_args *a, const struct cuda_span *span,
                        const struct unit *u, i32 head, i32 leaf, struct cuda_error *error)
{
    const i32 t = threadIdx.x, key = leaf * u->leaf + t, width = padded(a->q.dim);
    const bool is_vector = a->k.head_dim % VECTOR == 0 &&
                           (((u64)a->k.data | a->k.page_stride | a->k.slot_stride | a->k.head_stride) & 15) == 0;
    i64 k_at = -1, v_at = -1;
    if (t < u->leaf && key >= u->keys.begin && key < u->keys.end) {
        k_at = key_offset(&a->k_table, &a->k, a, u->seq, key, head, CUDA_ERROR_PAGE, error);
        v_at = key_offset(&a->v_table, &a->v, a, u->seq, key, head, CUDA_ERROR_V_PAGE, error);
        if (k_at < 0 || v_at < 0)
            *g->is_bad = 1;
    }
    g->k_at[t] = k_at;
    g->v_at[t] = v_at;
    for (i32 first = 0; first < u->n_rows; first += CHUNK) {
        float acc[CHUNK];
        if (k_at >= 0)
            dots(acc, a->k.data + k_at, g->q + first * width, a->q.dim, width, is_vector);
#pragma unroll
        for (i32 r = 0; r < CHUNK; r++)
            if (first + r < u->n_rows)
                g->p[(first + r) * GENERIC_LEAF + t] =
                    k_at < 0 || v_at < 0 ? -INFINITY_F
                                         : score_of(a, span, u, head, u->row_begin + first + r, key, acc[r]);
    }
}

/* Scores -> weights and (m, l) of the leaf: a warp a row. */
DEVICE void leaf_softmax(const struct generic *g, i32 n_rows)
{
    const i32 lane = threadIdx.x & 31;
    FOR_ROWS(r, n_rows)
    {
        float *p = g->p + r * GENERIC_LEAF;
        float m = -INFINITY_F, l = 0.0f;
        bool has_nan = false;
        for (i32 t = lane; t < GENERIC_LEAF; t += 32) {
            m = fmaxf(m, p[t]);
            has_nan |= p[t] != p[t];
        }
        for (i32 i = 16; i; i /= 2)
            m = fmaxf(m, __shfl_xor_sync(~0u, m, i));
        if (__any_sync(~0u, has_nan) && m == -INFINITY_F)
            m = 0.0f;
        for (i32 t = lane; t < GENERIC_LEAF; t += 32) {
            const float w = m == -INFINITY_F || p[t] == -INFINITY_F ? 0.0f : exp2f(p[t] - m);
            p[t] = w;
            l += w;
        }
        for (i32 i = 16; i; i /= 2)
            l += __shfl_xor_sync(~0u, l, i);
        if (lane == 0) {
            g->leaf.m[r] = m;
            g->leaf.l[r] = l;
        }
    }
}

/* The weight of key t for a row of the chunk. */
DEVICE float weight_of(const struct generic *g, const struct unit *u, i32 row, i32 t)
{
    return g->p[min(row, u->n_rows - 1) * GENERIC_LEAF + t];
}

/* Sums of one column over the parts of the keys, in order, by the threads of part 0. */
DEVICE void add_parts(const struct generic *g, const struct unit *u, const float acc[CHUNK], i32 first, i32 d, i32 d_v,
                      i32 columns)
{
    const i32 n_parts = GENERIC_THREADS / columns, part = threadIdx.x / columns, column = threadIdx.x % columns;
#pragma unroll
    for (i32 r = 0; r < CHUNK; r++)
        g->sums[threadIdx.x * CHUNK + r] = acc[r];
    __syncthreads();
    if (part == 0 && d < d_v)
        for (i32 r = 0; r < CHUNK && first + r < u->n_rows; r++) {
            float sum = 0.0f;
            for (i32 i = 0; i < n_parts; i++)
                sum += g->sums[(i * columns + column) * CHUNK + r];
            g->leaf.o[(first + r) * d_v + d] = sum;
        }
    __syncthreads();
}

/* Weights and values -> o of the leaf. Threads: n_parts parts of the keys x columns; parts are summed in order. */
DEVICE void leaf_values(const struct generic *g, const struct attend_args *a, const struct unit *u)
{
    const i32 d_v = a->out.dim, columns = min((d_v + 31) / 32 * 32, GENERIC_THREADS);
    const i32 n_parts = GENERIC_THREADS / columns, part = threadIdx.x / columns, column = threadIdx.x % columns;
    for (i32 first = 0; first < u->n_rows; first += CHUNK)
        for (i32 d0 = 0; d0 < d_v; d0 += columns) {
            const i32 d = d0 + column;
            float acc[CHUNK] = { 0.0f, 0.0f, 0.0f, 0.0f };
            if (part < n_parts && d < d_v)
#pragma unroll 4
                for (i32 t = part; t < u->leaf; t += n_parts) {
                    const i64 at = g->v_at[t];
                    if (at < 0)
                        continue;
                    const float x = load_number(a->v.data + at + (i64)d * ELEMENT, CONFIG_PAGE_DTYPE);
#pragma unroll
                    for (i32 r = 0; r < CHUNK; r++) {
                        const float w = weight_of(g, u, first + r, t);
                        acc[r] = w == 0.0f ? acc[r] : fmaf(w, x, acc[r]); /* a removed key's value may be NaN */
                    }
                }
            add_parts(g, u, acc, first, d, d_v, columns);
        }
}

/* acc [QUAD][CHUNK] += the weights of key t times its four values. */
DEVICE void add_quad(float acc[QUAD][CHUNK], const struct generic *g, const struct unit *u, i32 first, i32 t,
                     const float x[QUAD])
{
#pragma unroll
    for (i32 r = 0; r < CHUNK; r++) {
        const float w = weight_of(g, u, first + r, t);
        if (w != 0.0f) /* a removed key's value may be NaN */
#pragma unroll
            for (i32 i = 0; i < QUAD; i++)
                acc[i][r] = fmaf(w, x[i], acc[i][r]);
    }
}

/* Columns d .. d + 3 of the value at byte `at`; zeros where there is none (-1). */
DEVICE void read_quad(float x[QUAD], const u8 *v, i64 at, i32 d)
{
    const u8 *from = v + at + (i64)d * ELEMENT;
    if (ELEMENT == 4) {
        const float4 raw = at < 0 ? make_float4(0, 0, 0, 0) : *(const float4 *)from;
        x[0] = raw.x, x[1] = raw.y, x[2] = raw.z, x[3] = raw.w;
        return;
    }
    const uint2 raw = at < 0 ? make_uint2(0, 0) : *(const uint2 *)from;
    const u32 words[2] = { raw.x, raw.y };
#pragma unroll
    for (i32 i = 0; i < QUAD; i++) {
        const u16 half = (u16)(words[i / 2] >> (i % 2 * 16));
        x[i] = CONFIG_PAGE_DTYPE == DTYPE_F16 ? f16_to_f32(half) : bf16_to_f32(half);
    }
}

/* The same, a thread four columns side by side: a quarter of the reads and of the looks at weights. */
DEVICE void leaf_values_quads(const struct generic *g, const struct attend_args *a, const struct unit *u)
{
    enum { AHEAD = ELEMENT == 4 ? 2 : 4 };
    const i32 d_v = a->out.dim, columns = min((d_v / QUAD + 7) / 8 * 8, GENERIC_THREADS);
    const i32 n_parts = GENERIC_THREADS / columns, part = threadIdx.x / columns, column = threadIdx.x % columns;
    for (i32 first = 0; first < u->n_rows; first += CHUNK)
        for (i32 d0 = 0; d0 < d_v; d0 += columns * QUAD) {
            const i32 d = d0 + column * QUAD;
            float acc[QUAD][CHUNK] = { { 0.0f } };
            if (part < n_parts && d < d_v)
#pragma unroll 1
                for (i32 t = part; t < u->leaf; t += AHEAD * n_parts) {
                    float x[AHEAD][QUAD];
#pragma unroll
                    for (i32 i = 0; i < AHEAD; i++)
                        read_quad(x[i], a->v.data, t + i * n_parts < u->leaf ? g->v_at[t + i * n_parts] : -1, d);
#pragma unroll
                    for (i32 i = 0; i < AHEAD; i++)
                        if (t + i * n_parts < u->leaf)
                            add_quad(acc, g, u, first, t + i * n_parts, x[i]);
                }
#pragma unroll
            for (i32 i = 0; i < QUAD; i++)
                add_parts(g, u, acc[i], first, d + i, d_v, columns);
        }
}

DEVICE bool is_quads(const struct attend_args *a)
{
    return a->out.dim % QUAD == 0 &&
           (((u64)a->v.data | a->v.page_stride | a->v.slot_stride | a->v.head_stride) % (QUAD * ELEMENT)) == 0;
}

/* A bad page id: nothing of this sequence is worth keeping. */
DEVICE void leaf_poison(const struct generic *g, i32 n_rows, i32 d_v)
{
    for (i32 i = threadIdx.x; i < n_rows * d_v; i += GENERIC_THREADS)
        g->leaf.o[i] = NAN_F;
    for (i32 r = threadIdx.x; r < n_rows; r += GENERIC_THREADS) {
        g->leaf.m[r] = 0.0f;
        g->leaf.l[r] = NAN_F;
    }
    __syncthreads();
}

extern "C" __global__ void __launch_bounds__(GENERIC_THREADS, 2)
    folio_generic(const __grid_constant__ struct attend_args a, const __grid_constant__ struct cuda_work work,
                  const __grid_constant__ struct cuda_span span)
{
    DYNAMIC_SHARED(16, memory);
    struct generic g;
    generic_layout(&g, memory, work.tile_rows, a.q.dim, a.out.dim);
    const i32 group = (i32)blockIdx.x / a.n_kv_heads;
    struct tree tree = { &work, g.leaf, g.node, g.root, group, (i32)blockIdx.x % a.n_kv_heads, a.n_kv_heads };
    tree.cut = &work.starts[group].cut;
    __shared__ struct share share; /* not in registers: there are too few */
    __shared__ struct walk walk;
    const struct unit *u = &share.unit;
    if (threadIdx.x == 0)
        generic_d_v = a.out.dim, walk = work.starts[group].walk, share = work.starts[group].first;
    for (;;) {
        __syncthreads();
        if (share_is_none(&share))
            return;
        load_q(&g, &a, u, tree.head);
        __syncthreads();
        if (u->keys.begin > 0 || u->keys.end < u->n)
            check_table(&g, &a, u, work.error);
        for (i32 leaf = share.begin; leaf < share.end; leaf++) {
            leaf_scores(&g, &a, &span, u, tree.head, leaf, work.error);
            __syncthreads();
            if (*g.is_bad) {
                leaf_poison(&g, u->n_rows, a.out.dim);
            } else {
                leaf_softmax(&g, u->n_rows);
                __syncthreads();
                if (is_quads(&a))
                    leaf_values_quads(&g, &a, u);
                else
                    leaf_values(&g, &a, u);
            }
            const struct due due = tree_announce(&tree, u, leaf, share.begin, share.end);
            if (tree_add(&tree, u, leaf, share.begin, share.end, due))
                FOR_ROWS(r, u->n_rows)
            write_row(&a, u, tree.head, u->row_begin + r, g.root.o + r * a.out.dim, g.root.m[r], g.root.l[r]);
            __syncthreads();
        }
        __syncthreads(); /* all have seen that this was its last leaf */
        if (threadIdx.x == 0)
            share = walk_next(&walk, &span, &work);
    }
}
