/* SPDX-License-Identifier: Apache-2.0
 * test_bad_input.c: every mistake gets its class and a message that names it, changes no byte, and the next call works.
 * Beside them, what looks like a mistake and is none. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "support/bad_problem.h"
#include "support/contexts.h"

enum { N_PROBLEMS = 3, N_SEEDS = 400 };

static const struct problem_limits small = { .max_work = 1e5, .max_kv_len = 100, .max_head_dim = 64 };

static bool is_named(const struct mistake *m, const char *message)
{
    for (size_t i = 0; i < COUNT_OF(m->words) && m->words[i]; i++)
        if (!strstr(message, m->words[i]))
            return false;
    return true;
}

static void check_refusal(const struct mistake *m, const struct bad_problem *b, const char *call, folio_status status)
{
    if (status == m->status && folio_last_error_kind() == m->kind && is_named(m, folio_last_error()))
        return;
    print_error("%s, %s: got %s kind %d \"%s\", wanted %s kind %d with \"%s\" \"%s\" \"%s\"\n", m->name, call,
                folio_status_name(status), (int)folio_last_error_kind(), folio_last_error(),
                folio_status_name(m->status), (int)m->kind, m->words[0], m->words[1] ? m->words[1] : "",
                m->words[2] ? m->words[2] : "");
    problem_print(&b->p);
    fail();
}

/* The first of create, update and attend that refuses. */
static folio_status attend_with_plan(folio_context *ctx, const folio_attend_args *args)
{
    folio_plan *plan = NULL;
    folio_status status = folio_plan_create(&plan, ctx, args);
    if (status == FOLIO_OK)
        status = folio_plan_update(plan, args, NULL);
    if (status == FOLIO_OK)
        status = folio_attend(ctx, plan, args, NULL);
    folio_plan_destroy(&plan);
    return status;
}

/* explain says what plan_create would, in words. */
static void check_explain(const struct mistake *m, const struct bad_problem *b, folio_context *ctx)
{
    char text[4096];
    folio_plan *plan = NULL;
    const folio_status created = folio_plan_create(&plan, ctx, &b->p.args);
    folio_plan_destroy(&plan);
    assert_int_equal(folio_explain(ctx, &b->p.args, text, sizeof text), created);
    if (created != FOLIO_OK && !is_named(m, text)) {
        print_error("%s: explain says \"%s\"\n", m->name, text);
        fail();
    }
}

static bool try_mistake(const struct mistake *m, folio_context *ctx, u64 seed)
{
    static struct bad_problem b;
    memset(&b, 0, sizeof b);
    problem_make(&b.p, seed, &small);
    problem_reset_outputs(&b.p);
    const bool made = m->make(&b);
    if (made) {
        const u64 inputs = problem_hash_inputs(&b.p), outputs = problem_hash_outputs(&b.p);
        check_refusal(m, &b, "attend", folio_attend(ctx, NULL, &b.p.args, NULL));
        check_refusal(m, &b, "attend with a plan", attend_with_plan(ctx, &b.p.args));
        check_explain(m, &b, ctx);
        assert_int_equal(problem_hash_inputs(&b.p), inputs);
        assert_int_equal(problem_hash_outputs(&b.p), outputs);
    }
    problem_free(&b.p);
    return made;
}

static void every_mistake_is_named_and_changes_nothing(void **state)
{
    (void)state;
    struct contexts contexts = contexts_create(2);
    for (i32 i = 0; i < n_mistakes; i++) {
        i32 n_made = 0;
        for (u64 seed = 1; seed <= N_SEEDS && n_made < N_PROBLEMS; seed++) {
            folio_context *ctx = contexts.at[n_made % contexts.n];
            if (!try_mistake(&mistakes[i], ctx, seed))
                continue;
            n_made++;
            struct random_problem good;
            problem_make(&good, seed, &small);
            assert_true(problem_run(&good, ctx, NULL));
            problem_free(&good);
        }
        if (n_made < N_PROBLEMS)
            print_error("%s: only %d problems have a place for it\n", mistakes[i].name, (int)n_made);
        assert_int_equal(n_made, N_PROBLEMS);
    }
    contexts_destroy(&contexts);
}

/* explain gathers what is independent. */
static void explain_gives_every_reason(void **state)
{
    (void)state;
    folio_context *ctx = NULL;
    assert_int_equal(folio_context_create(&ctx, NULL), FOLIO_OK);
    struct random_problem p;
    problem_make(&p, 3, &small);
    char text[4096];
    p.args.softcap = -3;
    p.args.kv_lens = NULL;
    p.args.out = NULL;
    assert_int_equal(folio_explain(ctx, &p.args, text, sizeof text), FOLIO_EINVAL);
    assert_non_null(strstr(text, "softcap -3"));
    assert_non_null(strstr(text, "kv_lens: NULL"));
    assert_non_null(strstr(text, "out: NULL"));
    char cut[20];
    memset(cut, 'x', sizeof cut);
    assert_int_equal(folio_explain(ctx, &p.args, cut, 10), FOLIO_EINVAL);
    assert_true(strlen(cut) == 9 && memcmp(cut, text, 9) == 0 && cut[10] == 'x');
    assert_int_equal(folio_explain(ctx, &p.args, NULL, 10), FOLIO_EINVAL);
    problem_free(&p);

    problem_make(&p, 3, &small);
    assert_int_equal(folio_explain(ctx, &p.args, text, sizeof text), FOLIO_OK);
    assert_non_null(strstr(text, folio_isa_name(folio_context_isa(ctx))));
    problem_free(&p);
    folio_context_destroy(&ctx);
}

