/* SPDX-License-Identifier: Apache-2.0
 * test_determinism.c: the same inputs give the same bits, whatever the threads, batch mates and repetition. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "support/contexts.h"
#include "support/problem.h"

enum { MAX_HOST_THREADS = 3 };

/* A host's own threads: one a call, in an order of its own. */
struct host_call {
    void (*body)(void *arg, int32_t i);
    void *arg;
    int32_t i;
};

static void *host_thread(void *arg)
{
    const struct host_call *call = arg;
    call->body(call->arg, call->i);
    return NULL;
}

static void host_parallel_for(void *user, void (*body)(void *arg, int32_t i), void *arg, int32_t n)
{
    pthread_t threads[MAX_HOST_THREADS];
    struct host_call calls[MAX_HOST_THREADS];
    ++*(int *)user;
    for (int32_t i = 0; i < n; i++) {
        calls[i] = (struct host_call){ body, arg, n - 1 - i };
        if (pthread_create(&threads[i], NULL, host_thread, &calls[i]) != 0)
            abort();
    }
    for (int32_t i = 0; i < n; i++)
        pthread_join(threads[i], NULL);
}

static folio_context *open_context(folio_isa isa, i32 n_threads, folio_parallel_for host, void *user)
{
    const folio_context_config cfg = { .struct_size = sizeof cfg,
                                       .backend = isa == FOLIO_ISA_AUTO ? FOLIO_BACKEND_REF : FOLIO_BACKEND_CPU,
                                       .isa = (i32)isa,
                                       .n_threads = n_threads,
                                       .parallel_for = host,
                                       .parallel_user = user };
    folio_context *ctx = NULL;
    assert_int_equal(folio_context_create(&ctx, &cfg), FOLIO_OK);
    return ctx;
}

/* Large enough to be cut into items: long sequences, or many rows. */
static void choose_large(struct problem_choice *c, u64 seed)
{
    problem_choose(c, seed, &(struct problem_limits){ .max_work = 4e7, .max_kv_len = 3000, .max_head_dim = 128 });
    struct rng rng = { seed };
    if (c->batch > 0 && seed % 12 == 5) { /* several AMX tiles, and smaller ones for more workers */
        c->batch = 1;
        c->decode = c->share_pages = false;
        c->q_dtype = c->kv_dtype = DTYPE_BF16;
        c->group = 16;
        c->n_kv_heads = 1;
        c->head_dim_qk = c->head_dim_v = 32;
        c->q_lens[0] = rng_range(&rng, 33, 70);
        c->kv_lens[0] = c->q_lens[0] + rng_range(&rng, 0, 300);
    } else if (c->batch > 0 && rng_one_in(&rng, 2)) {
        c->group = (i32)rng_range(&rng, 1, 4);
        c->n_kv_heads = 2;
        c->q_lens[0] = 1;
        c->kv_lens[0] = rng_range(&rng, 2000, 5000);
    }
}

static bool same_bits(struct random_problem *p, folio_context *ctx, u64 wanted)
{
    problem_reset_outputs(p);
    if (!problem_run(p, ctx, NULL))
        return false;
    if (problem_hash_outputs(p) == wanted)
        return true;
    problem_print(p);
    return false;
}

static void threads_do_not_matter(folio_isa isa, u64 n_seeds)
{
    int n_host_calls = 0;
    folio_context *one = open_context(isa, 1, NULL, NULL), *two = open_context(isa, 2, NULL, NULL);
    folio_context *three = open_context(isa, 3, NULL, NULL);
    folio_context *host = open_context(isa, MAX_HOST_THREADS, host_parallel_for, &n_host_calls);
    for (u64 seed = 1; seed <= n_seeds; seed++) {
        struct problem_choice c;
        struct random_problem p;
        choose_large(&c, seed);
        problem_build(&p, &c);
        problem_reset_outputs(&p);
        assert_true(problem_run(&p, one, NULL));
        const u64 wanted = problem_hash_outputs(&p);
        assert_true(same_bits(&p, one, wanted));
        assert_true(same_bits(&p, two, wanted));
        assert_true(same_bits(&p, three, wanted));
        assert_true(same_bits(&p, host, wanted));
        problem_free(&p);
    }
    assert_true(n_host_calls > 0); /* else everything ran on one thread */
    folio_context_destroy(&one);
    folio_context_destroy(&two);
    folio_context_destroy(&three);
    folio_context_destroy(&host);
}

