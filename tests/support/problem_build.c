/* SPDX-License-Identifier: Apache-2.0
 * problem_build.c: a choice -> tensors with values where they count, and poison elsewhere. */
#include <stdlib.h>

#include "base/bits.h"
#include "support/problem.h"

enum { UNUSED_ENTRY = 2147480000 };

/* Page ids of one table, while it is being made. */
struct book {
    i64 *ids;    /* [batch][columns] */
    i64 columns; /* of the widest row, and one more that does not count */
    i64 n_pages; /* in the pool */
};

static i64 pages_of(const struct problem_choice *c, i32 b)
{
    return ceil_div(c->kv_lens[b], c->page_size);
}

/* Full pages that sequence b shares with sequence 0. */
static i64 shared_pages(const struct problem_choice *c, i32 b)
{
    return c->share_pages && b == 1 ? min_i64(c->kv_lens[0], c->kv_lens[1]) / c->page_size : 0;
}

static i64 widest(const struct problem_choice *c)
{
    i64 n = 0;
    for (i32 b = 0; b < c->batch; b++)
        n = max_i64(n, pages_of(c, b));
    return n;
}

/* A random one-to-one choice of pages. */
static struct book book_make(const struct problem_choice *c, struct rng *rng, i64 more_pages)
{
    struct book book = { .columns = widest(c) + 1, .n_pages = more_pages };
    for (i32 b = 0; b < c->batch; b++)
        book.n_pages += pages_of(c, b) - shared_pages(c, b);
    i64 *order = calloc((size_t)book.n_pages + 1, sizeof *order);
    book.ids = calloc((size_t)(max_i64(c->batch, 1) * book.columns), sizeof *book.ids);
    if (!order || !book.ids)
        abort();
    for (i64 i = 0; i < book.n_pages; i++) {
        const i64 at = rng_range(rng, 0, i);
        order[i] = order[at];
        order[at] = i;
    }
    i64 next = 0;
    for (i32 b = 0; b < c->batch; b++)
        for (i64 column = 0; column < book.columns; column++) {
            const bool counts = column < pages_of(c, b), shared = column < shared_pages(c, b);
            book.ids[b * book.columns + column] = !counts ? UNUSED_ENTRY : shared ? book.ids[column] : order[next++];
        }
    free(order);
    return book;
}

static void build_table(struct test_tensor *t, const struct problem_choice *c, struct rng *rng, const struct book *book)
{
    const i64 shape[] = { c->batch, book->columns };
    const i64 strides[] = { book->columns + rng_range(rng, 0, 3), 1 };
    tensor_make(t, c->ids_i64 ? DTYPE_I64 : DTYPE_I32, 2, shape, strides, rng_range(rng, 0, 2), false);
    for (i64 b = 0; b < c->batch; b++)
        for (i64 column = 0; column < book->columns; column++)
            tensor_set_index(t, (i64[]){ b, column }, book->ids[b * book->columns + column]);
}

/* The same rows without padding, but for an entry now and then that does not count. */
static void build_csr(struct random_problem *p, struct rng *rng, const struct book *book)
{
    const struct problem_choice *c = &p->c;
    i64 indptr[MAX_BATCH + 1] = { 0 };
    for (i32 b = 0; b < c->batch; b++)
        indptr[b + 1] = indptr[b] + pages_of(c, b) + rng_range(rng, 0, 1);
    const enum dtype dtype = c->lens_i64 ? DTYPE_I64 : DTYPE_I32;
    tensor_make(&p->t[T_KV_INDPTR], dtype, 1, &(i64){ c->batch + 1 }, NULL, 0, false);
    tensor_make(&p->t[T_KV_INDICES], c->ids_i64 ? DTYPE_I64 : DTYPE_I32, 1, &(i64){ indptr[c->batch] + 1 }, NULL, 0,
                false);
    tensor_set_index(&p->t[T_KV_INDICES], &indptr[c->batch], UNUSED_ENTRY);
    for (i64 b = 0; b <= c->batch; b++)
        tensor_set_index(&p->t[T_KV_INDPTR], &b, indptr[b]);
    for (i64 b = 0; b < c->batch; b++)
        for (i64 i = indptr[b]; i < indptr[b + 1]; i++)
            tensor_set_index(&p->t[T_KV_INDICES], &i, book->ids[b * book->columns + (i - indptr[b])]);
}

