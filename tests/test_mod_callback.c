/* SPDX-License-Identifier: Apache-2.0
 * test_mod_callback.c: tile callbacks: the same answers as the same mods written as text, every score once, whole tiles
 * when asked for, and errors that stop the call. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include <stdatomic.h>

#include "support/contexts.h"
#include "support/made_mod.h"
#include "support/mod_random.h"
#include "support/problem.h"

/* What a callback counts, on any thread. */
struct calls {
    atomic_llong n_calls, n_scores, n_partial; /* partial: tiles that are not whole */
    folio_status answer;
    i64 answer_at; /* the call, from 1, that gives it */
};

static folio_status count(struct calls *calls, const folio_tile *at)
{
    const i64 nth = atomic_fetch_add(&calls->n_calls, 1) + 1;
    atomic_fetch_add(&calls->n_scores, at->n_rows * at->n_keys);
    if (at->q_begin != 0 || at->n_rows != at->q_len || at->kv_begin != 0 || at->n_keys != at->kv_len)
        atomic_fetch_add(&calls->n_partial, 1);
    return nth == calls->answer_at ? calls->answer : FOLIO_OK;
}

/* score * 0.5 + f32(kv - pos) * 0.125 + f32(h) + f32(hk * 2 + b) */
static folio_status score_tile(void *user, float *scores, const folio_tile *at)
{
    for (i64 r = 0; r < at->n_rows; r++)
        for (i64 i = 0; i < at->n_keys; i++) {
            float *s = scores + r * at->row_stride + i;
            *s = *s * 0.5f + (float)(at->kv_begin + i - at->pos_begin - r) * 0.125f + (float)at->h +
                 (float)(at->hk * 2 + at->b);
        }
    return count(user, at);
}

/* (kv + q) % 3 != 0 && kv < kv_len - q_len // 4 */
static folio_status mask_tile(void *user, float *keep, const folio_tile *at)
{
    for (i64 r = 0; r < at->n_rows; r++)
        for (i64 i = 0; i < at->n_keys; i++) {
            const i64 kv = at->kv_begin + i, q = at->q_begin + r;
            if ((kv + q) % 3 == 0 || kv >= at->kv_len - at->q_len / 4)
                keep[r * at->row_stride + i] = 0;
        }
    return count(user, at);
}

static folio_mod *from_text(folio_mod_kind kind, const char *text)
{
    return made_mod(kind, text, NULL, 0);
}

static folio_mod *from_callback(folio_mod_kind kind, struct calls *calls, u32 flags)
{
    folio_mod *mod = NULL;
    const folio_tile_callback tile = kind == FOLIO_MOD_SCORE ? score_tile : mask_tile;
    assert_int_equal(folio_mod_create_callback(&mod, kind, tile, calls, flags), FOLIO_OK);
    return mod;
}

static void small_problem(struct random_problem *p, u64 seed)
{
    const struct problem_limits limits = { .max_kv_len = 290, .max_q_len = 38, .max_head_dim = 64 };
    struct problem_choice c;
    problem_choose(&c, seed, &limits);
    c.amplitude = 1;
    problem_build(p, &c);
    p->max_score += 100;
}

static i64 n_scores(const struct random_problem *p)
{
    i64 n = 0;
    for (i32 b = 0; b < p->c.batch; b++)
        n += p->c.q_lens[b] * p->c.kv_lens[b];
    return n * p->c.n_kv_heads * p->c.group;
}

/* bits of which: 1 score, 2 mask, 4 a block mask's mod, 8 whole tiles */
static void use_mods(folio_attend_args *args, folio_mod *mods[3], folio_block_mask **blocks, u32 which, u64 seed)
{
    args->score_mod = which & 1 ? mods[0] : NULL;
    args->mask_mod = which & 2 ? mods[1] : NULL;
    *blocks = which & 4 ? mod_random_block_mask(&seed, 1, 1, mods[2]) : NULL;
    args->block_mask = *blocks;
}

/* All of out and lse, in double. */
static double *read_results(const struct random_problem *p, i64 *n)
{
    const i64 heads = (i64)p->c.n_kv_heads * p->c.group, width = p->c.head_dim_v + 1;
    *n = p->n_tokens * heads * width;
    double *results = calloc((size_t)*n + 1, sizeof *results);
    assert_non_null(results);
    for (i64 i = 0; i < *n; i++) {
        const i64 at[] = { i / width / heads, i / width % heads, i % width };
        if (at[2] < p->c.head_dim_v)
            results[i] = tensor_get(&p->t[T_OUT], at);
        else if (p->c.lse)
            results[i] = tensor_get(&p->t[T_LSE], at);
    }
    return results;
}

static void attend(struct random_problem *p, folio_context *ctx, const struct calls *calls)
{
    problem_reset_outputs(p);
    if (!problem_run(p, ctx, NULL))
        fail_msg("%lld calls", calls ? (long long)calls->n_calls : 0);
}

