/* SPDX-License-Identifier: Apache-2.0
 * test_attend_plan.c: attending with a plan: the same bits, no allocation, new pointers, lengths, workspaces. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "support/problem.h"

static folio_context *open_context(i32 n_threads, folio_parallel_for host, void *user)
{
    const folio_context_config cfg = {
        .struct_size = sizeof cfg, .n_threads = n_threads, .parallel_for = host, .parallel_user = user
    };
    folio_context *ctx = NULL;
    assert_int_equal(folio_context_create(&ctx, &cfg), FOLIO_OK);
    return ctx;
}

static folio_plan *make_plan(folio_context *ctx, const folio_attend_args *args)
{
    folio_plan *plan = NULL;
    assert_int_equal(folio_plan_create(&plan, ctx, args), FOLIO_OK);
    assert_int_equal(folio_plan_update(plan, args, NULL), FOLIO_OK);
    return plan;
}

static const struct problem_limits small = { .max_work = 5e5, .max_head_dim = 128 };

/* One long sequence, so that several threads have something to share. */
static void make_long_problem(struct random_problem *p, u64 seed)
{
    struct problem_choice c;
    problem_choose(&c, seed, &small);
    c.batch = 1;
    c.q_lens[0] = 1;
    c.kv_lens[0] = 4000;
    c.n_kv_heads = 2;
    c.group = 2;
    c.causal = c.align = 0;
    c.flags = 0;
    c.bias = c.mask = c.csr = false;
    c.lse = true;
    problem_build(p, &c);
}

static void a_plan_changes_no_bit_and_allocates_nothing(void **state)
{
    (void)state;
    folio_context *ctx = open_context(2, NULL, NULL);
    for (u64 seed = 1; seed <= 150; seed++) {
        struct random_problem p;
        problem_make(&p, seed, &small);
        problem_reset_outputs(&p);
        assert_true(problem_run(&p, ctx, NULL));
        const u64 wanted = problem_hash_outputs(&p);
        folio_plan *plan = make_plan(ctx, &p.args);
        const i64 n_allocations = folio__alloc_count();
        for (i32 layer = 0; layer < 3; layer++) {
            problem_reset_outputs(&p);
            assert_true(problem_run(&p, ctx, plan));
            if (problem_hash_outputs(&p) != wanted)
                problem_print(&p);
            assert_int_equal(problem_hash_outputs(&p), wanted);
            assert_int_equal(folio_plan_update(plan, &p.args, NULL), FOLIO_OK);
        }
        assert_int_equal(folio__alloc_count(), n_allocations);
        folio_plan_destroy(&plan);
        problem_free(&p);
    }
    folio_context_destroy(&ctx);
}

/* Shorter and longer lengths within the shapes of one plan. */
static void an_update_brings_new_lengths(void **state)
{
    (void)state;
    folio_context *ctx = open_context(2, NULL, NULL);
    struct random_problem p;
    make_long_problem(&p, 3);
    folio_plan *plan = make_plan(ctx, &p.args);
    const i64 lens[] = { 4000, 1, 0, 1023, 1024, 1025, 3999, 4000 }, first = 0;
    for (size_t i = 0; i < COUNT_OF(lens); i++) {
        tensor_set_index(&p.t[T_KV_LENS], &first, lens[i]);
        problem_reset_outputs(&p);
        assert_true(problem_run(&p, ctx, NULL));
        const u64 wanted = problem_hash_outputs(&p);
        assert_int_equal(folio_plan_update(plan, &p.args, NULL), FOLIO_OK);
        problem_reset_outputs(&p);
        assert_true(problem_run(&p, ctx, plan));
        assert_int_equal(problem_hash_outputs(&p), wanted);
    }
    folio_plan_destroy(&plan);
    problem_free(&p);
    folio_context_destroy(&ctx);
}

