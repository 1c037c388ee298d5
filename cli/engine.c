/* SPDX-License-Identifier: Apache-2.0
 * engine.c: folio as a serving engine uses it. */
#include "engine.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"

static bool alloc_step(struct engine *e)
{
    const struct engine_config *cfg = &e->cfg;
    const size_t batch = (size_t)cfg->max_batch + 1, chunk = (size_t)cfg->chunk;
    const size_t qk_row = (size_t)cfg->pages.dim_qk * (size_t)element_bytes(cfg->pages.element);
    const size_t v_row = (size_t)cfg->pages.dim_v * (size_t)element_bytes(cfg->pages.element);
    const size_t q_rows = chunk * (size_t)cfg->n_q_heads, kv_rows = chunk * (size_t)cfg->pages.n_kv_heads;
    e->table_width = max_i64(ceil_div(cfg->max_seq_len, cfg->pages.page_size), 1);
    e->table = malloc(batch * (size_t)e->table_width * sizeof(*e->table));
    e->kv_lens = calloc(batch, sizeof(*e->kv_lens));
    e->q_indptr = calloc(batch + 1, sizeof(*e->q_indptr));
    e->slots = calloc(chunk, sizeof(*e->slots));
    e->needs = calloc(batch, sizeof(*e->needs));
    e->q = calloc(q_rows, qk_row);
    e->k = calloc(kv_rows, qk_row);
    e->v = calloc(kv_rows, v_row);
    e->out = calloc(q_rows, v_row);
    e->lse = calloc(chunk * (size_t)cfg->n_q_heads, sizeof(*e->lse));
    return e->table && e->kv_lens && e->q_indptr && e->slots && e->needs && e->q && e->k && e->v && e->out && e->lse;
}

static folio_status open_folio(struct engine *e)
{
    const struct engine_config *cfg = &e->cfg;
    const folio_cache_config cache = {
        .struct_size = sizeof(cache),
        .n_pages = cfg->pages.n_pages,
        .page_size = cfg->pages.page_size,
        .max_seqs = cfg->max_batch,
        .max_pages_per_seq = ceil_div(cfg->max_seq_len, cfg->pages.page_size),
    };
    const folio_context_config context = {
        .struct_size = sizeof(context), .backend = cfg->backend, .isa = cfg->isa, .n_threads = cfg->n_threads
    };
    const folio_status status = folio_cache_create(&e->cache, &cache);
    return status ? status : folio_context_create(&e->ctx, &context);
}

bool engine_open(struct engine *e, const struct engine_config *cfg, char *error, size_t n)
{
    *e = (struct engine){ .cfg = *cfg };
    const bool has_folio = !open_folio(e);
    if (!has_folio)
        snprintf(error, n, "%s", folio_last_error());
    else if (!alloc_step(e) || !pagepool_init(&e->pool, &cfg->pages))
        snprintf(error, n, "no memory for %lld pages of %d layers", (long long)cfg->pages.n_pages, cfg->pages.n_layers);
    else
        return true;
    engine_close(e);
    return false;
}

void engine_close(struct engine *e)
{
    for (i32 i = 0; i < ENGINE_PLANS; i++)
        folio_plan_destroy(&e->plans[i]);
    folio_context_destroy(&e->ctx);
    folio_cache_destroy(&e->cache);
    pagepool_free(&e->pool);
    void *const blocks[] = { e->table, e->kv_lens, e->q_indptr, e->slots, e->needs, e->q, e->k, e->v, e->out, e->lse };
    for (size_t i = 0; i < COUNT_OF(blocks); i++)
        free(blocks[i]);
    *e = (struct engine){ 0 };
}

i64 engine_free_pages(const struct engine *e)
{
    folio_cache_stats stats = { .struct_size = sizeof(stats) };
    return folio_cache_get_stats(e->cache, &stats) ? 0 : stats.n_free;
}

static folio_status reserve(struct engine *e, const folio_seq *seqs, const i64 *n_new, i64 n)
{
    const folio_status status = folio_cache_kv_lens(e->cache, seqs, (i32)n, e->needs);
    if (status)
        return status;
    for (i64 i = 0; i < n; i++)
        e->needs[i] += n_new[i];
    return folio_cache_reserve(e->cache, seqs, e->needs, (i32)n);
}

folio_status engine_reserve(struct engine *e, const folio_seq *seqs, const i64 *n_new, i64 n)
{
    const double start = now_s();
    const folio_status status = reserve(e, seqs, n_new, n);
    e->times.cache += now_s() - start;
    return status;
}

static i32 bucket_index(i64 n_tokens) /* the smallest power of two that holds them */
{
    i32 index = 0;
    while ((INT64_C(1) << index) < n_tokens)
        index++;
    return index;
}

static folio_status begin(struct engine *e, const folio_seq *seqs, const i64 *n_new, i64 n)
{
    i64 at = 0;
    for (i64 i = 0; i < n; i++) {
        const folio_status status = folio_seq_append(e->cache, seqs[i], n_new[i], e->slots + at);
        if (status)
            return status;
        e->q_indptr[i] = (i32)at;
        at += n_new[i];
    }
    e->n_seqs = n;
    e->n_tokens = at;
    e->bucket = min_i64(INT64_C(1) << bucket_index(at), e->cfg.chunk);
    for (i64 i = n; i <= e->cfg.max_batch; i++) { /* sequences without keys; the last takes the spare rows */
        e->q_indptr[i] = (i32)at;
        e->kv_lens[i] = 0;
    }
    e->q_indptr[e->cfg.max_batch + 1] = (i32)e->bucket;
    return folio_cache_page_table(e->cache, seqs, (i32)n, e->table, e->table_width, e->kv_lens);
}