static void threads_do_not_matter_to_any_level(void **state)
{
    (void)state;
    for (folio_isa isa = FOLIO_ISA_C; isa <= folio_isa_best(); isa++)
        if (folio_isa_available(isa))
            threads_do_not_matter(isa, isa == FOLIO_ISA_C ? 12 : 40);
    threads_do_not_matter(FOLIO_ISA_AMX_EMULATED, 12);
}

static void threads_do_not_matter_to_the_oracle(void **state)
{
    (void)state;
    threads_do_not_matter(FOLIO_ISA_AUTO, 4);
}

/* A part of a tensor: [begin, begin + n) of dim 0. */
static const DLTensor *part_of(struct test_tensor *part, const DLTensor *src, const struct test_tensor *t, i64 begin,
                               i64 n)
{
    if (!src)
        return NULL;
    *part = *t;
    part->dl.shape = part->shape;
    part->dl.strides = part->strides;
    if (t->shape[0] > 1)
        part->dl.byte_offset += (u64)(begin * t->strides[0] * (t->dl.dtype.bits / 8));
    part->shape[0] = n;
    return &part->dl;
}

/* The same of bias or mask, which may be spread over all tokens. */
static const DLTensor *part_of_spread(struct test_tensor *part, const DLTensor *src, const struct test_tensor *t,
                                      i64 begin, i64 n)
{
    const bool is_spread = src && t->shape[0] == 1;
    return part_of(part, src, t, is_spread ? 0 : begin, is_spread ? 1 : n);
}

/* Attend with sequence b by itself, its results where they belong. */
static folio_status attend_alone(struct random_problem *p, folio_context *ctx, i64 b, i64 token)
{
    struct test_tensor part[8];
    const struct test_tensor *t = p->t;
    const i64 m = p->c.q_lens[b], indptr[] = { 0, m }, shape = 2;
    folio_attend_args a = p->args;
    const DLTensor q_indptr = {
        .data = (void *)indptr, .device = { kDLCPU, 0 }, .ndim = 1, .dtype = dl_type(DTYPE_I64), .shape = (i64 *)&shape
    };
    a.q = part_of(&part[0], a.q, &t[T_Q], token, m);
    a.out = (DLTensor *)part_of(&part[1], a.out, &t[T_OUT], token, m);
    a.lse = (DLTensor *)part_of(&part[2], a.lse, &t[T_LSE], token, m);
    a.bias = part_of_spread(&part[3], a.bias, &t[T_BIAS], token, m);
    a.mask = part_of_spread(&part[4], a.mask, &t[T_MASK], token, m);
    a.page_table = part_of(&part[5], a.page_table, &t[T_TABLE], b, 1);
    a.v_page_table = part_of(&part[6], a.v_page_table, &t[T_V_TABLE], b, 1);
    a.kv_lens = part_of(&part[7], a.kv_lens, &t[T_KV_LENS], b, 1);
    a.q_indptr = a.q_indptr ? &q_indptr : NULL;
    return folio_attend(ctx, NULL, &a, NULL);
}

static void batch_mates_do_not_matter(void **state)
{
    (void)state;
    struct contexts contexts = contexts_create(3);
    for (u64 seed = 1; seed <= 60; seed++) {
        struct problem_choice c;
        struct random_problem p;
        choose_large(&c, seed);
        c.csr = false;
        problem_build(&p, &c);
        folio_context *ctx = contexts.at[seed % (u64)contexts.n];
        problem_reset_outputs(&p);
        assert_true(problem_run(&p, ctx, NULL));
        const u64 wanted = problem_hash_outputs(&p);
        problem_reset_outputs(&p);
        i64 token = 0;
        for (i64 b = 0; b < c.batch; token += c.q_lens[b++])
            assert_int_equal(attend_alone(&p, ctx, b, token), FOLIO_OK);
        if (problem_hash_outputs(&p) != wanted) {
            problem_print(&p);
            fail();
        }
        problem_free(&p);
    }
    contexts_destroy(&contexts);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(threads_do_not_matter_to_any_level),
        cmocka_unit_test(threads_do_not_matter_to_the_oracle),
        cmocka_unit_test(batch_mates_do_not_matter),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
