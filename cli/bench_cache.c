/* SPDX-License-Identifier: Apache-2.0
 * bench_cache.c: the metadata calls, in seconds an operation. */
#include <stdio.h>
#include <stdlib.h>

#include "bench.h"

enum {
    PAGE = 16,
    POOL = 1 << 17, /* pages */
    SEQS = 256,
    TOKENS = 4096,      /* appended one by one in a repetition */
    BATCH_PAGES = 4096, /* taken and given back in a repetition */
    LONG = 128 << 10,   /* tokens of the forked sequence */
    CALLS = 1000,       /* forks, failing reserves in a repetition */
    BIG_POOL = 1 << 20,
};

struct cache_bench {
    folio_cache *cache;
    folio_seq seqs[SEQS];
    i64 n_seqs;
    i32 *table; /* [SEQS][width] */
    i64 width;
    i64 kv_lens[SEQS];
};

static folio_cache *make_cache(i64 n_pages)
{
    const folio_cache_config cfg = {
        .struct_size = sizeof(cfg), .n_pages = n_pages, .page_size = PAGE, .max_seqs = SEQS + 1
    };
    folio_cache *cache = NULL;
    return folio_cache_create(&cache, &cfg) ? NULL : cache;
}

/* One sequence grows token by token, then starts over. */
static bool append_tokens(void *arg, i64 repetition)
{
    struct cache_bench *b = arg;
    (void)repetition;
    i64 slot;
    bool ok = !folio_seq_truncate(b->cache, b->seqs[0], 0);
    for (i64 i = 0; ok && i < TOKENS; i++)
        ok = !folio_seq_append(b->cache, b->seqs[0], 1, &slot);
    return ok;
}

static bool take_and_give(void *arg, i64 repetition)
{
    struct cache_bench *b = arg;
    (void)repetition;
    folio_seq seq;
    return !folio_seq_open(b->cache, &seq) && !folio_seq_reserve(b->cache, seq, (i64)BATCH_PAGES * PAGE) &&
           !folio_seq_close(b->cache, seq);
}

/* What an engine does with the cache in one decode step: room, slots, tables. */
static bool decode_step(void *arg, i64 repetition)
{
    struct cache_bench *b = arg;
    (void)repetition;
    i64 needs[SEQS], slots[SEQS];
    bool ok = !folio_cache_kv_lens(b->cache, b->seqs, SEQS, needs);
    for (i64 i = 0; i < SEQS; i++)
        needs[i]++;
    ok = ok && !folio_cache_reserve(b->cache, b->seqs, needs, SEQS);
    for (i64 i = 0; ok && i < SEQS; i++)
        ok = !folio_seq_append(b->cache, b->seqs[i], 1, &slots[i]);
    ok = ok && !folio_cache_page_table(b->cache, b->seqs, SEQS, b->table, b->width, b->kv_lens);
    if (ok && b->kv_lens[0] > 1200) /* back to where it began, before the pool is full */
        for (i64 i = 0; ok && i < SEQS; i++)
            ok = !folio_seq_truncate(b->cache, b->seqs[i], 1000);
    return ok;
}

static bool fork_long(void *arg, i64 repetition)
{
    struct cache_bench *b = arg;
    (void)repetition;
    bool ok = true;
    for (i64 i = 0; ok && i < CALLS / 10; i++) {
        folio_seq fork;
        ok = !folio_seq_fork(b->cache, b->seqs[0], &fork) && !folio_seq_close(b->cache, fork);
    }
    return ok;
}

static bool fail_reserve(void *arg, i64 repetition)
{
    struct cache_bench *b = arg;
    (void)repetition;
    bool ok = true;
    for (i64 i = 0; ok && i < CALLS; i++)
        ok = folio_seq_reserve(b->cache, b->seqs[0], (i64)POOL * PAGE) != FOLIO_OK;
    return ok;
}

static bool create_big(void *arg, i64 repetition)
{
    (void)arg;
    (void)repetition;
    folio_cache *cache = make_cache(BIG_POOL);
    const bool ok = cache;
    folio_cache_destroy(&cache);
    return ok;
}

const char *const bench_cache_operations[] = { "append a token",
                                               "take and give a page",
                                               "decode step of 256",
                                               "fork and close 128k tokens",
                                               "reserve that fails",
                                               "create 1M pages",
                                               NULL };

/* In the order of the names. */
static const struct {
    bench_body *once;
    double per;           /* operations of a repetition */
    i64 n_seqs, n_tokens; /* open at the start, each with so many tokens */
} operations[] = {
    { append_tokens, TOKENS, 1, 0 },        { take_and_give, BATCH_PAGES, 0, 0 }, { decode_step, 1, SEQS, 1000 },
    { fork_long, CALLS / 10, 1, LONG - 3 }, { fail_reserve, CALLS, 1, 0 },        { create_big, 1, 0, 0 },
};

static bool open_bench(struct cache_bench *b, i64 n_seqs, i64 n_tokens)
{
    b->cache = make_cache(POOL);
    b->width = 128;
    b->table = malloc(SEQS * (size_t)b->width * sizeof(*b->table));
    bool ok = b->cache && b->table;
    for (; ok && b->n_seqs < n_seqs; b->n_seqs++)
        ok = !folio_seq_open(b->cache, &b->seqs[b->n_seqs]) &&
             !folio_seq_append(b->cache, b->seqs[b->n_seqs], n_tokens, NULL);
    return ok;
}

bool bench_cache(const struct bench *bench, struct bench_row *row, char *error, size_t n)
{
    i64 which = 0;
    while (bench_cache_operations[which] != row->c.what)
        which++;
    struct cache_bench b = { 0 };
    const bool ok = open_bench(&b, operations[which].n_seqs, operations[which].n_tokens) &&
                    bench_time(bench, row, operations[which].once, &b, operations[which].per);
    if (!ok)
        snprintf(error, n, "%s", folio_last_error());
    folio_cache_destroy(&b.cache);
    free(b.table);
    return ok;
}
