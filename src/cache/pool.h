/* SPDX-License-Identifier: Apache-2.0
 * pool.h: pages between free and held: who holds them is counted, not named. */
#ifndef FOLIO_CACHE_POOL_H
#define FOLIO_CACHE_POOL_H

#include "cache/cache.h"

/* Hand out ids [n], held once each and empty; the caller has seen that n are free. before: the page to follow, or
 * -1. */
void folio__pages_take(folio_cache *cache, i32 before, i32 *ids, i32 n);
/* One holder more for each of ids [n]. false = a page was not held: the cache is corrupt. */
bool folio__pages_hold(folio_cache *cache, const i32 *ids, i32 n);
/* One holder less for each of ids [n], in order; pages nobody holds go back. false as above. */
bool folio__pages_release(folio_cache *cache, const i32 *ids, i32 n);
/* Put a page that nobody holds and no pending copy reads on the free list. */
void folio__page_free(folio_cache *cache, i32 id);

/* How many of the page's slots hold a token now. */
static inline void page_set_filled(folio_cache *cache, i32 id, i32 n_filled)
{
    cache->n_filled += n_filled - cache->pages[id].n_filled;
    cache->pages[id].n_filled = n_filled;
}

#endif
