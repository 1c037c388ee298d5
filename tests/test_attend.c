/* SPDX-License-Identifier: Apache-2.0
 * test_attend.c: the oracle against attention written twice: by hand for tiny cases, and as dense double loops over
 * gathered K and V that share no code with it; then the CPU kernels against the oracle. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "support/open_context.h"
#include "support/problem.h"
#include "support/slow.h"

static const folio_isa LEVEL = FOLIO_ISA_AVX512; /* above it, bf16 weights are rounded: test_kernels.c */

/* ---- attention a second time, straight from the definition */

/* A page id from the padded or the CSR table. */
static i64 page_of(const struct random_problem *p, bool of_v, i64 seq, i64 column)
{
    if (of_v && p->c.v_table)
        return (i64)tensor_get(&p->t[T_V_TABLE], (i64[]){ seq, column });
    if (!p->c.csr)
        return (i64)tensor_get(&p->t[T_TABLE], (i64[]){ seq, column });
    const i64 at = (i64)tensor_get(&p->t[T_KV_INDPTR], &seq) + column;
    return (i64)tensor_get(&p->t[T_KV_INDICES], &at);
}

/* bias or mask, spread. */
static double spread(const struct test_tensor *t, i64 token, i64 head, i64 key)
{
    return tensor_get(t, (i64[]){ t->shape[0] == 1 ? 0 : token, t->shape[1] == 1 ? 0 : head, key });
}

static double dense_score(const struct random_problem *p, i64 token, i64 i, i64 m, i64 n, i64 head, i64 j,
                          const double *q, const double *k)
{
    const struct problem_choice *c = &p->c;
    const bool top_left = c->align == FOLIO_ALIGN_TOP_LEFT || (!c->align && c->causal == FOLIO_CAUSAL_TOP_LEFT);
    const i64 at = top_left ? i : i + n - m;
    if ((c->causal == FOLIO_CAUSAL_TOP_LEFT && j > i) || (c->causal == FOLIO_CAUSAL_BOTTOM_RIGHT && j > i + n - m))
        return -INFINITY;
    if (c->flags & FOLIO_WINDOW_IS_SET) {
        if (c->window_left >= 0 && (double)j < (double)at - (double)c->window_left)
            return -INFINITY;
        if (c->window_right >= 0 && (double)j > (double)at + (double)c->window_right)
            return -INFINITY;
    }
    if (c->mask && spread(&p->t[T_MASK], token, head, j) == 0)
        return -INFINITY;
    double s = 0;
    for (i64 d = 0; d < c->head_dim_qk; d++)
        s += q[d] * k[d];
    s *= c->flags & FOLIO_SCALE_IS_SET ? c->scale : 1 / sqrt((double)c->head_dim_qk);
    s = c->softcap > 0 ? c->softcap * tanh(s / c->softcap) : s;
    s += c->alibi ? tensor_get(&p->t[T_ALIBI], &head) * (double)(j - at) : 0;
    return s + (c->bias ? spread(&p->t[T_BIAS], token, head, j) : 0);
}

/* One query vector over contiguous k [n][d_qk] and v [n][d_v]: out [d_v], gives lse. Two passes, all scores kept. */
static double dense_row(const struct random_problem *p, i64 token, i64 i, i64 m, i64 n, i64 head, const double *k,
                        const double *v, double *out)
{
    const i64 d_v = p->c.head_dim_v;
    const double sink = p->c.sinks ? tensor_get(&p->t[T_SINKS], &head) : -INFINITY;
    double *s = calloc((size_t)n + 1, sizeof *s), top = sink, sum = 0, q[1024];
    assert_non_null(s);
    for (i64 d = 0; d < p->c.head_dim_qk; d++)
        q[d] = tensor_get(&p->t[T_Q], (i64[]){ token, head, d });
    memset(out, 0, (size_t)d_v * sizeof *out);
    for (i64 j = 0; j < n; j++) {
        s[j] = dense_score(p, token, i, m, n, head, j, q, k + j * p->c.head_dim_qk);
        top = fmax(top, s[j]);
    }
    for (i64 j = 0; j < n && top > -INFINITY; j++)
        sum += exp(s[j] - top);
    sum += top > -INFINITY ? exp(sink - top) : 0;
    for (i64 j = 0; j < n && top > -INFINITY; j++)
        for (i64 d = 0; d < d_v && s[j] > -INFINITY; d++)
            out[d] += exp(s[j] - top) / sum * v[j * d_v + d];
    free(s);
    return top > -INFINITY ? top + log(sum) : -INFINITY;
}

static double *gather(const struct random_problem *p, const struct test_tensor *t, bool of_v, i64 seq, i64 head, i64 n)
{
    const i64 d = t->shape[3], page = p->c.page_size;
    double *dense = calloc((size_t)(n * d) + 1, sizeof *dense);
    assert_non_null(dense);
    for (i64 j = 0; j < n; j++)
        for (i64 c = 0; c < d; c++)
            dense[j * d + c] = tensor_get(t, (i64[]){ page_of(p, of_v, seq, j / page), j % page, head, c });
    return dense;
}

