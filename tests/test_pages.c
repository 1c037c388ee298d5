/* SPDX-License-Identifier: Apache-2.0
 * test_pages.c: append, gather, copy and from_contiguous put every byte where a naive loop puts it, and touch no other:
 * the whole arena is compared. A failure prints the case; FOLIO_SEED repeats the run. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "folio/pages.h"
#include "support/contexts.h"
#include "support/slow.h"
#include "support/strided.h"

static struct contexts contexts;

struct pages_case {
    enum pages_layout layout;
    enum dtype pages_dtype, rows_dtype;
    struct pages_shape shape;
    i64 n_tokens;
    bool ids_are_i64, rows_are_compact;
    u64 seed;
};

/* Compare the arena with what is wanted; on a difference say which byte, in which case. Frees want. */
static void assert_arena(const struct arena *arena, u8 *want, const struct pages_case *c, const char *what,
                         const char *context)
{
    i64 at = 0;
    while (at < arena->n && arena->bytes[at] == want[at])
        at++;
    const bool is_equal = at == arena->n;
    const u8 got = is_equal ? 0 : arena->bytes[at], wanted = is_equal ? 0 : want[at];
    free(want);
    if (!is_equal)
        fail_msg("%s on %s: byte %lld is %#x, should be %#x; %s, pages %s, rows %s, %lld pages of %lld, %lld heads, "
                 "dims %lld and %lld, %lld tokens, %s ids, %s rows, seed %llu",
                 what, context, (long long)at, got, wanted, layout_names[c->layout], folio__dtype_name(c->pages_dtype),
                 folio__dtype_name(c->rows_dtype), (long long)c->shape.n_pages, (long long)c->shape.page_size,
                 (long long)c->shape.n_kv_heads, (long long)c->shape.dim_k, (long long)c->shape.dim_v,
                 (long long)c->n_tokens, c->ids_are_i64 ? "i64" : "i32", c->rows_are_compact ? "compact" : "gappy",
                 (unsigned long long)c->seed);
}

/* dst = src, one element, in the copy of the arena; rounded once, bit for bit when the dtypes agree. */
static void expect_element(const struct arena *arena, u8 *want, void *dst, enum dtype dst_dtype, const void *src,
                           enum dtype src_dtype)
{
    u8 *in_want = want + ((u8 *)dst - arena->bytes);
    if (dst_dtype == src_dtype)
        memcpy(in_want, src, (size_t)folio__dtype_bytes(dst_dtype));
    else
        folio__store_float(dst_dtype, in_want, folio__load_float(src_dtype, src));
}

static void expect_append(const struct arena *arena, u8 *want, const struct strided *pages, const struct strided *rows,
                          const i64 *slots, i64 page_size)
{
    for (i64 token = 0; token < rows->shape[0]; token++)
        for (i64 head = 0; slots[token] >= 0 && head < rows->shape[1]; head++)
            for (i64 d = 0; d < rows->shape[2]; d++)
                expect_element(arena, want,
                               strided_at(pages, slots[token] / page_size, slots[token] % page_size, head, d),
                               pages->dtype, strided_at(rows, token, head, d, 0), rows->dtype);
}

/* n ids: a part of a random permutation of 0 .. n_ids - 1. */
static void random_ids(i64 *ids, i64 n, i64 n_ids, u64 *random)
{
    i64 *all = malloc((size_t)n_ids * sizeof *all);
    assert_non_null(all);
    for (i64 i = 0; i < n_ids; i++)
        all[i] = i;
    for (i64 i = 0; i < n; i++) {
        const i64 other = i + random_below(random, n_ids - i), id = all[other];
        all[other] = all[i];
        ids[i] = all[i] = id;
    }
    free(all);
}

static void write_ids(struct strided *t, const i64 *ids)
{
    for (i64 i = 0; i < t->shape[0]; i++)
        if (t->dtype == DTYPE_I64)
            memcpy(strided_at(t, i, 0, 0, 0), &ids[i], sizeof ids[i]);
        else
            memcpy(strided_at(t, i, 0, 0, 0), &(i32){ (i32)ids[i] }, sizeof(i32));
}

struct append_case {
    struct arena arena;
    struct strided k, v, k_pages, v_pages, slots_tensor;
    i64 *slots; /* [n_tokens] */
    folio_append_args args;
};

static i64 arena_bytes(const struct pages_case *c)
{
    const struct pages_shape *s = &c->shape;
    const i64 dims = s->dim_k + s->dim_v + 20;
    return 4 * ((s->n_pages * s->page_size + 2 * c->n_tokens) * s->n_kv_heads + 64) * dims + 16 * c->n_tokens +
           s->n_pages * 64 + 8192;
}

