/* SPDX-License-Identifier: Apache-2.0
 * test_cache_states.c: every list of operations up to some length on a tiny cache (4 pages of 2 slots, 2 sequences), in
 * both page orders, each step compared with the model (model_cache_run.h). A state seen before is not gone into again
 * with no more steps left than then. FOLIO_STATES_DEPTH: the length, else 8 (6 under sanitizers). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "cache/cache.h"
#include "model_cache_run.h"
#include "support/slow.h"
#include "support/strided.h"

enum { MAX_DEPTH = 32, TABLE_BITS = 22 };

struct seen {   /* an open hash table of states */
    u64 hash;   /* 0 = empty */
    i32 n_left; /* most steps it was gone into with */
};

static struct {
    struct run run;
    struct seen *table; /* [1 << TABLE_BITS] */
    i64 n_states, n_steps;
    struct op path[MAX_DEPTH];
} all;

static const struct op ops[] = {
    { OP_OPEN, 0, 0, 0 },      { OP_APPEND, 0, 1, 16 },   { OP_APPEND, 0, 2, 16 },   { OP_APPEND, 0, 3, 16 },
    { OP_APPEND, 1, 1, 16 },   { OP_APPEND, 1, 2, 16 },   { OP_APPEND, 1, 3, 16 },   { OP_RESERVE, 0, 1, 16 },
    { OP_RESERVE, 0, 4, 16 },  { OP_RESERVE, 0, 7, 16 },  { OP_RESERVE, 1, 1, 16 },  { OP_RESERVE, 1, 4, 16 },
    { OP_RESERVE, 1, 7, 16 },  { OP_BATCH, 0, 0, 2 },     { OP_BATCH, 0, 0, 6 },     { OP_BATCH, 1, 0, 2 },
    { OP_BATCH, 1, 0, 6 },     { OP_TRUNCATE, 0, 0, 16 }, { OP_TRUNCATE, 0, 1, 16 }, { OP_TRUNCATE, 0, 2, 16 },
    { OP_TRUNCATE, 0, 3, 16 }, { OP_TRUNCATE, 1, 0, 16 }, { OP_TRUNCATE, 1, 1, 16 }, { OP_TRUNCATE, 1, 2, 16 },
    { OP_TRUNCATE, 1, 3, 16 }, { OP_FORK, 0, 0, 0 },      { OP_FORK, 1, 0, 0 },      { OP_CLOSE, 0, 0, 0 },
    { OP_CLOSE, 1, 0, 0 },     { OP_TAKE, 1, 0, 0 },      { OP_TAKE, 3, 0, 0 },      { OP_WRITE, 0, 0, 0 },
};

static u64 mix(u64 hash, i64 x)
{
    u64 state = hash ^ (u64)x;
    return random_next(&state);
}

/* What decides all that can still happen: no counters, no generations, no identities of tokens. */
static u64 state_hash(const struct run *run)
{
    const struct model *m = &run->model;
    u64 hash = mix(0, m->n_slots);
    for (i32 slot = 0; slot < m->n_slots; slot++) {
        const struct model_seq *seq = &m->seqs[slot];
        hash = mix(mix(mix(hash, seq->generation & 1), seq->n_tokens), seq->n_pages * 64 + seq->n_lent);
        for (i32 column = 0; column < seq->n_pages; column++)
            hash = mix(hash, seq->pages[column]);
        for (i32 at = 0; at < RUN_HANDLES; at++)
            if (model_find(m, run->handles[at]) == seq)
                hash = mix(hash, run->n_written[at]);
    }
    for (i32 i = 0; i < m->n_closed; i++)
        hash = mix(hash, m->closed[i]);
    i64 free = 0; /* runs: a set; the stack: a list */
    for (i32 i = 0; i < m->n_free; i++)
        free = m->is_lifo ? free * 32 + m->free[i] + 1 : free | 1 << m->free[i];
    hash = mix(mix(hash, free), m->n_copies);
    for (i32 i = 0; i < m->n_copies; i++)
        hash = mix(hash, m->copies[i][0] * 64 + m->copies[i][1]);
    for (i32 page = 0; page < m->n_pages; page++)
        hash = mix(hash, m->filled[page]);
    return hash | 1;
}

