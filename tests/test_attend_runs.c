/* SPDX-License-Identifier: Apache-2.0
 * test_attend_runs.c: q and out of 4 dims, [batch, q_len, heads, dim] over memory where each head's rows lie together,
 * give the bits of 3 dims, at every level, and leave what lies between alone. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "base/bits.h"
#include "folio/attend.h"
#include "support/contexts.h"
#include "support/random.h"
#include "support/tensors.h"

enum { BATCH = 3, HEADS = 6, KV_HEADS = 2, DIM_K = 40, DIM_V = 24, PAGE = 8, COLUMNS = 7 };

struct setup {
    struct test_tensor q, q_runs, k, v, table, kv_lens, q_indptr; /* q, out [BATCH * q_len][HEADS][dim] */
    struct test_tensor out, out_runs, lse, lse_runs;              /* *_runs: the same in 4 dims */
    i64 q_len;
};

/* [BATCH][q_len][heads][dim] in memory as [BATCH][heads][q_len + 1][dim]. */
static void make_runs(struct test_tensor *t, enum dtype dtype, i64 q_len, i64 dim, bool is_output)
{
    const i64 shape[] = { BATCH, q_len, HEADS, dim };
    const i64 strides[] = { HEADS * (q_len + 1) * dim, dim, (q_len + 1) * dim, 1 };
    tensor_make(t, dtype, 4, shape, strides, 0, is_output);
}

static void fill(struct test_tensor *t, struct rng *rng)
{
    for (i64 a = 0; a < t->shape[0]; a++)
        for (i64 b = 0; b < t->shape[1]; b++)
            for (i64 c = 0; c < t->shape[2]; c++)
                for (i64 d = 0; d < (t->dl.ndim == 4 ? t->shape[3] : 1); d++)
                    tensor_set(t, (i64[]){ a, b, c, d }, (double)rng_range(rng, -64, 64) / 32);
}

static void make(struct setup *s, enum dtype dtype, i64 q_len)
{
    struct rng rng = { 5 };
    const i64 n = BATCH * q_len;
    *s = (struct setup){ .q_len = q_len };
    tensor_make(&s->q, dtype, 3, (i64[]){ n, HEADS, DIM_K }, NULL, 0, false);
    make_runs(&s->q_runs, dtype, q_len, DIM_K, false);
    fill(&s->q, &rng);
    for (i64 t = 0; t < n; t++)
        for (i64 h = 0; h < HEADS; h++)
            for (i64 d = 0; d < DIM_K; d++)
                tensor_set(&s->q_runs, (i64[]){ t / q_len, t % q_len, h, d }, tensor_get(&s->q, (i64[]){ t, h, d }));
    tensor_make(&s->k, dtype, 4, (i64[]){ BATCH * COLUMNS, PAGE, KV_HEADS, DIM_K }, NULL, 0, false);
    tensor_make(&s->v, dtype, 4, (i64[]){ BATCH * COLUMNS, PAGE, KV_HEADS, DIM_V }, NULL, 0, false);
    fill(&s->k, &rng);
    fill(&s->v, &rng);
    tensor_make(&s->table, DTYPE_I32, 2, (i64[]){ BATCH, COLUMNS }, NULL, 0, false);
    tensor_make(&s->kv_lens, DTYPE_I64, 1, (i64[]){ BATCH }, NULL, 0, false);
    tensor_make(&s->q_indptr, DTYPE_I64, 1, (i64[]){ BATCH + 1 }, NULL, 0, false);
    for (i64 b = 0; b <= BATCH; b++)
        tensor_set_index(&s->q_indptr, &b, b * q_len);
    for (i64 b = 0; b < BATCH; b++) {
        tensor_set_index(&s->kv_lens, &b, PAGE * COLUMNS - 3 * b);
        for (i64 column = 0; column < COLUMNS; column++) /* 5 and 21 have no divisor in common */
            tensor_set_index(&s->table, (i64[]){ b, column }, (b * COLUMNS + column) * 5 % (BATCH * COLUMNS));
    }
    tensor_make(&s->out, dtype, 3, (i64[]){ n, HEADS, DIM_V }, NULL, 0, true);
    make_runs(&s->out_runs, dtype, q_len, DIM_V, true);
    tensor_make(&s->lse, DTYPE_F32, 2, (i64[]){ n, HEADS }, NULL, 0, true);
    tensor_make(&s->lse_runs, DTYPE_F32, 2, (i64[]){ n, HEADS }, NULL, 0, true);
}

static void done(struct setup *s)
{
    struct test_tensor *const all[] = { &s->q,        &s->q_runs, &s->k,        &s->v,   &s->table,   &s->kv_lens,
                                        &s->q_indptr, &s->out,    &s->out_runs, &s->lse, &s->lse_runs };
    for (size_t i = 0; i < COUNT_OF(all); i++)
        tensor_free(all[i]);
}

static folio_attend_args args_of(struct setup *s, bool runs)
{
    return (folio_attend_args){ .struct_size = sizeof(folio_attend_args),
                                .q = runs ? &s->q_runs.dl : &s->q.dl,
                                .k_pages = &s->k.dl,
                                .v_pages = &s->v.dl,
                                .page_table = &s->table.dl,
                                .kv_lens = &s->kv_lens.dl,
                                .q_indptr = &s->q_indptr.dl,
                                .causal = FOLIO_CAUSAL_BOTTOM_RIGHT,
                                .max_q_len = s->q_len,
                                .out = runs ? &s->out_runs.dl : &s->out.dl,
                                .lse = runs ? &s->lse_runs.dl : &s->lse.dl };
}

