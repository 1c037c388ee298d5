/* SPDX-License-Identifier: Apache-2.0
 * cache.h: which pages belong to whom. Metadata only: no byte of K or V, no device, no clock, no randomness.
 *
 *   pool          page ids 1..n_pages-1 (0 is the null page unless FOLIO_CACHE_USE_PAGE_0), each free or held n times
 *   sequence      a handle, a length in tokens, one row of page ids
 *   slot          page_id * page_size + position in the page: where one token's K and V go; 64-bit
 *
 * No call but create allocates; every call costs O(pages touched). A failing call has changed nothing.
 * One cache needs outside locking; const calls may run together. */
#ifndef FOLIO_CACHE_H
#define FOLIO_CACHE_H

#include "folio/base.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct folio_cache folio_cache;

/* slot | generation << 32. Never 0, never reused: using a closed sequence is FOLIO_EHANDLE. */
typedef uint64_t folio_seq;

enum {
    FOLIO_CACHE_USE_PAGE_0 = 1 << 0, /* hand out page 0 too */
    FOLIO_CACHE_LIFO = 1 << 1,       /* a request of k takes the last k entries of the free list, in list order, and
                                        freed pages go to its end: the order of PyTorch's PagedAttention */
};

typedef struct folio_cache_config {
    size_t struct_size;        /* sizeof(folio_cache_config) */
    int64_t n_pages;           /* pages in the pool, the null page included; 1 .. 2^31 - 1 */
    int64_t page_size;         /* tokens a page; 1 .. 2^31 - 1 */
    int64_t max_seqs;          /* sequences open at once; 0 = 256; at most 2^31 - 1 */
    int64_t max_pages_per_seq; /* width of a sequence's row; 0 = the whole pool. Untouched rows cost no memory */
    uint32_t flags;            /* FOLIO_CACHE_* */
} folio_cache_config;

typedef struct folio_cache_stats {
    size_t struct_size;     /* set by the caller: sizeof(folio_cache_stats) */
    int64_t n_pages;        /* pages that can be handed out: the pool without the null page */
    int64_t n_free;         /* pages nobody holds */
    int64_t n_held;         /* pages held by at least one sequence, or that one pending copy still reads from after
                               another fills it; n_free + n_held == n_pages */
    int64_t n_shared;       /* pages held by more than one */
    int64_t n_seqs;         /* open sequences */
    int64_t n_tokens;       /* tokens of all open sequences, shared ones counted for each */
    int64_t n_slots_unused; /* slots of held pages that hold no token: internal fragmentation and reserve. A slot that
                               one holder of a shared page cut off counts as used until the page is written again */
    int64_t n_copies;       /* copies waiting for folio_cache_take_copies */
    int64_t peak_held;      /* most pages held at once since create */
    int64_t n_allocated;    /* pages handed out since create */
    int64_t n_released;     /* pages given back since create */
} folio_cache_stats;

/* After a FOLIO_ENOPAGES or FOLIO_ETOOBIG: the numbers of the shortage. */
typedef struct folio_shortage {
    size_t struct_size; /* set by the caller */
    int64_t needed;     /* new pages the failed call asked for */
    int64_t n_free;     /* free pages at that moment */
    int32_t can_fit;    /* 1 = would fit once enough pages are freed; 0 = never (FOLIO_ETOOBIG) */
} folio_shortage;

/* cfg == NULL or a bad field: EINVAL. Memory for everything is reserved here; ENOMEM. *out is set only on success. */
FOLIO_API FOLIO_NODISCARD folio_status folio_cache_create(folio_cache **out, const folio_cache_config *cfg);
FOLIO_API void folio_cache_destroy(folio_cache **cache); /* NULL and *cache == NULL are fine; *cache becomes NULL */

/* A new, empty sequence. ENOSEQS when max_seqs are open. */
FOLIO_API FOLIO_NODISCARD folio_status folio_seq_open(folio_cache *cache, folio_seq *out);

/* Give a sequence room for n_tokens in all (its capacity never shrinks here). A shared tail page that the next append
 * would write counts as one page and is replaced by a private one (see folio_cache_take_copies).
 * ENOPAGES: not now. ETOOBIG: never. EINVAL: n_tokens < 0. */
FOLIO_API FOLIO_NODISCARD folio_status folio_seq_reserve(folio_cache *cache, folio_seq seq, int64_t n_tokens);

/* The same for n sequences at once, all or nothing. seqs [n], n_tokens [n]; a sequence may appear once: EINVAL. */
FOLIO_API FOLIO_NODISCARD folio_status folio_cache_reserve(folio_cache *cache, const folio_seq *seqs,
                                                           const int64_t *n_tokens, int32_t n);

/* Lengthen a sequence by n_new tokens, reserving what is missing, and say where each goes.
 * slots [n_new] or NULL. Errors as folio_seq_reserve. */
