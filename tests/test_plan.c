/* SPDX-License-Identifier: Apache-2.0
 * test_plan.c: work items: every (sequence, row, head, key) that may be seen is in exactly one, rooms are never
 * exceeded, and where splits lie depends on nobody else. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/bits.h"
#include "plan/plan.h"
#include "support/random.h"

enum { MAX_SEQS = 6, MAX_TOKENS = 60, MAX_KEYS = 90, MAX_HEADS = 4 };

struct trial {
    u64 seed;
    struct plan_shape shape;
    i64 q_begin[MAX_SEQS + 1], kv_lens[MAX_SEQS];
};

static const char *text_of(const struct trial *t)
{
    static char text[256];
    snprintf(text, sizeof text, "seed %llu, width %d", (unsigned long long)t->seed, (int)t->shape.width);
    return text;
}

#define CHECK(t, cond)                                  \
    do {                                                \
        if (!(cond)) {                                  \
            print_error("%s: %s\n", text_of(t), #cond); \
            fail();                                     \
        }                                               \
    } while (0)

static struct trial choose(u64 seed, i32 width)
{
    struct rng rng = { seed };
    static const i64 windows[] = { -1, -1, -1, 0, 2, 9, INT64_MAX };
    struct trial t = { .seed = seed };
    struct plan_shape *s = &t.shape;
    s->width = width;
    s->group = (i32)rng_range(&rng, 1, 5);
    s->n_kv_heads = (i32)rng_range(&rng, 1, MAX_HEADS);
    /* head dims so large that tiny problems are worth cutting */
    s->head_dim_qk = s->head_dim_v = rng_one_in(&rng, 3) ? 64 : 1 << 20;
    s->tiling = (struct tiling){ .max_packed_rows = (i32)rng_range(&rng, 0, 20),
                                 .tile_rows = (i32)rng_range(&rng, 1, 7),
                                 .rows_split_tokens = rng_one_in(&rng, 6) ? INT64_MAX : rng_range(&rng, 1, 20),
                                 .tile_split_tokens = rng_range(&rng, 1, 20) };
    s->num_splits = rng_one_in(&rng, 3) ? (i32)rng_range(&rng, 1, 12) : 0;
    s->window_left = RNG_PICK(&rng, windows);
    s->window_right = RNG_PICK(&rng, windows);
    s->causal = (i32)rng_range(&rng, 0, 2);
    s->align = s->causal ? s->causal : (i32)rng_range(&rng, 1, 2);
    s->batch = rng_range(&rng, 0, MAX_SEQS);
    for (i64 b = 0; b < s->batch; b++) {
        const i64 q_len = rng_one_in(&rng, 2) ? 1 : rng_range(&rng, 0, MAX_TOKENS / MAX_SEQS);
        t.kv_lens[b] = rng_one_in(&rng, 5) ? 0 : rng_range(&rng, 1, MAX_KEYS);
        t.q_begin[b + 1] = t.q_begin[b] + q_len;
        s->max_q_len = max_i64(s->max_q_len, q_len);
        s->max_kv_len = max_i64(s->max_kv_len, t.kv_lens[b]);
    }
    s->n_tokens = t.q_begin[s->batch];
    return t;
}

/* May the row see the key? From the definition. */
static bool is_visible(const struct plan_shape *s, i64 m, i64 n, i64 i, i64 j)
{
    const double p = (double)(s->align == ALIGN_TOP_LEFT ? i : i + n - m), key = (double)j;
    if ((s->causal == CAUSAL_TOP_LEFT && j > i) || (s->causal == CAUSAL_BOTTOM_RIGHT && j > i + n - m))
        return false;
    return (s->window_left < 0 || key >= p - (double)s->window_left) &&
           (s->window_right < 0 || key <= p + (double)s->window_right);
}

