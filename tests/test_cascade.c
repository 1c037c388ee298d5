/* SPDX-License-Identifier: Apache-2.0
 * test_cascade.c: FOLIO_CASCADE changes what is computed how often, never what comes out. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "support/open_context.h"
#include "support/problem.h"

static const folio_isa levels[] = { FOLIO_ISA_C, FOLIO_ISA_AVX2, FOLIO_ISA_AVX512 };
enum { N_LEVELS = sizeof levels / sizeof *levels };

/* The first n ids of row 0 are row seq's too, in every table there is. */
static void share_pages(struct random_problem *p, i64 seq, i64 n)
{
    const bool has_v = p->c.v_table;
    for (i64 column = 0; column < n; column++) {
        if (p->c.csr) {
            const i64 from = (i64)tensor_get(&p->t[T_KV_INDPTR], &(i64){ 0 }) + column;
            const i64 to = (i64)tensor_get(&p->t[T_KV_INDPTR], &seq) + column;
            tensor_set_index(&p->t[T_KV_INDICES], &to, (i64)tensor_get(&p->t[T_KV_INDICES], &from));
        } else {
            const i64 id = (i64)tensor_get(&p->t[T_TABLE], (i64[]){ 0, column });
            tensor_set_index(&p->t[T_TABLE], (i64[]){ seq, column }, id);
        }
        if (has_v) {
            const i64 id = (i64)tensor_get(&p->t[T_V_TABLE], (i64[]){ 0, column });
            tensor_set_index(&p->t[T_V_TABLE], (i64[]){ seq, column }, id);
        }
    }
}

/* Few query rows over keys long enough to share; some sequences begin as the first does, some only a little, some not
 * at all, some are prompts. */
static void make(struct random_problem *p, u64 seed, bool is_bf16)
{
    const struct problem_limits limits = { .max_work = 4e5, .max_head_dim = 64 };
    struct rng rng = { seed * 77 };
    struct problem_choice c;
    problem_choose(&c, seed, &limits);
    c.batch = (i32)rng_range(&rng, 2, MAX_BATCH);
    c.n_kv_heads = (i32)rng_range(&rng, 1, 2);
    c.group = (i32)rng_range(&rng, 1, 4);
    c.share_pages = false;
    if (is_bf16) {
        c.q_dtype = c.kv_dtype = DTYPE_BF16;
        c.amplitude = 1;
    }
    c.mask_everything = false;
    if (rng_one_in(&rng, 2))
        c.flags &= ~(u32)FOLIO_WINDOW_IS_SET; /* most windows leave nothing to share */
    if (c.causal == FOLIO_CAUSAL_TOP_LEFT)
        c.causal = FOLIO_CAUSAL_BOTTOM_RIGHT;
    if (c.align == FOLIO_ALIGN_TOP_LEFT)
        c.align = FOLIO_ALIGN_AUTO;
    for (i32 b = 0; b < c.batch; b++) {
        c.q_lens[b] = c.decode || rng_one_in(&rng, 2) ? 1 : rng_range(&rng, 0, rng_one_in(&rng, 4) ? 40 : 4);
        c.kv_lens[b] = rng_one_in(&rng, 6) ? rng_range(&rng, 0, 300) : rng_range(&rng, 257, 900);
    }
    problem_build(p, &c);
    for (i32 b = 1; b < c.batch; b++) {
        const i64 most = min_i64(c.kv_lens[0], c.kv_lens[b]) / c.page_size;
        if (!rng_one_in(&rng, 4))
            share_pages(p, b, rng_one_in(&rng, 2) ? most : rng_range(&rng, 0, most));
    }
    p->args.flags |= FOLIO_CASCADE;
}

/* The groups that explain tells of. */
static i32 count_groups(struct random_problem *p, folio_context *ctx)
{
    static char text[1 << 16];
    assert_int_equal(folio_explain(ctx, &p->args, text, sizeof text), FOLIO_OK);
    i32 n = 0;
    for (const char *at = text; (at = strstr(at, "cascade: the first ")); at++)
        n++;
    return n;
}

static void results_are_those_without(void **state)
{
    (void)state;
    folio_context *ref = open_context(FOLIO_BACKEND_REF, FOLIO_ISA_AUTO, 2), *ctx[N_LEVELS];
    for (i32 i = 0; i < N_LEVELS; i++)
        ctx[i] = folio_isa_available(levels[i]) ? open_context(FOLIO_BACKEND_CPU, levels[i], 1 + i) : NULL;
    i32 n_shared = 0, n_plain = 0;
    for (u64 seed = 1; seed <= 100; seed++) {
        struct random_problem p;
        make(&p, seed, false);
        const bool shares = count_groups(&p, ctx[0]) > 0;
        n_shared += shares;
        n_plain += !shares;
        assert_true(problem_agrees(&p, ctx[0], ref, 2e-6));
        problem_reset_outputs(&p);
        assert_true(problem_run(&p, ctx[0], NULL));
        const u64 bits = problem_hash_outputs(&p);
        for (i32 i = 1; i < N_LEVELS; i++) { /* other levels, other numbers of threads: the same bits */
            if (!ctx[i])
                continue;
            problem_reset_outputs(&p);
            assert_true(problem_run(&p, ctx[i], NULL));
            if (problem_hash_outputs(&p) != bits)
                fail_msg("seed %llu: level %d gives other bits", (unsigned long long)seed, (int)levels[i]);
        }
        if (!shares) { /* nothing to share: the flag changes nothing */
            p.args.flags &= ~(u32)FOLIO_CASCADE;
            problem_reset_outputs(&p);
            assert_true(problem_run(&p, ctx[0], NULL));
            assert_int_equal(problem_hash_outputs(&p), bits);
        }
        problem_free(&p);
    }
    print_message("%d problems shared pages, %d did not\n", (int)n_shared, (int)n_plain);
    assert_true(n_shared >= 40 && n_plain >= 20);
    for (i32 i = 0; i < N_LEVELS; i++)
        folio_context_destroy(&ctx[i]);
    folio_context_destroy(&ref);
}

