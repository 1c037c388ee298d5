/* SPDX-License-Identifier: Apache-2.0
 * test_cache_bad.c: malformed calls of cache.h. Each gets its class, a message that names the argument, what was got
 * and what is allowed, and leaves the cache and every output as they were, byte for byte. */
#include <stdio.h>
#include <stdlib.h>

#include "support/cache.h"

struct outputs {
    folio_seq seq;
    i64 slots[16], pairs[8], n, kv_lens[4];
    i32 table[32], indptr[4], indices[16];
    folio_cache *created;
    folio_cache_stats stats;
    folio_shortage shortage;
};

/* 8 pages of 4, at most 3 sequences: a holds 6 tokens, b is its fork and went on, one handle is stale. */
struct fixture {
    folio_cache *cache;
    folio_seq a, b, stale;
    folio_seq ab[2], a_stale[2], aba[3];
    struct outputs out;
};

static void fixture_create(struct fixture *f)
{
    memset(f, 0, sizeof *f);
    const folio_cache_config cfg = { .struct_size = sizeof cfg, .n_pages = 8, .page_size = 4, .max_seqs = 3 };
    assert_ok(folio_cache_create(&f->cache, &cfg));
    f->a = open_seq(f->cache);
    assert_ok(folio_seq_append(f->cache, f->a, 6, NULL));
    assert_ok(folio_seq_fork(f->cache, f->a, &f->b));
    assert_ok(folio_seq_append(f->cache, f->b, 1, NULL)); /* a copy is pending */
    f->stale = open_seq(f->cache);
    assert_ok(folio_seq_close(f->cache, f->stale));
    memcpy(f->ab, (folio_seq[]){ f->a, f->b }, sizeof f->ab);
    memcpy(f->a_stale, (folio_seq[]){ f->a, f->stale }, sizeof f->a_stale);
    memcpy(f->aba, (folio_seq[]){ f->a, f->b, f->a }, sizeof f->aba);
    memset(&f->out, 0x5a, sizeof f->out);
    f->out.stats.struct_size = sizeof f->out.stats;
    f->out.shortage.struct_size = sizeof f->out.shortage;
}

struct snapshot {
    folio_cache head;
    struct outputs out;
    u8 memory[1 << 14];
};

static size_t memory_bytes(const folio_cache *cache) /* the arrays end with the rows */
{
    return (size_t)((u8 *)(cache->rows + cache->max_seqs * cache->row_pages) - (u8 *)cache->memory);
}

static void snapshot_take(struct snapshot *s, const struct fixture *f)
{
    assert_true(memory_bytes(f->cache) <= sizeof s->memory);
    memcpy(&s->head, f->cache, sizeof s->head);
    memcpy(&s->out, &f->out, sizeof s->out);
    memcpy(s->memory, f->cache->memory, memory_bytes(f->cache));
}

/* All but the mark that a batch leaves to find duplicates, and, after ENOPAGES and ETOOBIG, the shortage. */
static bool is_unchanged(const struct snapshot *s, const struct fixture *f, folio_status status)
{
    folio_cache *cache = f->cache;
    cache->n_batches = s->head.n_batches;
    for (i32 slot = 0; slot < cache->max_seqs; slot++)
        cache->seqs[slot].batch = 0;
    if (status == FOLIO_ENOPAGES || status == FOLIO_ETOOBIG)
        cache->shortage = s->head.shortage;
    return memcmp(&s->head, cache, sizeof s->head) == 0 && memcmp(&s->out, &f->out, sizeof s->out) == 0 &&
           memcmp(s->memory, cache->memory, memory_bytes(cache)) == 0;
}

static void check_refused(struct fixture *f, const struct snapshot *s, const char *call, folio_status got,
                          folio_status want, const char *const says[3])
{
    const char *message = folio_last_error();
    bool says_all = folio_last_error_kind() == FOLIO_ERROR_VALUE;
    for (i32 i = 0; i < 3; i++)
        says_all &= strstr(message, says[i]) != NULL;
    const bool same = is_unchanged(s, f, want);
    if (got != want || !says_all || !same)
        fail_msg("%s: status %s, should be %s; %s; says: %s", call, folio_status_name(got), folio_status_name(want),
                 same ? "unchanged" : "CHANGED", message);
    assert_ok(folio_cache_check(f->cache));
    assert_ok(folio_seq_append(f->cache, f->a, 1, NULL)); /* the next good call works */
}