static void check_item(const struct trial *t, const struct attend_item *item)
{
    const struct plan_shape *s = &t->shape;
    CHECK(t, item->seq >= 0 && item->seq < s->batch);
    CHECK(t, item->q_token == t->q_begin[item->seq] && item->kv_len == t->kv_lens[item->seq]);
    CHECK(t, item->q_len == t->q_begin[item->seq + 1] - t->q_begin[item->seq]);
    CHECK(t, item->n_rows >= 1 && item->row_begin >= 0 && item->row_begin + item->n_rows <= item->q_len);
    CHECK(t, item->n_heads >= 1 && item->head_begin >= 0 && item->head_begin + item->n_heads <= s->n_kv_heads);
    CHECK(t, item->split_begin >= 0 && item->n_splits >= 0 && item->split_tokens >= 1);
    CHECK(t, item->family == (s->group * item->q_len <= s->tiling.max_packed_rows ? ATTEND_ROWS : ATTEND_TILE));
    CHECK(t, item->family == ATTEND_ROWS ? item->n_rows == item->q_len : item->row_begin % s->tiling.tile_rows == 0);
    CHECK(t, (item->partial >= 0) == (item->unit >= 0));
}

/* seen[token][head][key] = by how many items. */
typedef u8 seen_keys[MAX_TOKENS][MAX_HEADS][MAX_KEYS];

static void mark(const struct attend_item *item, seen_keys *seen, u8 (*written)[MAX_HEADS])
{
    for (i64 row = item->row_begin; row < item->row_begin + item->n_rows; row++)
        for (i64 head = item->head_begin; head < item->head_begin + item->n_heads; head++) {
            if (item->partial < 0)
                written[item->q_token + row][head]++;
            for (i64 split = item->split_begin; split < item->split_begin + item->n_splits; split++)
                for (i64 key = split * item->split_tokens;
                     key < item->kv_len && key - split * item->split_tokens < item->split_tokens; key++)
                    (*seen)[item->q_token + row][head][key]++;
        }
}

/* The items of a unit follow each other through its splits and its partial rows. */
static void check_units(const struct trial *t, const struct plan_work *work, u8 (*written)[MAX_HEADS])
{
    u8 *used = calloc((size_t)work->n_partial_rows + 1, 1);
    assert_non_null(used);
    for (i64 u = 0; u < work->n_units; u++) {
        const struct attend_item *whole = &work->units[u].whole;
        const i64 rows_a_split = whole->n_heads * whole->n_rows * t->shape.group;
        i64 split = whole->split_begin;
        i32 n_items = 0;
        for (i64 i = 0; i < work->n_items; i++) {
            const struct attend_item *item = &work->items[i];
            if (item->unit != u)
                continue;
            CHECK(t, item->split_begin == split && item->seq == whole->seq && item->row_begin == whole->row_begin &&
                         item->head_begin == whole->head_begin && item->n_heads == whole->n_heads);
            CHECK(t, item->partial == whole->partial + (split - whole->split_begin) * rows_a_split);
            split += item->n_splits;
            n_items++;
        }
        CHECK(t, n_items == work->units[u].n_items && n_items >= 2 && split == whole->split_begin + whole->n_splits);
        for (i64 row = whole->partial; row < whole->partial + whole->n_splits * rows_a_split; row++)
            CHECK(t, row < work->n_partial_rows && !used[row]++);
        for (i64 row = whole->row_begin; row < whole->row_begin + whole->n_rows; row++)
            for (i64 head = whole->head_begin; head < whole->head_begin + whole->n_heads; head++)
                written[whole->q_token + row][head]++;
    }
    free(used);
}

static void check_order(const struct trial *t, const struct plan_work *work)
{
    u8 *placed = calloc((size_t)work->n_items + 1, 1);
    assert_non_null(placed);
    for (i64 i = 0; i < work->n_items; i++) {
        CHECK(t, work->order[i] >= 0 && work->order[i] < work->n_items && !placed[work->order[i]]++);
        CHECK(t, i == 0 || work->rank[work->order[i]] <= work->rank[work->order[i - 1]]);
    }
    free(placed);
}

static void check_coverage(const struct trial *t, const struct plan_work *work)
{
    static seen_keys seen;
    static u8 written[MAX_TOKENS][MAX_HEADS];
    memset(seen, 0, sizeof seen);
    memset(written, 0, sizeof written);
    for (i64 i = 0; i < work->n_items; i++) {
        check_item(t, &work->items[i]);
        mark(&work->items[i], &seen, written);
    }
    check_units(t, work, written);
    for (i64 b = 0; b < t->shape.batch; b++) {
        const i64 m = t->q_begin[b + 1] - t->q_begin[b], n = t->kv_lens[b];
        for (i64 i = 0; i < m; i++)
            for (i64 head = 0; head < t->shape.n_kv_heads; head++) {
                CHECK(t, written[t->q_begin[b] + i][head] == 1);
                for (i64 key = 0; key < n; key++) {
                    const u8 times = seen[t->q_begin[b] + i][head][key];
                    CHECK(t, times == 1 || (times == 0 && !is_visible(&t->shape, m, n, i, key)));
                }
            }
    }
}

