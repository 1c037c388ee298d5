/* SPDX-License-Identifier: Apache-2.0
 * seq.c: the life of a sequence: open, fork, truncate, close. Handles are slot | generation << 32; a slot's generation
 * goes up at open (odd) and at close (even), and a slot whose generations are used up is never opened again. */
#include <string.h>

#include "cache/cache.h"
#include "cache/pool.h"

/* A slot for a new sequence, or NULL. The slot closed last comes first: its row is warm. */
static struct seq *open_slot(folio_cache *cache)
{
    i32 slot;
    if (cache->n_closed_slots > 0)
        slot = cache->closed_slots[--cache->n_closed_slots];
    else if (cache->n_slots < cache->max_seqs)
        slot = cache->n_slots++;
    else
        return NULL;
    struct seq *seq = &cache->seqs[slot];
    *seq = (struct seq){ .generation = seq->generation + 1 };
    cache->n_seqs++;
    return seq;
}

static folio_seq handle_of(const folio_cache *cache, const struct seq *seq)
{
    return (u64)seq->generation << 32 | (u64)seq_slot(cache, seq);
}

static folio_status no_slot(const folio_cache *cache)
{
    return folio__fail(FOLIO_ENOSEQS, "out: %d sequences are open; max_seqs is %d", cache->n_seqs, cache->max_seqs);
}

folio_status folio_seq_open(folio_cache *cache, folio_seq *out)
{
    FOLIO_TRY(cache_require(cache));
    FOLIO_REQUIRE(out != NULL, FOLIO_EINVAL, "out: NULL; must point to a folio_seq");
    const struct seq *seq = open_slot(cache);
    if (!seq)
        return no_slot(cache);
    *out = handle_of(cache, seq);
    return FOLIO_OK;
}

folio_status folio_seq_fork(folio_cache *cache, folio_seq parent, folio_seq *out)
{
    FOLIO_TRY(cache_require(cache));
    FOLIO_REQUIRE(out != NULL, FOLIO_EINVAL, "out: NULL; must point to a folio_seq");
    struct seq *from;
    SEQ_REQUIRE(from, cache, parent);
    struct seq *to = open_slot(cache);
    if (!to)
        return no_slot(cache);
    const i32 n_lent = (i32)pages_for(cache, from->n_tokens);
    memcpy(seq_row(cache, to), seq_row(cache, from), (size_t)n_lent * sizeof(i32));
    to->n_tokens = from->n_tokens;
    to->n_pages = to->n_lent = n_lent;
    from->n_lent = (i32)max_i64(from->n_lent, n_lent);
    cache->n_tokens += to->n_tokens;
    *out = handle_of(cache, to);
    if (!folio__pages_hold(cache, seq_row(cache, to), n_lent))
        return CACHE_CORRUPT(cache, "seq %#llx: its row names a page that is not held", (unsigned long long)parent);
    return FOLIO_OK;
}

/* Drop the pages from column n_kept on. */
static folio_status drop_pages(folio_cache *cache, struct seq *seq, i32 n_kept)
{
    const bool were_held = folio__pages_release(cache, seq_row(cache, seq) + n_kept, seq->n_pages - n_kept);
    seq->n_pages = n_kept;
    seq->n_lent = (i32)min_i64(seq->n_lent, n_kept);
    if (!were_held)
        return CACHE_CORRUPT(cache, "seq in slot %d: its row names a page that is not held", seq_slot(cache, seq));
    return FOLIO_OK;
}

folio_status folio_seq_truncate(folio_cache *cache, folio_seq handle, int64_t n_tokens)
{
    FOLIO_TRY(cache_require(cache));
    struct seq *seq;
    SEQ_REQUIRE(seq, cache, handle);
    FOLIO_REQUIRE(n_tokens >= 0 && n_tokens <= seq->n_tokens, FOLIO_EINVAL,
                  "n_tokens %lld: must be 0 .. %lld, the sequence's length", (long long)n_tokens,
                  (long long)seq->n_tokens);
    cache->n_tokens -= seq->n_tokens - n_tokens;
    seq->n_tokens = n_tokens;
    const i32 n_kept = (i32)pages_for(cache, n_tokens);
    FOLIO_TRY(drop_pages(cache, seq, n_kept));
    if (n_kept > 0) {
        const i32 tail = seq_row(cache, seq)[n_kept - 1];
        if (cache->pages[tail].n_holders == 1)
            page_set_filled(cache, tail, (i32)(n_tokens - (n_kept - 1) * cache->page_size));
    }
    return FOLIO_OK;
}

folio_status folio_seq_close(folio_cache *cache, folio_seq handle)
{
    FOLIO_TRY(cache_require(cache));
    struct seq *seq;
    SEQ_REQUIRE(seq, cache, handle);
    const folio_status dropped = drop_pages(cache, seq, 0);
    cache->n_tokens -= seq->n_tokens;
    cache->n_seqs--;
    *seq = (struct seq){ .generation = seq->generation + 1 };
    if (seq->generation != 0) /* else all 2^31 handles of this slot were given out */
        cache->closed_slots[cache->n_closed_slots++] = seq_slot(cache, seq);
    return dropped;
}

folio_status folio_seq_info(const folio_cache *cache, folio_seq handle, int64_t *n_tokens, int64_t *capacity,
                            int64_t *n_pages)
{
    FOLIO_TRY(cache_require(cache));
    const struct seq *seq;
    SEQ_REQUIRE(seq, cache, handle);
    if (n_tokens)
        *n_tokens = seq->n_tokens;
    if (capacity)
        *capacity = seq->n_pages * cache->page_size;
    if (n_pages)
        *n_pages = seq->n_pages;
    return FOLIO_OK;
}
