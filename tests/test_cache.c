/* SPDX-License-Identifier: Apache-2.0
 * test_cache.c: the cache manager, one property a test: orders, capacity, shortages, handles, exports. */
#include "support/cache.h"

static void runs_come_first_then_the_lowest_free_page(void **state)
{
    (void)state;
    folio_cache *cache = make(12, 4, 0);
    const folio_seq a = open_seq(cache), b = open_seq(cache);
    assert_ok(folio_seq_reserve(cache, a, 8));
    assert_ok(folio_seq_reserve(cache, b, 4));
    assert_row(cache, a, (i32[]){ 1, 2 }, 2); /* page 0 is never handed out */
    assert_row(cache, b, (i32[]){ 3 }, 1);
    assert_ok(folio_seq_reserve(cache, a, 12)); /* 3 is taken */
    assert_ok(folio_seq_reserve(cache, b, 8));  /* 4 too */
    assert_row(cache, a, (i32[]){ 1, 2, 4 }, 3);
    assert_row(cache, b, (i32[]){ 3, 5 }, 2);
    assert_ok(folio_seq_close(cache, a));
    assert_ok(folio_seq_reserve(cache, b, 20)); /* 6 and 7 run on, though 1 is free */
    assert_row(cache, b, (i32[]){ 3, 5, 6, 7, 8 }, 5);
    assert_ok(folio_seq_reserve(cache, b, 44));
    assert_row(cache, b, (i32[]){ 3, 5, 6, 7, 8, 9, 10, 11, 1, 2, 4 }, 11);
    finish(&cache);
}

static void lifo_order_is_that_of_pytorchs_paged_attention(void **state)
{
    (void)state;
    folio_cache *cache = make(8, 2, FOLIO_CACHE_USE_PAGE_0 | FOLIO_CACHE_LIFO);
    const folio_seq a = open_seq(cache), b = open_seq(cache);
    assert_ok(folio_seq_reserve(cache, a, 6)); /* empty_pages 7 .. 3 */
    assert_row(cache, a, (i32[]){ 2, 1, 0 }, 3);
    assert_ok(folio_seq_reserve(cache, b, 3)); /* 7 6 5 */
    assert_row(cache, b, (i32[]){ 4, 3 }, 2);
    assert_ok(folio_seq_close(cache, a)); /* 7 6 5 2 1 0 */
    assert_ok(folio_seq_reserve(cache, b, 8));
    assert_row(cache, b, (i32[]){ 4, 3, 1, 0 }, 4);
    assert_ok(folio_seq_reserve(cache, b, 9));
    assert_row(cache, b, (i32[]){ 4, 3, 1, 0, 2 }, 5);
    finish(&cache);
}

static void reserve_never_shrinks_and_append_fills_what_is_reserved(void **state)
{
    (void)state;
    folio_cache *cache = make(8, 4, 0);
    const folio_seq a = open_seq(cache);
    i64 n_tokens, capacity, n_pages, slots[9];
    assert_ok(folio_seq_reserve(cache, a, 9));
    assert_ok(folio_seq_reserve(cache, a, 3));
    assert_ok(folio_seq_info(cache, a, &n_tokens, &capacity, &n_pages));
    assert_true(n_tokens == 0 && capacity == 12 && n_pages == 3);
    assert_int_equal(stats_of(cache).n_slots_unused, 12);
    assert_ok(folio_seq_append(cache, a, 3, slots));
    assert_ok(folio_seq_append(cache, a, 6, slots + 3));
    assert_memory_equal(slots, ((i64[]){ 4, 5, 6, 7, 8, 9, 10, 11, 12 }), sizeof slots);
    assert_ok(folio_seq_append(cache, a, 0, NULL));
    assert_ok(folio_seq_info(cache, a, &n_tokens, NULL, NULL));
    assert_int_equal(n_tokens, 9);
    const folio_cache_stats stats = stats_of(cache);
    assert_true(stats.n_pages == 7 && stats.n_held == 3 && stats.n_free == 4 && stats.n_tokens == 9);
    assert_true(stats.n_slots_unused == 3 && stats.n_allocated == 3 && stats.n_released == 0 && stats.n_seqs == 1);
    finish(&cache);
}