static void every_visible_key_is_covered_once(void **state)
{
    (void)state;
    static const i32 widths[] = { 1, 2, 3, 16, 64 };
    i64 n_cut = 0;
    for (u64 seed = 1; seed <= 3000; seed++) {
        const struct trial t = choose(seed, widths[seed % COUNT_OF(widths)]);
        struct plan_work work;
        assert_int_equal(folio__plan_work_create(&work, &t.shape), FOLIO_OK);
        const i64 n_allocations = folio__alloc_count();
        folio__plan_make(&work, &t.shape, t.q_begin, t.kv_lens);
        CHECK(&t, folio__alloc_count() == n_allocations);
        CHECK(&t, work.n_items <= work.bounds.n_items && work.n_units <= work.bounds.n_units);
        CHECK(&t, work.n_cut_items <= work.bounds.n_cut_items && work.n_partial_rows <= work.bounds.n_partial_rows);
        CHECK(&t, work.n_workers <= t.shape.width && (work.n_workers > 0) == (work.n_items > 0));
        CHECK(&t, work.n_units == 0 || t.shape.width > 1);
        check_order(&t, &work);
        check_coverage(&t, &work);
        n_cut += work.n_units;
        folio__plan_work_destroy(&work);
    }
    assert_true(n_cut > 1000); /* else the test has not seen what it is for */
}

/* A sequence by itself on one thread, and the same among others on many: the same splits. */
static void splits_depend_on_nobody_else(void **state)
{
    (void)state;
    for (u64 seed = 1; seed <= 500; seed++) {
        const struct trial t = choose(seed, 16);
        struct plan_work together, alone;
        assert_int_equal(folio__plan_work_create(&together, &t.shape), FOLIO_OK);
        folio__plan_make(&together, &t.shape, t.q_begin, t.kv_lens);
        struct plan_shape single = t.shape;
        single.width = 1;
        single.batch = 1;
        assert_int_equal(folio__plan_work_create(&alone, &single), FOLIO_OK);
        for (i64 i = 0; i < together.n_items; i++) {
            const struct attend_item *item = &together.items[i];
            const i64 q_begin[] = { 0, item->q_len };
            folio__plan_make(&alone, &single, q_begin, &item->kv_len);
            CHECK(&t, alone.n_units == 0);
            for (i64 k = 0; k < alone.n_items; k++) {
                const struct attend_item *other = &alone.items[k];
                if (other->row_begin != item->row_begin)
                    continue;
                CHECK(&t, other->split_tokens == item->split_tokens && other->family == item->family &&
                              other->n_rows == item->n_rows);
                CHECK(&t, item->split_begin >= other->split_begin &&
                              item->split_begin + item->n_splits <= other->split_begin + other->n_splits);
            }
        }
        folio__plan_work_destroy(&together);
        folio__plan_work_destroy(&alone);
    }
}

static void num_splits_gives_at_least_so_many(void **state)
{
    (void)state;
    struct plan_shape s = { .tiling = { .rows_split_tokens = 64, .tile_split_tokens = 64 } };
    for (s.num_splits = 1; s.num_splits <= 70; s.num_splits++)
        for (i64 n = 1; n <= 300; n++) {
            const i64 tokens = folio__plan_split_tokens(&s, ATTEND_ROWS, n), n_splits = ceil_div(n, tokens);
            assert_true(n_splits >= min_i64(n, s.num_splits) && n_splits < 2 * (i64)s.num_splits);
            assert_true(s.num_splits > 1 || n_splits == 1);
        }
}

