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
    struct tensor k, v, slots;
    folio_append_args args;
    void *rows;     /* [2][n_tokens][n_kv_heads][head_dim] */
    i64 *slot_data; /* [n_tokens] */
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
    const i64 shape[3] = { n_tokens, c->shape.n_kv_heads, c->shape.head_dim }, n = shape[0] * shape[1] * shape[2];
    const i64 stride = ceil_div(c->q_len, c->page_size) * c->page_size; /* slots between two sequences */
    for (i64 i = 0; i < n_tokens; i++)
        a->slot_data[i] = i / c->q_len * stride + i % c->q_len;
    for (i64 i = 0; i < 2 * shape[0] * shape[1]; i++)
        row_fill((u64)i, 0, ROW_K, 1, c->shape.head_dim, c->element,
                 (char *)a->rows + i * shape[2] * element_bytes(c->element));
    tensor_init(&a->k, a->rows, type_of_element(c->element), 3, shape);
    tensor_init(&a->v, (char *)a->rows + n * element_bytes(c->element), type_of_element(c->element), 3, shape);
    tensor_init(&a->slots, a->slot_data, type_of_ints(64), 1, shape);
    a->args =
        (folio_append_args){ .struct_size = sizeof(a->args), .k = &a->k.dl, .v = &a->v.dl, .slots = &a->slots.dl };
}

bool bench_append(const struct bench *bench, struct bench_row *row, char *error, size_t n)
{
    const struct bench_case *c = &row->c;
    const i64 n_tokens = c->batch * c->q_len;
    struct append_bench a = { .ctx = bench->ctx, .n_layers = c->cold ? bench->n_layers : 1 };
    const struct pagepool_config pages = { .layout = c->layout,
                                           .element = c->element,
                                           .n_pages = c->batch * ceil_div(c->q_len, c->page_size),
                                           .page_size = c->page_size,
                                           .n_layers = a.n_layers,
                                           .n_kv_heads = c->shape.n_kv_heads,
                                           .head_dim = c->shape.head_dim };
    row->n_layers = a.n_layers;
    row->bytes = (double)(n_tokens * 2 * c->shape.n_kv_heads * c->shape.head_dim * element_bytes(c->element));
    a.rows = malloc((size_t)row->bytes);
    a.slot_data = malloc((size_t)n_tokens * sizeof(*a.slot_data));
    bool ok = a.rows && a.slot_data && pagepool_init(&a.pool, &pages);
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
    free(a.slot_data);
    return ok;
}
