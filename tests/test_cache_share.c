/* SPDX-License-Identifier: Apache-2.0
 * test_cache_share.c: forks: shared pages, copies of a written tail, the list of copies to do. */
#include "support/cache.h"

static void a_fork_shares_full_pages_and_copies_the_tail_when_written(void **state)
{
    (void)state;
    folio_cache *cache = make(12, 4, 0);
    const folio_seq a = open_seq(cache);
    folio_seq b;
    i64 slot, pairs[8];
    assert_ok(folio_seq_append(cache, a, 6, NULL));
    assert_ok(folio_seq_reserve(cache, a, 12)); /* page 3 is reserved and stays a's own */
    assert_ok(folio_seq_fork(cache, a, &b));
    assert_row(cache, b, (i32[]){ 1, 2 }, 2);
    folio_cache_stats stats = stats_of(cache);
    assert_true(stats.n_held == 3 && stats.n_shared == 2 && stats.n_tokens == 12 && stats.n_slots_unused == 6);

    assert_ok(folio_seq_reserve(cache, b, 6)); /* no more than it has: the tail may stay shared */
    assert_int_equal(take_all(cache, pairs, 4), 0);
    assert_ok(folio_seq_append(cache, b, 1, &slot)); /* b is the first to write: b gets the copy */
    assert_int_equal(slot, 4 * 4 + 2);
    assert_row(cache, b, (i32[]){ 1, 4 }, 2);
    assert_int_equal(take_all(cache, pairs, 4), 1);
    assert_true(pairs[0] == 2 && pairs[1] == 4);
    assert_ok(folio_seq_append(cache, a, 1, &slot)); /* a is alone on page 2 now */
    assert_int_equal(slot, 2 * 4 + 2);
    assert_int_equal(take_all(cache, pairs, 4), 0);
    stats = stats_of(cache);
    assert_true(stats.n_shared == 1 && stats.n_held == 4 && stats.n_slots_unused == 16 - 4 - 3 - 3);
    assert_ok(folio_seq_close(cache, a));
    assert_row(cache, b, (i32[]){ 1, 4 }, 2);
    assert_int_equal(stats_of(cache).n_held, 2);
    finish(&cache);
}

static void a_full_tail_needs_no_copy(void **state)
{
    (void)state;
    folio_cache *cache = make(8, 4, 0);
    const folio_seq a = open_seq(cache);
    folio_seq b;
    assert_ok(folio_seq_append(cache, a, 4, NULL));
    assert_ok(folio_seq_fork(cache, a, &b));
    assert_ok(folio_seq_append(cache, b, 1, NULL));
    assert_int_equal(stats_of(cache).n_copies, 0);
    assert_ok(folio_seq_truncate(cache, a, 3)); /* cuts into the shared page */
    assert_ok(folio_seq_append(cache, a, 1, NULL));
    assert_int_equal(stats_of(cache).n_copies, 1);
    finish(&cache);
}

/* A shared tail counts as one page: of two sequences that share it and both write, only one needs it. */
static void a_shared_tail_counts_once(void **state)
{
    (void)state;
    folio_cache *cache = make(4, 4, 0);
    const folio_seq a = open_seq(cache);
    folio_seq b;
    i64 pairs[8];
    assert_ok(folio_seq_append(cache, a, 5, NULL));
    assert_ok(folio_seq_fork(cache, a, &b)); /* pages 1, 2 shared, 3 free */
    assert_int_equal(folio_cache_reserve(cache, (folio_seq[]){ a, b }, (i64[]){ 9, 6 }, 2), FOLIO_ENOPAGES);
    assert_int_equal(stats_of(cache).n_shared, 2);
    assert_ok(folio_cache_reserve(cache, (folio_seq[]){ b, a }, (i64[]){ 6, 6 }, 2));
    assert_row(cache, a, (i32[]){ 1, 2 }, 2);
    assert_row(cache, b, (i32[]){ 1, 3 }, 2);
    assert_int_equal(take_all(cache, pairs, 4), 1);
    assert_true(pairs[0] == 2 && pairs[1] == 3);
    finish(&cache);
}

static void a_copy_is_dropped_with_its_destination(void **state)
{
    (void)state;
    folio_cache *cache = make(8, 4, 0);
    const folio_seq a = open_seq(cache);
    folio_seq b;
    i64 pairs[8];
    assert_ok(folio_seq_append(cache, a, 2, NULL));
    assert_ok(folio_seq_fork(cache, a, &b));
    assert_ok(folio_seq_append(cache, b, 1, NULL));
    assert_int_equal(stats_of(cache).n_copies, 1);
    assert_ok(folio_seq_close(cache, b));
    assert_int_equal(stats_of(cache).n_copies, 0);
    assert_int_equal(take_all(cache, pairs, 4), 0);
    finish(&cache);
}

/* 1 -> 2 is pending, 2 is shared and copied on: 2 -> 3. When all who hold 2 are gone, its bytes are still wanted. */
static void a_chain_of_copies_survives_its_middle(void **state)
{
    (void)state;
    folio_cache *cache = make(8, 4, 0);
    const folio_seq a = open_seq(cache);
    folio_seq b, c;
    i64 pairs[8];
    assert_ok(folio_seq_append(cache, a, 2, NULL));
    assert_ok(folio_seq_fork(cache, a, &b));
    assert_ok(folio_seq_reserve(cache, b, 3)); /* 1 -> 2 */
    assert_ok(folio_seq_fork(cache, b, &c));
    assert_ok(folio_seq_reserve(cache, c, 3)); /* 2 -> 3 */
    assert_ok(folio_seq_close(cache, b));
    assert_int_equal(stats_of(cache).n_free, 4); /* 2 is parked */
    assert_ok(folio_cache_check(cache));
    assert_int_equal(take_all(cache, pairs, 1), 1);
    assert_true(pairs[0] == 1 && pairs[1] == 2);
    assert_int_equal(stats_of(cache).n_free, 5);
    assert_int_equal(take_all(cache, pairs, 4), 1);
    assert_true(pairs[0] == 2 && pairs[1] == 3);

    assert_ok(folio_seq_fork(cache, c, &b));
    assert_ok(folio_seq_append(cache, b, 1, NULL)); /* 3 -> 2 */
    folio_seq d;
    assert_ok(folio_seq_fork(cache, b, &d));
    assert_ok(folio_seq_append(cache, d, 1, NULL)); /* 2 -> 4 */
    assert_ok(folio_seq_close(cache, b));           /* 2 is parked; */
    assert_ok(folio_seq_close(cache, d));           /* nothing wants it any more */
    assert_true(stats_of(cache).n_free == 5 && stats_of(cache).n_copies == 0);
    finish(&cache);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_fork_shares_full_pages_and_copies_the_tail_when_written),
        cmocka_unit_test(a_full_tail_needs_no_copy),
        cmocka_unit_test(a_shared_tail_counts_once),
        cmocka_unit_test(a_copy_is_dropped_with_its_destination),
        cmocka_unit_test(a_chain_of_copies_survives_its_middle),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