/* Levels that round weights to bf16: a row that took another's place would be far off. */
static void levels_that_round_weights_share_too(void **state)
{
    (void)state;
    static const folio_isa rounding[] = { FOLIO_ISA_AVX512_BF16, FOLIO_ISA_AMX_EMULATED };
    folio_context *ref = open_context(FOLIO_BACKEND_REF, FOLIO_ISA_AUTO, 2);
    for (i32 i = 0; i < 2; i++) {
        if (!folio_isa_available(rounding[i])) {
            print_message("skipped: level %d is not there\n", (int)rounding[i]);
            continue;
        }
        folio_context *ctx = open_context(FOLIO_BACKEND_CPU, rounding[i], 2);
        for (u64 seed = 1; seed <= 40; seed++) {
            struct random_problem p;
            make(&p, seed, true);
            assert_true(problem_agrees(&p, ctx, ref, 4e-3));
            problem_free(&p);
        }
        folio_context_destroy(&ctx);
    }
    folio_context_destroy(&ref);
}

/* Six sequences of 40 pages of 16: 0, 2, 3 and 5 begin alike for 32, 1 and 4 for 20 pages. */
static void make_two_groups(struct random_problem *p)
{
    struct problem_choice c = { .seed = 3,
                                .batch = 6,
                                .page_size = 16,
                                .n_kv_heads = 2,
                                .group = 4,
                                .head_dim_qk = 64,
                                .head_dim_v = 64,
                                .q_dtype = DTYPE_F32,
                                .kv_dtype = DTYPE_F32,
                                .decode = true,
                                .lse = true,
                                .amplitude = 1 };
    for (i32 b = 0; b < c.batch; b++) {
        c.q_lens[b] = 1;
        c.kv_lens[b] = 640;
    }
    problem_build(p, &c);
    share_pages(p, 2, 40);
    share_pages(p, 3, 32);
    share_pages(p, 5, 36);
    for (i64 column = 0; column < 20; column++)
        tensor_set_index(&p->t[T_TABLE], (i64[]){ 4, column }, (i64)tensor_get(&p->t[T_TABLE], (i64[]){ 1, column }));
    p->args.flags |= FOLIO_CASCADE;
}

static void explain_says_what_is_shared(void **state)
{
    (void)state;
    folio_context *ctx = open_context(FOLIO_BACKEND_CPU, FOLIO_ISA_AUTO, 2);
    struct random_problem p;
    make_two_groups(&p);
    char text[1 << 14];
    assert_int_equal(folio_explain(ctx, &p.args, text, sizeof text), FOLIO_OK);
    assert_non_null(strstr(text, "cascade: the first 512 keys once for 4 sequences: 0 2 3 5\n"));
    assert_non_null(strstr(text, "cascade: the first 320 keys once for 2 sequences: 1 4\n"));
    p.args.flags &= ~(u32)FOLIO_CASCADE;
    assert_int_equal(folio_explain(ctx, &p.args, text, sizeof text), FOLIO_OK);
    assert_null(strstr(text, "cascade"));
    problem_free(&p);
    folio_context_destroy(&ctx);
}

/* The table belongs to the plan: another one needs an update; what no group was made from may change. */
static void a_changed_table_needs_an_update(void **state)
{
    (void)state;
    folio_context *ctx = open_context(FOLIO_BACKEND_CPU, FOLIO_ISA_AUTO, 2);
    struct random_problem p;
    make_two_groups(&p);
    folio_plan *plan = NULL;
    assert_int_equal(folio_plan_create(&plan, ctx, &p.args), FOLIO_OK);
    assert_int_equal(folio_plan_update(plan, &p.args, NULL), FOLIO_OK);
    assert_true(problem_run(&p, ctx, plan));
    const i64 in_group[] = { 3, 31 }, behind[] = { 3, 33 };
    const i64 old = (i64)tensor_get(&p.t[T_TABLE], in_group);
    tensor_set_index(&p.t[T_TABLE], in_group, (i64)tensor_get(&p.t[T_TABLE], behind));
    problem_reset_outputs(&p);
    const u64 before = problem_hash_outputs(&p);
    assert_int_equal(folio_attend(ctx, plan, &p.args, NULL), FOLIO_EINVAL);
    assert_non_null(strstr(folio_last_error(), "page_table: not what it was at the plan's update"));
    assert_int_equal(problem_hash_outputs(&p), before);
    assert_int_equal(folio_plan_update(plan, &p.args, NULL), FOLIO_OK);
    assert_true(problem_run(&p, ctx, plan));
    tensor_set_index(&p.t[T_TABLE], in_group, old);
    assert_int_equal(folio_plan_update(plan, &p.args, NULL), FOLIO_OK);
    tensor_set_index(&p.t[T_TABLE], behind, old);
    assert_true(problem_run(&p, ctx, plan));
    folio_plan_destroy(&plan);
    problem_free(&p);
    folio_context_destroy(&ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(results_are_those_without),
        cmocka_unit_test(levels_that_round_weights_share_too),
        cmocka_unit_test(explain_says_what_is_shared),
        cmocka_unit_test(a_changed_table_needs_an_update),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
