/* SPDX-License-Identifier: Apache-2.0
 * bench_append.c: new tokens into their slots: q_len tokens in a row for each of `batch` sequences, a repetition. */
#include <stdio.h>
#include <stdlib.h>

#include "bench.h"
#include "tensor.h"

struct append_bench {
    folio_context *ctx;
    struct pagepool pool;
    i32 n_layers;
    struct tensor k, v, slots, k_scale, v_scale;
    folio_append_args args;
    char *rows;     /* [n_tokens][n_kv_heads][dim_qk] of K, then [n_tokens][n_kv_heads][dim_v] of V */
    i64 *slot_data; /* [n_tokens] */
    float *scales;  /* of K, then of V: [n_pages][page_size][n_kv_heads] */
};

static bool once(void *arg, i64 repetition)
{
    struct append_bench *a = arg;
    a->args.k_pages = &a->pool.layers[repetition % a->n_layers].k.dl;
    a->args.v_pages = &a->pool.layers[repetition % a->n_layers].v.dl;
    return !folio_pages_append(a->ctx, &a->args, NULL);
}

static void make_args(struct append_bench *a, const struct bench_case *c, i64 n_tokens)
{
    const i64 heads = c->shape.n_kv_heads, rows = n_tokens * heads, bytes = element_bytes(bench_row_element(c));
    const enum element element = bench_row_element(c);
    char *v = a->rows + rows * c->shape.dim_qk * bytes;
    const i64 stride = ceil_div(c->q_len, c->page_size) * c->page_size; /* slots between two sequences */
    for (i64 i = 0; i < n_tokens; i++)
        a->slot_data[i] = i / c->q_len * stride + i % c->q_len;
    for (i64 i = 0; i < rows; i++) {
        row_fill((u64)i, 0, ROW_K, 1, c->shape.dim_qk, element, a->rows + i * c->shape.dim_qk * bytes);
        row_fill((u64)i, 0, ROW_V, 1, c->shape.dim_v, element, v + i * c->shape.dim_v * bytes);
    }
    tensor_init(&a->k, a->rows, type_of_element(element), 3, (const i64[]){ n_tokens, heads, c->shape.dim_qk });
    tensor_init(&a->v, v, type_of_element(element), 3, (const i64[]){ n_tokens, heads, c->shape.dim_v });
    tensor_init(&a->slots, a->slot_data, type_of_ints(64), 1, &n_tokens);
    a->args =
        (folio_append_args){ .struct_size = sizeof(a->args), .k = &a->k.dl, .v = &a->v.dl, .slots = &a->slots.dl };
    if (c->element <= ELEMENT_BF16)
        return;
    const i64 shape[] = { a->pool.cfg.n_pages, c->page_size, heads };
    const DLDataType f32 = type_of_element(ELEMENT_F32);
    tensor_init(&a->k_scale, a->scales, f32, 3, shape);
    tensor_init(&a->v_scale, a->scales + shape[0] * shape[1] * shape[2], f32, 3, shape);
    a->args.k_scale = &a->k_scale.dl;
    a->args.v_scale = &a->v_scale.dl;
    a->args.flags = FOLIO_APPEND_MAKES_SCALES;
}

bool bench_append(const struct bench *bench, struct bench_row *row, char *error, size_t n)
{
    const struct bench_case *c = &row->c;
    const i64 n_tokens = c->batch * c->q_len;
    struct append_bench a = { .ctx = bench->ctx, .n_layers = c->cold ? bench->n_layers : 1 };
    const struct pagepool_config pages = { .ctx = bench->ctx,
                                           .layout = c->layout,
                                           .element = c->element,
                                           .n_pages = c->batch * ceil_div(c->q_len, c->page_size),
                                           .page_size = c->page_size,
                                           .n_layers = a.n_layers,
                                           .n_kv_heads = c->shape.n_kv_heads,
                                           .dim_qk = c->shape.dim_qk,
                                           .dim_v = c->shape.dim_v };
    row->n_layers = a.n_layers;
    row->bytes = (double)(n_tokens * page_bytes(&pages) / c->page_size);
    const i64 row_elements = n_tokens * c->shape.n_kv_heads * (c->shape.dim_qk + c->shape.dim_v);
    a.rows = malloc((size_t)(row_elements * element_bytes(bench_row_element(c))));
    a.scales = malloc((size_t)(2 * pages.n_pages * c->page_size * c->shape.n_kv_heads) * sizeof(*a.scales));
    a.slot_data = malloc((size_t)n_tokens * sizeof(*a.slot_data));
    bool ok = a.rows && a.scales && a.slot_data && pagepool_init(&a.pool, &pages);
    if (!ok) {
        snprintf(error, n, "out of memory");
    } else {
        make_args(&a, c, n_tokens);
        ok = bench_time(bench, row, once, &a, 1);
        if (!ok)
            snprintf(error, n, "%s", folio_last_error());
    }
    pagepool_free(&a.pool);
    free(a.rows);
    free(a.scales);
    free(a.slot_data);
    return ok;
}