/* The two highest of 2^31 - 2 pages of 2^31 - 1 tokens: slots near 2^62. */
static void slots_are_64_bit(void **state)
{
    (void)state;
    const folio_cache_config cfg = { .struct_size = sizeof cfg,
                                     .n_pages = INT32_MAX,
                                     .page_size = INT32_MAX,
                                     .max_seqs = 1,
                                     .max_pages_per_seq = 2,
                                     .flags = FOLIO_CACHE_LIFO };
    folio_cache *cache = NULL;
    assert_ok(folio_cache_create(&cache, &cfg));
    cache->free.n_free = 2; /* as if all others were handed out: the list starts with the highest */
    const folio_seq a = open_seq(cache);
    i64 slots[2];
    assert_ok(folio_seq_append(cache, a, INT32_MAX - 1, NULL));
    assert_ok(folio_seq_append(cache, a, 2, slots));
    assert_true(slots[0] == ((i64)INT32_MAX - 2) * INT32_MAX + INT32_MAX - 1);
    assert_true(slots[1] == ((i64)INT32_MAX - 1) * INT32_MAX);
    folio_cache_destroy(&cache);
}

static void a_shortage_changes_nothing_and_gives_its_numbers(void **state)
{
    (void)state;
    folio_cache *cache = make(8, 4, 0);
    const folio_seq a = open_seq(cache), b = open_seq(cache);
    folio_shortage shortage = { .struct_size = sizeof shortage, .needed = -1 };
    assert_ok(folio_cache_get_shortage(cache, &shortage));
    assert_true(shortage.needed == 0 && shortage.n_free == 0 && shortage.struct_size == sizeof shortage);
    assert_ok(folio_seq_append(cache, a, 17, NULL));
    const folio_cache_stats before = stats_of(cache);

    assert_int_equal(folio_seq_reserve(cache, b, 9), FOLIO_ENOPAGES);
    assert_string_equal(folio_last_error(), "n_tokens: 3 new pages needed, 2 of 7 are free");
    assert_ok(folio_cache_get_shortage(cache, &shortage));
    assert_true(shortage.needed == 3 && shortage.n_free == 2 && shortage.can_fit == 1);

    assert_int_equal(folio_seq_append(cache, b, 29, NULL), FOLIO_ETOOBIG);
    assert_ok(folio_cache_get_shortage(cache, &shortage));
    assert_true(shortage.needed == 8 && shortage.n_free == 2 && shortage.can_fit == 0);

    assert_int_equal(folio_seq_reserve(cache, a, INT64_C(1) << 62), FOLIO_ETOOBIG);
    assert_int_equal(folio_seq_append(cache, a, INT64_MAX, NULL), FOLIO_ETOOBIG);
    assert_int_equal(folio_cache_reserve(cache, (folio_seq[]){ a, b }, (i64[]){ INT64_MAX, INT64_MAX }, 2),
                     FOLIO_ETOOBIG);
    /* each alone would fit the pool, both never */
    assert_int_equal(folio_cache_reserve(cache, (folio_seq[]){ a, b }, (i64[]){ 20, 12 }, 2), FOLIO_ETOOBIG);
    const folio_cache_stats after = stats_of(cache);
    assert_memory_equal(&before, &after, sizeof before);
    assert_ok(folio_seq_append(cache, b, 8, NULL));
    finish(&cache);
}

/* One page: without page 0 there is nothing to hand out, with it there is one. */
static void a_pool_of_one_page(void **state)
{
    (void)state;
    for (u32 flags = 0; flags < 4; flags++) {
        folio_cache *cache = make(1, 4, flags);
        const folio_seq a = open_seq(cache);
        i64 slots[4];
        assert_ok(folio_seq_reserve(cache, a, 0));
        assert_int_equal(folio_seq_append(cache, a, 4, slots),
                         flags & FOLIO_CACHE_USE_PAGE_0 ? FOLIO_OK : FOLIO_ETOOBIG);
        assert_int_equal(folio_seq_append(cache, a, 1, slots), FOLIO_ETOOBIG);
        finish(&cache);
    }
}

