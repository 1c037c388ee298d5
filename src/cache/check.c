/* SPDX-License-Identifier: Apache-2.0
 * check.c: every equation a sound cache obeys, walked. The first broken one is named and latched. */
#include <string.h>

#include "cache/cache.h"

#define CHECK(cond, ...)                              \
    do {                                              \
        if (!(cond))                                  \
            return CACHE_CORRUPT(cache, __VA_ARGS__); \
    } while (0)

static folio_status check_slots(const folio_cache *cache)
{
    i32 n_open = 0, n_retired = 0;
    CHECK(cache->n_slots >= 0 && cache->n_slots <= cache->max_seqs, "slots: %d used of %d", cache->n_slots,
          cache->max_seqs);
    for (i32 slot = 0; slot < cache->n_slots; slot++) {
        n_open += cache->seqs[slot].generation % 2 == 1;
        n_retired += cache->seqs[slot].generation == 0;
    }
    CHECK(n_open == cache->n_seqs, "slots: %d open, %d counted", n_open, cache->n_seqs);
    CHECK(n_open + n_retired + cache->n_closed_slots == cache->n_slots,
          "slots: %d open, %d closed, %d retired, %d used", n_open, cache->n_closed_slots, n_retired, cache->n_slots);
    for (i32 i = 0; i < cache->n_closed_slots; i++) {
        const i32 slot = cache->closed_slots[i];
        CHECK(slot >= 0 && slot < cache->n_slots && !(cache->seqs[slot].generation & 1),
              "slot %d: open and on the stack", slot);
    }
    return FOLIO_OK;
}

/* One row: its pages are held, hold what the length says, and are counted in check_counts. */
static folio_status check_row(const folio_cache *cache, const struct seq *seq)
{
    const i32 slot = seq_slot(cache, seq), *row = seq_row(cache, seq);
    CHECK(seq->n_pages >= 0 && seq->n_pages <= cache->row_pages, "slot %d: %d pages in a row of %d", slot, seq->n_pages,
          cache->row_pages);
    CHECK(seq->n_tokens >= 0 && seq->n_tokens <= seq->n_pages * cache->page_size, "slot %d: %lld tokens in %d pages",
          slot, (long long)seq->n_tokens, seq->n_pages);
    CHECK(seq->n_lent >= 0 && seq->n_lent <= pages_for(cache, seq->n_tokens) && !seq->copy_tail,
          "slot %d: %d pages lent, %lld tokens", slot, seq->n_lent, (long long)seq->n_tokens);
    for (i32 column = 0; column < seq->n_pages; column++) {
        const i32 id = row[column];
        CHECK(id >= 0 && id < cache->n_pages, "slot %d, column %d: page %d of %d", slot, column, id, cache->n_pages);
        const struct page *page = &cache->pages[id];
        const i64 n_own = clamp_i64(seq->n_tokens - column * cache->page_size, 0, cache->page_size);
        CHECK(page->n_holders == 1 || column < seq->n_lent, "slot %d, column %d: private page %d has %u holders", slot,
              column, id, page->n_holders);
        CHECK(page->n_filled >= n_own, "slot %d, column %d: page %d holds %d tokens, the row %lld", slot, column, id,
              page->n_filled, (long long)n_own);
        cache->check_counts[id]++;
    }
    return FOLIO_OK;
}

static folio_status check_rows(const folio_cache *cache)
{
    i64 n_tokens = 0;
    for (i32 slot = 0; slot < cache->n_slots; slot++) {
        if (!(cache->seqs[slot].generation & 1))
            continue;
        FOLIO_TRY(check_row(cache, &cache->seqs[slot]));
        n_tokens += cache->seqs[slot].n_tokens;
    }
    CHECK(n_tokens == cache->n_tokens, "sequences: %lld tokens, %lld counted", (long long)n_tokens,
          (long long)cache->n_tokens);
    return FOLIO_OK;
}

/* Holders are the rows just counted; the sums over pages add up. */
static folio_status check_pages(const folio_cache *cache)
{
    i64 n_held = 0, n_shared = 0, n_filled = 0;
    for (i32 id = 0; id < cache->n_pages; id++) {
        const struct page *page = &cache->pages[id];
        CHECK(page->n_holders == cache->check_counts[id], "page %d: %u holders counted, %u rows hold it", id,
              page->n_holders, cache->check_counts[id]);
        CHECK(page->n_filled >= 0 && page->n_filled <= cache->page_size, "page %d: %d tokens", id, page->n_filled);
        CHECK(page->n_holders > 0 || page->n_filled == 0, "page %d: %d tokens and no holder", id, page->n_filled);
        n_held += page->n_holders > 0 || copies_is_pending(&cache->copies, id);
        n_shared += page->n_holders > 1;
        n_filled += page->n_filled;
    }
    CHECK(n_held + cache->free.n_free == cache->n_usable, "pages: %lld held, %d free, %d in all", (long long)n_held,
          cache->free.n_free, cache->n_usable);
    CHECK(n_held == cache->n_allocated - cache->n_released, "pages: %lld held, %lld handed out, %lld given back",
          (long long)n_held, (long long)cache->n_allocated, (long long)cache->n_released);
    CHECK(n_held <= cache->peak_held, "pages: %lld held, peak %d", (long long)n_held, cache->peak_held);
    CHECK(n_shared == cache->n_shared, "pages: %lld shared, %d counted", (long long)n_shared, cache->n_shared);
    CHECK(n_filled == cache->n_filled, "pages: %lld slots filled, %lld counted", (long long)n_filled,
          (long long)cache->n_filled);
    return FOLIO_OK;
}

