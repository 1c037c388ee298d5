/* SPDX-License-Identifier: Apache-2.0
 * cache.c: see cache.h. */
#include "support/cache.h"

folio_cache *make(i64 n_pages, i64 page_size, u32 flags)
{
    const folio_cache_config cfg = {
        .struct_size = sizeof cfg, .n_pages = n_pages, .page_size = page_size, .max_seqs = 4, .flags = flags
    };
    folio_cache *cache = NULL;
    assert_ok(folio_cache_create(&cache, &cfg));
    return cache;
}

folio_seq open_seq(folio_cache *cache)
{
    folio_seq seq = 0;
    assert_ok(folio_seq_open(cache, &seq));
    return seq;
}

folio_cache_stats stats_of(const folio_cache *cache)
{
    folio_cache_stats stats = { .struct_size = sizeof stats };
    assert_ok(folio_cache_get_stats(cache, &stats));
    return stats;
}

void assert_row(const folio_cache *cache, folio_seq seq, const i32 *want, i32 n)
{
    const struct seq *s = seq_find(cache, seq);
    assert_non_null(s);
    assert_int_equal(s->n_pages, n);
    assert_memory_equal(seq_row(cache, s), want, (size_t)n * sizeof *want);
}

void finish(folio_cache **cache)
{
    assert_ok(folio_cache_check(*cache));
    folio_cache_destroy(cache);
    assert_null(*cache);
}

i64 take_all(folio_cache *cache, i64 *pairs, i64 cap)
{
    i64 n = -1;
    assert_ok(folio_cache_take_copies(cache, pairs, cap, &n));
    return n;
}
