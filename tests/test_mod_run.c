/* SPDX-License-Identifier: Apache-2.0
 * test_mod_run.c: the vector runner against the scalar evaluator, to the bit, at every level this machine has: random
 * score and mask mods, alone and together, over random rows, tiles and edges; and whether an index out of range is
 * reported. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/bits.h"
#include "folio/device.h"
#include "kernel/cpu/mod_run.h"
#include "support/mod_random.h"

enum { LANES_MOST = 128, RED_ZONE = 16 };

static const struct {
    folio_isa isa;
    const struct mod_table *table;
} levels[] = {
    { FOLIO_ISA_C, &folio__mod_table_c },
#if defined(__x86_64__)
    { FOLIO_ISA_AVX2, &folio__mod_table_avx2 },
    { FOLIO_ISA_AVX512, &folio__mod_table_avx512 },
#endif
};

static bool has_level(folio_isa isa)
{
#if defined(__x86_64__)
    if (isa == FOLIO_ISA_AVX2)
        return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    if (isa == FOLIO_ISA_AVX512)
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
               __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
#endif
    return isa == FOLIO_ISA_C;
}

static folio_mod *random_mod(u64 *seed, folio_mod_kind kind, char *text, size_t n)
{
    folio_mod *mod = NULL;
    mod_random_text(seed, kind, (i32)mod_random_below(seed, 14), 1, text, n);
    if (folio_mod_create(&mod, kind, text, mod_random_captures(5), MOD_RANDOM_CAPTURES) != FOLIO_OK)
        fail_msg("%s: %s", text, folio_last_error());
    return mod;
}

static struct mod_env place(const struct attend_args *args, const struct attend_item *item, i32 head, i32 row, i64 key)
{
    const i64 q = item->row_begin + row / args->group;
    return (struct mod_env){ .leaf = { item->seq, head * args->group + row % args->group, head, q, key, item->q_len,
                                       item->kv_len,
                                       q + (args->align == ALIGN_TOP_LEFT ? 0 : item->kv_len - item->q_len) } };
}

/* What the mods make of one score; *fails when an index out of range matters. */
static float expected(const struct attend_args *args, struct mod_env env, float score, bool *fails)
{
    static struct mod_result results[FOLIO_MOD_MAX_STEPS];
    env.score = score;
    bool poison = false;
    if (args->score_mod) {
        const struct mod_result result = folio__mod_eval(args->score_mod, &env, results);
        score = result.value.f;
        poison = result.poison;
    }
    if (args->mask_mod) {
        const struct mod_result result = folio__mod_eval(args->mask_mod, &env, results);
        if (!result.value.i)
            score = -INFINITY;
        poison = result.poison || (poison && result.value.i);
    }
    *fails |= poison;
    return score;
}

static struct attend_item random_item(u64 *seed, const struct attend_args *args)
{
    struct attend_item item = { .q_len = 1 + mod_random_below(seed, MOD_RANDOM_ROWS),
                                .kv_len = 1 + mod_random_below(seed, MOD_RANDOM_KEYS + 10) };
    item.seq = (i32)mod_random_below(seed, 2);
    item.row_begin = mod_random_below(seed, item.q_len);
    item.n_rows = 1 + mod_random_below(seed, min_i64(6, item.q_len - item.row_begin));
    item.head_begin = (i32)mod_random_below(seed, args->n_kv_heads);
    item.n_heads = 1 + (i32)mod_random_below(seed, args->n_kv_heads - item.head_begin);
    item.split_tokens = 1 + mod_random_below(seed, 400);
    item.split_begin = mod_random_below(seed, ceil_div(item.kv_len, item.split_tokens));
    item.n_splits = 1 + mod_random_below(seed, ceil_div(item.kv_len, item.split_tokens) - item.split_begin);
    return item;
}

static u32 bits_of(float x)
{
    u32 bits;
    memcpy(&bits, &x, sizeof bits);
    return isnan(x) ? 0x7fc00000u : bits;
}

/* One row of a tile: scores in, scores out. */
static void check_row(struct mod_runner *runner, const struct attend_args *args, const struct attend_item *item,
                      i32 head, i32 row, i64 key, i32 lo, i32 hi, u64 *seed, bool *fails, const char *texts)
{
    float s[LANES_MOST + RED_ZONE], before[LANES_MOST + RED_ZONE];
    for (i32 i = 0; i < LANES_MOST + RED_ZONE; i++)
        before[i] = s[i] = (float)mod_random_below(seed, 4000) / 128 - 16;
    folio__mod_row(runner, head, row, 0, lo, hi, s);
    for (i32 i = lo; i < hi; i++) {
        const struct mod_env env = place(args, item, head, row, key + i);
        const float want = expected(args, env, before[i], fails);
        if (!*fails && bits_of(s[i]) != bits_of(want))
            fail_msg("%s\n  b %lld h %lld hk %lld q %lld kv %lld q_len %lld kv_len %lld pos %lld score %.9g: got %.9g, "
                     "expected %.9g",
                     texts, (long long)env.leaf[0], (long long)env.leaf[1], (long long)env.leaf[2],
                     (long long)env.leaf[3], (long long)env.leaf[4], (long long)env.leaf[5], (long long)env.leaf[6],
                     (long long)env.leaf[7], (double)before[i], (double)s[i], (double)want);
    }
    for (i32 i = (hi + 15) / 16 * 16; i < LANES_MOST + RED_ZONE; i++)
        assert_true(bits_of(s[i]) == bits_of(before[i]));
}

