/* SPDX-License-Identifier: Apache-2.0
 * test_cache_free_list.c: both orders of free pages against a plain array, for pools that need one, two, three and four
 * levels of the tree. */
#include <stdlib.h>

#include "cache/free_list.h"
#include "support/cache.h"
#include "support/strided.h"

struct naive {
    bool *is_free; /* [n_pages] */
    i32 *list;     /* [n_pages] the stack; for runs only is_free counts */
    i32 n_pages, n_free;
    i32 low; /* no page below is free */
};

/* The page that comes next in runs: after `before`, else the lowest. */
static i32 naive_next(struct naive *n, i32 before)
{
    if (before >= 0 && before + 1 < n->n_pages && n->is_free[before + 1])
        return before + 1;
    while (!n->is_free[n->low])
        n->low++;
    return n->low;
}

static void take(struct free_list *list, struct naive *n, bool is_stack, i32 before, i32 n_take)
{
    i32 *ids = calloc((size_t)n_take + 1, sizeof *ids);
    assert_non_null(ids);
    folio__free_list_take(list, before, ids, n_take);
    for (i32 i = 0; i < n_take; i++) {
        const i32 want = is_stack ? n->list[n->n_free - n_take + i] : naive_next(n, before);
        assert_int_equal(ids[i], want);
        n->is_free[want] = false;
        before = want;
    }
    n->n_free -= n_take;
    free(ids);
}

static void put(struct free_list *list, struct naive *n, i32 id)
{
    folio__free_list_put(list, id);
    n->list[n->n_free++] = id;
    n->is_free[id] = true;
    n->low = id < n->low ? id : n->low;
}

static void check_same(const struct free_list *list, const struct naive *n, bool is_stack)
{
    assert_int_equal(list->n_free, n->n_free);
    for (i32 i = 0; i < n->n_free && is_stack; i++)
        assert_int_equal(folio__free_list_stack_entry(list, i), n->list[i]);
    for (i32 id = 0; id < n->n_pages && !is_stack; id++)
        assert_true(folio__free_list_tree_has(list, id) == n->is_free[id]);
    assert_true(is_stack || folio__free_list_tree_is_sound(list));
}

static void check_pool(i32 n_pages, bool is_stack, bool use_page_0, u64 seed)
{
    u64 random = seed;
    const size_t n_bytes = folio__free_list_bytes(n_pages, is_stack);
    u8 *memory = calloc(1, n_bytes + 8);
    memset(memory + n_bytes, 0x5a, 8); /* a red zone */
    struct free_list list;
    folio__free_list_init(&list, memory, n_pages, is_stack, use_page_0);
    struct naive n = { .n_pages = n_pages };
    n.is_free = calloc((size_t)n_pages, sizeof *n.is_free);
    n.list = calloc((size_t)n_pages, sizeof *n.list);
    for (i32 id = n_pages - 1; id >= (use_page_0 ? 0 : 1); id--) {
        n.list[n.n_free++] = id;
        n.is_free[id] = true;
    }
    check_same(&list, &n, is_stack);
    for (i32 round = 0; round < 6; round++) {
        take(&list, &n, is_stack, -1,
             round == 0 ? n.n_free : (i32)random_below(&random, n.n_free + 1)); /* all, first */
        check_same(&list, &n, is_stack);
        for (i32 i = 0; i < 200 && n.n_free > 0; i++)
            take(&list, &n, is_stack, (i32)random_below(&random, n_pages), 1);
        for (i32 id = use_page_0 ? 0 : 1; id < n_pages; id++)
            if (!n.is_free[id] && random_below(&random, 3) > 0)
                put(&list, &n, id);
        check_same(&list, &n, is_stack);
    }
    assert_memory_equal(memory + n_bytes, "ZZZZZZZZ", 8);
    free(n.is_free);
    free(n.list);
    free(memory);
}

static void pages_come_in_order(void **state)
{
    (void)state;
    static const i32 sizes[] = { 1, 2, 63, 64, 65, 127, 4095, 4096, 4097, 8191, 262144, 262145 };
    u64 random = random_seed();
    for (size_t i = 0; i < COUNT_OF(sizes); i++)
        for (i32 kind = 0; kind < 4; kind++)
            check_pool(sizes[i], kind & 1, kind & 2, random_next(&random));
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(pages_come_in_order) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
