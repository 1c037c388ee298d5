/* SPDX-License-Identifier: Apache-2.0
 * verify.c: which rows of a step are checked against the oracle, and what came of it. */
#include "verify.h"

#include <math.h>
#include <stdlib.h>

bool verify_init(struct verify *v, const struct trace *trace, const struct shape *shape, i64 room, u64 seed)
{
    const size_t group = (size_t)(shape->n_q_heads / shape->n_kv_heads);
    v->state = seed ^ UINT64_C(0x766572696679);
    v->room = room + v->n_random;
    v->picks = calloc((size_t)v->room, sizeof(*v->picks));
    v->out = calloc(group * (size_t)shape->dim_v, sizeof(*v->out));
    v->lse = calloc(group, sizeof(*v->lse));
    v->spread = calloc(group, sizeof(*v->spread));
    if (oracle_init(&v->oracle, trace, shape, seed) && v->picks && v->out && v->lse && v->spread)
        return true;
    verify_free(v);
    return false;
}

void verify_free(struct verify *v)
{
    oracle_free(&v->oracle);
    free(v->picks);
    free(v->out);
    free(v->lse);
    free(v->spread);
    v->picks = NULL;
    v->out = v->lse = v->spread = NULL;
}

static i64 random_below(struct verify *v, i64 n)
{
    v->state = v->state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (i64)((v->state >> 33) % (u64)n);
}

/* Row `offset` of an item whose rows begin at `token`. */
static void add_pick(struct verify *v, const struct verify_item *item, i64 token, i64 offset)
{
    if (v->n_picks == v->room)
        return;
    v->picks[v->n_picks++] = (struct verify_pick){
        .row = { item->request, item->first_position + offset, (i32)random_below(v, v->n_layers),
                 (i32)random_below(v, v->oracle.shape.n_kv_heads) },
        .token = token + offset,
    };
}

void verify_choose(struct verify *v, const struct verify_item *items, i64 n)
{
    v->n_picks = 0;
    for (i64 i = 0, token = 0; i < n; token += items[i++].n_tokens)
        if (items[i].ends_prompt_or_request)
            add_pick(v, &items[i], token, items[i].n_tokens - 1);
    for (i64 k = 0; k < v->n_random; k++) {
        const i64 chosen = random_below(v, n); /* sequences first: a prompt's chunk has many rows, an answer one */
        i64 token = 0;
        for (i64 i = 0; i < chosen; i++)
            token += items[i].n_tokens;
        add_pick(v, &items[chosen], token, random_below(v, items[chosen].n_tokens));
    }
}

/* The larger of two differences as shares of what is allowed; NaN is larger than anything. */
static void keep_worst(struct verify_error *worst, struct verify_error e)
{
    e.error = fabs(e.got - e.want);
    if (isnan(e.error))
        e.error = INFINITY;
    if (worst->allowed == 0 || e.error / e.allowed > worst->error / worst->allowed)
        *worst = e;
}

/* Do the kernels in use multiply pairs or tiles of bf16? */
static bool rounds_weights(const struct verify *v, const struct engine *engine)
{
    const folio_isa isa = folio_context_isa(engine->ctx);
    return v->element == ELEMENT_BF16 && isa >= FOLIO_ISA_AVX512_BF16;
}

/* The worst element of a row. */
static struct verify_error compare_row(const struct verify *v, const struct engine *engine,
                                       const struct verify_pick *pick)
{
    const i32 d = v->oracle.shape.dim_v, group = v->oracle.shape.n_q_heads / v->oracle.shape.n_kv_heads;
    struct verify_error worst = { .row = pick->row };
    for (i32 member = 0; member < group; member++) {
        const i32 head = pick->row.kv_head * group + member;
        const i64 at = pick->token * v->oracle.shape.n_q_heads + head;
        struct verify_error e = { .row = pick->row, .q_head = head };
        const double rounding = rounds_weights(v, engine) ? oracle_weight_rounding(v->spread[member]) : 0;
        for (e.dim = 0; e.dim < d; e.dim++) {
            e.got = element_read(v->element, engine->out, at * d + e.dim);
            e.want = v->out[member * d + e.dim];
            e.allowed = oracle_tolerance(v->element, e.want) + rounding;
            keep_worst(&worst, e);
        }
        e.dim = -1;
        e.got = (double)engine->lse[at];
        e.want = v->lse[member];
        e.allowed = oracle_tolerance(ELEMENT_F32, e.want);
        keep_worst(&worst, e);
    }
    return worst;
}

void verify_layer(struct verify *v, const struct engine *engine, i32 layer)
{
    for (i64 i = 0; i < v->n_picks; i++) {
        if (v->picks[i].row.layer != layer)
            continue;
        oracle_compute(&v->oracle, &v->picks[i].row, v->out, v->lse, v->spread);
        const struct verify_error worst = compare_row(v, engine, &v->picks[i]);
        v->n_rows++;
        v->worst_error = fmax(v->worst_error, worst.error);
        v->worst_share = fmax(v->worst_share, worst.error / worst.allowed);
        if (worst.error <= worst.allowed)
            continue;
        if (v->n_wrong < VERIFY_MAX_SHOWN)
            v->shown[v->n_wrong] = worst;
        v->n_wrong++;
    }
}