static void make_append(struct append_case *a, const struct pages_case *c)
{
    const struct pages_shape *s = &c->shape;
    u64 random = c->seed;
    *a = (struct append_case){ .arena = arena_create(arena_bytes(c)) };
    strided_pages(&a->k_pages, &a->v_pages, &a->arena, c->layout, c->pages_dtype, s);
    strided_rows(&a->k, &a->arena, c->rows_dtype, c->n_tokens, s->n_kv_heads, s->dim_k, c->rows_are_compact);
    strided_rows(&a->v, &a->arena, c->rows_dtype, c->n_tokens, s->n_kv_heads, s->dim_v, c->rows_are_compact);
    strided_compact(&a->slots_tensor, &a->arena, c->ids_are_i64 ? DTYPE_I64 : DTYPE_I32, 1, &c->n_tokens);
    strided_fill(&a->k, &random);
    strided_fill(&a->v, &random);
    a->slots = calloc((size_t)c->n_tokens + 1, sizeof *a->slots);
    assert_non_null(a->slots);
    random_ids(a->slots, c->n_tokens, s->n_pages * s->page_size, &random);
    for (i64 token = 0; token < c->n_tokens; token++)
        if (random_below(&random, 5) == 0)
            a->slots[token] = -1;
    write_ids(&a->slots_tensor, a->slots);
    a->args = (folio_append_args){ .struct_size = sizeof a->args,
                                   .k = &a->k.dl,
                                   .v = &a->v.dl,
                                   .k_pages = &a->k_pages.dl,
                                   .v_pages = &a->v_pages.dl,
                                   .slots = &a->slots_tensor.dl };
}

static void destroy_append(struct append_case *a)
{
    free(a->slots);
    arena_destroy(&a->arena);
}

static void check_append(const struct pages_case *c)
{
    for (i32 i = 0; i < contexts.n; i++) {
        struct append_case a;
        make_append(&a, c);
        u8 *want = arena_copy(&a.arena);
        expect_append(&a.arena, want, &a.k_pages, &a.k, a.slots, c->shape.page_size);
        expect_append(&a.arena, want, &a.v_pages, &a.v, a.slots, c->shape.page_size);
        const folio_status status = folio_pages_append(contexts.at[i], &a.args, NULL);
        if (status != FOLIO_OK)
            print_error("append: %s\n", folio_last_error());
        assert_int_equal(status, FOLIO_OK);
        assert_arena(&a.arena, want, c, "append", contexts.name[i]);
        destroy_append(&a);
    }
}

static void check_gather(const struct pages_case *c)
{
    const struct pages_shape *s = &c->shape;
    const i64 n_used = (c->n_tokens + s->page_size - 1) / s->page_size, n_row = n_used + 2;
    for (i32 i = 0; i < contexts.n; i++) {
        u64 random = c->seed;
        struct arena arena = arena_create(arena_bytes(c));
        struct strided k_pages, v_pages, k, v, row;
        strided_pages(&k_pages, &v_pages, &arena, c->layout, c->pages_dtype, s);
        strided_rows(&k, &arena, c->rows_dtype, c->n_tokens, s->n_kv_heads, s->dim_k, c->rows_are_compact);
        strided_rows(&v, &arena, c->rows_dtype, c->n_tokens, s->n_kv_heads, s->dim_v, c->rows_are_compact);
        strided_compact(&row, &arena, c->ids_are_i64 ? DTYPE_I64 : DTYPE_I32, 1, &n_row);
        strided_fill(&k_pages, &random);
        strided_fill(&v_pages, &random);
        i64 *ids = calloc((size_t)n_row, sizeof *ids);
        assert_non_null(ids);
        random_ids(ids, n_used, s->n_pages, &random);
        ids[n_used] = -7; /* behind the used part: anything */
        ids[n_used + 1] = INT32_MAX;
        write_ids(&row, ids);
        u8 *want = arena_copy(&arena);
        for (i64 t = 0; t < c->n_tokens; t++)
            for (i64 h = 0; h < s->n_kv_heads; h++) {
                const i64 page = ids[t / s->page_size], slot = t % s->page_size;
                for (i64 d = 0; d < s->dim_k; d++)
                    expect_element(&arena, want, strided_at(&k, t, h, d, 0), k.dtype,
                                   strided_at(&k_pages, page, slot, h, d), k_pages.dtype);
                for (i64 d = 0; d < s->dim_v; d++)
                    expect_element(&arena, want, strided_at(&v, t, h, d, 0), v.dtype,
                                   strided_at(&v_pages, page, slot, h, d), v_pages.dtype);
            }
        const folio_gather_args args = { .struct_size = sizeof args,
                                         .k_pages = &k_pages.dl,
                                         .v_pages = &v_pages.dl,
                                         .page_row = &row.dl,
                                         .kv_len = c->n_tokens,
                                         .k = &k.dl,
                                         .v = &v.dl };
        const folio_status status = folio_pages_gather(contexts.at[i], &args, NULL);
        if (status != FOLIO_OK)
            print_error("gather: %s\n", folio_last_error());
        assert_int_equal(status, FOLIO_OK);
        free(ids);
        assert_arena(&arena, want, c, "gather", contexts.name[i]);
        arena_destroy(&arena);
    }
}