/* Results of an attend, as wide as they come, against dense rows. */
static void check_head(const struct random_problem *p, i64 seq, i64 first_token, i64 kv_head)
{
    const i64 n = p->c.kv_lens[seq], m = p->c.q_lens[seq], d_v = p->c.head_dim_v;
    double *k = gather(p, &p->t[T_K], false, seq, kv_head, n), *v = gather(p, &p->t[T_V], true, seq, kv_head, n),
           out[1024];
    for (i64 i = 0; i < m; i++)
        for (i64 head = kv_head * p->c.group; head < (kv_head + 1) * p->c.group; head++) {
            const double lse = dense_row(p, first_token + i, i, m, n, head, k, v, out);
            double worst = 0, worst_lse = 0;
            for (i64 d = 0; d < d_v; d++) {
                float rounded;
                u16 half;
                void *to = p->c.q_dtype == DTYPE_F32 ? (void *)&rounded : (void *)&half;
                folio__store_double(p->c.q_dtype, to, out[d]);
                const double step = fabs(out[d]) * (p->c.q_dtype == DTYPE_F32   ? 0x1p-23
                                                    : p->c.q_dtype == DTYPE_F16 ? 0x1p-10
                                                                                : 0x1p-7);
                const double wanted = (double)folio__load_float(p->c.q_dtype, to);
                const double got = tensor_get(&p->t[T_OUT], (i64[]){ first_token + i, head, d });
                if (!(fabs(got - wanted) <= step + 1e-7))
                    worst = fmax(worst, isnan(got) ? INFINITY : fabs(got - wanted));
            }
            if (p->c.lse) {
                const double got = tensor_get(&p->t[T_LSE], (i64[]){ first_token + i, head });
                if (got != lse && !(fabs(got - lse) <= 1e-6 * fmax(1, fabs(lse))))
                    worst_lse = isnan(got) ? INFINITY : fabs(got - lse);
            }
            if (worst > 0 || worst_lse > 0) {
                fprintf(stderr, "row %lld of sequence %lld, head %lld: out off by %g, lse by %g: ", (long long)i,
                        (long long)seq, (long long)head, worst, worst_lse);
                problem_print(p);
                fail();
            }
        }
    free(k);
    free(v);
}

static void the_oracle_agrees_with_dense_attention(void **state)
{
    (void)state;
    folio_context *ref = open_context(FOLIO_BACKEND_REF, LEVEL, 2);
    const struct problem_limits small = { .max_work = 2e5, .max_kv_len = 200, .max_head_dim = 128 };
    for (u64 seed = 1; seed <= (BUILD_IS_SLOW ? 100 : 400); seed++) { /* the next test runs it too */
        struct random_problem p;
        problem_make(&p, seed, &small);
        problem_reset_outputs(&p);
        assert_true(problem_run(&p, ref, NULL));
        i64 token = 0;
        for (i32 seq = 0; seq < p.c.batch; token += p.c.q_lens[seq++])
            for (i64 head = 0; head < p.c.n_kv_heads; head++)
                check_head(&p, seq, token, head);
        problem_free(&p);
    }
    folio_context_destroy(&ref);
}

static void cpu_kernels_agree_with_the_oracle(void **state)
{
    (void)state;
    folio_context *ref = open_context(FOLIO_BACKEND_REF, LEVEL, 2), *cpu = open_context(FOLIO_BACKEND_CPU, LEVEL, 2);
    for (u64 seed = 1; seed <= 300; seed++) {
        struct random_problem p;
        problem_make(&p, seed, NULL);
        assert_true(problem_agrees(&p, cpu, ref, 2e-6));
        problem_free(&p);
    }
    folio_context_destroy(&ref);
    folio_context_destroy(&cpu);
}

/* What a call without a plan finds in the workspace that the call before has left changes no bit; and it is not
 * allocated again. */
static void calls_without_a_plan_hand_their_workspace_on(void **state)
{
    (void)state;
    folio_context *used = open_context(FOLIO_BACKEND_CPU, LEVEL, 2);
    for (u64 seed = 1000; seed < 1040; seed++) {
        folio_context *fresh = open_context(FOLIO_BACKEND_CPU, LEVEL, 2);
        struct random_problem p;
        problem_make(&p, seed, NULL);
        problem_reset_outputs(&p);
        i64 before = folio__alloc_count();
        assert_true(problem_run(&p, fresh, NULL));
        const i64 n_first = folio__alloc_count() - before;
        const u64 wanted = problem_hash_outputs(&p);
        problem_reset_outputs(&p);
        before = folio__alloc_count();
        assert_true(problem_run(&p, fresh, NULL));
        assert_int_equal(folio__alloc_count() - before, n_first - 1);
        assert_int_equal(problem_hash_outputs(&p), wanted);
        problem_reset_outputs(&p);
        assert_true(problem_run(&p, used, NULL));
        if (problem_hash_outputs(&p) != wanted) {
            fprintf(stderr, "other bits behind another call: ");
            problem_print(&p);
            fail();
        }
        problem_free(&p);
        folio_context_destroy(&fresh);
    }
    folio_context_destroy(&used);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_oracle_agrees_with_dense_attention),
        cmocka_unit_test(cpu_kernels_agree_with_the_oracle),
        cmocka_unit_test(calls_without_a_plan_hand_their_workspace_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
