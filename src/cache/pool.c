/* SPDX-License-Identifier: Apache-2.0
 * pool.c: taking, sharing and giving back pages. */
#include "cache/pool.h"

void folio__pages_take(folio_cache *cache, i32 before, i32 *ids, i32 n)
{
    folio__free_list_take(&cache->free, before, ids, n);
    for (i32 i = 0; i < n; i++)
        cache->pages[ids[i]] = (struct page){ .n_holders = 1 };
    cache->n_allocated += n;
    const i32 n_held = cache->n_usable - cache->free.n_free;
    if (n_held > cache->peak_held)
        cache->peak_held = n_held;
}

static bool is_held(const folio_cache *cache, i32 id)
{
    return (u32)id < (u32)cache->n_pages && cache->pages[id].n_holders > 0;
}

bool folio__pages_hold(folio_cache *cache, const i32 *ids, i32 n)
{
    for (i32 i = 0; i < n; i++) {
        if (!is_held(cache, ids[i]))
            return false;
        cache->n_shared += ++cache->pages[ids[i]].n_holders == 2;
    }
    return true;
}

void folio__page_free(folio_cache *cache, i32 id)
{
    folio__free_list_put(&cache->free, id);
    cache->n_released++;
}

/* Nobody holds this page any more: it goes back with the copy into it, and so may the page that copy was parked for. */
static void settle(folio_cache *cache, i32 id)
{
    page_set_filled(cache, id, 0);
    while (id >= 0 && cache->pages[id].n_holders == 0 && !copies_is_read(&cache->copies, id)) {
        const i32 source = copies_is_pending(&cache->copies, id) ? folio__copies_remove(&cache->copies, id) : -1;
        folio__page_free(cache, id);
        id = source;
    }
}

bool folio__pages_release(folio_cache *cache, const i32 *ids, i32 n)
{
    for (i32 i = 0; i < n; i++) {
        if (!is_held(cache, ids[i]))
            return false;
        const u32 n_holders = --cache->pages[ids[i]].n_holders;
        if (n_holders == 0)
            settle(cache, ids[i]);
        else
            cache->n_shared -= n_holders == 1;
    }
    return true;
}