/* true = gone into before with as many steps left. */
static bool was_seen(u64 hash, i32 n_left)
{
    const u64 mask = ((u64)1 << TABLE_BITS) - 1;
    u64 at = (hash >> 20) & mask;
    while (all.table[at].hash && all.table[at].hash != hash)
        at = (at + 1) & mask;
    if (all.table[at].hash && all.table[at].n_left >= n_left)
        return true;
    all.n_states += all.table[at].hash == 0;
    assert_true(all.n_states < (i64)mask);
    all.table[at] = (struct seen){ .hash = hash, .n_left = n_left };
    return false;
}

/* The bytes behind a cache's arrays: they end with the rows. */
static size_t memory_bytes(const folio_cache *cache)
{
    return (size_t)((u8 *)(cache->rows + cache->max_seqs * cache->row_pages) - (u8 *)cache->memory);
}

static void fail_path(i32 depth)
{
    char text[64];
    print_error("%s, after\n", all.run.error);
    for (i32 i = 0; i <= depth; i++) {
        op_text(all.path[i], text, sizeof text);
        print_error("    %s,\n", text);
    }
    fail_msg("cache and model differ");
}

/* Every operation from here, and on from each new state. */
static void explore(i32 depth, i32 n_left)
{
    folio_cache *cache = all.run.cache;
    const size_t n_bytes = memory_bytes(cache);
    struct run *before = malloc(sizeof *before + sizeof *cache + n_bytes);
    assert_non_null(before);
    u8 *head = (u8 *)(before + 1), *memory = head + sizeof *cache;
    *before = all.run;
    memcpy(head, cache, sizeof *cache);
    memcpy(memory, cache->memory, n_bytes);
    for (size_t i = 0; i < COUNT_OF(ops); i++) {
        all.path[depth] = ops[i];
        all.n_steps++;
        if (!run_op(&all.run, ops[i]))
            fail_path(depth);
        if (!was_seen(state_hash(&all.run), n_left - 1) && n_left > 1)
            explore(depth + 1, n_left - 1);
        all.run = *before;
        memcpy(cache, head, sizeof *cache);
        memcpy(cache->memory, memory, n_bytes);
    }
    free(before);
}

static void explore_all(u8 flags, const char *name)
{
    const char *text = getenv("FOLIO_STATES_DEPTH");
    const i32 depth = text ? (i32)strtol(text, NULL, 0) : BUILD_IS_SLOW ? 6 : 8;
    assert_in_range(depth, 1, MAX_DEPTH);
    memset(&all, 0, sizeof all);
    all.table = calloc((size_t)1 << TABLE_BITS, sizeof *all.table);
    assert_non_null(all.table);
    const struct run_config config = { 4 - 1, 2 - 1, 2 - 1, 4 - 1, flags };
    assert_true(run_create(&all.run, &config));
    was_seen(state_hash(&all.run), depth);
    explore(0, depth);
    run_destroy(&all.run);
    free(all.table);
    print_message("%s, %d operations deep: %lld states, %lld steps compared\n", name, depth, (long long)all.n_states,
                  (long long)all.n_steps);
}

static void every_short_list_of_operations_agrees_in_runs(void **state)
{
    (void)state;
    explore_all(FOLIO_CACHE_USE_PAGE_0, "runs");
}

static void every_short_list_of_operations_agrees_as_a_stack(void **state)
{
    (void)state;
    explore_all(FOLIO_CACHE_USE_PAGE_0 | FOLIO_CACHE_LIFO, "stack");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_short_list_of_operations_agrees_in_runs),
        cmocka_unit_test(every_short_list_of_operations_agrees_as_a_stack),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