static void a_failing_update_leaves_the_plan_as_it_was(void **state)
{
    (void)state;
    folio_context *ctx = open_context(2, NULL, NULL);
    struct random_problem p;
    make_long_problem(&p, 4);
    folio_plan *plan = make_plan(ctx, &p.args);
    problem_reset_outputs(&p);
    assert_true(problem_run(&p, ctx, plan));
    const u64 wanted = problem_hash_outputs(&p);
    const i64 first = 0;
    tensor_set_index(&p.t[T_KV_LENS], &first, 1 << 20);
    assert_int_equal(folio_plan_update(plan, &p.args, NULL), FOLIO_ERANGE);
    tensor_set_index(&p.t[T_KV_LENS], &first, -1);
    assert_int_equal(folio_plan_update(plan, &p.args, NULL), FOLIO_EINVAL);
    folio_attend_args other = p.args;
    other.causal = FOLIO_CAUSAL_TOP_LEFT;
    assert_int_equal(folio_plan_update(plan, &other, NULL), FOLIO_EINVAL);
    problem_reset_outputs(&p);
    assert_true(problem_run(&p, ctx, plan)); /* lengths of the last good update */
    assert_int_equal(problem_hash_outputs(&p), wanted);
    folio_plan_destroy(&plan);
    problem_free(&p);
    folio_context_destroy(&ctx);
}

/* The next layer: the same shapes elsewhere, out with other strides, another scale. */
static void layers_may_move(void **state)
{
    (void)state;
    folio_context *ctx = open_context(2, NULL, NULL);
    for (u64 seed = 1; seed <= 20; seed++) {
        struct random_problem p, next;
        make_long_problem(&p, seed);
        make_long_problem(&next, seed); /* the same values, its own memory */
        folio_plan *plan = make_plan(ctx, &p.args);
        folio_attend_args *a = &next.args;
        a->flags |= FOLIO_SCALE_IS_SET;
        a->scale = 0.25;
        a->softcap = 3;
        problem_reset_outputs(&next);
        assert_true(problem_run(&next, ctx, NULL));
        const u64 wanted = problem_hash_outputs(&next);
        problem_reset_outputs(&next);
        assert_true(problem_run(&next, ctx, plan));
        assert_int_equal(problem_hash_outputs(&next), wanted);
        a->lse = NULL;
        assert_true(problem_run(&next, ctx, plan));
        folio_plan_destroy(&plan);
        problem_free(&p);
        problem_free(&next);
    }
    folio_context_destroy(&ctx);
}

static void expect(folio_status got, folio_status wanted, const char *word)
{
    if (got != wanted || !strstr(folio_last_error(), word))
        print_error("got %s, wanted %s with \"%s\": %s\n", folio_status_name(got), folio_status_name(wanted), word,
                    folio_last_error());
    assert_int_equal(got, wanted);
    assert_non_null(strstr(folio_last_error(), word));
}

static void what_differs_from_the_plan_is_named(void **state)
{
    (void)state;
    folio_context *ctx = open_context(1, NULL, NULL), *other = open_context(1, NULL, NULL);
    struct random_problem p;
    make_long_problem(&p, 5);
    folio_plan *plan = NULL;
    assert_int_equal(folio_plan_create(&plan, ctx, &p.args), FOLIO_OK);
    expect(folio_attend(ctx, plan, &p.args, NULL), FOLIO_EINVAL, "folio_plan_update");
    assert_int_equal(folio_plan_update(plan, &p.args, NULL), FOLIO_OK);
    expect(folio_attend(other, plan, &p.args, NULL), FOLIO_EHANDLE, "another context");

    folio_attend_args a = p.args;
    a.causal = FOLIO_CAUSAL_TOP_LEFT;
    expect(folio_attend(ctx, plan, &a, NULL), FOLIO_EINVAL, "causal 1; the plan has 0");
    a = p.args;
    a.flags |= FOLIO_WINDOW_IS_SET;
    a.window_left = 17;
    expect(folio_attend(ctx, plan, &a, NULL), FOLIO_EINVAL, "window_left 17; the plan has -1");
    a = p.args;
    struct test_tensor sinks;
    tensor_make(&sinks, DTYPE_F32, 1, &(i64){ 4 }, NULL, 0, false);
    a.sinks = p.args.sinks ? NULL : &sinks.dl;
    expect(folio_attend(ctx, plan, &a, NULL), FOLIO_EINVAL, "sinks");
    a = p.args;
    struct test_tensor k = p.t[T_K];
    k.dl.shape = k.shape;
    k.shape[0]--;
    a.k_pages = &k.dl;
    expect(folio_attend(ctx, plan, &a, NULL), FOLIO_EINVAL, "_pages");
    tensor_free(&sinks);
    folio_plan_destroy(&plan);
    folio_plan_destroy(&plan); /* twice is nothing */
    expect(folio_plan_update(plan, &p.args, NULL), FOLIO_EINVAL, "plan: NULL");
    problem_free(&p);
    folio_context_destroy(&ctx);
    folio_context_destroy(&other);
}