/* Keys [begin, end) of the tile, which the runner left out for the row: dropped, and no failure. */
static void check_left_out(const struct attend_args *args, const struct attend_item *item, i32 head, i32 row, i64 begin,
                           i64 end, const char *texts)
{
    for (i64 key = begin; key < end; key++) {
        bool fails = false;
        const struct mod_env env = place(args, item, head, row, key);
        const float want = expected(args, env, 1.0f, &fails);
        if (fails || want != -INFINITY)
            fail_msg("%s\n  head %d row %d key %lld is left out; expected %.9g%s", texts, head, row, (long long)key,
                     (double)want, fails ? ", failing" : "");
    }
}

/* All pieces of a row's tile of n keys, and what lies between them. */
static void check_pieces(struct mod_runner *runner, const struct attend_args *args, const struct attend_item *item,
                         i32 head, i32 row, i64 key, i32 n, u64 *seed, bool *fails, const char *texts)
{
    struct keep_piece piece;
    i64 at = key;
    while (folio__mod_next_of_rows(runner, head, row, row + 1, at, key + n, &piece)) {
        check_left_out(args, item, head, row, at, piece.begin, texts);
        const i32 first = (i32)(piece.begin - key), n_piece = (i32)(piece.end - piece.begin);
        const i32 lo = first + (i32)mod_random_below(seed, n_piece);
        const i32 hi = lo + 1 + (i32)mod_random_below(seed, first + n_piece - lo);
        check_row(runner, args, item, head, row, key, lo, hi, seed, fails, texts);
        at = piece.end;
    }
    check_left_out(args, item, head, row, at, key + n, texts);
}

static void check_tile(struct mod_runner *runner, const struct attend_args *args, const struct attend_item *item,
                       const struct keep_piece *piece, u64 *seed, bool *fails, const char *texts)
{
    const i32 n = (i32)min_i64(piece->end - piece->begin, LANES_MOST);
    const bool by_row = mod_random_below(seed, 3) == 0;
    folio__mod_tile(runner, piece->begin, n, piece->mod_state);
    for (i32 head = runner->head_begin; head < runner->head_begin + item->n_heads; head++)
        for (i32 row = 0; row < item->n_rows * args->group; row++) {
            const i32 lo = (i32)mod_random_below(seed, n), hi = lo + 1 + (i32)mod_random_below(seed, n - lo);
            if (by_row)
                check_pieces(runner, args, item, head, row, piece->begin, n, seed, fails, texts);
            else
                check_row(runner, args, item, head, row, piece->begin, lo, hi, seed, fails, texts);
        }
}

static void check_item(const struct mod_table *table, const struct attend_args *args, u64 *seed, const char *texts)
{
    struct attend_args with = *args;
    struct mod_failure failure = { 0 };
    struct mod_runner runner;
    with.mod_failure = &failure;
    const struct attend_item item = random_item(seed, &with);
    const i64 rows = item.n_rows * with.group;
    const size_t n_bytes = folio__mod_scratch_bytes(&with, item.n_heads, rows, LANES_MOST);
    u8 *memory = aligned_alloc(64, n_bytes + 64);
    memset(memory, 0xa5, n_bytes + 64);
    folio__mod_bind(&runner, table, &with, &item, item.n_heads, LANES_MOST, memory);
    folio__mod_heads(&runner, item.head_begin, item.n_heads);
    const i64 end = min_i64(item.kv_len, (item.split_begin + item.n_splits) * item.split_tokens);
    struct keep_piece piece;
    bool fails = false;
    for (i64 at = item.split_begin * item.split_tokens; folio__mod_next(&runner, at, end, LANES_MOST, &piece);
         at = piece.end)
        check_tile(&runner, &with, &item, &piece, seed, &fails, texts);
    if (fails != (folio__mod_failure_report(&failure) == FOLIO_ERANGE))
        fail_msg("%s: an index out of range is %sreported: %s", texts, fails ? "not " : "", folio_last_error());
    for (size_t i = n_bytes; i < n_bytes + 64; i++)
        assert_int_equal(memory[i], 0xa5);
    free(memory);
}

static void runner_is_the_evaluator(void **state)
{
    (void)state;
    u64 seed = 11;
    static char score_text[2048], mask_text[2048], texts[4200];
    for (i32 round = 0; round < 12000; round++) {
        struct attend_args args = { .n_kv_heads = 2, .group = 1 + (i32)mod_random_below(&seed, 4) };
        args.align = mod_random_below(&seed, 2) ? ALIGN_TOP_LEFT : ALIGN_BOTTOM_RIGHT;
        args.n_q_heads = args.n_kv_heads * args.group;
        folio_mod *score = NULL, *mask = NULL;
        score_text[0] = mask_text[0] = '\0';
        if (round % 3 != 0)
            score = random_mod(&seed, FOLIO_MOD_SCORE, score_text, sizeof score_text);
        if (round % 3 != 1)
            mask = random_mod(&seed, FOLIO_MOD_MASK, mask_text, sizeof mask_text);
        args.score_mod = score ? &score->program : NULL;
        args.mask_mod = mask ? &mask->program : NULL;
        const u64 item_seed = mod_random_next(&seed);
        for (size_t level = 0; level < COUNT_OF(levels); level++) {
            if (!has_level(levels[level].isa))
                continue;
            u64 same_seed = item_seed;
            snprintf(texts, sizeof texts, "level %s, round %d\n  score %s\n  mask %s",
                     folio_isa_name(levels[level].isa), (int)round, score_text, mask_text);
            check_item(levels[level].table, &args, &same_seed, texts);
        }
        folio_mod_destroy(&score);
        folio_mod_destroy(&mask);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(runner_is_the_evaluator),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
