/* SPDX-License-Identifier: Apache-2.0
 * bench_attend.c: decode and prefill: one layer of attention, a repetition. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench_attend.h"

/* How many layers make a row cold, or the one of a hot row; 0 = not one fits. */
static i32 count_layers(const struct bench *bench, const struct bench_case *c, i64 layer_bytes)
{
    if (!c->cold)
        return layer_bytes <= bench->memory;
    const i64 wanted = max_i64(bench->n_layers, ceil_div(bench->cold_bytes, layer_bytes));
    const i64 needed = ceil_div(bench->cold_bytes, layer_bytes), most = bench->memory / layer_bytes;
    return (i32)max_i64(min_i64(wanted, most), min_i64(needed, most));
}

/* Tokens of sequence `seq`: the longest has c->kv_len. */
static i64 bench_kv_len(const struct bench_case *c, i64 seq)
{
    if (c->mix == MIX_ZIPF)
        return max_i64(c->kv_len / (seq + 1), c->q_len);
    if (c->mix == MIX_ONE_LONG && seq > 0)
        return max_i64(c->kv_len / 16, c->q_len);
    return c->kv_len;
}

/* Leading pages of every table row. */
static i64 shared_pages(const struct bench_case *c)
{
    i64 most = c->shared;
    for (i64 seq = 0; seq < c->batch; seq++)
        most = min_i64(most, bench_kv_len(c, seq));
    return most / c->page_size;
}

static i64 count_pages(const struct bench_case *c)
{
    i64 n = 0;
    for (i64 seq = 0; seq < c->batch; seq++)
        n += ceil_div(bench_kv_len(c, seq), c->page_size);
    return n - (c->batch - 1) * shared_pages(c);
}

static i64 table_width(const struct bench_case *c)
{
    return ceil_div(c->kv_len, c->page_size);
}

static void shuffle(i32 *ids, i64 n)
{
    u64 state = 1;
    for (i64 i = n - 1; i > 0; i--) {
        state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        const i64 j = (i64)((state >> 33) % (u64)(i + 1));
        const i32 other = ids[j];
        ids[j] = ids[i];
        ids[i] = other;
    }
}

/* Bytes that are no NaN in any quantised type. */
static void fill_quantised(const struct pagepool *pool)
{
    i8 codes[MODEL_MAX_HEAD_DIM];
    for (size_t i = 0; i < pool->bytes; i++) {
        if (i % sizeof(codes) == 0)
            row_codes(i, 0, ROW_K, 0, sizeof(codes), codes);
        ((u8 *)pool->memory)[i] = (u8)codes[i % sizeof(codes)] & 0xb7;
    }
}

/* Values everywhere, as if the memory were one long run of rows. */
static void fill_pool(const struct pagepool *pool)
{
    if (pool->cfg.element > ELEMENT_BF16) {
        fill_quantised(pool);
        return;
    }
    enum { DIM = 64 };
    const size_t row_bytes = DIM * (size_t)element_bytes(pool->cfg.element);
    for (size_t i = 0; i < pool->bytes / row_bytes; i++)
        row_fill(i, 0, ROW_K, 1, DIM, pool->cfg.element, (char *)pool->memory + i * row_bytes);
    memset((char *)pool->memory + pool->bytes / row_bytes * row_bytes, 0, pool->bytes % row_bytes);
}

static bool alloc_arrays(struct attend_bench *a, const struct bench_case *c, i64 n_pages)
{
    const i64 rows = c->batch * c->q_len * c->shape.n_q_heads, bytes = element_bytes(bench_row_element(c));
    a->q_data = malloc((size_t)(rows * c->shape.dim_qk * bytes));
    a->out_data = malloc((size_t)(rows * c->shape.dim_v * bytes));
    a->sink_data = malloc((size_t)c->shape.n_q_heads * sizeof(*a->sink_data));
    a->scale_data = malloc((size_t)(n_pages * c->page_size * c->shape.n_kv_heads) * sizeof(*a->scale_data));
    a->table_data = malloc((size_t)(c->batch * table_width(c)) * sizeof(*a->table_data));
    a->page_ids = malloc((size_t)n_pages * sizeof(*a->page_ids));
    a->lens_data = malloc((size_t)c->batch * sizeof(*a->lens_data));
    a->indptr_data = malloc((size_t)(c->batch + 1) * sizeof(*a->indptr_data));
    return a->q_data && a->out_data && a->scale_data && a->sink_data && a->table_data && a->page_ids && a->lens_data &&
           a->indptr_data;
}