/* Sizes that do not fit are refused before anything is reserved. */
static void huge_shapes_are_refused(void **state)
{
    (void)state;
    struct plan_shape s = {
        .tiling = { .max_packed_rows = 16, .tile_rows = 1, .rows_split_tokens = 1, .tile_split_tokens = 1 },
        .batch = INT32_MAX - 1,
        .n_tokens = INT64_MAX,
        .max_q_len = INT64_MAX,
        .max_kv_len = INT64_MAX,
        .window_left = -1,
        .window_right = -1,
        .width = 1024,
        .n_kv_heads = INT32_MAX,
        .group = 1,
        .head_dim_qk = 1024,
        .head_dim_v = 1024
    };
    struct plan_bounds bounds;
    const i64 n_allocations = folio__alloc_count();
    assert_int_equal(folio__plan_bounds(&bounds, &s), FOLIO_ENOMEM);
    s.n_tokens = 1000;
    s.batch = 10;
    s.n_kv_heads = 8;
    assert_int_equal(folio__plan_bounds(&bounds, &s), FOLIO_OK); /* partial rows are capped, not refused */
    assert_true(bounds.n_partial_rows * (1024 + 2) * 4 <= 256 << 20);
    assert_int_equal(folio__alloc_count(), n_allocations);
}

static void each_failed_allocation_leaves_nothing(void **state)
{
    (void)state;
    const struct trial t = choose(7, 4);
    for (i64 fail_at = 1; fail_at <= 4; fail_at++) {
        struct plan_work work;
        folio__alloc_fail_at(fail_at);
        assert_int_equal(folio__plan_work_create(&work, &t.shape), FOLIO_ENOMEM);
        folio__alloc_fail_at(0);
        assert_null(work.items);
    }
}

static void the_dump_is_cut_where_the_buffer_ends(void **state)
{
    (void)state;
    const struct trial t = choose(11, 4);
    struct plan_work work;
    assert_int_equal(folio__plan_work_create(&work, &t.shape), FOLIO_OK);
    folio__plan_make(&work, &t.shape, t.q_begin, t.kv_lens);
    const size_t n = folio__plan_dump(&work, NULL, 0);
    char *all = malloc(n + 1), *part = malloc(n + 1);
    assert_true(all && part && folio__plan_dump(&work, all, n + 1) == n && strlen(all) == n);
    for (size_t size = 1; size <= n; size += 7) {
        assert_int_equal(folio__plan_dump(&work, part, size), n);
        assert_true(strlen(part) == size - 1 && memcmp(part, all, size - 1) == 0);
    }
    free(all);
    free(part);
    folio__plan_work_destroy(&work);
}

/* Fewer rows a tile only where workers would go short of tiles; never fewer than 256 packed rows for it. */
static void tiles_are_halved_for_idle_workers_only(void **state)
{
    (void)state;
    for (u64 seed = 1; seed <= 2000; seed++) {
        struct rng rng = { seed };
        struct plan_shape s = { .tiling = { .max_packed_rows = 16, .tile_rows = (i32)rng_range(&rng, 1, 400) },
                                .width = (i32)rng_range(&rng, 1, 20),
                                .group = (i32)rng_range(&rng, 1, 16),
                                .n_kv_heads = (i32)rng_range(&rng, 1, 16),
                                .n_tokens = rng_range(&rng, 0, 6000) };
        s.max_q_len = s.n_tokens ? rng_range(&rng, 1, s.n_tokens) : 0;
        const i64 rows = folio__plan_tile_rows(&s), given = s.tiling.tile_rows;
        const i64 n_tiles = s.n_tokens ? ceil_div(s.n_tokens, min_i64(given, s.max_q_len)) * s.n_kv_heads : 0;
        bool is_half = false;
        for (i64 half = given; half > 0; half /= 2)
            is_half |= rows == half;
        const bool is_right = is_half && (rows == given || (s.width > 1 && rows * s.group >= 256));
        const bool is_needed = rows == given || n_tiles < 8 * (i64)s.width;
        const bool is_enough = rows / 2 * s.group < 256 || s.width == 1 || s.max_q_len * s.group <= 16 ||
                               ceil_div(s.n_tokens, min_i64(rows, s.max_q_len)) * s.n_kv_heads >= 4 * (i64)s.width;
        if (!is_right || !is_needed || !is_enough) {
            print_error("seed %llu: tiles of %lld rows, given %lld\n", (unsigned long long)seed, (long long)rows,
                        (long long)given);
            fail();
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tiles_are_halved_for_idle_workers_only),
        cmocka_unit_test(every_visible_key_is_covered_once),
        cmocka_unit_test(splits_depend_on_nobody_else),
        cmocka_unit_test(num_splits_gives_at_least_so_many),
        cmocka_unit_test(huge_shapes_are_refused),
        cmocka_unit_test(each_failed_allocation_leaves_nothing),
        cmocka_unit_test(the_dump_is_cut_where_the_buffer_ends),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