static void check_close(const struct random_problem *p, const double *got, const double *wanted, i64 n)
{
    const double ulp = p->c.q_dtype == DTYPE_F32 ? 0x1p-23 : p->c.q_dtype == DTYPE_F16 ? 0x1p-10 : 0x1p-7;
    for (i64 i = 0; i < n; i++) {
        const double allowed = 1e-5 * p->max_value * fmax(1, p->max_score) + ulp * fabs(wanted[i]);
        if (got[i] == wanted[i] || fabs(got[i] - wanted[i]) <= allowed)
            continue;
        problem_print(p);
        fail_msg("result %lld: %.9g, expected %.9g", (long long)i, got[i], wanted[i]);
    }
}

/* One problem: the oracle with texts, then ctx with callbacks. */
static void compare(folio_context *ctx, folio_context *ref, u64 seed)
{
    static const char *const texts[] = { "score * 0.5 + f32(kv - pos) * 0.125 + f32(h) + f32(hk * 2 + b)",
                                         "(kv + q) % 3 != 0 && kv < kv_len - q_len // 4" };
    const u32 which = 1 + (u32)seed % 7, flags = seed & 8 ? FOLIO_TILE_WHOLE : 0;
    struct calls calls[3] = { { .n_calls = 0 } };
    folio_mod *by_text[3], *by_callback[3];
    struct random_problem p;
    folio_block_mask *blocks;
    i64 n;
    for (i32 i = 0; i < 3; i++) {
        const folio_mod_kind kind = i == 0 ? FOLIO_MOD_SCORE : FOLIO_MOD_MASK;
        by_text[i] = from_text(kind, texts[i != 0]);
        by_callback[i] = from_callback(kind, &calls[i], flags);
    }
    small_problem(&p, seed);
    use_mods(&p.args, by_text, &blocks, which, seed);
    attend(&p, ref, NULL);
    double *wanted = read_results(&p, &n);
    folio_block_mask_destroy(&blocks);
    use_mods(&p.args, by_callback, &blocks, which, seed);
    attend(&p, ctx, &calls[0]);
    double *got = read_results(&p, &n);
    check_close(&p, got, wanted, n);
    for (i32 i = 0; i < 3; i++) {
        assert_int_equal(calls[i].n_scores, which >> i & 1 ? n_scores(&p) : 0);
        assert_true(!flags || calls[i].n_partial == 0);
        folio_mod_destroy(&by_text[i]);
        folio_mod_destroy(&by_callback[i]);
    }
    folio_block_mask_destroy(&blocks);
    problem_free(&p);
    free(got);
    free(wanted);
}

static void callbacks_answer_as_texts_do(void **state)
{
    (void)state;
    struct contexts contexts = contexts_create(2);
    for (u64 seed = 1; seed <= 120; seed++)
        compare(contexts.at[seed % (u64)contexts.n], contexts.at[0], seed);
    contexts_destroy(&contexts);
}

static void an_error_stops_the_call_and_comes_back(void **state)
{
    (void)state;
    struct contexts contexts = contexts_create(2);
    static const struct {
        folio_status answer, status;
        const char *text;
    } cases[] = {
        { FOLIO_EIO, FOLIO_EIO, "score_mod: the callback returned -12 (EIO) at sequence " },
        { FOLIO_ENOMEM, FOLIO_ENOMEM, "the callback returned -2 (ENOMEM)" },
        { (folio_status)77, FOLIO_EINVAL, "the callback returned 77 (unknown)" },
        { (folio_status)-99, FOLIO_EINVAL, "the callback returned -99 (unknown)" },
    };
    for (i32 i = 0; i < contexts.n; i++)
        for (size_t c = 0; c < COUNT_OF(cases); c++) {
            struct calls calls = { .answer = cases[c].answer, .answer_at = 1 };
            folio_mod *mod = from_callback(FOLIO_MOD_SCORE, &calls, 0);
            struct random_problem p;
            u64 seed = 40 + c;
            small_problem(&p, seed);
            while (n_scores(&p) == 0) { /* nothing to call back for */
                problem_free(&p);
                small_problem(&p, ++seed);
            }
            p.args.score_mod = mod;
            assert_int_equal(folio_attend(contexts.at[i], NULL, &p.args, NULL), cases[c].status);
            assert_non_null(strstr(folio_last_error(), cases[c].text));
            assert_in_range(calls.n_calls, 1, 2); /* two threads may be inside when one fails */
            calls.answer_at = 0;
            assert_int_equal(folio_attend(contexts.at[i], NULL, &p.args, NULL), FOLIO_OK); /* the next is unharmed */
            folio_mod_destroy(&mod);
            problem_free(&p);
        }
    contexts_destroy(&contexts);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(callbacks_answer_as_texts_do),
        cmocka_unit_test(an_error_stops_the_call_and_comes_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