static void a_row_holds_at_most_its_width(void **state)
{
    (void)state;
    const folio_cache_config cfg = { .struct_size = sizeof cfg, .n_pages = 9, .page_size = 2, .max_pages_per_seq = 3 };
    folio_cache *cache = NULL;
    assert_ok(folio_cache_create(&cache, &cfg));
    const folio_seq a = open_seq(cache);
    assert_ok(folio_seq_append(cache, a, 6, NULL));
    assert_int_equal(folio_seq_append(cache, a, 1, NULL), FOLIO_ETOOBIG);
    finish(&cache);
}

static void a_batch_is_all_or_nothing_and_names_each_once(void **state)
{
    (void)state;
    folio_cache *cache = make(8, 4, 0);
    const folio_seq a = open_seq(cache), b = open_seq(cache), c = open_seq(cache);
    assert_ok(folio_seq_append(cache, c, 8, NULL));
    assert_int_equal(folio_cache_reserve(cache, (folio_seq[]){ a, b }, (i64[]){ 12, 12 }, 2), FOLIO_ENOPAGES);
    assert_int_equal(stats_of(cache).n_free, 5);
    assert_int_equal(folio_cache_reserve(cache, (folio_seq[]){ a, b, a }, (i64[]){ 1, 1, 1 }, 3), FOLIO_EINVAL);
    assert_non_null(strstr(folio_last_error(), "seqs[2]"));
    assert_int_equal(folio_cache_reserve(cache, (folio_seq[]){ a, b }, (i64[]){ 1, -1 }, 2), FOLIO_EINVAL);
    assert_int_equal(stats_of(cache).n_free, 5);
    assert_ok(folio_cache_reserve(cache, (folio_seq[]){ a, b }, (i64[]){ 12, 8 }, 2));
    assert_ok(folio_cache_reserve(cache, NULL, NULL, 0));
    assert_int_equal(stats_of(cache).n_free, 0);
    finish(&cache);
}

static void truncate_drops_whole_pages_reserved_ones_too(void **state)
{
    (void)state;
    folio_cache *cache = make(12, 4, 0);
    const folio_seq a = open_seq(cache);
    i64 slots[2];
    assert_ok(folio_seq_append(cache, a, 11, NULL));
    assert_ok(folio_seq_reserve(cache, a, 20));
    assert_ok(folio_seq_truncate(cache, a, 11));
    assert_row(cache, a, (i32[]){ 1, 2, 3 }, 3);
    assert_ok(folio_seq_truncate(cache, a, 5));
    assert_row(cache, a, (i32[]){ 1, 2 }, 2);
    assert_int_equal(stats_of(cache).n_slots_unused, 3);
    assert_ok(folio_seq_append(cache, a, 2, slots));
    assert_memory_equal(slots, ((i64[]){ 9, 10 }), sizeof slots);
    assert_ok(folio_seq_truncate(cache, a, 4));
    assert_ok(folio_seq_truncate(cache, a, 0));
    assert_row(cache, a, NULL, 0);
    assert_int_equal(stats_of(cache).n_held, 0);
    finish(&cache);
}

