/* SPDX-License-Identifier: Apache-2.0
 * lookup.c: where given positions lie, and which pages are free. */
#include "cache/cache.h"

/* seq's page holds position; the row is what it reserved, tokens or not. */
static folio_status find_slot(const folio_cache *cache, const struct seq *seq, i32 row, i64 column, i64 position,
                              i64 *slot)
{
    const i64 capacity = seq->n_pages * cache->page_size;
    FOLIO_REQUIRE(position >= 0 && position < capacity, FOLIO_ERANGE,
                  "positions[%d, %lld] %lld: not allocated; must be 0 .. %lld, what the sequence has reserved", row,
                  (long long)column, (long long)position, (long long)(capacity - 1));
    const i64 page = full_pages(cache, position);
    if (slot)
        *slot = seq_row(cache, seq)[page] * cache->page_size + position - page * cache->page_size;
    return FOLIO_OK;
}

folio_status folio_cache_slots(const folio_cache *cache, const folio_seq *seqs, int32_t n, const int64_t *positions,
                               int64_t n_positions, int64_t *slots)
{
    FOLIO_TRY(cache_require(cache));
    FOLIO_TRY(folio__seqs_require(cache, seqs, n));
    FOLIO_REQUIRE(n_positions >= 0, FOLIO_EINVAL, "n_positions %lld: must be >= 0", (long long)n_positions);
    const bool is_empty = n == 0 || n_positions == 0;
    FOLIO_REQUIRE(positions != NULL || is_empty, FOLIO_EINVAL, "positions: NULL; must hold n * n_positions entries");
    FOLIO_REQUIRE(slots != NULL || is_empty, FOLIO_EINVAL, "slots: NULL; must hold n * n_positions entries");
    for (int pass = 0; pass < 2 && !is_empty; pass++) /* all are judged before one is written */
        for (i32 i = 0; i < n; i++) {
            const struct seq *seq = seq_find(cache, seqs[i]);
            for (i64 j = 0; j < n_positions; j++) {
                const i64 at = i * n_positions + j;
                FOLIO_TRY(find_slot(cache, seq, i, j, positions[at], pass == 0 ? NULL : slots + at));
            }
        }
    return FOLIO_OK;
}

folio_status folio_cache_free_pages(const folio_cache *cache, int32_t *pages, int64_t cap)
{
    FOLIO_TRY(cache_require(cache));
    const i32 n_free = cache->free.n_free;
    FOLIO_REQUIRE(cap >= n_free, FOLIO_EINVAL, "cap %lld: must be >= %d, the free pages", (long long)cap, n_free);
    FOLIO_REQUIRE(pages != NULL || n_free == 0, FOLIO_EINVAL, "pages: NULL; must hold %d entries", n_free);
    if (cache->free.stack) {
        for (i32 i = 0; i < n_free; i++)
            pages[i] = folio__free_list_stack_entry(&cache->free, i);
        return FOLIO_OK;
    }
    for (i32 id = 0, i = 0; i < n_free; id++)
        if (folio__free_list_tree_has(&cache->free, id))
            pages[i++] = id;
    return FOLIO_OK;
}