static void fill_arrays(struct attend_bench *a, const struct bench_case *c, i64 n_pages)
{
    for (i64 i = 0; i < n_pages; i++)
        a->page_ids[i] = (i32)i;
    shuffle(a->page_ids, n_pages);
    for (i64 seq = 0, next = 0; seq < c->batch; seq++) {
        a->lens_data[seq] = bench_kv_len(c, seq);
        for (i64 page = 0; page < table_width(c); page++)
            a->table_data[seq * table_width(c) + page] = page >= ceil_div(a->lens_data[seq], c->page_size) ? -1
                                                         : seq > 0 && page < shared_pages(c) ? a->table_data[page]
                                                                                             : a->page_ids[next++];
    }
    for (i64 i = 0; i <= c->batch; i++)
        a->indptr_data[i] = (i32)(i * c->q_len);
    for (i32 i = 0; i < c->shape.n_q_heads; i++)
        a->sink_data[i] = 0.5f;
    for (i64 i = 0; i < n_pages * c->page_size * c->shape.n_kv_heads; i++)
        a->scale_data[i] = 0.01f;
    const enum element q_element = bench_row_element(c);
    const i64 row_bytes = c->shape.dim_qk * element_bytes(q_element);
    for (i64 i = 0; i < c->batch * c->q_len * c->shape.n_q_heads; i++)
        row_fill((u64)i, 1, ROW_Q, 1, c->shape.dim_qk, q_element, (char *)a->q_data + i * row_bytes);
}

static void make_args(struct attend_bench *a, const struct bench_case *c)
{
    const DLDataType type = type_of_element(bench_row_element(c));
    const i64 rows = c->batch * c->q_len, heads = c->shape.n_q_heads;
    tensor_init(&a->q, a->q_data, type, 3, (const i64[]){ rows, heads, c->shape.dim_qk });
    tensor_init(&a->out, a->out_data, type, 3, (const i64[]){ rows, heads, c->shape.dim_v });
    tensor_init(&a->sinks, a->sink_data, type_of_element(ELEMENT_F32), 1, &heads);
    tensor_init(&a->scale, a->scale_data, type_of_element(ELEMENT_F32), 3,
                (const i64[]){ a->pool.cfg.n_pages, c->page_size, c->shape.n_kv_heads });
    tensor_init(&a->table, a->table_data, type_of_ints(32), 2, (const i64[]){ c->batch, table_width(c) });
    tensor_init(&a->kv_lens, a->lens_data, type_of_ints(64), 1, &c->batch);
    tensor_init(&a->q_indptr, a->indptr_data, type_of_ints(32), 1, (const i64[]){ c->batch + 1 });
    a->args = (folio_attend_args){
        .struct_size = sizeof(a->args),
        .q = &a->q.dl,
        .k_pages = &a->pool.layers[0].k.dl,
        .v_pages = &a->pool.layers[0].v.dl,
        .page_table = &a->table.dl,
        .kv_lens = &a->kv_lens.dl,
        .q_indptr = c->q_len > 1 ? &a->q_indptr.dl : NULL,
        .out = &a->out.dl,
        .k_scale = c->element > ELEMENT_BF16 ? &a->scale.dl : NULL,
        .v_scale = c->element > ELEMENT_BF16 ? &a->scale.dl : NULL,
        .sinks = c->sinks ? &a->sinks.dl : NULL,
        .softcap = (double)c->softcap,
        .window_left = c->window - 1, /* window keys, the row's own among them */
        .window_right = -1,
        .flags = (c->window ? FOLIO_WINDOW_IS_SET : 0u) | (c->cascade ? FOLIO_CASCADE : 0u),
        .causal = FOLIO_CAUSAL_BOTTOM_RIGHT,
    };
}