static void handles_are_never_reused(void **state)
{
    (void)state;
    folio_cache *cache = make(8, 4, 0);
    folio_seq seen[64];
    for (size_t i = 0; i < COUNT_OF(seen); i++) {
        seen[i] = open_seq(cache);
        assert_true(seen[i] != 0);
        for (size_t j = 0; j < i; j++) {
            assert_true(seen[i] != seen[j]);
            assert_int_equal(folio_seq_append(cache, seen[j], 1, NULL), FOLIO_EHANDLE);
        }
        assert_ok(folio_seq_close(cache, seen[i]));
        assert_int_equal(folio_seq_close(cache, seen[i]), FOLIO_EHANDLE);
    }
    /* the last generation of slot 0: afterwards the slot is retired, and three are left */
    cache->seqs[0].generation = UINT32_MAX - 1;
    const folio_seq last = open_seq(cache);
    assert_true(last == (u64)UINT32_MAX << 32);
    assert_ok(folio_seq_close(cache, last));
    assert_ok(folio_cache_check(cache));
    for (i32 i = 0; i < 3; i++)
        assert_true((open_seq(cache) & UINT32_MAX) != 0);
    folio_seq none = 77;
    assert_int_equal(folio_seq_open(cache, &none), FOLIO_ENOSEQS);
    assert_int_equal(none, 77);
    finish(&cache);
}

static void exports_show_token_pages_padded_and_packed(void **state)
{
    (void)state;
    folio_cache *cache = make(12, 4, 0);
    const folio_seq a = open_seq(cache), b = open_seq(cache), c = open_seq(cache);
    assert_ok(folio_seq_append(cache, a, 9, NULL)); /* 1 2 3 */
    assert_ok(folio_seq_reserve(cache, b, 8));      /* 4 5, no token */
    assert_ok(folio_seq_append(cache, c, 4, NULL)); /* 6 */
    assert_ok(folio_seq_reserve(cache, c, 8));
    const folio_seq seqs[] = { c, a, b, a };
    i64 width = -1, kv_lens[5] = { 0, 0, 0, 0, 99 };
    assert_ok(folio_cache_table_width(cache, seqs, 4, &width));
    assert_int_equal(width, 3);
    i32 table[17], indptr[6] = { 0, 0, 0, 0, 0, 99 }, indices[8] = { 0, 0, 0, 0, 0, 0, 0, 99 };
    table[16] = 99;
    assert_ok(folio_cache_page_table(cache, seqs, 4, table, 4, kv_lens));
    assert_memory_equal(table, ((i32[]){ 6, -1, -1, -1, 1, 2, 3, -1, -1, -1, -1, -1, 1, 2, 3, -1, 99 }), sizeof table);
    assert_memory_equal(kv_lens, ((i64[]){ 4, 9, 0, 9, 99 }), sizeof kv_lens);
    memset(kv_lens, 0, 4 * sizeof *kv_lens);
    assert_ok(folio_cache_kv_lens(cache, seqs, 4, kv_lens));
    assert_memory_equal(kv_lens, ((i64[]){ 4, 9, 0, 9, 99 }), sizeof kv_lens);
    assert_int_equal(folio_cache_page_table_csr(cache, seqs, 4, indptr, indices, 6, NULL), FOLIO_EINVAL);
    assert_int_equal(indptr[4], 0);
    assert_ok(folio_cache_page_table_csr(cache, seqs, 4, indptr, indices, 7, NULL));
    assert_memory_equal(indptr, ((i32[]){ 0, 1, 4, 4, 7, 99 }), sizeof indptr);
    assert_memory_equal(indices, ((i32[]){ 6, 1, 2, 3, 1, 2, 3, 99 }), sizeof indices);
    assert_ok(folio_cache_page_table_csr(cache, NULL, 0, indptr, NULL, 0, NULL));
    assert_ok(folio_cache_page_table(cache, NULL, 0, NULL, 0, NULL));
    finish(&cache);
}