/* Call check on every layout, pair of dtypes, page size and head dim, edges first; a random eighth in slow builds. */
static void for_each_case(void (*check)(const struct pages_case *c))
{
    static const enum dtype dtypes[] = { DTYPE_F32, DTYPE_F16, DTYPE_BF16 };
    static const i64 page_sizes[] = { 1, 3, 16 }, dims[][2] = { { 1, 1 }, { 5, 3 }, { 17, 80 }, { 64, 64 } };
    static const i64 tokens[] = { 0, 1, 2, 29 };
    u64 random = random_seed();
    for (i32 layout = 0; layout < N_LAYOUTS; layout++)
        for (size_t pd = 0; pd < COUNT_OF(dtypes); pd++)
            for (size_t rd = 0; rd < COUNT_OF(dtypes); rd++)
                for (size_t p = 0; p < COUNT_OF(page_sizes); p++)
                    for (size_t d = 0; d < COUNT_OF(dims); d++)
                        for (size_t t = 0; t < COUNT_OF(tokens); t++) {
                            const u64 seed = random_next(&random);
                            if (BUILD_IS_SLOW && seed >> 8 & 7)
                                continue;
                            const struct pages_case c = {
                                .layout = (enum pages_layout)layout,
                                .pages_dtype = dtypes[pd],
                                .rows_dtype = dtypes[rd],
                                .shape = { .n_pages = tokens[t] / page_sizes[p] + 2,
                                           .page_size = page_sizes[p],
                                           .n_kv_heads = seed % 2 ? 1 : 3,
                                           .dim_k = dims[d][0],
                                           .dim_v = dims[d][1] },
                                .n_tokens = tokens[t],
                                .ids_are_i64 = seed >> 1 & 1,
                                .rows_are_compact = seed >> 2 & 1,
                                .seed = seed,
                            };
                            check(&c);
                        }
}

static void append_writes_exactly_its_slots(void **state)
{
    (void)state;
    for_each_case(check_append);
}

static void gather_writes_exactly_its_rows(void **state)
{
    (void)state;
    for_each_case(check_gather);
}

/* Enough bytes for every thread. */
static const struct pages_case large = { .layout = LAYOUT_HND,
                                         .pages_dtype = DTYPE_BF16,
                                         .rows_dtype = DTYPE_F32,
                                         .shape = { 43, 16, 4, 128, 96 },
                                         .n_tokens = 601,
                                         .rows_are_compact = true,
                                         .seed = 3 };

static void many_threads_write_the_same_bytes(void **state)
{
    (void)state;
    check_append(&large);
    check_gather(&large);
}

