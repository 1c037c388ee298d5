/* SPDX-License-Identifier: Apache-2.0
 * problem.c: run a random problem, look at fences and inputs, compare two contexts' results. */
#include "support/problem.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void problem_print(const struct random_problem *p)
{
    static const char *const layouts[] = { "NHD", "HND", "FLAT", "INTERLEAVED", "GAPPED" };
    const struct problem_choice *c = &p->c;
    fprintf(stderr,
            "seed %llu: %s q %s pages %s, %d/%d heads, d %d/%d, page %lld, causal %d align %d window %lld %lld (%s)",
            (unsigned long long)c->seed, layouts[c->layout], folio__dtype_name(c->q_dtype),
            folio__dtype_name(c->kv_dtype), (int)(c->n_kv_heads * c->group), (int)c->n_kv_heads, (int)c->head_dim_qk,
            (int)c->head_dim_v, (long long)c->page_size, (int)c->causal, (int)c->align, (long long)c->window_left,
            (long long)c->window_right, c->flags & FOLIO_WINDOW_IS_SET ? "set" : "not set");
    fprintf(stderr, " scale %g%s softcap %g splits %d amplitude %g%s%s%s%s%s%s%s%s; q_len x kv_len:", c->scale,
            c->flags & FOLIO_SCALE_IS_SET ? "" : " (not set)", c->softcap, (int)c->num_splits, c->amplitude,
            c->csr ? " csr" : "", c->v_table ? " v_table" : "", c->share_pages ? " shared" : "",
            c->alibi ? " alibi" : "", c->sinks ? " sinks" : "", c->bias ? " bias" : "", c->mask ? " mask" : "",
            c->lse ? " lse" : "");
    for (i32 b = 0; b < c->batch; b++)
        fprintf(stderr, " %lldx%lld", (long long)c->q_lens[b], (long long)c->kv_lens[b]);
    fprintf(stderr, "\n");
}

void problem_reset_outputs(struct random_problem *p)
{
    for (i32 i = T_OUT; i <= T_LSE; i++)
        if (tensor_there(&p->t[i]))
            memset(p->t[i].block, OUTPUT_FILL, p->t[i].block_bytes);
}

static u64 hash_range(const struct random_problem *p, i32 begin, i32 end)
{
    u64 hash = 0;
    for (i32 i = begin; i < end; i++)
        if (tensor_there(&p->t[i]) && !p->t[i].is_view)
            hash = hash * 31 + tensor_hash(&p->t[i]);
    return hash;
}

u64 problem_hash_inputs(const struct random_problem *p)
{
    return hash_range(p, 0, T_OUT);
}

u64 problem_hash_outputs(const struct random_problem *p)
{
    return hash_range(p, T_OUT, N_PROBLEM_TENSORS);
}

static bool fences_hold(const struct random_problem *p)
{
    return tensor_gaps_intact(&p->t[T_OUT]) && (!p->c.lse || tensor_gaps_intact(&p->t[T_LSE]));
}

bool problem_run(struct random_problem *p, folio_context *ctx, const folio_plan *plan)
{
    const u64 before = problem_hash_inputs(p);
    const folio_status status = folio_attend(ctx, plan, &p->args, NULL);
    const char *trouble = status != FOLIO_OK                 ? folio_last_error()
                          : !fences_hold(p)                  ? "bytes beside out or lse were written"
                          : problem_hash_inputs(p) != before ? "inputs were written"
                                                             : NULL;
    if (trouble) {
        fprintf(stderr, "%s: ", trouble);
        problem_print(p);
    }
    return !trouble;
}

/* One rounding of a value to out's dtype: half a unit each, theirs and ours, and what a tie in between can add. */
static double rounding(enum dtype dtype, double x)
{
    const double ulp = dtype == DTYPE_F32 ? 0x1p-23 : dtype == DTYPE_F16 ? 0x1p-10 : 0x1p-7;
    return fabs(x) * ulp + (dtype == DTYPE_F16 ? 0x1p-24 : 0);
}

static bool is_close(double got, double wanted, double tolerance)
{
    return got == wanted || fabs(got - wanted) <= tolerance; /* equal infinities; NaN never */
}

/* Scores of 1e30 leave one key with all the weight: out is as exact as ever. */
static double score_size(const struct random_problem *p)
{
    return p->c.amplitude > 1 ? 1 : fmax(1, p->max_score);
}

static bool compare_lse(const struct random_problem *p, const struct test_tensor *got, double base)
{
    for (i64 token = 0; token < p->n_tokens; token++)
        for (i64 head = 0; head < got->shape[1]; head++) {
            const i64 at[] = { token, head };
            const double x = tensor_get(got, at), wanted = tensor_get(&p->t[T_LSE], at);
            if (is_close(x, wanted, base * (fmax(1, p->max_score) + fabs(wanted))))
                continue;
            fprintf(stderr, "lse[%lld, %lld] = %.9g, ref %.9g: ", (long long)token, (long long)head, x, wanted);
            return false;
        }
    return true;
}

static bool compare_out(const struct random_problem *p, const struct test_tensor *got, double base)
{
    for (i64 token = 0; token < p->n_tokens; token++)
        for (i64 head = 0; head < got->shape[1]; head++)
            for (i64 d = 0; d < got->shape[2]; d++) {
                const i64 at[] = { token, head, d };
                const double x = tensor_get(got, at), wanted = tensor_get(&p->t[T_OUT], at);
                if (is_close(x, wanted, base * p->max_value * score_size(p) + rounding(p->c.q_dtype, wanted)))
                    continue;
                fprintf(stderr, "out[%lld, %lld, %lld] = %.9g, ref %.9g: ", (long long)token, (long long)head,
                        (long long)d, x, wanted);
                return false;
            }
    return true;
}

/* The same tensor with a block of its own. */
static struct test_tensor copy_of(const struct test_tensor *t)
{
    struct test_tensor copy = *t;
    copy.block = malloc(t->block_bytes + 1);
    if (!copy.block)
        abort();
    memcpy(copy.block, t->block, t->block_bytes);
    return copy;
}

bool problem_agrees(struct random_problem *p, folio_context *ctx, folio_context *ref, double base)
{
    problem_reset_outputs(p);
    if (!problem_run(p, ctx, NULL))
        return false;
    struct test_tensor out = copy_of(&p->t[T_OUT]), lse = { 0 };
    if (p->c.lse)
        lse = copy_of(&p->t[T_LSE]);
    problem_reset_outputs(p);
    bool good = problem_run(p, ref, NULL);
    if (good && !(compare_out(p, &out, base) && (!p->c.lse || compare_lse(p, &lse, base)))) {
        problem_print(p);
        good = false;
    }
    free(out.block);
    free(lse.block);
    return good;
}