static void slots_of_positions_reach_into_what_is_reserved(void **state)
{
    (void)state;
    folio_cache *cache = make(8, 3, FOLIO_CACHE_USE_PAGE_0 | FOLIO_CACHE_LIFO);
    const folio_seq a = open_seq(cache), b = open_seq(cache);
    assert_ok(folio_seq_reserve(cache, a, 7));      /* 2 1 0 */
    assert_ok(folio_seq_append(cache, b, 1, NULL)); /* 3 */
    const folio_seq seqs[] = { b, a, a };
    i64 slots[7] = { 0, 0, 0, 0, 0, 0, 99 };
    assert_ok(folio_cache_slots(cache, seqs, 3, (i64[]){ 2, 0, 8, 0, 3, 5 }, 2, slots));
    assert_memory_equal(slots, ((i64[]){ 11, 9, 2, 6, 3, 5, 99 }), sizeof slots);
    static const i64 bad[] = { -1, 3, INT64_MAX, INT64_MIN };
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        assert_int_equal(folio_cache_slots(cache, seqs, 1, (i64[]){ 0, bad[i] }, 2, slots), FOLIO_ERANGE);
        assert_non_null(strstr(folio_last_error(), "positions[0, 1]"));
        assert_non_null(strstr(folio_last_error(), "0 .. 2"));
        assert_int_equal(slots[0], 11);
    }
    assert_ok(folio_cache_slots(cache, NULL, 0, NULL, 4, NULL));
    assert_ok(folio_cache_slots(cache, seqs, 3, NULL, 0, NULL));
    assert_int_equal(folio_cache_slots(cache, seqs, 3, NULL, 1, slots), FOLIO_EINVAL);
    assert_int_equal(folio_cache_slots(cache, seqs, 3, slots, 1, NULL), FOLIO_EINVAL);
    assert_int_equal(folio_cache_slots(cache, seqs, 3, slots, -1, slots), FOLIO_EINVAL);
    finish(&cache);
}

static void free_pages_are_told_in_the_order_of_the_list(void **state)
{
    (void)state;
    static const u32 flags[] = { FOLIO_CACHE_USE_PAGE_0 | FOLIO_CACHE_LIFO, FOLIO_CACHE_LIFO, 0,
                                 FOLIO_CACHE_USE_PAGE_0 };
    static const i32 want[COUNT_OF(flags)][8] = { { 7, 6, 5, 4, 2, 1, 0, 99 },
                                                  { 7, 6, 5, 3, 2, 1, 99, 99 },
                                                  { 1, 2, 3, 5, 6, 7, 99, 99 },
                                                  { 0, 1, 2, 4, 5, 6, 7, 99 } };
    for (size_t i = 0; i < COUNT_OF(flags); i++) {
        folio_cache *cache = make(8, 2, flags[i]);
        const folio_seq a = open_seq(cache), b = open_seq(cache);
        assert_ok(folio_seq_reserve(cache, a, 6));
        assert_ok(folio_seq_reserve(cache, b, 2));
        assert_ok(folio_seq_close(cache, a));
        const i64 n_free = stats_of(cache).n_free;
        i32 pages[8] = { 99, 99, 99, 99, 99, 99, 99, 99 };
        assert_int_equal(folio_cache_free_pages(cache, pages, n_free - 1), FOLIO_EINVAL);
        assert_int_equal(pages[0], 99);
        assert_int_equal(folio_cache_free_pages(cache, NULL, n_free), FOLIO_EINVAL);
        assert_ok(folio_cache_free_pages(cache, pages, n_free));
        assert_memory_equal(pages, want[i], sizeof pages);
        finish(&cache);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(runs_come_first_then_the_lowest_free_page),
        cmocka_unit_test(lifo_order_is_that_of_pytorchs_paged_attention),
        cmocka_unit_test(reserve_never_shrinks_and_append_fills_what_is_reserved),
        cmocka_unit_test(slots_are_64_bit),
        cmocka_unit_test(a_shortage_changes_nothing_and_gives_its_numbers),
        cmocka_unit_test(a_pool_of_one_page),
        cmocka_unit_test(a_row_holds_at_most_its_width),
        cmocka_unit_test(a_batch_is_all_or_nothing_and_names_each_once),
        cmocka_unit_test(truncate_drops_whole_pages_reserved_ones_too),
        cmocka_unit_test(handles_are_never_reused),
        cmocka_unit_test(exports_show_token_pages_padded_and_packed),
        cmocka_unit_test(slots_of_positions_reach_into_what_is_reserved),
        cmocka_unit_test(free_pages_are_told_in_the_order_of_the_list),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
