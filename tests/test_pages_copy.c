/* SPDX-License-Identifier: Apache-2.0
 * test_pages_copy.c: whole pages to pages, in order, and contiguous tensors to pages: the whole arena is compared
 * with what a naive loop makes of it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "folio/pages.h"
#include "support/contexts.h"
#include "support/strided.h"

static struct contexts contexts;

/* dst = src, n bytes, both inside the copy of the arena. */
static void expect_bytes(const struct arena *arena, u8 *want, void *dst, const void *src, i64 n)
{
    memcpy(want + ((u8 *)dst - arena->bytes), want + ((const u8 *)src - arena->bytes), (size_t)n);
}

static void expect_copy(const struct arena *arena, u8 *want, const struct strided *pages, i64 from, i64 to)
{
    for (i64 slot = 0; slot < pages->shape[1]; slot++)
        for (i64 head = 0; head < pages->shape[2]; head++)
            expect_bytes(arena, want, strided_at(pages, to, slot, head, 0), strided_at(pages, from, slot, head, 0),
                         from == to ? 0 : pages->shape[3] * folio__dtype_bytes(pages->dtype));
}

static void check_copy(enum pages_layout layout, enum dtype dtype, const struct pages_shape *shape, bool with_v,
                       u64 seed)
{
    enum { N_COPIES = 9 };
    u64 random = seed;
    struct arena arena = arena_create(8 * (shape->n_pages * shape->page_size * shape->n_kv_heads + 8) *
                                      (shape->dim_k + shape->dim_v + 20));
    struct strided k, v, copies;
    strided_pages(&k, &v, &arena, layout, dtype, shape);
    strided_fill(&k, &random);
    strided_fill(&v, &random);
    strided_compact(&copies, &arena, DTYPE_I64, 2, (i64[]){ N_COPIES, 2 });
    i64 *pairs = copies.dl.data;
    for (i64 i = 0; i < 2 * N_COPIES; i++) /* chains, repeats and copies to itself among them */
        pairs[i] = random_below(&random, shape->n_pages);
    u8 *want = arena_copy(&arena);
    for (i64 i = 0; i < N_COPIES; i++) {
        expect_copy(&arena, want, &k, pairs[2 * i], pairs[2 * i + 1]);
        if (with_v)
            expect_copy(&arena, want, &v, pairs[2 * i], pairs[2 * i + 1]);
    }
    const folio_status status = folio_pages_copy(contexts.at[0], &k.dl, with_v ? &v.dl : NULL, &copies.dl, NULL);
    if (status != FOLIO_OK || memcmp(arena.bytes, want, (size_t)arena.n) != 0)
        fail_msg("copy: status %s, %s, %s, %lld pages of %lld, %lld heads, seed %llu", folio_status_name(status),
                 layout_names[layout], folio__dtype_name(dtype), (long long)shape->n_pages, (long long)shape->page_size,
                 (long long)shape->n_kv_heads, (unsigned long long)seed);
    free(want);
    arena_destroy(&arena);
}

static void copies_run_in_order(void **state)
{
    (void)state;
    static const struct pages_shape shapes[] = { { 1, 1, 1, 1, 1 }, { 4, 3, 2, 5, 3 }, { 6, 16, 3, 64, 80 } };
    static const enum dtype dtypes[] = { DTYPE_F32, DTYPE_F16, DTYPE_BF16 };
    u64 random = random_seed();
    for (i32 layout = 0; layout < N_LAYOUTS; layout++)
        for (size_t s = 0; s < COUNT_OF(shapes); s++)
            for (size_t d = 0; d < COUNT_OF(dtypes); d++)
                for (i32 with_v = 0; with_v < 2; with_v++)
                    check_copy((enum pages_layout)layout, dtypes[d], &shapes[s], with_v, random_next(&random));
}

/* Enough bytes for every thread: chains must still come out in order. */
static void threads_keep_the_order(void **state)
{
    (void)state;
    for (u64 seed = 1; seed < 6; seed++)
        check_copy(LAYOUT_HND, DTYPE_F32, &(struct pages_shape){ 4, 64, 4, 128, 128 }, true, seed);
}

struct cut_case {
    enum pages_layout layout;
    enum dtype dtype;
    i64 batch, n_heads, n_tokens, dim, page_size, spare_pages;
    bool ids_are_i64, tokens_first; /* x in memory: [batch][token][head][dim], else [batch][head][token][dim] */
    u64 seed;
};