/* One row: a call on a fresh fixture f, the status it must get, three parts of the message. */
#define REFUSED(call, status, a_, b_, c_)                                                      \
    do {                                                                                       \
        struct fixture f;                                                                      \
        static struct snapshot before;                                                         \
        fixture_create(&f);                                                                    \
        snapshot_take(&before, &f);                                                            \
        const folio_status got_ = (call);                                                      \
        check_refused(&f, &before, #call, got_, status, (const char *const[3]){ a_, b_, c_ }); \
        folio_cache_destroy(&f.cache);                                                         \
    } while (0)

/* A good configuration with one field changed. */
static folio_status create_with(struct fixture *f, size_t offset, i64 value)
{
    folio_cache_config cfg = { .struct_size = sizeof cfg, .n_pages = 8, .page_size = 4, .max_seqs = 3 };
    memcpy((u8 *)&cfg + offset, &value,
           offset == offsetof(folio_cache_config, flags) ? sizeof cfg.flags : sizeof value);
    return folio_cache_create(&f->out.created, &cfg);
}

#define CREATE_WITH(field, value) create_with(&f, offsetof(folio_cache_config, field), value)

static void configurations_are_checked(void **state)
{
    (void)state;
    REFUSED(folio_cache_create(NULL, &(folio_cache_config){ 0 }), FOLIO_EINVAL, "out", "NULL", "folio_cache *");
    REFUSED(folio_cache_create(&f.out.created, NULL), FOLIO_EINVAL, "cfg", "NULL", "");
    REFUSED(CREATE_WITH(struct_size, 0), FOLIO_EINVAL, "cfg.struct_size 0", "must be", "8 .. 48");
    REFUSED(CREATE_WITH(struct_size, 1000), FOLIO_EINVAL, "cfg.struct_size 1000", "must be", "8 .. 48");
    REFUSED(CREATE_WITH(n_pages, 0), FOLIO_EINVAL, "n_pages 0", "must be", "1 .. 2147483647");
    REFUSED(CREATE_WITH(n_pages, -1), FOLIO_EINVAL, "n_pages -1", "must be", "1 .. 2147483647");
    REFUSED(CREATE_WITH(n_pages, INT64_C(1) << 40), FOLIO_EINVAL, "n_pages 1099511627776", "1 .. 2147483647", "");
    REFUSED(CREATE_WITH(page_size, 0), FOLIO_EINVAL, "page_size 0", "must be", "1 .. 2147483647");
    REFUSED(CREATE_WITH(page_size, -4), FOLIO_EINVAL, "page_size -4", "must be", "1 .. 2147483647");
    REFUSED(CREATE_WITH(page_size, INT64_MAX), FOLIO_EINVAL, "page_size 9223372036854775807", "1 .. 2147483647", "");
    REFUSED(CREATE_WITH(max_seqs, -1), FOLIO_EINVAL, "max_seqs -1", "must be", "2147483647");
    REFUSED(CREATE_WITH(max_seqs, INT64_C(1) << 31), FOLIO_EINVAL, "max_seqs 2147483648", "must be", "2147483647");
    REFUSED(CREATE_WITH(max_pages_per_seq, -1), FOLIO_EINVAL, "max_pages_per_seq -1", "must be", "2147483647");
    REFUSED(CREATE_WITH(flags, 4), FOLIO_EINVAL, "flags 0x4", "must be", "0x3");
}

/* 2^31 sequences of 2^31 pages: more than there is address space for. */
static void an_absurd_size_is_enomem(void **state)
{
    (void)state;
    folio_cache *none = NULL;
    const folio_cache_config cfg = {
        .struct_size = sizeof cfg, .n_pages = INT32_MAX, .page_size = INT32_MAX, .max_seqs = INT32_MAX
    };
    assert_int_equal(folio_cache_create(&none, &cfg), FOLIO_ENOMEM);
    assert_null(none);
    assert_non_null(strstr(folio_last_error(), "max_pages_per_seq 2147483647"));
}

static void caches_and_handles_are_checked(void **state)
{
    (void)state;
    REFUSED(folio_seq_open(NULL, &f.out.seq), FOLIO_EINVAL, "cache", "NULL", "must be");
    REFUSED(folio_seq_open(f.cache, NULL), FOLIO_EINVAL, "out", "NULL", "folio_seq");
    REFUSED(folio_seq_reserve(NULL, f.a, 1), FOLIO_EINVAL, "cache", "NULL", "");
    REFUSED(folio_seq_append(NULL, f.a, 1, NULL), FOLIO_EINVAL, "cache", "NULL", "");
    REFUSED(folio_seq_truncate(NULL, f.a, 1), FOLIO_EINVAL, "cache", "NULL", "");
    REFUSED(folio_seq_close(NULL, f.a), FOLIO_EINVAL, "cache", "NULL", "");
    REFUSED(folio_cache_check(NULL), FOLIO_EINVAL, "cache", "NULL", "");
    REFUSED(folio_seq_reserve(f.cache, f.stale, 1), FOLIO_EHANDLE, "seq 0x100000002", "not open", "must be");
    REFUSED(folio_seq_append(f.cache, f.stale, 1, f.out.slots), FOLIO_EHANDLE, "seq 0x100000002", "not open", "");
    REFUSED(folio_seq_truncate(f.cache, f.stale, 0), FOLIO_EHANDLE, "seq 0x100000002", "not open", "");
    REFUSED(folio_seq_fork(f.cache, f.stale, &f.out.seq), FOLIO_EHANDLE, "seq 0x100000002", "not open", "");
    REFUSED(folio_seq_close(f.cache, f.stale), FOLIO_EHANDLE, "seq 0x100000002", "not open", "");
    REFUSED(folio_seq_info(f.cache, f.stale, &f.out.n, NULL, NULL), FOLIO_EHANDLE, "seq 0x100000002", "not open", "");
    REFUSED(folio_seq_append(f.cache, 0, 1, NULL), FOLIO_EHANDLE, "seq 0:", "not open", "");
    REFUSED(folio_seq_append(f.cache, UINT64_MAX, 1, NULL), FOLIO_EHANDLE, "seq 0xffffffffffffffff", "not open", "");
    REFUSED(folio_seq_append(f.cache, f.a + (UINT64_C(2) << 32), 1, NULL), FOLIO_EHANDLE, "seq 0x3", "not open", "");
    REFUSED(folio_seq_fork(f.cache, f.a, NULL), FOLIO_EINVAL, "out", "NULL", "folio_seq");
}

static folio_status fork_a_fourth(struct fixture *f)
{
    return folio_seq_fork(f->cache, f->a, &f->out.seq);
}

static void there_are_at_most_max_seqs(void **state)
{
    (void)state;
    struct fixture f;
    static struct snapshot before;
    fixture_create(&f);
    open_seq(f.cache);
    snapshot_take(&before, &f);
    check_refused(&f, &before, "fork", fork_a_fourth(&f), FOLIO_ENOSEQS,
                  (const char *const[3]){ "out", "3 sequences are open", "max_seqs is 3" });
    folio_cache_destroy(&f.cache);
}

static void counts_are_checked(void **state)
{
    (void)state;
    REFUSED(folio_seq_reserve(f.cache, f.a, -1), FOLIO_EINVAL, "n_tokens -1", "must be", ">= 0");
    REFUSED(folio_seq_reserve(f.cache, f.a, INT64_MIN), FOLIO_EINVAL, "n_tokens -9223372036854775808", ">= 0", "");
    REFUSED(folio_seq_reserve(f.cache, f.a, INT64_C(1) << 62), FOLIO_ETOOBIG, "n_tokens", "1152921504606846976 pages",
            "at most 8");
    REFUSED(folio_seq_reserve(f.cache, f.a, 25), FOLIO_ENOPAGES, "n_tokens", "5 new pages", "4 of 7");
    REFUSED(folio_seq_reserve(f.cache, f.a, 29), FOLIO_ETOOBIG, "n_tokens", "8 pages in all", "the pool has 7");
    REFUSED(folio_seq_append(f.cache, f.a, -1, f.out.slots), FOLIO_EINVAL, "n_new -1", "must be", ">= 0");
    REFUSED(folio_seq_append(f.cache, f.a, INT64_MAX, f.out.slots), FOLIO_ETOOBIG, "n_tokens", "pages", "at most 8");
    REFUSED(folio_seq_append(f.cache, f.a, 20, f.out.slots), FOLIO_ENOPAGES, "n_tokens", "5 new pages", "4 of 7");
    REFUSED(folio_seq_truncate(f.cache, f.a, -1), FOLIO_EINVAL, "n_tokens -1", "must be", "0 .. 6");
    REFUSED(folio_seq_truncate(f.cache, f.a, 7), FOLIO_EINVAL, "n_tokens 7", "must be", "0 .. 6");
}

static void batches_are_checked(void **state)
{
    (void)state;
    static const i64 n[] = { 8, 8, 8 }, negative[] = { 8, -2 }, too_many[] = { 12, 24 };
    REFUSED(folio_cache_reserve(NULL, f.ab, n, 2), FOLIO_EINVAL, "cache", "NULL", "");
    REFUSED(folio_cache_reserve(f.cache, NULL, n, 2), FOLIO_EINVAL, "seqs", "NULL", "n 2");
    REFUSED(folio_cache_reserve(f.cache, f.ab, NULL, 2), FOLIO_EINVAL, "n_tokens", "NULL", "n 2");
    REFUSED(folio_cache_reserve(f.cache, f.ab, n, -1), FOLIO_EINVAL, "n -1", "must be", ">= 0");
    REFUSED(folio_cache_reserve(f.cache, f.a_stale, n, 2), FOLIO_EHANDLE, "seqs[1] 0x100000002", "not open", "");
    REFUSED(folio_cache_reserve(f.cache, f.aba, n, 3), FOLIO_EINVAL, "seqs[2] 0x100000000", "twice", "once");
    REFUSED(folio_cache_reserve(f.cache, f.ab, negative, 2), FOLIO_EINVAL, "n_tokens[1] -2", "must be", ">= 0");
    REFUSED(folio_cache_reserve(f.cache, f.ab, too_many, 2), FOLIO_ETOOBIG, "n_tokens", "8 pages in all", "has 7");
}

static void exports_are_checked(void **state)
{
    (void)state;
    REFUSED(folio_cache_table_width(f.cache, f.ab, 2, NULL), FOLIO_EINVAL, "width", "NULL", "");
    REFUSED(folio_cache_table_width(f.cache, f.a_stale, 2, &f.out.n), FOLIO_EHANDLE, "seqs[1]", "not open", "");
    REFUSED(folio_cache_table_width(f.cache, NULL, 1, &f.out.n), FOLIO_EINVAL, "seqs", "NULL", "n 1");
    REFUSED(folio_cache_page_table(f.cache, f.ab, 2, NULL, 4, NULL), FOLIO_EINVAL, "table", "NULL", "row_stride 4");
    REFUSED(folio_cache_page_table(f.cache, f.ab, 2, f.out.table, 1, f.out.kv_lens), FOLIO_EINVAL, "row_stride 1",
            "must be", ">= 2");
    REFUSED(folio_cache_page_table(f.cache, f.ab, 2, f.out.table, -3, f.out.kv_lens), FOLIO_EINVAL, "row_stride -3",
            ">= 2", "");
    REFUSED(folio_cache_page_table(f.cache, f.ab, -1, f.out.table, 4, NULL), FOLIO_EINVAL, "n -1", "must be", ">= 0");
    REFUSED(folio_cache_page_table(f.cache, f.a_stale, 2, f.out.table, 4, f.out.kv_lens), FOLIO_EHANDLE, "seqs[1]",
            "not open", "");
    REFUSED(folio_cache_page_table_csr(f.cache, f.ab, 2, NULL, f.out.indices, 16, NULL), FOLIO_EINVAL, "indptr", "NULL",
            "3 entries");
    REFUSED(folio_cache_page_table_csr(f.cache, f.ab, 2, f.out.indptr, NULL, 16, NULL), FOLIO_EINVAL, "indices", "NULL",
            "4 entries");
    REFUSED(folio_cache_page_table_csr(f.cache, f.ab, 2, f.out.indptr, f.out.indices, 3, f.out.kv_lens), FOLIO_EINVAL,
            "cap 3", "must be", ">= 4");
    REFUSED(folio_cache_page_table_csr(f.cache, f.a_stale, 2, f.out.indptr, f.out.indices, 16, f.out.kv_lens),
            FOLIO_EHANDLE, "seqs[1]", "not open", "");
    REFUSED(folio_cache_kv_lens(f.cache, f.ab, 2, NULL), FOLIO_EINVAL, "kv_lens", "NULL", "n 2");
    REFUSED(folio_cache_kv_lens(f.cache, f.a_stale, 2, f.out.kv_lens), FOLIO_EHANDLE, "seqs[1]", "not open", "");
}

static folio_status stats_with_size(struct fixture *f, size_t size)
{
    folio_cache_stats stats = { .struct_size = size };
    return folio_cache_get_stats(f->cache, &stats);
}

static folio_status shortage_with_size(struct fixture *f, size_t size)
{
    folio_shortage shortage = { .struct_size = size };
    return folio_cache_get_shortage(f->cache, &shortage);
}

static void copies_and_stats_are_checked(void **state)
{
    (void)state;
    REFUSED(folio_cache_take_copies(f.cache, f.out.pairs, 4, NULL), FOLIO_EINVAL, "n", "NULL", "int64");
    REFUSED(folio_cache_take_copies(f.cache, f.out.pairs, -1, &f.out.n), FOLIO_EINVAL, "cap -1", "must be", ">= 0");
    REFUSED(folio_cache_take_copies(f.cache, NULL, 4, &f.out.n), FOLIO_EINVAL, "pairs", "NULL", "cap 4");
    REFUSED(folio_cache_get_stats(f.cache, NULL), FOLIO_EINVAL, "stats", "NULL", "");
    REFUSED(stats_with_size(&f, 0), FOLIO_EINVAL, "stats.struct_size 0", "must be", "8 .. 96");
    REFUSED(stats_with_size(&f, 97), FOLIO_EINVAL, "stats.struct_size 97", "must be", "8 .. 96");
    REFUSED(folio_cache_get_shortage(f.cache, NULL), FOLIO_EINVAL, "shortage", "NULL", "");
    REFUSED(shortage_with_size(&f, 1), FOLIO_EINVAL, "shortage.struct_size 1", "must be", "8 .. 32");
}

/* An older caller's smaller struct gets the fields it knows, and nothing behind them is written. */
static void smaller_structs_are_filled_as_far_as_they_go(void **state)
{
    (void)state;
    struct fixture f;
    fixture_create(&f);
    folio_cache_stats stats = { .struct_size = offsetof(folio_cache_stats, n_held), .n_held = 77 };
    assert_ok(folio_cache_get_stats(f.cache, &stats));
    assert_true(stats.n_pages == 7 && stats.n_free == 4 && stats.n_held == 77);
    folio_cache_destroy(&f.cache);
}

/* A destroyed cache whose memory is still there: its magic number is gone. */
static void a_destroyed_cache_is_refused(void **state)
{
    (void)state;
    struct fixture f;
    fixture_create(&f);
    folio_cache ghost;
    memcpy(&ghost, f.cache, sizeof ghost);
    folio_cache *cache = f.cache;
    folio_cache_destroy(&f.cache);
    folio_cache_destroy(&f.cache); /* NULL now: fine */
    folio_cache_destroy(NULL);
    ghost.magic = 0; /* what destroy leaves behind */
    cache = &ghost;
    assert_int_equal(folio_seq_open(cache, &f.out.seq), FOLIO_EHANDLE);
    assert_string_equal(folio_last_error(), "cache: destroyed, or not a cache");
    assert_int_equal(folio_cache_check(cache), FOLIO_EHANDLE);
    folio_cache_destroy(&cache);
    assert_null(cache);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(configurations_are_checked),
        cmocka_unit_test(an_absurd_size_is_enomem),
        cmocka_unit_test(caches_and_handles_are_checked),
        cmocka_unit_test(there_are_at_most_max_seqs),
        cmocka_unit_test(counts_are_checked),
        cmocka_unit_test(batches_are_checked),
        cmocka_unit_test(exports_are_checked),
        cmocka_unit_test(copies_and_stats_are_checked),
        cmocka_unit_test(smaller_structs_are_filled_as_far_as_they_go),
        cmocka_unit_test(a_destroyed_cache_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
