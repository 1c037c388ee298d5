/* SPDX-License-Identifier: Apache-2.0
 * test_merge.c: partial results over disjoint keys are one result again: against sums in double, and against attention
 * over all keys at once. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "support/contexts.h"
#include "support/problem.h"

enum { MAX_PARTS = 9 };

struct merge_problem {
    u64 seed;
    i64 n_parts, n_tokens, n_heads, dim;
    enum dtype dtype;
    struct test_tensor outs, lses, out, lse;
    folio_merge_args args;
};

static void make(struct merge_problem *m, u64 seed)
{
    static const enum dtype dtypes[] = { DTYPE_F32, DTYPE_F16, DTYPE_BF16 };
    struct rng rng = { seed };
    *m = (struct merge_problem){ .seed = seed,
                                 .n_parts = rng_range(&rng, 1, MAX_PARTS),
                                 .n_tokens = rng_range(&rng, 0, 20),
                                 .n_heads = rng_range(&rng, 1, 9),
                                 .dim = rng_range(&rng, 1, 130),
                                 .dtype = RNG_PICK(&rng, dtypes) };
    const i64 outs_shape[] = { m->n_parts, m->n_tokens, m->n_heads, m->dim };
    const i64 lses_shape[] = { m->n_parts, m->n_tokens, m->n_heads };
    const i64 head = m->dim + 3, token = head * m->n_heads + 1, part = token * m->n_tokens + 7;
    const i64 outs_strides[] = { part, token, head, 1 }, lses_strides[] = { 1, m->n_parts, m->n_parts * m->n_tokens };
    const bool gaps = rng_one_in(&rng, 2);
    tensor_make(&m->outs, m->dtype, 4, outs_shape, gaps ? outs_strides : NULL, 0, false);
    tensor_make(&m->lses, DTYPE_F32, 3, lses_shape, gaps ? lses_strides : NULL, 0, false);
    tensor_make(&m->out, m->dtype, 3, outs_shape + 1, gaps ? outs_strides + 1 : NULL, 0, true);
    tensor_make(&m->lse, DTYPE_F32, 2, lses_shape + 1, gaps ? (i64[]){ 1, m->n_tokens + 2 } : NULL, 0, true);
    for (i64 i = 0; i < m->n_parts; i++)
        for (i64 t = 0; t < m->n_tokens; t++)
            for (i64 h = 0; h < m->n_heads; h++) {
                const bool empty = rng_one_in(&rng, 3); /* its values may be anything: they stay NaN */
                tensor_set(&m->lses, (i64[]){ i, t, h }, empty ? -INFINITY : 20 * rng_normal(&rng));
                for (i64 d = 0; d < m->dim && !empty; d++)
                    tensor_set(&m->outs, (i64[]){ i, t, h, d }, rng_normal(&rng));
            }
    m->args = (folio_merge_args){
        .struct_size = sizeof m->args, .outs = &m->outs.dl, .lses = &m->lses.dl, .out = &m->out.dl, .lse = &m->lse.dl
    };
}

static void destroy(struct merge_problem *m)
{
    tensor_free(&m->outs);
    tensor_free(&m->lses);
    tensor_free(&m->out);
    tensor_free(&m->lse);
}

static bool is_close(double x, double wanted, double tolerance)
{
    return x == wanted || fabs(x - wanted) <= tolerance;
}

static void check_vector(const struct merge_problem *m, i64 t, i64 h)
{
    double top = -INFINITY, sum = 0;
    for (i64 i = 0; i < m->n_parts; i++)
        top = fmax(top, tensor_get(&m->lses, (i64[]){ i, t, h }));
    for (i64 i = 0; i < m->n_parts && top > -INFINITY; i++)
        sum += exp(tensor_get(&m->lses, (i64[]){ i, t, h }) - top);
    const double lse = top > -INFINITY ? top + log(sum) : -INFINITY, got = tensor_get(&m->lse, (i64[]){ t, h });
    bool good = is_close(got, lse, 1e-6 * fmax(1, fabs(lse)));
    for (i64 d = 0; d < m->dim; d++) {
        double wanted = 0;
        for (i64 i = 0; i < m->n_parts; i++) {
            const double part = tensor_get(&m->lses, (i64[]){ i, t, h });
            if (part > -INFINITY)
                wanted += exp(part - lse) * tensor_get(&m->outs, (i64[]){ i, t, h, d });
        }
        const double ulp = m->dtype == DTYPE_F32 ? 0x1p-23 : m->dtype == DTYPE_F16 ? 0x1p-10 : 0x1p-7;
        good &= is_close(tensor_get(&m->out, (i64[]){ t, h, d }), wanted, ulp * fabs(wanted) + 4e-6);
    }
    if (!good)
        print_error("seed %llu: token %lld, head %lld; lse %.9g, wanted %.9g\n", (unsigned long long)m->seed,
                    (long long)t, (long long)h, got, lse);
    assert_true(good);
}

