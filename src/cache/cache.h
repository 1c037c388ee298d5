/* SPDX-License-Identifier: Apache-2.0
 * cache.h: the inside of a folio_cache. One reservation made at create holds every array; nothing is allocated later.
 *
 *   handle -- slot | generation --> seqs[slot] --> rows[slot][column] --> pages[id]
 *
 *   seqs[slot]     n_tokens 10, n_pages 4            page_size 4
 *   rows[slot]     [ 7 | 8 | 9 | 3 |  .  . ]         pages 7, 8 full, 9 holds 2 tokens, 3 is reserved
 *   pages[id]      how many rows hold the page, how many of its slots hold a token
 *
 * Only the page of the last token can be shared and half full: it is copied before it is written (copies.h). Pages
 * behind it are private. */
#ifndef FOLIO_CACHE_CACHE_H
#define FOLIO_CACHE_CACHE_H

#include <stdatomic.h>

#include "base/bits.h"
#include "base/status.h"
#include "base/types.h"
#include "cache/copies.h"
#include "cache/free_list.h"
#include "folio/cache.h"

struct page {
    u32 n_holders; /* rows that hold it; 0 = free, or parked (copies.h) */
    i32 n_filled;  /* slots that hold a token; while shared, what its longest holder once had */
};

struct seq {
    i64 n_tokens;
    u64 batch;      /* the last batch call that named it: finds duplicates */
    u32 generation; /* odd = open; the handle's upper half */
    i32 n_pages;    /* entries of its row */
    i32 n_lent;     /* entries from the front that a fork may share; the rest are private */
    i32 copy_tail;  /* within one reserve: its tail gets copied */
};

struct folio_cache {
    u64 magic;
    atomic_int is_corrupt; /* latched: every later call is ECORRUPT */
    u32 flags;
    i64 page_size;
    i32 page_shift; /* log2(page_size), or -1 */
    i32 n_pages;    /* ids are 0 .. n_pages - 1 */
    i32 n_usable;   /* pages that can be handed out */
    i32 max_seqs;
    i32 row_pages; /* width of a row */

    struct free_list free;
    struct page *pages; /* [n_pages] */
    struct copies copies;
    struct seq *seqs;  /* [max_seqs] */
    i32 *rows;         /* [max_seqs][row_pages] page ids */
    i32 *closed_slots; /* [max_seqs] a stack of slots to use again */
    i32 n_closed_slots;
    i32 n_slots; /* slots ever used */

    i32 n_seqs, n_shared, peak_held;
    i64 n_tokens, n_filled; /* sums over sequences and over pages */
    i64 n_allocated, n_released;
    u64 n_batches;
    folio_shortage shortage;

    atomic_flag check_runs;
    u32 *check_counts; /* [n_pages] scratch of folio_cache_check */
    void *memory;      /* the reservation */
};

#define FOLIO__CACHE_MAGIC UINT64_C(0x6561636f696c6f66)

static inline folio_status cache_require(const folio_cache *cache)
{
    FOLIO_REQUIRE(cache != NULL, FOLIO_EINVAL, "cache: NULL; must be a cache");
    FOLIO_REQUIRE(cache->magic == FOLIO__CACHE_MAGIC, FOLIO_EHANDLE, "cache: destroyed, or not a cache");
    FOLIO_REQUIRE(!atomic_load_explicit(&cache->is_corrupt, memory_order_relaxed), FOLIO_ECORRUPT,
                  "cache: an invariant broke in an earlier call; folio_cache_check names it");
    return FOLIO_OK;
}

/* A broken invariant: latch it, say which. Legal on a const cache: caches are never const objects, the latch is
 * atomic. */
#define CACHE_CORRUPT(cache, ...) \
    (atomic_store(&((folio_cache *)(uintptr_t)(cache))->is_corrupt, 1), folio__fail(FOLIO_ECORRUPT, __VA_ARGS__))

/* The open sequence a handle names, or NULL. */
static inline struct seq *seq_find(const folio_cache *cache, folio_seq handle)
{
    const u64 slot = handle & UINT32_MAX, generation = handle >> 32;
    if (slot >= (u64)cache->max_seqs || !(generation & 1) || cache->seqs[slot].generation != generation)
        return NULL;
    return &cache->seqs[slot];
}

#define SEQ_REQUIRE(seq, cache, handle)                                   \
    FOLIO_REQUIRE((seq = seq_find(cache, handle)) != NULL, FOLIO_EHANDLE, \
                  "seq %#llx: not open; must be a "                       \
                  "handle of an open sequence",                           \
                  (unsigned long long)(handle))

static inline i32 seq_slot(const folio_cache *cache, const struct seq *seq)
{
    return (i32)(seq - cache->seqs);
}

static inline i32 *seq_row(const folio_cache *cache, const struct seq *seq) /* [row_pages] */
{
    return cache->rows + (i64)seq_slot(cache, seq) * cache->row_pages;
}

/* floor(n_tokens / page_size) */
static inline i64 full_pages(const folio_cache *cache, i64 n_tokens)
{
    return cache->page_shift >= 0 ? n_tokens >> cache->page_shift : n_tokens / cache->page_size;
}

/* ceil(n_tokens / page_size) */
static inline i64 pages_for(const folio_cache *cache, i64 n_tokens)
{
    const i64 n_full = full_pages(cache, n_tokens);
    return n_full + (n_tokens != n_full * cache->page_size);
}

/* The arrays of seqs [n] behind a batch call, checked: all open. */
folio_status folio__seqs_require(const folio_cache *cache, const folio_seq *seqs, i32 n);

/* Room for n_tokens in all: the body of reserve and append, one sequence. */
folio_status folio__seq_grow(folio_cache *cache, struct seq *seq, i64 n_tokens);

#endif