/* Strides of [pages, slots, heads, dim] in elements. */
static void page_strides(i64 *strides, const struct problem_choice *c, i64 n_pages, i64 d)
{
    const i64 slots = c->page_size, heads = c->n_kv_heads;
    const i64 by_layout[N_LAYOUTS][3] = { [NHD] = { slots * heads * d, heads * d, d },
                                          [HND] = { slots * heads * d, d, slots * d },
                                          [FLAT] = { slots * d, d, n_pages * slots * d },
                                          [INTERLEAVED] = { 2 * slots * heads * d, heads * d, d },
                                          [GAPPED] = { (slots * heads + 2) * (d + 3) + 5, heads * (d + 3) + 1,
                                                       d + 3 } };
    for (i32 i = 0; i < 3; i++)
        strides[i] = by_layout[c->layout][i];
    strides[3] = 1;
}

static double draw(struct rng *rng, double amplitude)
{
    return amplitude * rng_normal(rng);
}

/* A vector from index on; gives its norm. */
static double fill_vector(const struct test_tensor *t, const i64 *index, struct rng *rng, double amplitude)
{
    double x[1024] = { 0 }, square = 0;
    const i64 n = t->shape[t->dl.ndim - 1];
    assert(n <= (i64)COUNT_OF(x));
    for (i64 d = 0; d < n; d++) {
        x[d] = draw(rng, amplitude);
        square += x[d] * x[d];
    }
    tensor_set_vector(t, index, x);
    return sqrt(square);
}

/* Values into the slots that some sequence reaches; the rest stays NaN. */
static double fill_pages(const struct test_tensor *t, const struct problem_choice *c, struct rng *rng,
                         const struct book *book, double amplitude)
{
    double largest = 0;
    for (i32 b = 0; b < c->batch; b++)
        for (i64 key = 0; key < c->kv_lens[b]; key++) {
            if (key / c->page_size < shared_pages(c, b))
                continue;
            const i64 page = book->ids[b * book->columns + key / c->page_size];
            for (i64 head = 0; head < c->n_kv_heads; head++)
                largest = fmax(largest, fill_vector(t, (i64[]){ page, key % c->page_size, head, 0 }, rng, amplitude));
        }
    return largest; /* norm of any vector */
}

static void build_pages(struct random_problem *p, struct rng *rng, const struct book *k_book, const struct book *v_book,
                        double *k_norm)
{
    const struct problem_choice *c = &p->c;
    i64 strides[4];
    const i64 k_shape[] = { k_book->n_pages, c->page_size, c->n_kv_heads, c->head_dim_qk };
    const i64 v_shape[] = { v_book->n_pages, c->page_size, c->n_kv_heads, c->head_dim_v };
    page_strides(strides, c, k_book->n_pages, c->head_dim_qk);
    if (c->layout == INTERLEAVED) { /* one block: [page][K | V] */
        const i64 half = strides[0] / 2, n_pages = max_i64(k_book->n_pages, v_book->n_pages);
        struct test_tensor *k = &p->t[T_K];
        tensor_make(k, c->kv_dtype, 4, (i64[]){ n_pages, 2 * c->page_size, c->n_kv_heads, c->head_dim_qk }, strides, 0,
                    false);
        tensor_view(&p->t[T_V], k, c->kv_dtype, 4, v_shape, strides, half);
        k->shape[0] = k_book->n_pages;
        k->shape[1] = c->page_size;
    } else {
        const bool is_null = c->layout == NHD && c->compact_null_strides;
        tensor_make(&p->t[T_K], c->kv_dtype, 4, k_shape, is_null ? NULL : strides, 0, false);
        page_strides(strides, c, v_book->n_pages, c->head_dim_v);
        tensor_make(&p->t[T_V], c->kv_dtype, 4, v_shape, is_null ? NULL : strides, 0, false);
    }
    *k_norm = fill_pages(&p->t[T_K], c, rng, k_book, c->amplitude);
    fill_pages(&p->t[T_V], c, rng, v_book, 1);
    p->max_value = 5; /* normal values of this many draws hardly exceed it; errors are relative to it */
}