static float bits_to_float(u32 bits)
{
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* Values, not only agreement with base/dtype: ties to even, overflow to infinity, NaN stays NaN. */
static void narrowing_rounds_to_nearest_even(void **state)
{
    (void)state;
    const float in[8] = { 1.0f + 0x1p-8f, 1.0f + 0x3p-8f, 1.0f + 0x1p-8f + 0x1p-20f, -0.0f,
                          65520.0f,       0x1p-26f,       bits_to_float(0x7f800001), 0x1.fffffep127f };
    static const u16 bf16[8] = { 0x3f80, 0x3f82, 0x3f81, 0x8000, 0x4780, 0x3280, 0x7fc0, 0x7f80 };
    static const u16 f16[8] = { 0x3c04, 0x3c0c, 0x3c04, 0x8000, 0x7c00, 0x0000, 0x7e00, 0x7c00 };
    for (i32 i = 0; i < contexts.n; i++)
        for (i32 which = 0; which < 2; which++) {
            u16 pages[2][8] = { { 0 } };
            struct strided k, k_pages, v_pages, slots;
            const enum dtype dtype = which ? DTYPE_F16 : DTYPE_BF16;
            strided_init(&k, DTYPE_F32, 3, (i64[]){ 1, 1, 8 }, (i64[]){ 8, 8, 1 }, (void *)(uintptr_t)in);
            strided_init(&k_pages, dtype, 4, (i64[]){ 1, 1, 1, 8 }, (i64[]){ 8, 8, 8, 1 }, pages[0]);
            strided_init(&v_pages, dtype, 4, (i64[]){ 1, 1, 1, 8 }, (i64[]){ 8, 8, 8, 1 }, pages[1]);
            strided_init(&slots, DTYPE_I64, 1, (i64[]){ 1 }, (i64[]){ 1 }, &(i64){ 0 });
            const folio_append_args args = { .struct_size = sizeof args,
                                             .k = &k.dl,
                                             .v = &k.dl,
                                             .k_pages = &k_pages.dl,
                                             .v_pages = &v_pages.dl,
                                             .slots = &slots.dl };
            assert_int_equal(folio_pages_append(contexts.at[i], &args, NULL), FOLIO_OK);
            const u16 *want = which ? f16 : bf16;
            for (i32 j = 0; j < 8; j++) {
                if (j == 6) /* any quiet NaN */
                    assert_true((pages[0][j] & want[j] & 0x7fff) == want[j]);
                else
                    assert_int_equal(pages[0][j], want[j]);
                assert_int_equal(pages[1][j], pages[0][j]);
            }
        }
}

/* V as a part of K's slots, as with one latent vector: the same memory may be named twice. */
static void v_may_be_a_part_of_k(void **state)
{
    (void)state;
    for (i32 i = 0; i < contexts.n; i++) {
        struct arena arena = arena_create(1 << 14);
        struct strided k, v, k_pages, v_pages, slots;
        u64 random = random_seed();
        strided_compact(&k_pages, &arena, DTYPE_F32, 4, (i64[]){ 4, 4, 1, 9 });
        strided_init(&v_pages, DTYPE_F32, 4, (i64[]){ 4, 4, 1, 6 }, k_pages.strides, k_pages.dl.data);
        strided_rows(&k, &arena, DTYPE_F32, 3, 1, 9, true);
        strided_init(&v, DTYPE_F32, 3, (i64[]){ 3, 1, 6 }, k.strides, k.dl.data);
        strided_compact(&slots, &arena, DTYPE_I32, 1, (i64[]){ 3 });
        write_ids(&slots, (i64[]){ 15, -1, 4 });
        strided_fill(&k, &random);
        u8 *want = arena_copy(&arena);
        expect_append(&arena, want, &k_pages, &k, (i64[]){ 15, -1, 4 }, 4);
        const folio_append_args args = { .struct_size = sizeof args,
                                         .k = &k.dl,
                                         .v = &v.dl,
                                         .k_pages = &k_pages.dl,
                                         .v_pages = &v_pages.dl,
                                         .slots = &slots.dl };
        assert_int_equal(folio_pages_append(contexts.at[i], &args, NULL), FOLIO_OK);
        assert_memory_equal(arena.bytes, want, (size_t)arena.n);
        free(want);
        arena_destroy(&arena);
    }
}

/* More slots than the table on the stack holds, in falling order. */
static void many_slots_in_any_order_are_fine(void **state)
{
    (void)state;
    enum { N = 1500 };
    static float rows[N], pages[2][N];
    static i64 slots[N];
    for (i64 i = 0; i < N; i++) {
        rows[i] = (float)i;
        slots[i] = N - 1 - i;
    }
    struct strided k, k_pages, v_pages, s;
    strided_init(&k, DTYPE_F32, 3, (i64[]){ N, 1, 1 }, (i64[]){ 1, 1, 1 }, rows);
    strided_init(&k_pages, DTYPE_F32, 4, (i64[]){ N, 1, 1, 1 }, (i64[]){ 1, 1, 1, 1 }, pages[0]);
    strided_init(&v_pages, DTYPE_F32, 4, (i64[]){ N, 1, 1, 1 }, (i64[]){ 1, 1, 1, 1 }, pages[1]);
    strided_init(&s, DTYPE_I64, 1, (i64[]){ N }, (i64[]){ 1 }, slots);
    const folio_append_args args = { .struct_size = sizeof args,
                                     .k = &k.dl,
                                     .v = &k.dl,
                                     .k_pages = &k_pages.dl,
                                     .v_pages = &v_pages.dl,
                                     .slots = &s.dl };
    assert_int_equal(folio_pages_append(contexts.at[0], &args, NULL), FOLIO_OK);
    for (i64 i = 0; i < N; i++)
        assert_true(pages[0][i] == (float)(N - 1 - i) && pages[1][i] == pages[0][i]);
    slots[1400] = slots[20];
    assert_int_equal(folio_pages_append(contexts.at[0], &args, NULL), FOLIO_EINVAL);
    assert_string_equal(folio_last_error(), "slots[1400]: 1479, as slots[20]; a slot may be named once");
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
        cmocka_unit_test(append_writes_exactly_its_slots),
        cmocka_unit_test(gather_writes_exactly_its_rows),
        cmocka_unit_test(many_threads_write_the_same_bytes),
        cmocka_unit_test(narrowing_rounds_to_nearest_even),
        cmocka_unit_test(v_may_be_a_part_of_k),
        cmocka_unit_test(many_slots_in_any_order_are_fine),
    };
    return cmocka_run_group_tests(tests, create_contexts, destroy_contexts);
}
