/* SPDX-License-Identifier: Apache-2.0
 * copies.c: the list of pending page copies, and handing it to the caller. */
#include "cache/copies.h"

#include "cache/cache.h"
#include "cache/pool.h"

void folio__copies_push(struct copies *c, i32 from, i32 to)
{
    assert(from != to && !copies_is_pending(c, to));
    c->at[to] = (struct copy){ .from = from + 1, .prev = c->last, .stamp = ++c->n_pushed };
    if (c->last)
        c->at[c->last - 1].next = to + 1;
    else
        c->first = to + 1;
    c->last = to + 1;
    c->n++;
    if (copies_is_pending(c, from))
        c->at[from].n_readers++;
}

i32 folio__copies_remove(struct copies *c, i32 to)
{
    const struct copy gone = c->at[to];
    assert(gone.from);
    if (gone.prev)
        c->at[gone.prev - 1].next = gone.next;
    else
        c->first = gone.next;
    if (gone.next)
        c->at[gone.next - 1].prev = gone.prev;
    else
        c->last = gone.prev;
    c->n--;
    c->at[to] = (struct copy){ 0 };

    struct copy *source = &c->at[gone.from - 1];
    if (!source->from || source->stamp > gone.stamp) /* a younger copy into it: not the one we read */
        return -1;
    return --source->n_readers == 0 ? gone.from - 1 : -1;
}

folio_status folio_cache_take_copies(folio_cache *cache, int64_t *pairs, int64_t cap, int64_t *n)
{
    FOLIO_TRY(cache_require(cache));
    FOLIO_REQUIRE(n != NULL, FOLIO_EINVAL, "n: NULL; must point to an int64");
    FOLIO_REQUIRE(cap >= 0, FOLIO_EINVAL, "cap %lld: must be >= 0", (long long)cap);
    FOLIO_REQUIRE(pairs != NULL || cap == 0, FOLIO_EINVAL, "pairs: NULL with cap %lld", (long long)cap);
    struct copies *c = &cache->copies;
    i64 n_taken = 0;
    for (; n_taken < cap && c->first; n_taken++) {
        const i32 to = c->first - 1;
        pairs[2 * n_taken] = c->at[to].from - 1;
        pairs[2 * n_taken + 1] = to;
        folio__copies_remove(c, to); /* in order, so its source has no older pending copy */
        if (cache->pages[to].n_holders == 0)
            folio__page_free(cache, to);
    }
    *n = n_taken;
    return FOLIO_OK;
}
