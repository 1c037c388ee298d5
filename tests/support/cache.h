/* SPDX-License-Identifier: Apache-2.0
 * cache.h: what the cache's tests share. */
#ifndef TESTS_CACHE_H
#define TESTS_CACHE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "cache/cache.h"

#define assert_ok(call)                                    \
    do {                                                   \
        if ((call) != FOLIO_OK)                            \
            fail_msg("%s: %s", #call, folio_last_error()); \
    } while (0)

folio_cache *make(i64 n_pages, i64 page_size, u32 flags); /* 4 sequences */
folio_seq open_seq(folio_cache *cache);
folio_cache_stats stats_of(const folio_cache *cache);
i64 take_all(folio_cache *cache, i64 *pairs, i64 cap);
/* The row of a sequence is `want` [n]: its reserved pages too, so this looks inside. */
void assert_row(const folio_cache *cache, folio_seq seq, const i32 *want, i32 n);
/* Sound to the end. */
void finish(folio_cache **cache);

#endif