static void workspaces_must_be_large_and_aligned(void **state)
{
    (void)state;
    folio_context *ctx = open_context(2, NULL, NULL);
    struct random_problem p;
    make_long_problem(&p, 6);
    folio_plan *plan = make_plan(ctx, &p.args);
    size_t bytes, align;
    assert_int_equal(folio_plan_workspace(plan, &bytes, &align), FOLIO_OK);
    u8 *memory = aligned_alloc(align, (bytes + 2 * align) / align * align);
    assert_non_null(memory);
    memset(memory, 0xee, bytes); /* nobody clears it for us */
    folio_attend_args a = p.args;
    a.workspace = memory + 1;
    a.workspace_bytes = bytes;
    expect(folio_attend(ctx, plan, &a, NULL), FOLIO_EINVAL, "aligned to 64");
    a.workspace = memory;
    a.workspace_bytes = bytes - 1;
    char need[32];
    snprintf(need, sizeof need, "needs %zu", bytes);
    expect(folio_attend(ctx, plan, &a, NULL), FOLIO_EINVAL, need);

    problem_reset_outputs(&p);
    assert_true(problem_run(&p, ctx, plan));
    const u64 wanted = problem_hash_outputs(&p);
    p.args.workspace = memory;
    p.args.workspace_bytes = bytes;
    problem_reset_outputs(&p);
    assert_true(problem_run(&p, ctx, plan));
    assert_int_equal(problem_hash_outputs(&p), wanted);
    free(memory);
    folio_plan_destroy(&plan);
    problem_free(&p);
    folio_context_destroy(&ctx);
}

/* ---- several attends of one plan at once */

enum { N_ATTENDERS = 4, N_ROUNDS = 10 };

struct attender {
    folio_context *ctx;
    const folio_plan *plan;
    struct random_problem p; /* its own tensors */
    u8 *workspace;
    u64 wanted;
    int n_wrong;
};

static void *attender_main(void *arg)
{
    struct attender *a = arg;
    for (i32 round = 0; round < N_ROUNDS; round++) {
        problem_reset_outputs(&a->p);
        a->n_wrong += folio_attend(a->ctx, a->plan, &a->p.args, NULL) != FOLIO_OK;
        a->n_wrong += problem_hash_outputs(&a->p) != a->wanted;
    }
    return NULL;
}

static void many_attend_at_once_with_workspaces_of_their_own(void **state)
{
    (void)state;
    folio_context *ctx = open_context(2, NULL, NULL);
    static struct attender all[N_ATTENDERS];
    pthread_t threads[N_ATTENDERS];
    folio_plan *plan = NULL;
    size_t bytes, align;
    for (i32 i = 0; i < N_ATTENDERS; i++) {
        struct attender *a = &all[i];
        make_long_problem(&a->p, 8);
        if (!plan)
            plan = make_plan(ctx, &a->p.args);
        assert_int_equal(folio_plan_workspace(plan, &bytes, &align), FOLIO_OK);
        a->ctx = ctx;
        a->plan = plan;
        a->workspace = aligned_alloc(align, (bytes + align) / align * align);
        assert_non_null(a->workspace);
        a->p.args.workspace = a->workspace;
        a->p.args.workspace_bytes = bytes;
        problem_reset_outputs(&a->p);
        assert_true(problem_run(&a->p, ctx, plan));
        a->wanted = problem_hash_outputs(&a->p);
        assert_int_equal(a->wanted, all[0].wanted);
    }
    for (i32 i = 0; i < N_ATTENDERS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, attender_main, &all[i]), 0);
    for (i32 i = 0; i < N_ATTENDERS; i++)
        pthread_join(threads[i], NULL);
    for (i32 i = 0; i < N_ATTENDERS; i++) {
        assert_int_equal(all[i].n_wrong, 0);
        free(all[i].workspace);
        problem_free(&all[i].p);
    }
    folio_plan_destroy(&plan);
    folio_context_destroy(&ctx);
}