static void expect_cut(const struct arena *arena, u8 *want, const struct cut_case *c, const struct strided *pages,
                       const struct strided *x, const struct strided *table)
{
    const i64 each = (c->n_tokens + c->page_size - 1) / c->page_size, n_bytes = c->dim * folio__dtype_bytes(c->dtype);
    for (i64 page = 0; page < c->batch * each; page++) {
        u8 *entry = want + ((u8 *)strided_at(table, page / each, page % each, 0, 0) - arena->bytes);
        if (c->ids_are_i64)
            memcpy(entry, &page, sizeof page);
        else
            memcpy(entry, &(i32){ (i32)page }, sizeof(i32));
        for (i64 slot = 0; slot < c->page_size; slot++)
            for (i64 head = 0; head < c->n_heads; head++) {
                const i64 token = page % each * c->page_size + slot;
                u8 *dst = strided_at(pages, page, slot, head, 0);
                if (token < c->n_tokens)
                    expect_bytes(arena, want, dst, strided_at(x, page / each, head, token, 0), n_bytes);
                else
                    memset(want + (dst - arena->bytes), 0, (size_t)n_bytes);
            }
    }
}

static void check_cut(const struct cut_case *c)
{
    u64 random = c->seed;
    const i64 each = (c->n_tokens + c->page_size - 1) / c->page_size;
    const struct pages_shape shape = { c->batch * each + c->spare_pages, c->page_size, c->n_heads, c->dim, 1 };
    struct arena arena = arena_create(
        4 * ((shape.n_pages * c->page_size + c->batch * c->n_tokens + 8) * c->n_heads + 8) * (c->dim + 24) + 8192);
    struct strided pages, unused, x, table;
    strided_pages(&pages, &unused, &arena, c->layout, c->dtype, &shape);
    strided_compact(&x, &arena, c->dtype, 4, (i64[]){ c->batch, c->n_heads, c->n_tokens, c->dim });
    if (c->tokens_first) {
        x.strides[1] = c->dim;
        x.strides[2] = c->n_heads * c->dim;
    }
    strided_fill(&x, &random);
    strided_init(&table, c->ids_are_i64 ? DTYPE_I64 : DTYPE_I32, 2, (i64[]){ c->batch, each }, (i64[]){ each + 2, 1 },
                 arena_take(&arena, 8 * c->batch * (each + 2)));
    u8 *want = arena_copy(&arena);
    expect_cut(&arena, want, c, &pages, &x, &table);
    const folio_status status = folio_pages_from_contiguous(contexts.at[0], &pages.dl, &table.dl, &x.dl, NULL);
    if (status != FOLIO_OK || memcmp(arena.bytes, want, (size_t)arena.n) != 0)
        fail_msg(
            "from_contiguous: status %s (%s), %s, %s, batch %lld, %lld heads, %lld tokens, dim %lld, page_size %lld, "
            "seed %llu",
            folio_status_name(status), folio_last_error(), layout_names[c->layout], folio__dtype_name(c->dtype),
            (long long)c->batch, (long long)c->n_heads, (long long)c->n_tokens, (long long)c->dim,
            (long long)c->page_size, (unsigned long long)c->seed);
    free(want);
    arena_destroy(&arena);
}

static void contiguous_tensors_are_cut_and_padded_with_zeros(void **state)
{
    (void)state;
    static const i64 tokens[] = { 0, 1, 15, 16, 17, 37 }, page_sizes[] = { 1, 3, 16 };
    static const enum dtype dtypes[] = { DTYPE_F32, DTYPE_F16, DTYPE_BF16 };
    u64 random = random_seed();
    for (i32 layout = 0; layout < N_LAYOUTS; layout++)
        for (size_t t = 0; t < COUNT_OF(tokens); t++)
            for (size_t p = 0; p < COUNT_OF(page_sizes); p++)
                for (size_t d = 0; d < COUNT_OF(dtypes); d++) {
                    const u64 seed = random_next(&random);
                    check_cut(&(struct cut_case){ .layout = (enum pages_layout)layout,
                                                  .dtype = dtypes[d],
                                                  .batch = (i64)(seed % 3),
                                                  .n_heads = seed >> 8 & 1 ? 1 : 3,
                                                  .n_tokens = tokens[t],
                                                  .dim = seed >> 9 & 1 ? 7 : 64,
                                                  .page_size = page_sizes[p],
                                                  .spare_pages = (i64)(seed >> 10 & 1),
                                                  .ids_are_i64 = seed >> 11 & 1,
                                                  .tokens_first = seed >> 12 & 1,
                                                  .seed = seed });
                }
}

static int create_contexts(void **state)
{
    (void)state;
    contexts = contexts_create(3);
    return 0;
}

static int destroy_contexts(void **state)
{
    (void)state;
    contexts_destroy(&contexts);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(copies_run_in_order),
        cmocka_unit_test(threads_keep_the_order),
        cmocka_unit_test(contiguous_tensors_are_cut_and_padded_with_zeros),
    };
    return cmocka_run_group_tests(tests, create_contexts, destroy_contexts);
}