/* A page is on the free list exactly when nobody holds it and no copy into it is pending. */
static folio_status check_free_list(const folio_cache *cache)
{
    const struct free_list *list = &cache->free;
    CHECK(!list->level[0] || folio__free_list_tree_is_sound(list), "free list: an upper bit is wrong");
    memset(cache->check_counts, 0, (size_t)cache->n_pages * sizeof *cache->check_counts);
    for (i32 i = 0; list->stack && i < list->n_free; i++) {
        const i32 id = folio__free_list_stack_entry(list, i);
        CHECK(id >= 0 && id < cache->n_pages, "free list: page %d of %d", id, cache->n_pages);
        CHECK(cache->check_counts[id]++ == 0, "free list: page %d is on it twice", id);
    }
    const i32 first = cache->flags & FOLIO_CACHE_USE_PAGE_0 ? 0 : 1;
    for (i32 id = 0; id < cache->n_pages; id++) {
        const bool is_free = list->stack ? cache->check_counts[id] > 0 : folio__free_list_tree_has(list, id);
        const bool is_used = cache->pages[id].n_holders > 0 || copies_is_pending(&cache->copies, id);
        CHECK(id >= first ? is_free != is_used : !is_free && !is_used, "page %d: %s", id,
              is_free   ? "free and in use"
              : is_used ? "the null page is in use"
                        : "neither free nor in use");
    }
    return FOLIO_OK;
}

/* The list runs both ways, stamps ascend, and readers are what the list says. */
static folio_status check_copies(const folio_cache *cache)
{
    const struct copies *c = &cache->copies;
    memset(cache->check_counts, 0, (size_t)cache->n_pages * sizeof *cache->check_counts);
    i32 n = 0, prev = 0;
    for (i32 at = c->first; at; prev = at, at = c->at[at - 1].next, n++) {
        CHECK(n < cache->n_pages && at > 0 && at <= cache->n_pages, "copies: entry %d is page %d", n, at - 1);
        const struct copy *copy = &c->at[at - 1];
        CHECK(copy->from > 0 && copy->from <= cache->n_pages && copy->from != at, "copies: page %d comes from %d",
              at - 1, copy->from - 1);
        CHECK(copy->prev == prev && (!prev || c->at[prev - 1].stamp < copy->stamp), "copies: page %d is out of order",
              at - 1);
        const struct copy *source = &c->at[copy->from - 1];
        cache->check_counts[copy->from - 1] += source->from && source->stamp < copy->stamp;
    }
    CHECK(n == c->n && prev == c->last, "copies: %d listed, %d counted", n, c->n);
    for (i32 id = 0; id < cache->n_pages; id++) {
        const struct copy *copy = &c->at[id];
        n -= copy->from != 0;
        CHECK(copy->n_readers == cache->check_counts[id], "copies: page %d has %u readers, %u counted", id,
              cache->check_counts[id], copy->n_readers);
        CHECK(!copy->from || cache->pages[id].n_holders > 0 || copy->n_readers > 0,
              "copies: page %d is neither held nor read", id);
    }
    CHECK(n == 0, "copies: %d pages are off the list", -n);
    return FOLIO_OK;
}

static folio_status check_all(const folio_cache *cache)
{
    memset(cache->check_counts, 0, (size_t)cache->n_pages * sizeof *cache->check_counts);
    FOLIO_TRY(check_slots(cache));
    FOLIO_TRY(check_rows(cache));
    FOLIO_TRY(check_pages(cache));
    FOLIO_TRY(check_free_list(cache));
    return check_copies(cache);
}

folio_status folio_cache_check(const folio_cache *cache)
{
    FOLIO_REQUIRE(cache != NULL, FOLIO_EINVAL, "cache: NULL; must be a cache");
    FOLIO_REQUIRE(cache->magic == FOLIO__CACHE_MAGIC, FOLIO_EHANDLE, "cache: destroyed, or not a cache");
    atomic_flag *runs = &((folio_cache *)(uintptr_t)cache)->check_runs; /* the scratch is one checker's at a time */
    while (atomic_flag_test_and_set_explicit(runs, memory_order_acquire))
        ;
    const folio_status status = check_all(cache);
    atomic_flag_clear_explicit(runs, memory_order_release);
    FOLIO_TRY(status);
    return cache_require(cache); /* a break an earlier call saw stays */
}