/* A host that attends again in the middle of an attend. */
struct nested {
    folio_context *ctx;
    const folio_plan *plan;
    const folio_attend_args *args;
    folio_status inner;
    bool is_inside;
};

static void nested_parallel_for(void *user, void (*body)(void *arg, int32_t i), void *arg, int32_t n)
{
    struct nested *nested = user;
    if (nested->plan && !nested->is_inside) {
        nested->is_inside = true;
        nested->inner = folio_attend(nested->ctx, nested->plan, nested->args, NULL);
        nested->is_inside = false;
    }
    for (int32_t i = 0; i < n; i++)
        body(arg, i);
}

static void the_plans_own_workspace_serves_one_at_a_time(void **state)
{
    (void)state;
    struct nested nested = { 0 };
    folio_context *ctx = open_context(2, nested_parallel_for, &nested);
    struct random_problem p;
    make_long_problem(&p, 9);
    folio_plan *plan = make_plan(ctx, &p.args);
    problem_reset_outputs(&p);
    assert_true(problem_run(&p, ctx, plan));
    const u64 wanted = problem_hash_outputs(&p);
    nested.ctx = ctx;
    nested.plan = plan;
    nested.args = &p.args;
    problem_reset_outputs(&p);
    assert_true(problem_run(&p, ctx, plan));
    assert_int_equal(nested.inner, FOLIO_EBUSY);
    assert_int_equal(problem_hash_outputs(&p), wanted);
    nested.plan = NULL;
    assert_true(problem_run(&p, ctx, plan)); /* and is free again */
    folio_plan_destroy(&plan);
    problem_free(&p);
    folio_context_destroy(&ctx);
}

/* Every allocation of a call fails once: ENOMEM, outputs untouched; a sanitizer sees what is left behind. */
static void each_failed_allocation_is_enomem(void **state)
{
    (void)state;
    folio_context *ctx = open_context(2, NULL, NULL);
    struct random_problem p;
    make_long_problem(&p, 10);
    problem_reset_outputs(&p);
    assert_true(problem_run(&p, ctx, NULL)); /* threads are there now */
    problem_reset_outputs(&p);
    const u64 untouched = problem_hash_outputs(&p);
    const i64 before = folio__alloc_count();
    folio_plan *plan = make_plan(ctx, &p.args);
    const i64 n = folio__alloc_count() - before;
    folio_plan_destroy(&plan);
    assert_true(n > 3);
    for (i64 fail_at = 1; fail_at <= n; fail_at++) {
        folio__alloc_fail_at(fail_at);
        assert_int_equal(folio_plan_create(&plan, ctx, &p.args), FOLIO_ENOMEM);
        assert_null(plan);
        folio_context *fresh = open_context(2, NULL, NULL); /* has no workspace of a call before */
        folio__alloc_fail_at(fail_at);
        assert_int_equal(folio_attend(fresh, NULL, &p.args, NULL), FOLIO_ENOMEM);
        folio_context_destroy(&fresh);
        assert_int_equal(problem_hash_outputs(&p), untouched);
    }
    folio__alloc_fail_at(0);
    assert_true(problem_run(&p, ctx, NULL));
    problem_free(&p);
    folio_context_destroy(&ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_plan_changes_no_bit_and_allocates_nothing),
        cmocka_unit_test(an_update_brings_new_lengths),
        cmocka_unit_test(a_failing_update_leaves_the_plan_as_it_was),
        cmocka_unit_test(layers_may_move),
        cmocka_unit_test(what_differs_from_the_plan_is_named),
        cmocka_unit_test(workspaces_must_be_large_and_aligned),
        cmocka_unit_test(many_attend_at_once_with_workspaces_of_their_own),
        cmocka_unit_test(the_plans_own_workspace_serves_one_at_a_time),
        cmocka_unit_test(each_failed_allocation_is_enomem),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