static void handles_are_checked(void **state)
{
    (void)state;
    struct random_problem p;
    folio_plan *plan = NULL;
    size_t bytes;
    problem_make(&p, 5, &small);
    assert_int_equal(folio_attend(NULL, NULL, &p.args, NULL), FOLIO_EINVAL);
    assert_int_equal(folio_plan_create(&plan, NULL, &p.args), FOLIO_EINVAL);
    assert_int_equal(folio_plan_status(NULL), FOLIO_EINVAL);
    assert_int_equal(folio_plan_wait(NULL), FOLIO_EINVAL);
    assert_int_equal(folio_plan_workspace(NULL, &bytes, &bytes), FOLIO_EINVAL);
    folio_plan_destroy(NULL);
    folio_plan_destroy(&plan);
    folio_context *ctx = NULL;
    assert_int_equal(folio_context_create(&ctx, NULL), FOLIO_OK);
    assert_int_equal(folio_attend(ctx, NULL, NULL, NULL), FOLIO_EINVAL);
    assert_int_equal(folio_plan_create(NULL, ctx, &p.args), FOLIO_EINVAL);
    folio_context_destroy(&ctx);
    problem_free(&p);
}

/* ---- no mistakes */

static void all_sequences_empty_needs_no_pages(void **state)
{
    (void)state;
    struct contexts contexts = contexts_create(2);
    for (u64 seed = 1; seed <= 40; seed++)
        for (i32 i = 0; i < contexts.n; i++) {
            struct problem_choice c;
            struct random_problem p;
            problem_choose(&c, seed, &small);
            memset(c.kv_lens, 0, sizeof c.kv_lens);
            problem_build(&p, &c);
            p.args.k_pages = p.args.v_pages = NULL;
            problem_reset_outputs(&p);
            assert_true(problem_run(&p, contexts.at[i], NULL));
            for (i64 token = 0; token < p.n_tokens; token++)
                for (i64 head = 0; head < c.n_kv_heads * c.group; head++) {
                    const double sink = c.sinks ? tensor_get(&p.t[T_SINKS], &head) : -INFINITY;
                    for (i64 d = 0; d < c.head_dim_v; d++)
                        assert_true(tensor_get(&p.t[T_OUT], (i64[]){ token, head, d }) == 0);
                    assert_true(!c.lse || fabs(tensor_get(&p.t[T_LSE], (i64[]){ token, head }) - sink) < 1e-6 ||
                                tensor_get(&p.t[T_LSE], (i64[]){ token, head }) == sink);
                }
            problem_free(&p);
        }
    contexts_destroy(&contexts);
}

/* K and V may be the same memory; every table entry may be the same page; a table may be full to its last slot. */
static void sharing_and_full_tables_are_fine(void **state)
{
    (void)state;
    struct contexts contexts = contexts_create(1);
    struct problem_choice c;
    struct random_problem p;
    problem_choose(&c, 1, &small);
    c.batch = 2;
    c.decode = true;
    c.csr = c.v_table = c.share_pages = false;
    c.layout = NHD;
    c.page_size = 4;
    c.head_dim_v = c.head_dim_qk;
    for (i32 b = 0; b < 2; b++) {
        c.q_lens[b] = 1;
        c.kv_lens[b] = 12;
    }
    problem_build(&p, &c);
    i64 shape[] = { 2, 3 }; /* without the column that does not count: capacity is 12 */
    DLTensor table = p.t[T_TABLE].dl;
    table.shape = shape;
    p.args.page_table = &table;
    p.args.v_pages = p.args.k_pages;
    for (i64 column = 0; column < 3; column++)
        tensor_set_index(&p.t[T_TABLE], (i64[]){ 1, column }, (i64)tensor_get(&p.t[T_TABLE], (i64[]){ 0, 0 }));
    for (i32 i = 0; i < contexts.n; i++)
        assert_true(problem_run(&p, contexts.at[i], NULL));
    problem_free(&p);
    contexts_destroy(&contexts);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_mistake_is_named_and_changes_nothing),
        cmocka_unit_test(explain_gives_every_reason),
        cmocka_unit_test(handles_are_checked),
        cmocka_unit_test(all_sequences_empty_needs_no_pages),
        cmocka_unit_test(sharing_and_full_tables_are_fine),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
