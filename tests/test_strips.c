/* SPDX-License-Identifier: Apache-2.0
 * test_strips.c: prefill of bf16 whose maxima move: a row's weights are made from what it has seen so far, and must
 * come out as if it had seen all. At every level, against double. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdio.h>

#include "support/open_context.h"
#include "support/problem.h"

enum { KV = 600 };

static double rising(i64 key)
{
    return 0.25 * (double)key;
}

static double falling(i64 key)
{
    return 150.0 - rising(key);
}

/* Just below and just above where a maximum moves, 8 / log2(e) = 5.545. */
static double steps(i64 key)
{
    return (double)(key / 64) * (key / 64 % 2 ? 5.6 : 5.5);
}

/* Rises after which a lane's weights are large together, and at most 2^7 each. */
static double rises(i64 key)
{
    return (double)(key / 64) * (key / 64 % 2 ? 4.2 : 4.1);
}

static double last_of_all(i64 key)
{
    return key == KV - 1 ? 60.0 : (double)(key % 7);
}

/* Logits whose product with log2(e) is beyond 64. */
static double large(i64 key)
{
    return 300.0 + (double)(key % 11);
}

static double low(i64 key)
{
    return -500.0 - (double)(key % 5) + (key > 330 ? 120.0 : 0.0);
}

static double huge(i64 key)
{
    return (key % 97 == 50 ? 1e30 : -1e30) * (1.0 + 0.1 * (double)(key % 3));
}

static double (*const courses[])(i64 key) = { rising, falling, steps, last_of_all, large, low, huge, rises };
enum { N_COURSES = sizeof courses / sizeof *courses };

/* Score of key j and any row: course(j) and a little noise, because q is 1 in its first dim and little else. */
static void set_course(struct random_problem *p, double (*course)(i64))
{
    const struct test_tensor *q = &p->t[T_Q], *k = &p->t[T_K];
    for (i64 token = 0; token < p->n_tokens; token++)
        for (i64 head = 0; head < q->shape[1]; head++)
            for (i64 d = 0; d < q->shape[2]; d++) {
                const i64 at[] = { token, head, d };
                tensor_set(q, at, d == 0 ? 1.0 : 0.02 * tensor_get(q, at));
            }
    for (i64 key = 0; key < p->c.kv_lens[0]; key++)
        for (i64 head = 0; head < k->shape[2]; head++) {
            const i64 page = (i64)tensor_get(&p->t[T_TABLE], (i64[]){ 0, key / p->c.page_size });
            tensor_set(k, (i64[]){ page, key % p->c.page_size, head, 0 }, course(key));
        }
}

static struct problem_choice choice(u64 seed)
{
    static const i32 groups[] = { 4, 1, 3, 8, 5 }, dims[] = { 128, 64, 96, 256, 32 }, dims_v[] = { 128, 64, 160, 96 };
    static const i64 windows[] = { -1, -1, 200, 45 };
    const i64 window = windows[seed / 2 % 4];
    return (struct problem_choice){ .seed = seed,
                                    .batch = 1,
                                    .q_lens = { seed % 3 ? 70 : 33 },
                                    .kv_lens = { seed % 4 == 3 ? KV - 88 : KV },
                                    .page_size = seed % 2 ? 16 : 33,
                                    .spare_pages = 1,
                                    .n_kv_heads = 1,
                                    .group = groups[seed % 5],
                                    .head_dim_qk = dims[seed / 3 % 5],
                                    .head_dim_v = dims_v[seed % 4],
                                    .q_dtype = DTYPE_BF16,
                                    .kv_dtype = DTYPE_BF16,
                                    .layout = seed & 1 ? HND : NHD,
                                    .lse = true,
                                    .amplitude = 1,
                                    .scale = 1.0,
                                    .window_left = window,
                                    .window_right = -1,
                                    .causal = seed % 5 == 4 ? FOLIO_CAUSAL_NONE : FOLIO_CAUSAL_BOTTOM_RIGHT,
                                    .flags = FOLIO_SCALE_IS_SET | (window < 0 ? 0u : FOLIO_WINDOW_IS_SET) };
}

static void maxima_that_move(void **state)
{
    (void)state;
    static const folio_isa levels[] = { FOLIO_ISA_AVX2, FOLIO_ISA_AVX512, FOLIO_ISA_AVX512_BF16, FOLIO_ISA_AMX,
                                        FOLIO_ISA_AMX_EMULATED };
    folio_context *ref = open_context(FOLIO_BACKEND_REF, FOLIO_ISA_AUTO, 2);
    for (size_t level = 0; level < sizeof levels / sizeof *levels; level++) {
        if (!folio_isa_available(levels[level])) {
            print_message("%s: not on this machine\n", folio_isa_name(levels[level]));
            continue;
        }
        folio_context *ctx = open_context(FOLIO_BACKEND_CPU, levels[level], 2);
        for (u64 seed = 0; seed < 3 * N_COURSES; seed++) {
            const struct problem_choice c = choice(seed);
            struct random_problem p;
            problem_build(&p, &c);
            set_course(&p, courses[seed % N_COURSES]);
            p.max_score = 1;                         /* noise apart, scores are exact */
            if (!problem_agrees(&p, ctx, ref, 4e-3)) /* weights are rounded to bf16 at some levels */
                fail_msg("%s, seed %d", folio_isa_name(levels[level]), (int)seed);
            problem_free(&p);
        }
        folio_context_destroy(&ctx);
    }
    folio_context_destroy(&ref);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(maxima_that_move),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