folio_status engine_begin(struct engine *e, const folio_seq *seqs, const i64 *n_new, i64 n)
{
    const double start = now_s();
    const folio_status status = begin(e, seqs, n_new, n);
    e->times.cache += now_s() - start;
    return status;
}

/* Everything that folio_attend wants to see, for one layer. */
struct call {
    struct tensor q, out, lse, table, kv_lens, q_indptr;
    folio_attend_args args;
};

static void make_call(struct engine *e, struct call *call, i32 layer)
{
    const struct pagepool_config *pages = &e->cfg.pages;
    const DLDataType type = type_of_element(pages->element), f32 = type_of_element(ELEMENT_F32);
    const i64 batch = e->cfg.max_batch + 1, rows = e->bucket, heads = e->cfg.n_q_heads;
    tensor_init(&call->q, e->q, type, 3, (const i64[]){ rows, heads, pages->dim_qk });
    tensor_init(&call->out, e->out, type, 3, (const i64[]){ rows, heads, pages->dim_v });
    tensor_init(&call->lse, e->lse, f32, 2, (const i64[]){ rows, heads });
    tensor_init(&call->table, e->table, type_of_ints(32), 2, (const i64[]){ batch, e->table_width });
    tensor_init(&call->kv_lens, e->kv_lens, type_of_ints(64), 1, (const i64[]){ batch });
    tensor_init(&call->q_indptr, e->q_indptr, type_of_ints(32), 1, (const i64[]){ batch + 1 });
    call->args = (folio_attend_args){
        .struct_size = sizeof(call->args),
        .q = &call->q.dl,
        .k_pages = &e->pool.layers[layer].k.dl,
        .v_pages = &e->pool.layers[layer].v.dl,
        .page_table = &call->table.dl,
        .kv_lens = &call->kv_lens.dl,
        .q_indptr = &call->q_indptr.dl,
        .out = &call->out.dl,
        .lse = &call->lse.dl,
        .causal = FOLIO_CAUSAL_BOTTOM_RIGHT,
    };
}

folio_status engine_plan(struct engine *e)
{
    struct call call;
    make_call(e, &call, 0);
    folio_plan **plan = &e->plans[bucket_index(e->bucket)];
    if (!*plan) { /* the first step of this size pays for it; later ones only update */
        const folio_status status = folio_plan_create(plan, e->ctx, &call.args);
        if (status)
            return status;
    }
    const double start = now_s();
    const folio_status status = folio_plan_update(*plan, &call.args, NULL);
    e->times.plan += now_s() - start;
    return status;
}

static folio_status append_rows(struct engine *e, i32 layer)
{
    const struct pagepool_config *pages = &e->cfg.pages;
    const DLDataType type = type_of_element(pages->element);
    struct tensor k, v, slots;
    tensor_init(&k, e->k, type, 3, (const i64[]){ e->n_tokens, pages->n_kv_heads, pages->dim_qk });
    tensor_init(&v, e->v, type, 3, (const i64[]){ e->n_tokens, pages->n_kv_heads, pages->dim_v });
    tensor_init(&slots, e->slots, type_of_ints(64), 1, &e->n_tokens);
    const folio_append_args args = {
        .struct_size = sizeof(args),
        .k = &k.dl,
        .v = &v.dl,
        .k_pages = &e->pool.layers[layer].k.dl,
        .v_pages = &e->pool.layers[layer].v.dl,
        .slots = &slots.dl,
    };
    return folio_pages_append(e->ctx, &args, NULL);
}

folio_status engine_attend(struct engine *e, i32 layer)
{
    const double start = now_s();
    folio_status status = append_rows(e, layer);
    const double appended = now_s();
    e->times.append += appended - start;
    if (status)
        return status;
    struct call call;
    make_call(e, &call, layer);
    status = folio_attend(e->ctx, e->plans[bucket_index(e->bucket)], &call.args, NULL);
    e->times.attend += now_s() - appended;
    return status;
}

double engine_kv_bytes(const struct engine *e)
{
    const struct pagepool_config *pages = &e->cfg.pages;
    i64 tokens = 0;
    for (i64 i = 0; i < e->n_seqs; i++)
        tokens += e->kv_lens[i];
    return (double)(tokens * pages->n_kv_heads * (pages->dim_qk + pages->dim_v) * element_bytes(pages->element));
}

double engine_flops(const struct engine *e)
{
    double pairs = 0;
    for (i64 i = 0; i < e->n_seqs; i++) {
        const double m = e->q_indptr[i + 1] - e->q_indptr[i], n = (double)e->kv_lens[i];
        pairs += m * (n - m) + m * (m + 1) / 2;
    }
    return pairs * 2 * (e->cfg.pages.dim_qk + e->cfg.pages.dim_v) * e->cfg.n_q_heads;
}