void attend_bench_close(struct attend_bench *a)
{
    folio_plan_destroy(&a->plan);
    pagepool_free(&a->pool);
    free(a->q_data);
    free(a->out_data);
    free(a->sink_data);
    free(a->scale_data);
    free(a->table_data);
    free(a->page_ids);
    free(a->lens_data);
    free(a->indptr_data);
}

bool attend_bench_once(void *arg, i64 repetition)
{
    struct attend_bench *a = arg;
    const struct layer_pages *layer = &a->pool.layers[repetition % a->n_layers];
    a->args.k_pages = &layer->k.dl;
    a->args.v_pages = &layer->v.dl;
    return !folio_attend(a->ctx, a->plan, &a->args, NULL);
}

bool attend_bench_open(struct attend_bench *a, const struct bench *bench, const struct bench_case *c)
{
    struct pagepool_config pages = { .ctx = bench->ctx,
                                     .layout = c->layout,
                                     .element = c->element,
                                     .n_pages = count_pages(c),
                                     .page_size = c->page_size,
                                     .n_kv_heads = c->shape.n_kv_heads,
                                     .dim_qk = c->shape.dim_qk,
                                     .dim_v = c->shape.dim_v };
    *a = (struct attend_bench){ .ctx = bench->ctx };
    a->layer_bytes = page_bytes(&pages) * pages.n_pages;
    a->n_layers = pages.n_layers = count_layers(bench, c, a->layer_bytes);
    if (a->n_layers < 1 || !pagepool_init(&a->pool, &pages) || !alloc_arrays(a, c, pages.n_pages))
        return false;
    fill_pool(&a->pool);
    fill_arrays(a, c, pages.n_pages);
    make_args(a, c);
    return true;
}

void attend_bench_why_not(const struct attend_bench *a, const struct bench *bench, char *error, size_t n)
{
    if (a->layer_bytes > bench->memory)
        snprintf(error, n, "K and V of a layer take %lld MB, --memory allows %lld MB",
                 (long long)ceil_div(a->layer_bytes, 1 << 20), (long long)(bench->memory >> 20));
    else
        snprintf(error, n, "out of memory");
}

/* Useful work: K and V that some row of a sequence sees, once; 2 * (dim_qk + dim_v) operations a pair. */
static void set_work(struct bench_row *row)
{
    const struct bench_case *c = &row->c;
    const i64 dims = c->shape.dim_qk + c->shape.dim_v;
    double pairs = 0, keys = 0;
    for (i64 seq = 0; seq < c->batch; seq++) {
        const i64 n = bench_kv_len(c, seq);
        i64 first_seen = n; /* the oldest key that any row sees */
        for (i64 i = 0; i < c->q_len; i++) {
            const i64 end = max_i64(n - c->q_len + i + 1, 0), seen = c->window ? min_i64(end, c->window) : end;
            pairs += (double)seen;
            first_seen = min_i64(first_seen, end - seen);
        }
        keys += (double)(n - first_seen);
    }
    row->flops = pairs * 2 * (double)(dims * c->shape.n_q_heads);
    row->bytes = keys * (double)(c->shape.n_kv_heads * dims * element_bytes(c->element));
}

bool bench_attend(const struct bench *bench, struct bench_row *row, char *error, size_t n)
{
    struct attend_bench a;
    bool ok = attend_bench_open(&a, bench, &row->c);
    if (!ok) {
        attend_bench_why_not(&a, bench, error, n);
    } else {
        row->n_layers = a.n_layers;
        set_work(row);
        ok = !folio_plan_create(&a.plan, bench->ctx, &a.args) && !folio_plan_update(a.plan, &a.args, NULL) &&
             bench_time(bench, row, attend_bench_once, &a, 1);
        if (!ok)
            snprintf(error, n, "%s", folio_last_error());
    }
    attend_bench_close(&a);
    return ok;
}