static void check(struct setup *s, folio_context *ctx, const char *name, i32 num_splits, const folio_mod *mod)
{
    for (i32 runs = 0; runs < 2; runs++) {
        folio_attend_args args = args_of(s, runs);
        args.num_splits = num_splits;
        args.score_mod = mod;
        if (folio_attend(ctx, NULL, &args, NULL) != FOLIO_OK)
            fail_msg("%s: %s", name, folio_last_error());
    }
    const size_t bytes = (size_t)folio__dtype_bytes(s->out.dl.dtype.code == kDLBfloat ? DTYPE_BF16 : DTYPE_F32);
    for (i64 t = 0; t < BATCH * s->q_len; t++)
        for (i64 h = 0; h < HEADS; h++) {
            assert_memory_equal(tensor_at(&s->lse, (i64[]){ t, h }), tensor_at(&s->lse_runs, (i64[]){ t, h }), 4);
            const u8 *want = tensor_at(&s->out, (i64[]){ t, h, 0 });
            const u8 *got = tensor_at(&s->out_runs, (i64[]){ t / s->q_len, t % s->q_len, h, 0 });
            if (memcmp(want, got, DIM_V * bytes))
                fail_msg("%s, q_len %lld, %d splits, %s: token %lld head %lld differs", name, (long long)s->q_len,
                         (int)num_splits, mod ? "a callback" : "no mod", (long long)t, (long long)h);
        }
    assert_true(tensor_gaps_intact(&s->out_runs));
}

static folio_status double_scores(void *user, float *scores, const folio_tile *where)
{
    (void)user;
    for (i64 r = 0; r < where->n_rows; r++)
        for (i64 i = 0; i < where->n_keys; i++)
            scores[r * where->row_stride + i] *= 2;
    return FOLIO_OK;
}

/* Both families, whole and in splits; f32 and bf16 (tiles, at the levels that have them). */
static void runs_give_the_same_bits(void **state)
{
    (void)state;
    static const i64 q_lens[] = { 1, 2, 40 };
    struct contexts contexts = contexts_create_all(2);
    folio_mod *mod = NULL;
    assert_int_equal(folio_mod_create_callback(&mod, FOLIO_MOD_SCORE, double_scores, NULL, 0), FOLIO_OK);
    for (size_t i = 0; i < COUNT_OF(q_lens); i++)
        for (i32 bf16 = 0; bf16 < 2; bf16++) {
            struct setup s;
            make(&s, bf16 ? DTYPE_BF16 : DTYPE_F32, q_lens[i]);
            for (i32 c = 0; c < contexts.n; c++)
                for (i32 num_splits = 0; num_splits < 7; num_splits += 3)
                    check(&s, contexts.at[c], contexts.name[c], num_splits, num_splits ? NULL : mod);
            for (i32 c = 0; c < contexts.n; c++)
                check(&s, contexts.at[c], contexts.name[c], 0, NULL);
            done(&s);
        }
    folio_mod_destroy(&mod);
    contexts_destroy(&contexts);
}

static void refuse(folio_context *ctx, const folio_plan *plan, const folio_attend_args *args, const char *words)
{
    assert_int_equal(folio_attend(ctx, plan, args, NULL), FOLIO_EINVAL);
    if (!strstr(folio_last_error(), words))
        fail_msg("\"%s\"; must say \"%s\"", folio_last_error(), words);
}

static void runs_that_do_not_fit_are_refused(void **state)
{
    (void)state;
    struct contexts contexts = contexts_create(1);
    struct setup s, other;
    make(&s, DTYPE_F32, 4);
    make(&other, DTYPE_F32, 5);
    for (i32 c = 0; c < contexts.n; c++) {
        folio_attend_args args = args_of(&s, true);
        args.out = &other.out_runs.dl;
        refuse(contexts.at[c], NULL, &args, "out: [15, 6, 24]; must be q's [12, 6]");
        args = args_of(&s, true);
        s.out_runs.strides[0] = 0; /* every run in one place */
        refuse(contexts.at[c], NULL, &args, "out: ");
        s.out_runs.strides[0] = HEADS * 5 * DIM_V;
        s.q_runs.dl.ndim = 2;
        refuse(contexts.at[c], NULL, &args, "q: 2 dims; must have 3 or 4");
        s.q_runs.dl.ndim = 4;

        folio_plan *plan = NULL;
        assert_int_equal(folio_plan_create(&plan, contexts.at[c], &args), FOLIO_OK);
        assert_int_equal(folio_plan_update(plan, &args, NULL), FOLIO_OK);
        assert_int_equal(folio_attend(contexts.at[c], plan, &args, NULL), FOLIO_OK);
        const folio_attend_args flat = args_of(&s, false);
        refuse(contexts.at[c], plan, &flat, "q: ");
        folio_plan_destroy(&plan);
    }
    done(&s);
    done(&other);
    contexts_destroy(&contexts);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(runs_give_the_same_bits),
        cmocka_unit_test(runs_that_do_not_fit_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
