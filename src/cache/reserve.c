/* SPDX-License-Identifier: Apache-2.0
 * reserve.c: growing sequences. First every need is added up, then either all of it is taken or nothing. */
#include "cache/cache.h"
#include "cache/pool.h"

/* What a reserve of one or more sequences asks for. */
struct need {
    i64 n_pages;       /* new pages; INT64_MAX when it does not fit */
    i64 n_private;     /* pages only these sequences could hold afterwards, */
    i64 n_lent;        /* and the longest of their shared beginnings: together the least the pool must have */
    i64 max_row_pages; /* widest row */
};

static void add_saturating(i64 *sum, i64 n)
{
    if (!add_fits(*sum, n, sum))
        *sum = INT64_MAX;
}

/* Add what `seq` needs to hold n_tokens. A shared tail that would be written loses this holder here and now; undo_need
 * gives it back. (Of two sequences that share a tail and both write, only the first needs a copy.) */
static void add_need(folio_cache *cache, struct seq *seq, i64 n_tokens, struct need *need)
{
    const i64 n_row = max_i64(pages_for(cache, n_tokens), seq->n_pages);
    need->max_row_pages = max_i64(need->max_row_pages, n_row);
    need->n_lent = max_i64(need->n_lent, seq->n_lent);
    add_saturating(&need->n_private, n_row - seq->n_lent);
    add_saturating(&need->n_pages, n_row - seq->n_pages);

    const i64 n_full = full_pages(cache, seq->n_tokens);
    if (n_tokens > seq->n_tokens && n_full < seq->n_lent) { /* half full: lent pages hold tokens */
        struct page *tail = &cache->pages[seq_row(cache, seq)[n_full]];
        if (tail->n_holders > 1) {
            cache->n_shared -= --tail->n_holders == 1;
            seq->copy_tail = 1;
            add_saturating(&need->n_pages, 1);
        }
    }
}

static void undo_need(folio_cache *cache, struct seq *seq)
{
    if (seq->copy_tail)
        cache->n_shared += ++cache->pages[seq_row(cache, seq)[full_pages(cache, seq->n_tokens)]].n_holders == 2;
    seq->copy_tail = 0;
}

/* Give the sequence a tail of its own; add_need has already let go of the shared one. */
static void copy_tail(folio_cache *cache, struct seq *seq)
{
    const i64 column = full_pages(cache, seq->n_tokens);
    i32 *entry = &seq_row(cache, seq)[column];
    const i32 from = *entry;
    folio__pages_take(cache, -1, entry, 1);
    page_set_filled(cache, *entry, (i32)(seq->n_tokens - column * cache->page_size));
    folio__copies_push(&cache->copies, from, *entry);
    seq->n_lent = (i32)column;
    seq->copy_tail = 0;
}

/* Take what add_need added up. */
static void take_need(folio_cache *cache, struct seq *seq, i64 n_tokens)
{
    if (seq->copy_tail)
        copy_tail(cache, seq);
    const i32 n_row = (i32)max_i64(pages_for(cache, n_tokens), seq->n_pages);
    i32 *row = seq_row(cache, seq);
    folio__pages_take(cache, seq->n_pages > 0 ? row[seq->n_pages - 1] : -1, row + seq->n_pages, n_row - seq->n_pages);
    seq->n_pages = n_row;
}

/* FOLIO_OK when the need can be taken now; else the shortage is recorded. */
static folio_status require_pages(folio_cache *cache, const struct need *need)
{
    const i32 n_free = cache->free.n_free;
    i64 n_least = need->n_private;
    add_saturating(&n_least, need->n_lent);
    const bool can_fit = need->max_row_pages <= cache->row_pages && n_least <= cache->n_usable;
    if (can_fit && need->n_pages <= n_free)
        return FOLIO_OK;
    cache->shortage = (folio_shortage){ .needed = need->n_pages, .n_free = n_free, .can_fit = can_fit };
    if (can_fit)
        return folio__fail(FOLIO_ENOPAGES, "n_tokens: %lld new pages needed, %d of %d are free",
                           (long long)need->n_pages, n_free, cache->n_usable);
    if (need->max_row_pages > cache->row_pages)
        return folio__fail(FOLIO_ETOOBIG,
                           "n_tokens: %lld pages in one sequence (%lld of them new, %d are free); a row "
                           "holds at most %d",
                           (long long)need->max_row_pages, (long long)need->n_pages, n_free, cache->row_pages);
    return folio__fail(FOLIO_ETOOBIG, "n_tokens: %lld pages in all (%lld of them new, %d are free); the pool has %d",
                       (long long)n_least, (long long)need->n_pages, n_free, cache->n_usable);
}

folio_status folio__seq_grow(folio_cache *cache, struct seq *seq, i64 n_tokens)
{
    struct need need = { 0 };
    add_need(cache, seq, n_tokens, &need);
    if (need.n_pages == 0)
        return FOLIO_OK;
    const folio_status status = require_pages(cache, &need);
    if (status == FOLIO_OK)
        take_need(cache, seq, n_tokens);
    else
        undo_need(cache, seq);
    return status;
}

folio_status folio_seq_reserve(folio_cache *cache, folio_seq handle, int64_t n_tokens)
{
    FOLIO_TRY(cache_require(cache));
    struct seq *seq;
    SEQ_REQUIRE(seq, cache, handle);
    FOLIO_REQUIRE(n_tokens >= 0, FOLIO_EINVAL, "n_tokens %lld: must be >= 0", (long long)n_tokens);
    return folio__seq_grow(cache, seq, n_tokens);
}

static folio_status require_batch(folio_cache *cache, const folio_seq *seqs, const int64_t *n_tokens, int32_t n)
{
    FOLIO_TRY(folio__seqs_require(cache, seqs, n));
    FOLIO_REQUIRE(n_tokens != NULL || n == 0, FOLIO_EINVAL, "n_tokens: NULL with n %d", n);
    const u64 batch = ++cache->n_batches; /* a number no sequence carries yet */
    for (i32 i = 0; i < n; i++) {
        struct seq *seq = seq_find(cache, seqs[i]);
        FOLIO_REQUIRE(n_tokens[i] >= 0, FOLIO_EINVAL, "n_tokens[%d] %lld: must be >= 0", i, (long long)n_tokens[i]);
        FOLIO_REQUIRE(seq->batch != batch, FOLIO_EINVAL, "seqs[%d] %#llx: named twice; a sequence may appear once", i,
                      (unsigned long long)seqs[i]);
        seq->batch = batch;
    }
    return FOLIO_OK;
}

folio_status folio_cache_reserve(folio_cache *cache, const folio_seq *seqs, const int64_t *n_tokens, int32_t n)
{
    FOLIO_TRY(cache_require(cache));
    FOLIO_TRY(require_batch(cache, seqs, n_tokens, n));
    struct need need = { 0 };
    for (i32 i = 0; i < n; i++)
        add_need(cache, seq_find(cache, seqs[i]), n_tokens[i], &need);
    const folio_status status = require_pages(cache, &need);
    for (i32 i = 0; i < n; i++) {
        struct seq *seq = seq_find(cache, seqs[i]);
        if (status == FOLIO_OK)
            take_need(cache, seq, n_tokens[i]);
        else
            undo_need(cache, seq);
    }
    return status;
}