FOLIO_API FOLIO_NODISCARD folio_status folio_seq_append(folio_cache *cache, folio_seq seq, int64_t n_new,
                                                        int64_t *slots);

/* Cut a sequence to n_tokens (speculative rollback); pages past ceil(n_tokens / page_size) are dropped, reserved ones
 * too. EINVAL: n_tokens < 0 or more than the length. */
FOLIO_API FOLIO_NODISCARD folio_status folio_seq_truncate(folio_cache *cache, folio_seq seq, int64_t n_tokens);

/* A second sequence with the same tokens. Shares the ceil(len / page_size) pages that hold them; whichever of the two
 * first writes into a shared tail page gets a copy of its own. ENOSEQS. */
FOLIO_API FOLIO_NODISCARD folio_status folio_seq_fork(folio_cache *cache, folio_seq seq, folio_seq *out);

/* Give a sequence's pages back, in logical order, and forget it. */
FOLIO_API FOLIO_NODISCARD folio_status folio_seq_close(folio_cache *cache, folio_seq seq);

/* Pages whose content must be copied before anything is written to the slots handed out since: pairs [cap][2] of
 * (from, to), in order; *n is how many were written. Taken copies are forgotten; call again while *n == cap. At most
 * one copy a page is pending, and it is dropped when its destination is freed. A sequence's tokens are to be written
 * before a fork of it is appended to: a copy brings only what is there when it is done. */
FOLIO_API FOLIO_NODISCARD folio_status folio_cache_take_copies(folio_cache *cache, int64_t *pairs, int64_t cap,
                                                               int64_t *n);

/* Tables for attention. Only the ceil(len / page_size) pages that hold tokens are exported. */

/* How many columns the widest of the n sequences needs. */
FOLIO_API FOLIO_NODISCARD folio_status folio_cache_table_width(const folio_cache *cache, const folio_seq *seqs,
                                                               int32_t n, int64_t *width);
/* Padded: table [n][row_stride] int32, -1 behind each row's last page up to row_stride; row_stride in elements, at
 * least the width (else EINVAL). kv_lens [n] or NULL. */
FOLIO_API FOLIO_NODISCARD folio_status folio_cache_page_table(const folio_cache *cache, const folio_seq *seqs,
                                                              int32_t n, int32_t *table, int64_t row_stride,
                                                              int64_t *kv_lens);
/* CSR: indptr [n + 1], indices [cap]; kv_lens [n] or NULL. Too small a cap: EINVAL with the need, nothing written. */
FOLIO_API FOLIO_NODISCARD folio_status folio_cache_page_table_csr(const folio_cache *cache, const folio_seq *seqs,
                                                                  int32_t n, int32_t *indptr, int32_t *indices,
                                                                  int64_t cap, int64_t *kv_lens);
/* Where given positions lie: positions, slots [n][n_positions], row i in sequence i. What is reserved counts, tokens or
 * not. A slot of a page that several sequences share is shared too. ERANGE: a position < 0 or at or past the capacity;
 * nothing is then written. */
FOLIO_API FOLIO_NODISCARD folio_status folio_cache_slots(const folio_cache *cache, const folio_seq *seqs, int32_t n,
                                                         const int64_t *positions, int64_t n_positions, int64_t *slots);
/* The n_free (folio_cache_get_stats) free pages, in the order of the list (FOLIO_CACHE_LIFO: the last go first), else
 * ascending: pages [cap]. Too small a cap: EINVAL with the need, nothing written. */
FOLIO_API FOLIO_NODISCARD folio_status folio_cache_free_pages(const folio_cache *cache, int32_t *pages, int64_t cap);
/* Lengths in tokens: kv_lens [n]. */
FOLIO_API FOLIO_NODISCARD folio_status folio_cache_kv_lens(const folio_cache *cache, const folio_seq *seqs, int32_t n,
                                                           int64_t *kv_lens);

/* One sequence: length and capacity in tokens, pages held. Any out pointer may be NULL. */
FOLIO_API FOLIO_NODISCARD folio_status folio_seq_info(const folio_cache *cache, folio_seq seq, int64_t *n_tokens,
                                                      int64_t *capacity, int64_t *n_pages);

FOLIO_API FOLIO_NODISCARD folio_status folio_cache_get_stats(const folio_cache *cache, folio_cache_stats *stats);

/* The last ENOPAGES or ETOOBIG of this cache; zeros before the first. */
FOLIO_API FOLIO_NODISCARD folio_status folio_cache_get_shortage(const folio_cache *cache, folio_shortage *shortage);

/* Walks everything and checks every equation: free list, counts, rows, lengths, pending copies. O(pool).
 * ECORRUPT names the first broken one; a cache that once broke stays ECORRUPT for every later call. */
FOLIO_API FOLIO_NODISCARD folio_status folio_cache_check(const folio_cache *cache);

#ifdef __cplusplus
}
#endif
#endif
