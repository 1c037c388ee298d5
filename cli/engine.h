/* SPDX-License-Identifier: Apache-2.0
 * engine.h: folio as a serving engine uses it: one cache, one context, the pages of every layer, a few plans.
 *
 *   engine_reserve   room for this step's tokens, all or nothing           folio_cache_reserve
 *   engine_begin     tokens -> slots, tables, lengths                      folio_seq_append, folio_cache_page_table
 *   engine_plan      lengths -> work items                                 folio_plan_update
 *   engine_attend    once a layer: write K and V, attend                   folio_pages_append, folio_attend
 *
 * A plan's shapes are fixed, steps are not: there is one plan a power of two of tokens, and the rows a step does not
 * need belong to a sequence without keys, the last one. */
#ifndef CLI_ENGINE_H
#define CLI_ENGINE_H

#include "folio/folio.h"
#include "pagepool.h"

enum { ENGINE_PLANS = 32 };

struct engine_config {
    struct pagepool_config pages;
    i32 n_q_heads;
    i64 max_batch;   /* sequences a step */
    i64 chunk;       /* tokens a step */
    i64 max_seq_len; /* tokens of the longest sequence */
    i32 n_threads;   /* 0 = the library's default */
    i32 backend;     /* folio_backend */
    i32 isa;         /* folio_isa */
};

struct engine_times { /* seconds, summed over steps */
    double cache, plan, append, attend;
};

struct engine {
    struct engine_config cfg;
    folio_cache *cache;
    folio_context *ctx;
    struct pagepool pool;
    folio_plan *plans[ENGINE_PLANS]; /* by log2 of their tokens; NULL until needed */
    i64 bucket;                      /* tokens of this step's plan */

    /* This step: n_seqs sequences with n_tokens new tokens, then the sequence that takes the spare rows. */
    i64 n_seqs, n_tokens;
    i64 table_width;
    i32 *table;    /* [max_batch + 1][table_width] */
    i64 *kv_lens;  /* [max_batch + 1] */
    i32 *q_indptr; /* [max_batch + 2] */
    i64 *slots;    /* [chunk] */
    i64 *needs;    /* [max_batch] lengths to reserve */

    /* Rows of one layer, written by the caller before engine_attend. */
    void *q, *k, *v, *out; /* [chunk][heads][dim] of the pages' element type */
    float *lse;            /* [chunk][n_q_heads] */
    struct engine_times times;
};

/* false: folio_last_error() or `no memory` in error [n]. */
bool engine_open(struct engine *engine, const struct engine_config *cfg, char *error, size_t n);
void engine_close(struct engine *engine);

i64 engine_free_pages(const struct engine *engine);
/* n_new [n] tokens behind what the sequences have: FOLIO_ENOPAGES when they don't all fit; then nothing changed. */
folio_status engine_reserve(struct engine *engine, const folio_seq *seqs, const i64 *n_new, i64 n);
folio_status engine_begin(struct engine *engine, const folio_seq *seqs, const i64 *n_new, i64 n);
folio_status engine_plan(struct engine *engine);
folio_status engine_attend(struct engine *engine, i32 layer);

/* Useful work of one layer of this step: K and V once a sequence; 2 * (dim_qk + dim_v) operations a (row, key) pair. */
double engine_kv_bytes(const struct engine *engine);
double engine_flops(const struct engine *engine);

#endif