static void build_rows(struct test_tensor *t, const struct random_problem *p, struct rng *rng, i32 dim, bool gaps,
                       bool is_output)
{
    const struct problem_choice *c = &p->c;
    const i64 heads = c->n_kv_heads * c->group;
    const i64 shape[] = { p->n_tokens, heads, dim };
    const i64 gapped[] = { heads * (dim + 2) + 1, dim + 2, 1 },
              heads_first[] = { dim, dim * max_i64(p->n_tokens, 1), 1 };
    const i64 *strides = !gaps ? NULL : rng_one_in(rng, 2) ? gapped : heads_first;
    tensor_make(t, c->q_dtype, 3, shape, strides, gaps ? rng_range(rng, 0, 3) : 0, is_output);
}

static double fill_rows(const struct test_tensor *t, struct rng *rng, double amplitude)
{
    double largest = 0;
    for (i64 token = 0; token < t->shape[0]; token++)
        for (i64 head = 0; head < t->shape[1]; head++)
            largest = fmax(largest, fill_vector(t, (i64[]){ token, head, 0 }, rng, amplitude));
    return largest;
}

static void build_lengths(struct random_problem *p)
{
    const struct problem_choice *c = &p->c;
    const enum dtype dtype = c->lens_i64 ? DTYPE_I64 : DTYPE_I32;
    tensor_make(&p->t[T_KV_LENS], dtype, 1, &(i64){ c->batch }, NULL, 0, false);
    if (!c->decode)
        tensor_make(&p->t[T_Q_INDPTR], dtype, 1, &(i64){ c->batch + 1 }, NULL, 0, false);
    for (i64 b = 0; b < c->batch; b++)
        tensor_set_index(&p->t[T_KV_LENS], &b, c->kv_lens[b]);
    i64 begin = 0;
    for (i64 b = 0; b <= c->batch && !c->decode; begin += b < c->batch ? c->q_lens[b] : 0, b++)
        tensor_set_index(&p->t[T_Q_INDPTR], &b, begin);
}

static i64 kv_len_of_token(const struct problem_choice *c, i64 token, i32 *seq)
{
    for (*seq = 0; token >= c->q_lens[*seq]; (*seq)++)
        token -= c->q_lens[*seq];
    return c->kv_lens[*seq];
}

/* [tokens | 1, heads | 1, keys]; behind a row's kv_len what would hurt most: NaN, or "keep". */
static void build_spread(struct test_tensor *t, const struct random_problem *p, struct rng *rng, enum dtype dtype)
{
    const struct problem_choice *c = &p->c;
    i64 n_keys = 2;
    for (i32 b = 0; b < c->batch; b++)
        n_keys = max_i64(n_keys, c->kv_lens[b] + rng_range(rng, 0, 2));
    const bool one_token = rng_one_in(rng, 3) && !c->mask_everything, one_head = rng_one_in(rng, 2);
    const i64 shape[] = { one_token ? 1 : p->n_tokens, one_head ? 1 : c->n_kv_heads * c->group, n_keys };
    const i64 gapped[] = { shape[1] * (n_keys + 3), n_keys + 3, 1 },
              keys_first[] = { 1, shape[0], shape[0] * shape[1] };
    tensor_make(t, dtype, 3, shape, rng_one_in(rng, 3) ? NULL : rng_one_in(rng, 2) ? gapped : keys_first, 0, false);
    for (i64 token = 0; token < shape[0]; token++)
        for (i64 head = 0; head < shape[1]; head++)
            for (i64 key = 0; key < n_keys; key++) {
                i32 seq = 0;
                const bool counts = one_token || key < kv_len_of_token(c, token, &seq);
                const double x = !counts               ? (double)NAN
                                 : dtype == DTYPE_BOOL ? !(rng_one_in(rng, 3) || (c->mask_everything && seq == 0))
                                                       : rng_normal(rng);
                tensor_set(t, (i64[]){ token, head, key }, x);
            }
}

static void build_vector(struct test_tensor *t, const struct random_problem *p, struct rng *rng)
{
    const i64 n = p->c.n_kv_heads * p->c.group;
    tensor_make(t, DTYPE_F32, 1, &n, NULL, 0, false);
    for (i64 i = 0; i < n; i++)
        tensor_set(t, &i, rng_normal(rng) / 4);
}

