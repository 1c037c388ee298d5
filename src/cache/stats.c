/* SPDX-License-Identifier: Apache-2.0
 * stats.c: the numbers of a cache. All are kept as they change; reading them costs nothing. */
#include <string.h>

#include "cache/cache.h"

/* Copy as much of *src as the caller's *dst knows, by the struct_size it starts with. */
static folio_status write_struct(const char *name, void *dst, const void *src, size_t src_size)
{
    FOLIO_REQUIRE(dst != NULL, FOLIO_EINVAL, "%s: NULL", name);
    size_t size;
    memcpy(&size, dst, sizeof size);
    FOLIO_REQUIRE(size >= sizeof size && size <= src_size, FOLIO_EINVAL,
                  "%s.struct_size %zu: must be %zu .. %zu, what this library knows", name, size, sizeof size, src_size);
    memcpy((u8 *)dst + sizeof size, (const u8 *)src + sizeof size, size - sizeof size);
    return FOLIO_OK;
}

folio_status folio_cache_get_stats(const folio_cache *cache, folio_cache_stats *stats)
{
    FOLIO_TRY(cache_require(cache));
    const i64 n_held = cache->n_usable - cache->free.n_free;
    const folio_cache_stats now = {
        .n_pages = cache->n_usable,
        .n_free = cache->free.n_free,
        .n_held = n_held,
        .n_shared = cache->n_shared,
        .n_seqs = cache->n_seqs,
        .n_tokens = cache->n_tokens,
        .n_slots_unused = n_held * cache->page_size - cache->n_filled,
        .n_copies = cache->copies.n,
        .peak_held = cache->peak_held,
        .n_allocated = cache->n_allocated,
        .n_released = cache->n_released,
    };
    return write_struct("stats", stats, &now, sizeof now);
}

folio_status folio_cache_get_shortage(const folio_cache *cache, folio_shortage *shortage)
{
    FOLIO_TRY(cache_require(cache));
    return write_struct("shortage", shortage, &cache->shortage, sizeof cache->shortage);
}