static void parts_weigh_by_their_lse(void **state)
{
    (void)state;
    struct contexts contexts = contexts_create(2);
    for (u64 seed = 1; seed <= 200; seed++) {
        struct merge_problem m;
        make(&m, seed);
        const u64 outs = tensor_hash(&m.outs), lses = tensor_hash(&m.lses);
        folio_context *ctx = contexts.at[seed % (u64)contexts.n];
        const i64 n_allocations = folio__alloc_count();
        if (folio_merge(ctx, &m.args, NULL) != FOLIO_OK)
            fail_msg("seed %llu: %s", (unsigned long long)seed, folio_last_error());
        if (seed > 20) /* threads are there by now */
            assert_int_equal(folio__alloc_count(), n_allocations);
        assert_true(tensor_gaps_intact(&m.out) && tensor_gaps_intact(&m.lse));
        assert_true(tensor_hash(&m.outs) == outs && tensor_hash(&m.lses) == lses);
        for (i64 t = 0; t < m.n_tokens; t++)
            for (i64 h = 0; h < m.n_heads; h++)
                check_vector(&m, t, h);
        m.args.lse = NULL;
        assert_int_equal(folio_merge(ctx, &m.args, NULL), FOLIO_OK);
        destroy(&m);
    }
    contexts_destroy(&contexts);
}

/* The keys of a sequence in two halves: attend each, merge, and it is attention over all of them. */
static void halves_make_a_whole(void **state)
{
    (void)state;
    struct contexts contexts = contexts_create(2);
    for (u64 seed = 1; seed <= 20; seed++) {
        struct problem_choice c;
        struct random_problem p;
        problem_choose(&c, seed, &(struct problem_limits){ .max_work = 2e5, .plain_dtypes = true });
        c.batch = 1;
        c.decode = true;
        c.q_lens[0] = 1;
        c.page_size = 4;
        c.kv_lens[0] = 4 * 10 + 3;
        c.csr = c.v_table = c.alibi = c.bias = c.mask = c.sinks = c.out_gaps = false;
        c.causal = c.align = 0;
        c.flags &= FOLIO_SCALE_IS_SET;
        c.lse = true;
        c.amplitude = 1;
        problem_build(&p, &c);
        folio_context *ctx = contexts.at[seed % (u64)contexts.n];
        const i64 heads = c.n_kv_heads * c.group, first = 0;
        struct test_tensor outs, lses;
        tensor_make(&outs, DTYPE_F32, 4, (i64[]){ 2, 1, heads, c.head_dim_v }, NULL, 0, true);
        tensor_make(&lses, DTYPE_F32, 3, (i64[]){ 2, 1, heads }, NULL, 0, true);
        for (i64 half = 0; half < 2; half++) { /* pages 0 .. 3, and 4 .. 10 */
            folio_attend_args a = p.args;
            DLTensor table = *a.page_table, out = *a.out, lse = *a.lse;
            i64 shape[] = { 1, half ? 7 : 4 };
            table.shape = shape;
            table.byte_offset += half ? 4u * table.dtype.bits / 8 : 0;
            out.data = tensor_at(&outs, (i64[]){ half, 0, 0, 0 });
            lse.data = tensor_at(&lses, (i64[]){ half, 0, 0 });
            out.byte_offset = lse.byte_offset = 0;
            a.page_table = &table;
            a.out = &out;
            a.lse = &lse;
            tensor_set_index(&p.t[T_KV_LENS], &first, half ? c.kv_lens[0] - 16 : 16);
            assert_int_equal(folio_attend(ctx, NULL, &a, NULL), FOLIO_OK);
        }
        tensor_set_index(&p.t[T_KV_LENS], &first, c.kv_lens[0]);
        struct test_tensor merged, merged_lse;
        tensor_make(&merged, DTYPE_F32, 3, (i64[]){ 1, heads, c.head_dim_v }, NULL, 0, true);
        tensor_make(&merged_lse, DTYPE_F32, 2, (i64[]){ 1, heads }, NULL, 0, true);
        const folio_merge_args m = {
            .struct_size = sizeof m, .outs = &outs.dl, .lses = &lses.dl, .out = &merged.dl, .lse = &merged_lse.dl
        };
        assert_int_equal(folio_merge(ctx, &m, NULL), FOLIO_OK);
        assert_true(problem_run(&p, ctx, NULL));
        for (i64 h = 0; h < heads; h++) {
            assert_true(
                is_close(tensor_get(&merged_lse, (i64[]){ 0, h }), tensor_get(&p.t[T_LSE], (i64[]){ 0, h }), 2e-5));
            for (i64 d = 0; d < c.head_dim_v; d++)
                assert_true(is_close(tensor_get(&merged, (i64[]){ 0, h, d }),
                                     tensor_get(&p.t[T_OUT], (i64[]){ 0, h, d }), 2e-5));
        }
        tensor_free(&outs);
        tensor_free(&lses);
        tensor_free(&merged);
        tensor_free(&merged_lse);
        problem_free(&p);
    }
    contexts_destroy(&contexts);
}

/* ---- malformed calls: a change to a good one, and what must be said */

struct mistake {
    const char *name;
    void (*make)(struct merge_problem *m);
    folio_status status;
    folio_error_kind kind;
    const char *words;
};