static const DLTensor *given(const struct test_tensor *t)
{
    return tensor_there(t) ? &t->dl : NULL;
}

static void build_args(struct random_problem *p)
{
    const struct problem_choice *c = &p->c;
    struct test_tensor *t = p->t;
    p->args = (folio_attend_args){ .struct_size = sizeof p->args,
                                   .q = given(&t[T_Q]),
                                   .k_pages = given(&t[T_K]),
                                   .v_pages = given(&t[T_V]),
                                   .page_table = given(&t[T_TABLE]),
                                   .v_page_table = given(&t[T_V_TABLE]),
                                   .kv_indptr = given(&t[T_KV_INDPTR]),
                                   .kv_indices = given(&t[T_KV_INDICES]),
                                   .kv_lens = given(&t[T_KV_LENS]),
                                   .q_indptr = given(&t[T_Q_INDPTR]),
                                   .alibi_slopes = given(&t[T_ALIBI]),
                                   .sinks = given(&t[T_SINKS]),
                                   .bias = given(&t[T_BIAS]),
                                   .mask = given(&t[T_MASK]),
                                   .out = &t[T_OUT].dl,
                                   .lse = c->lse ? &t[T_LSE].dl : NULL,
                                   .scale = c->scale,
                                   .softcap = c->softcap,
                                   .window_left = c->window_left,
                                   .window_right = c->window_right,
                                   .causal = c->causal,
                                   .align = c->align,
                                   .flags = c->flags,
                                   .num_splits = c->num_splits };
}

static void build_outputs(struct random_problem *p, struct rng *rng)
{
    const struct problem_choice *c = &p->c;
    const i64 heads = c->n_kv_heads * c->group;
    build_rows(&p->t[T_OUT], p, rng, c->head_dim_v, c->out_gaps, true);
    const i64 strides[] = { 1, p->n_tokens + 1 }, shape[] = { p->n_tokens, heads };
    if (c->lse)
        tensor_make(&p->t[T_LSE], DTYPE_F32, 2, shape, c->out_gaps ? strides : NULL, 0, true);
}

void problem_build(struct random_problem *p, const struct problem_choice *c)
{
    *p = (struct random_problem){ .c = *c };
    struct rng rng = { c->seed ^ UINT64_C(0x5eed) };
    for (i32 b = 0; b < c->batch; b++)
        p->n_tokens += c->q_lens[b];
    struct book k_book = book_make(c, &rng, c->spare_pages);
    struct book v_book = c->v_table ? book_make(c, &rng, c->spare_pages + 1) : k_book;
    double k_norm;
    build_pages(p, &rng, &k_book, &v_book, &k_norm);
    if (c->csr)
        build_csr(p, &rng, &k_book);
    else
        build_table(&p->t[T_TABLE], c, &rng, &k_book);
    if (c->v_table)
        build_table(&p->t[T_V_TABLE], c, &rng, &v_book);
    build_lengths(p);
    build_rows(&p->t[T_Q], p, &rng, c->head_dim_qk, c->q_gaps, false);
    const double q_norm = fill_rows(&p->t[T_Q], &rng, c->amplitude);
    if (c->alibi)
        build_vector(&p->t[T_ALIBI], p, &rng);
    if (c->sinks)
        build_vector(&p->t[T_SINKS], p, &rng);
    if (c->bias)
        build_spread(&p->t[T_BIAS], p, &rng, c->bias_dtype);
    if (c->mask)
        build_spread(&p->t[T_MASK], p, &rng, DTYPE_BOOL);
    build_outputs(p, &rng);
    build_args(p);
    const double scale = c->flags & FOLIO_SCALE_IS_SET ? fabs(c->scale) : 1 / sqrt(c->head_dim_qk);
    p->max_score = scale * q_norm * k_norm + (c->alibi ? 800 : 0) + (c->bias ? 5 : 0);
    if (v_book.ids != k_book.ids)
        free(v_book.ids);
    free(k_book.ids);
}

void problem_make(struct random_problem *p, u64 seed, const struct problem_limits *limits)
{
    struct problem_choice c;
    problem_choose(&c, seed, limits);
    problem_build(p, &c);
}

void problem_free(struct random_problem *p)
{
    for (i32 i = N_PROBLEM_TENSORS - 1; i >= 0; i--)
        tensor_free(&p->t[i]);
}
