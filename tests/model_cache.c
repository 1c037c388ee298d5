/* SPDX-License-Identifier: Apache-2.0
 * model_cache.c: see model_cache.h. Slow and plain on purpose. */
#include "model_cache.h"

#include <string.h>

static i64 ceil_pages(const struct model *m, i64 n_tokens)
{
    return n_tokens / m->page_size + (n_tokens % m->page_size != 0);
}

static i32 n_usable(const struct model *m)
{
    return m->n_pages - !m->use_page_0;
}

struct model model_create(i32 n_pages, i32 page_size, i32 max_seqs, i32 row_pages, u32 flags)
{
    struct model m = { .n_pages = n_pages,
                       .page_size = page_size,
                       .max_seqs = max_seqs,
                       .row_pages = row_pages,
                       .use_page_0 = flags & FOLIO_CACHE_USE_PAGE_0,
                       .is_lifo = flags & FOLIO_CACHE_LIFO };
    for (i32 id = n_pages - 1; id >= (m.use_page_0 ? 0 : 1); id--)
        m.free[m.n_free++] = id;
    return m;
}

struct model_seq *model_find(const struct model *m, folio_seq seq)
{
    for (i32 slot = 0; slot < m->n_slots; slot++)
        if ((m->seqs[slot].generation & 1) && seq == ((u64)m->seqs[slot].generation << 32 | (u64)slot))
            return (struct model_seq *)(uintptr_t)&m->seqs[slot];
    return NULL;
}

static i32 holders(const struct model *m, i32 page)
{
    i32 n = 0;
    for (i32 slot = 0; slot < m->n_slots; slot++)
        for (i32 column = 0; column < m->seqs[slot].n_pages; column++)
            n += m->seqs[slot].pages[column] == page;
    return n;
}

static bool is_free(const struct model *m, i32 page)
{
    for (i32 i = 0; i < m->n_free; i++)
        if (m->free[i] == page)
            return true;
    return false;
}

/* Hand out n pages after page `before` (-1 = none). */
static void take_pages(struct model *m, i32 before, i32 *pages, i32 n)
{
    m->n_allocated += n;
    for (i32 i = 0; i < n && m->is_lifo; i++)
        pages[i] = m->free[m->n_free - n + i];
    for (i32 i = 0; i < n && !m->is_lifo; i++) {
        i32 page = before + 1;
        if (before < 0 || !is_free(m, page))
            for (page = 0; !is_free(m, page); page++)
                ;
        pages[i] = before = page;
        for (i32 at = 0; at < m->n_free - i; at++)
            if (m->free[at] == page) /* the last takes its place: in runs, order does not count */
                m->free[at] = m->free[m->n_free - i - 1];
        m->free[m->n_free - i - 1] = -1;
    }
    m->n_free -= n;
    if (n_usable(m) - m->n_free > m->peak_held)
        m->peak_held = n_usable(m) - m->n_free;
}

static void free_page(struct model *m, i32 page)
{
    m->free[m->n_free++] = page;
    m->filled[page] = 0;
    m->n_released++;
}

/* Index of the pending copy into a page, or -1. */
static i32 copy_into(const struct model *m, i32 page)
{
    for (i32 i = 0; i < m->n_copies; i++)
        if (m->copies[i][1] == page)
            return i;
    return -1;
}

static void drop_copy(struct model *m, i32 at)
{
    m->n_copies--;
    for (i32 i = at; i < m->n_copies; i++)
        memcpy(m->copies[i], m->copies[i + 1], sizeof m->copies[0]);
}

/* A page without holders goes back, with the copy into it, unless a later copy reads what that brings. */
static void settle(struct model *m, i32 page)
{
    if (holders(m, page) > 0)
        return;
    m->filled[page] = 0;
    const i32 at = copy_into(m, page);
    for (i32 i = at + 1; at >= 0 && i < m->n_copies; i++)
        if (m->copies[i][0] == page)
            return;
    free_page(m, page);
    if (at < 0)
        return;
    const i32 from = m->copies[at][0], from_at = copy_into(m, from);
    drop_copy(m, at);
    if (from_at >= 0 && from_at < at) /* perhaps parked for this one */
        settle(m, from);
}

