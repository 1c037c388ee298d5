/* SPDX-License-Identifier: Apache-2.0
 * test_cache_check.c: memory is taken at create only; a broken invariant is found, named and latched. */
#include "support/cache.h"

#include "base/alloc.h"

static void only_create_allocates_and_a_failed_create_leaves_nothing(void **state)
{
    (void)state;
    const i64 before = folio__alloc_count();
    folio_cache *cache = make(64, 4, 0);
    const i64 n_allocations = folio__alloc_count() - before;
    const folio_seq a = open_seq(cache);
    folio_seq b;
    i64 pairs[8];
    assert_ok(folio_seq_append(cache, a, 50, NULL));
    assert_ok(folio_seq_fork(cache, a, &b));
    assert_ok(folio_cache_reserve(cache, (folio_seq[]){ a, b }, (i64[]){ 90, 60 }, 2));
    assert_int_equal(folio_seq_reserve(cache, a, 1000), FOLIO_ETOOBIG);
    take_all(cache, pairs, 4);
    assert_ok(folio_seq_close(cache, b));
    assert_ok(folio_cache_check(cache));
    assert_int_equal(folio__alloc_count() - before, n_allocations);
    finish(&cache);

    const folio_cache_config cfg = { .struct_size = sizeof cfg, .n_pages = 8, .page_size = 4 };
    for (i64 at = 1; at <= n_allocations; at++) {
        folio_cache *none = NULL;
        folio__alloc_fail_at(at);
        const folio_status status = folio_cache_create(&none, &cfg);
        folio__alloc_fail_at(0);
        assert_int_equal(status, FOLIO_ENOMEM);
        assert_null(none);
    }
}

/* Each break is made by hand in a fresh cache: check must name it, and every later call must refuse. */
static void a_broken_invariant_is_found_and_latched(void **state)
{
    (void)state;
    for (i32 kind = 0; kind < 16; kind++) {
        folio_cache *cache = make(16, 4, kind == 10 ? FOLIO_CACHE_LIFO : 0);
        const folio_seq a = open_seq(cache);
        folio_seq b, c;
        assert_ok(folio_seq_append(cache, a, 6, NULL));
        assert_ok(folio_seq_fork(cache, a, &b));
        assert_ok(folio_seq_append(cache, b, 1, NULL));
        assert_ok(folio_seq_open(cache, &c));
        assert_ok(folio_seq_close(cache, c));
        assert_ok(folio_cache_check(cache));
        const i32 tail = seq_row(cache, seq_find(cache, b))[1];
        i32 *const counts[] = { &cache->n_seqs, &cache->n_shared, &cache->free.n_free, &cache->copies.n,
                                &cache->n_closed_slots };
        i64 *const sums[] = { &cache->n_tokens, &cache->n_filled, &cache->n_released };
        if (kind < 5)
            ++*counts[kind];
        else if (kind < 8)
            ++*sums[kind - 5];
        else if (kind == 8)
            seq_row(cache, seq_find(cache, a))[1] = 9;
        else if (kind == 9)
            cache->free.level[0][0] |= 1 << 12; /* a free page is lost */
        else if (kind == 10)
            cache->free.stack[0] = cache->free.stack[1] ^ 1; /* a page is on the list twice */
        else if (kind == 11)
            cache->pages[tail].n_filled++;
        else if (kind == 12)
            cache->copies.at[tail].from = tail + 1; /* from itself */
        else if (kind == 13)
            cache->copies.at[tail].n_readers++;
        else if (kind == 14)
            cache->pages[1].n_holders--;
        else
            seq_find(cache, a)->n_tokens = 9;
        assert_int_equal(folio_cache_check(cache), FOLIO_ECORRUPT);
        assert_int_equal(folio_seq_append(cache, a, 1, NULL), FOLIO_ECORRUPT);
        assert_int_equal(folio_cache_check(cache), FOLIO_ECORRUPT);
        folio_cache_destroy(&cache);
    }
}

static void giving_back_a_page_twice_is_found_by_the_call_itself(void **state)
{
    (void)state;
    folio_cache *cache = make(8, 4, 0);
    const folio_seq a = open_seq(cache), b = open_seq(cache);
    assert_ok(folio_seq_append(cache, a, 1, NULL));
    assert_ok(folio_seq_append(cache, b, 1, NULL));
    seq_row(cache, seq_find(cache, b))[0] = seq_row(cache, seq_find(cache, a))[0];
    assert_ok(folio_seq_close(cache, a));
    assert_int_equal(folio_seq_close(cache, b), FOLIO_ECORRUPT);
    assert_int_equal(folio_seq_open(cache, &(folio_seq){ 0 }), FOLIO_ECORRUPT);
    folio_cache_destroy(&cache);
}

static void a_row_that_names_no_page_is_found_by_the_call_itself(void **state)
{
    (void)state;
    for (i32 kind = 0; kind < 3; kind++) {
        folio_cache *cache = make(8, 4, 0);
        const folio_seq a = open_seq(cache);
        folio_seq b;
        assert_ok(folio_seq_append(cache, a, 9, NULL));
        seq_row(cache, seq_find(cache, a))[1] = kind == 2 ? 7 : 8; /* nobody holds 7; there is no 8 */
        assert_int_equal(kind == 0 ? folio_seq_fork(cache, a, &b) : folio_seq_truncate(cache, a, 4), FOLIO_ECORRUPT);
        assert_int_equal(folio_cache_check(cache), FOLIO_ECORRUPT);
        folio_cache_destroy(&cache);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_create_allocates_and_a_failed_create_leaves_nothing),
        cmocka_unit_test(a_broken_invariant_is_found_and_latched),
        cmocka_unit_test(giving_back_a_page_twice_is_found_by_the_call_itself),
        cmocka_unit_test(a_row_that_names_no_page_is_found_by_the_call_itself),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
