/* SPDX-License-Identifier: Apache-2.0
 * model_cache.h: what a folio_cache means, said naively: small arrays, everything counted anew by looking at
 * everything. The calls mirror cache.h; each gives the status and the outputs that the cache must give. */
#ifndef TESTS_MODEL_CACHE_H
#define TESTS_MODEL_CACHE_H

#include <stdbool.h>

#include "base/types.h"
#include "folio/cache.h"

enum { MODEL_PAGES = 24, MODEL_PAGE_SIZE = 4, MODEL_SEQS = 6, MODEL_TOKENS = MODEL_PAGES * MODEL_PAGE_SIZE };

struct model_seq {
    u32 generation; /* odd = open */
    i64 n_tokens;
    i32 n_pages, n_lent; /* columns a fork may share */
    i32 pages[MODEL_PAGES];
};

struct model {
    i32 n_pages, page_size, max_seqs, row_pages; /* of the configuration */
    bool use_page_0, is_lifo;
    i32 free[MODEL_PAGES], n_free; /* the list of PyTorch's PagedAttention; for runs only its members count */
    struct model_seq seqs[MODEL_SEQS];
    i32 closed[MODEL_SEQS], n_closed, n_slots;
    i32 copies[MODEL_PAGES][2], n_copies; /* from, to; in order */
    i32 filled[MODEL_PAGES];
    i64 peak_held, n_allocated, n_released;
    folio_shortage shortage;
    i32 fault; /* a planted error, to see that it is found; 0 = none */
};

struct model model_create(i32 n_pages, i32 page_size, i32 max_seqs, i32 row_pages, u32 flags);
folio_status model_open(struct model *m, folio_seq *out);
folio_status model_fork(struct model *m, folio_seq seq, folio_seq *out);
folio_status model_close(struct model *m, folio_seq seq);
folio_status model_truncate(struct model *m, folio_seq seq, i64 n_tokens);
folio_status model_reserve(struct model *m, const folio_seq *seqs, const i64 *n_tokens, i32 n);
folio_status model_append(struct model *m, folio_seq seq, i64 n_new, i64 *slots);
i64 model_take(struct model *m, i64 *pairs, i64 cap);
folio_cache_stats model_stats(const struct model *m);

/* The open sequence, or NULL. */
struct model_seq *model_find(const struct model *m, folio_seq seq);

#endif
