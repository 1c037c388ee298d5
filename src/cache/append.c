/* SPDX-License-Identifier: Apache-2.0
 * append.c: new tokens get their slots. */
#include "cache/cache.h"
#include "cache/pool.h"

/* Count the tokens [begin, end) in and say where each goes; the row has room. slots [end - begin] or NULL */
static void place_tokens(folio_cache *cache, struct seq *seq, i64 begin, i64 end, i64 *slots)
{
    const i32 *row = seq_row(cache, seq);
    i64 column = full_pages(cache, begin);
    for (i64 token = begin; token < end; column++) {
        const i32 page = row[column];
        const i64 page_begin = column * cache->page_size, page_end = min_i64(page_begin + cache->page_size, end);
        page_set_filled(cache, page, (i32)(page_end - page_begin));
        const i64 slot = page * cache->page_size + (token - page_begin), n = page_end - token;
        if (slots) {
            for (i64 i = 0; i < n; i++)
                slots[i] = slot + i;
            slots += n;
        }
        token = page_end;
    }
}

folio_status folio_seq_append(folio_cache *cache, folio_seq handle, int64_t n_new, int64_t *slots)
{
    FOLIO_TRY(cache_require(cache));
    struct seq *seq;
    SEQ_REQUIRE(seq, cache, handle);
    FOLIO_REQUIRE(n_new >= 0, FOLIO_EINVAL, "n_new %lld: must be >= 0", (long long)n_new);
    i64 end;
    if (!add_fits(seq->n_tokens, n_new, &end))
        end = INT64_MAX; /* does not fit any pool: grow says so */
    FOLIO_TRY(folio__seq_grow(cache, seq, end));
    place_tokens(cache, seq, seq->n_tokens, end, slots);
    seq->n_tokens = end;
    cache->n_tokens += n_new;
    return FOLIO_OK;
}
