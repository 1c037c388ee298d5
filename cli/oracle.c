/* SPDX-License-Identifier: Apache-2.0
 * oracle.c: what a row of attention must be, in double precision, from token identities alone. */
#include "oracle.h"

#include <math.h>
#include <stdlib.h>

bool oracle_init(struct oracle *oracle, const struct trace *trace, const struct shape *shape, u64 seed)
{
    const i64 group = shape->n_q_heads / shape->n_kv_heads, longest = trace_longest(trace);
    *oracle = (struct oracle){ .trace = trace, .shape = *shape, .seed = seed, .longest = longest };
    oracle->scores = malloc((size_t)(group * longest) * sizeof(*oracle->scores));
    oracle->q = malloc((size_t)group * MODEL_MAX_HEAD_DIM);
    if (oracle->scores && oracle->q)
        return true;
    oracle_free(oracle);
    return false;
}

void oracle_free(struct oracle *oracle)
{
    free(oracle->scores);
    free(oracle->q);
    *oracle = (struct oracle){ 0 };
}

static double dot(const i8 *q, const i8 *k, i32 n) /* in units of both: integers, exact */
{
    i32 sum = 0;
    for (i32 i = 0; i < n; i++)
        sum += q[i] * k[i];
    return sum;
}

/* scores [group][longest]: q . k / sqrt(dim_qk) of keys 0 .. position. */
static void compute_scores(const struct oracle *oracle, const struct oracle_row *row)
{
    const i32 d = oracle->shape.dim_qk, group = oracle->shape.n_q_heads / oracle->shape.n_kv_heads;
    const double unit = row_unit(ROW_Q) * row_unit(ROW_K) / sqrt(d);
    const u64 me = token_identity(oracle->trace, row->request, row->position, oracle->seed);
    for (i32 member = 0; member < group; member++)
        row_codes(me, row->layer, ROW_Q, row->kv_head * group + member, d, oracle->q + member * MODEL_MAX_HEAD_DIM);
    for (i64 j = 0; j <= row->position; j++) {
        i8 k[MODEL_MAX_HEAD_DIM];
        row_codes(token_identity(oracle->trace, row->request, j, oracle->seed), row->layer, ROW_K, row->kv_head, d, k);
        for (i32 member = 0; member < group; member++)
            oracle->scores[member * oracle->longest + j] = dot(oracle->q + member * MODEL_MAX_HEAD_DIM, k, d) * unit;
    }
}

/* scores -> weights that sum to 1; returns the log of the denominator. */
static double softmax(double *scores, i64 n)
{
    double max = -INFINITY, sum = 0;
    for (i64 j = 0; j < n; j++)
        max = fmax(max, scores[j]);
    for (i64 j = 0; j < n; j++)
        sum += scores[j] = exp(scores[j] - max);
    for (i64 j = 0; j < n; j++)
        scores[j] /= sum;
    return max + log(sum);
}

void oracle_compute(const struct oracle *oracle, const struct oracle_row *row, double *out, double *lse, double *spread)
{
    const i32 d = oracle->shape.dim_v, group = oracle->shape.n_q_heads / oracle->shape.n_kv_heads;
    const i64 n = row->position + 1;
    compute_scores(oracle, row);
    for (i32 member = 0; member < group; member++) {
        double *weights = oracle->scores + member * oracle->longest, squares = 0;
        lse[member] = softmax(weights, n);
        for (i64 j = 0; j < n; j++)
            squares += weights[j] * weights[j];
        spread[member] = sqrt(squares);
    }
    for (i32 i = 0; i < group * d; i++)
        out[i] = 0;
    for (i64 j = 0; j < n; j++) {
        i8 v[MODEL_MAX_HEAD_DIM];
        row_codes(token_identity(oracle->trace, row->request, j, oracle->seed), row->layer, ROW_V, row->kv_head, d, v);
        for (i32 member = 0; member < group; member++) {
            const double weight = oracle->scores[member * oracle->longest + j] * row_unit(ROW_V);
            for (i32 i = 0; i < d; i++)
                out[member * d + i] += weight * v[i];
        }
    }
}

double oracle_tolerance(enum element element, double want)
{
    /* Half a unit in the last place of 24, 11 and 8 significant bits. */
    static const double half_ulp[] = { [ELEMENT_F32] = 0x1p-24, [ELEMENT_F16] = 0x1p-11, [ELEMENT_BF16] = 0x1p-8 };
    /* f32 scores up to about 10 with errors of a few 1e-7 move every weight by as much; |v| <= 1. f16 has no finer step
     * than 2^-24 near zero. */
    return half_ulp[element] * fabs(want) + 8e-6;
}

double oracle_weight_rounding(double spread)
{
    /* Errors of at most 2^-9 of each weight, of either sign, times values of at most 1. They are independent: 4 spreads
     * are a dozen standard deviations. They can never exceed 2^-9, as weights sum to 1. */
    return 0x1p-9 * fmin(1, 4 * spread);
}