static void drop_pages(struct model *m, struct model_seq *seq, i32 n_kept)
{
    const struct model_seq before = *seq;
    for (i32 column = n_kept; column < before.n_pages; column++) {
        seq->pages[column] = -1;
        settle(m, before.pages[column]);
    }
    seq->n_pages = n_kept;
    if (seq->n_lent > n_kept)
        seq->n_lent = n_kept;
}

folio_status model_open(struct model *m, folio_seq *out)
{
    if (m->n_closed == 0 && m->n_slots == m->max_seqs)
        return FOLIO_ENOSEQS;
    const i32 slot = m->n_closed > 0 ? m->closed[--m->n_closed] : m->n_slots++;
    const u32 generation = m->seqs[slot].generation + 1;
    m->seqs[slot] = (struct model_seq){ .generation = generation };
    *out = (u64)generation << 32 | (u64)slot;
    return FOLIO_OK;
}

folio_status model_fork(struct model *m, folio_seq seq, folio_seq *out)
{
    struct model_seq *from = model_find(m, seq);
    if (!from)
        return FOLIO_EHANDLE;
    if (model_open(m, out) != FOLIO_OK)
        return FOLIO_ENOSEQS;
    struct model_seq *to = model_find(m, *out);
    to->n_tokens = from->n_tokens;
    to->n_pages = to->n_lent = (i32)ceil_pages(m, from->n_tokens);
    memcpy(to->pages, from->pages, sizeof to->pages);
    if (from->n_lent < to->n_lent)
        from->n_lent = to->n_lent;
    return FOLIO_OK;
}

folio_status model_close(struct model *m, folio_seq seq)
{
    struct model_seq *s = model_find(m, seq);
    if (!s)
        return FOLIO_EHANDLE;
    drop_pages(m, s, 0);
    *s = (struct model_seq){ .generation = s->generation + 1 };
    m->closed[m->n_closed++] = (i32)(s - m->seqs);
    return FOLIO_OK;
}

folio_status model_truncate(struct model *m, folio_seq seq, i64 n_tokens)
{
    struct model_seq *s = model_find(m, seq);
    if (!s || n_tokens < 0 || n_tokens > s->n_tokens)
        return s ? FOLIO_EINVAL : FOLIO_EHANDLE;
    s->n_tokens = n_tokens;
    const i32 n_kept = (i32)ceil_pages(m, n_tokens);
    drop_pages(m, s, m->fault == 1 && s->n_pages > n_kept ? n_kept + 1 : n_kept);
    if (n_kept > 0 && holders(m, s->pages[n_kept - 1]) == 1)
        m->filled[s->pages[n_kept - 1]] = (i32)(n_tokens - (n_kept - 1) * m->page_size);
    return FOLIO_OK;
}

/* The column of the shared, half full page that the next token goes to, or -1. */
static i32 shared_tail(const struct model *m, const struct model_seq *s)
{
    const i32 column = (i32)(s->n_tokens / m->page_size);
    return s->n_tokens % m->page_size != 0 && holders(m, s->pages[column]) > 1 ? column : -1;
}

/* What a reserve needs in all. trial is a copy that may be spoilt. */
static folio_status shortage_of(struct model trial, const folio_seq *seqs, const i64 *n_tokens, i32 n,
                                folio_shortage *shortage)
{
    __int128 needed = 0, n_private = 0, max_lent = 0, max_row = 0;
    for (i32 i = 0; i < n; i++) {
        struct model_seq *s = model_find(&trial, seqs[i]);
        const i64 want = ceil_pages(&trial, n_tokens[i]), row = want > s->n_pages ? want : s->n_pages;
        needed += row - s->n_pages;
        n_private += row - s->n_lent;
        max_lent = s->n_lent > max_lent ? s->n_lent : max_lent;
        max_row = row > max_row ? row : max_row;
        const i32 tail = shared_tail(&trial, s);
        if (n_tokens[i] > s->n_tokens && tail >= 0) {
            needed++;
            s->pages[tail] = -1; /* no longer a holder */
        }
    }
    const bool can_fit = max_row <= trial.row_pages && n_private + max_lent <= n_usable(&trial);
    if (can_fit && needed <= trial.n_free)
        return FOLIO_OK;
    *shortage = (folio_shortage){ .needed = needed > INT64_MAX ? INT64_MAX : (i64)needed,
                                  .n_free = trial.n_free,
                                  .can_fit = can_fit };
    return can_fit ? FOLIO_ENOPAGES : FOLIO_ETOOBIG;
}