#define MAKE(name, what)                      \
    static void name(struct merge_problem *m) \
    {                                         \
        what;                                 \
    }
MAKE(no_outs, m->args.outs = NULL)
MAKE(no_lses, m->args.lses = NULL)
MAKE(no_out, m->args.out = NULL)
MAKE(no_size, m->args.struct_size = 0)
MAKE(no_data, m->outs.dl.data = NULL)
MAKE(outs_3d, m->outs.dl.ndim = 3)
MAKE(outs_i32, m->outs.dl.dtype = dl_type(DTYPE_I32))
MAKE(outs_none, m->outs.shape[0] = 0)
MAKE(lses_short, m->lses.shape[0]--)
MAKE(lses_i32, m->lses.dl.dtype = dl_type(DTYPE_I32))
MAKE(out_short, m->out.shape[0]--)
MAKE(out_dtype, m->out.dl.dtype = dl_type(m->dtype == DTYPE_F16 ? DTYPE_BF16 : DTYPE_F16))
MAKE(lse_short, m->lse.shape[1]--)
MAKE(lse_1d, m->lse.dl.ndim = 1)
MAKE(on_gpu, m->lses.dl.device.device_type = kDLCUDA)
MAKE(out_in_outs, m->out.dl.data = m->outs.dl.data; m->out.dl.byte_offset = 0)
MAKE(lse_in_lses, m->lse.dl.data = m->lses.dl.data; m->lse.dl.byte_offset = 0)

static const struct mistake merge_mistakes[] = {
    { "no_outs", no_outs, FOLIO_EINVAL, FOLIO_ERROR_VALUE, "outs: NULL" },
    { "no_lses", no_lses, FOLIO_EINVAL, FOLIO_ERROR_VALUE, "lses: NULL" },
    { "no_out", no_out, FOLIO_EINVAL, FOLIO_ERROR_VALUE, "out: NULL" },
    { "no_size", no_size, FOLIO_EINVAL, FOLIO_ERROR_VALUE, "struct_size 0" },
    { "no_data", no_data, FOLIO_EINVAL, FOLIO_ERROR_VALUE, "outs: data is NULL" },
    { "outs_3d", outs_3d, FOLIO_EINVAL, FOLIO_ERROR_VALUE, "outs: 3 dims" },
    { "outs_i32", outs_i32, FOLIO_EINVAL, FOLIO_ERROR_TYPE, "outs: dtype i32" },
    { "outs_none", outs_none, FOLIO_EINVAL, FOLIO_ERROR_VALUE, "outs: 0 parts" },
    { "lses_short", lses_short, FOLIO_EINVAL, FOLIO_ERROR_VALUE, "lses: [" },
    { "lses_i32", lses_i32, FOLIO_EINVAL, FOLIO_ERROR_TYPE, "lses: dtype i32" },
    { "out_short", out_short, FOLIO_EINVAL, FOLIO_ERROR_VALUE, "out: [" },
    { "out_dtype", out_dtype, FOLIO_EINVAL, FOLIO_ERROR_TYPE, "out: dtype" },
    { "lse_short", lse_short, FOLIO_EINVAL, FOLIO_ERROR_VALUE, "lse: [" },
    { "lse_1d", lse_1d, FOLIO_EINVAL, FOLIO_ERROR_VALUE, "lse: 1 dims" },
    { "on_gpu", on_gpu, FOLIO_EINVAL, FOLIO_ERROR_VALUE, "lses: on device type 2" },
    { "out_in_outs", out_in_outs, FOLIO_EINVAL, FOLIO_ERROR_VALUE, "out: shares memory with outs" },
    { "lse_in_lses", lse_in_lses, FOLIO_EINVAL, FOLIO_ERROR_VALUE, "lse: shares memory with lses" },
};

static void every_mistake_is_named(void **state)
{
    (void)state;
    folio_context *ctx = NULL;
    assert_int_equal(folio_context_create(&ctx, NULL), FOLIO_OK);
    for (size_t i = 0; i < COUNT_OF(merge_mistakes); i++) {
        const struct mistake *mistake = &merge_mistakes[i];
        struct merge_problem m;
        make(&m, 8);
        assert_true(m.n_tokens > 1 && m.n_heads > 1 && m.n_parts > 1);
        const u64 out = tensor_hash(&m.out), lse = tensor_hash(&m.lse);
        mistake->make(&m);
        const folio_status status = folio_merge(ctx, &m.args, NULL);
        if (status != mistake->status || folio_last_error_kind() != mistake->kind ||
            !strstr(folio_last_error(), mistake->words))
            print_error("%s: got %s \"%s\"\n", mistake->name, folio_status_name(status), folio_last_error());
        assert_int_equal(status, mistake->status);
        assert_int_equal(folio_last_error_kind(), mistake->kind);
        assert_non_null(strstr(folio_last_error(), mistake->words));
        assert_true(tensor_hash(&m.out) == out && tensor_hash(&m.lse) == lse);
        destroy(&m);
    }
    folio_context_destroy(&ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parts_weigh_by_their_lse),
        cmocka_unit_test(halves_make_a_whole),
        cmocka_unit_test(every_mistake_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