static void grow(struct model *m, struct model_seq *s, i64 n_tokens)
{
    const i32 tail = n_tokens > s->n_tokens ? shared_tail(m, s) : -1;
    if (tail >= 0) {
        const i32 from = s->pages[tail];
        take_pages(m, -1, &s->pages[tail], 1);
        m->filled[s->pages[tail]] = (i32)(s->n_tokens % m->page_size);
        m->copies[m->n_copies][0] = from;
        m->copies[m->n_copies++][1] = s->pages[tail];
        s->n_lent = tail;
    }
    const i64 n_new = ceil_pages(m, n_tokens) - s->n_pages;
    if (n_new > 0)
        take_pages(m, s->n_pages > 0 ? s->pages[s->n_pages - 1] : -1, &s->pages[s->n_pages], (i32)n_new);
    s->n_pages += n_new > 0 ? (i32)n_new : 0;
}

folio_status model_reserve(struct model *m, const folio_seq *seqs, const i64 *n_tokens, i32 n)
{
    for (i32 i = 0; i < n; i++)
        if (!model_find(m, seqs[i]))
            return FOLIO_EHANDLE;
    for (i32 i = 0; i < n; i++) {
        if (n_tokens[i] < 0)
            return FOLIO_EINVAL;
        for (i32 j = 0; j < i; j++)
            if (seqs[i] == seqs[j])
                return FOLIO_EINVAL;
    }
    const folio_status status = shortage_of(*m, seqs, n_tokens, n, &m->shortage);
    for (i32 i = 0; i < n && status == FOLIO_OK; i++)
        grow(m, model_find(m, seqs[i]), n_tokens[i]);
    return status;
}

folio_status model_append(struct model *m, folio_seq seq, i64 n_new, i64 *slots)
{
    struct model_seq *s = model_find(m, seq);
    if (!s)
        return FOLIO_EHANDLE;
    if (n_new < 0)
        return FOLIO_EINVAL;
    const i64 end = n_new > INT64_MAX - s->n_tokens ? INT64_MAX : s->n_tokens + n_new;
    const folio_status status = model_reserve(m, &seq, &end, 1);
    for (; status == FOLIO_OK && s->n_tokens < end; s->n_tokens++) {
        const i32 page = s->pages[s->n_tokens / m->page_size];
        *slots++ = (i64)page * m->page_size + s->n_tokens % m->page_size;
        m->filled[page] = (i32)(s->n_tokens % m->page_size) + 1;
    }
    return status;
}

i64 model_take(struct model *m, i64 *pairs, i64 cap)
{
    i64 n = 0;
    for (; n < cap && m->n_copies > 0; n++) {
        const i32 to = m->copies[0][1];
        pairs[2 * n] = m->copies[0][0];
        pairs[2 * n + 1] = to;
        drop_copy(m, 0);
        if (holders(m, to) == 0)
            free_page(m, to);
    }
    return n;
}

folio_cache_stats model_stats(const struct model *m)
{
    folio_cache_stats stats = { .n_pages = n_usable(m), .n_free = m->n_free, .n_held = n_usable(m) - m->n_free };
    stats.n_copies = m->n_copies;
    stats.peak_held = m->peak_held;
    stats.n_allocated = m->n_allocated;
    stats.n_released = m->n_released;
    for (i32 slot = 0; slot < m->n_slots; slot++) {
        stats.n_seqs += m->seqs[slot].generation & 1;
        stats.n_tokens += m->seqs[slot].n_tokens;
    }
    stats.n_slots_unused = stats.n_held * m->page_size;
    for (i32 page = 0; page < m->n_pages; page++) {
        stats.n_shared += holders(m, page) > 1;
        stats.n_slots_unused -= m->filled[page];
    }
    return stats;
}
