/* SPDX-License-Identifier: Apache-2.0
 * fold_tmpl.h: results of splits -> one, and its way to out and lse. Splits are folded left to right, each as a whole,
 * so that an item that holds several gives the same bits as a fold of partials from memory. */

/* One packed row: [dv, padded to 16] sum of weights * v, the maximum, the sum of weights. */
struct row_state {
    float *o;
    float m, l;
};

static float exp2_scalar(float x)
{
    return vec_max_lane(vec_exp2(vec_set1(x)));
}

static void scale_row(float *o, i32 d, float factor)
{
    for (i32 c = 0; c < d; c += 16)
        vec_store(o + c, vec_mul(vec_load(o + c), vec_set1(factor)));
}

/* acc += next, of which d elements of o exist. */
static void fold_row(struct row_state *acc, const struct row_state *next, i32 d, float c)
{
    if (next->m == -INFINITY) {
        if (isnan(next->l)) { /* scores that were NaN, which no maximum follows: a sum that is NaN is not "no key" */
            acc->m = acc->m == -INFINITY ? 0.0f : acc->m;
            acc->l = next->l;
        }
        return;
    }
    if (acc->m == -INFINITY) {
        for (i32 i = 0; i < d; i += 16)
            vec_store(acc->o + i, vec_load_n(next->o + i, d - i < 16 ? d - i : 16));
        acc->m = next->m;
        acc->l = next->l;
        return;
    }
    const float m = acc->m > next->m ? acc->m : next->m;
    const float keep = exp2_scalar((acc->m - m) * c), add = exp2_scalar((next->m - m) * c);
    for (i32 i = 0; i < d; i += 16) {
        const vec kept = vec_mul(vec_load(acc->o + i), vec_set1(keep));
        vec_store(acc->o + i, vec_fma(vec_load_n(next->o + i, d - i < 16 ? d - i : 16), vec_set1(add), kept));
    }
    acc->l = fmaf(next->l, add, acc->l * keep);
    acc->m = m;
}

/* The factor that normalises o, and the row's lse. Sinks join here, once. In double: one row, not one key. */
static float normalise(const struct attend_args *args, const struct score_rule *rule, i32 head,
                       const struct row_state *row, float *lse)
{
    const double top = (double)row->m * rule->natural; /* -inf: no key, or none that is a number */
    if (isnan(row->l)) {
        *lse = NAN;
        return NAN;
    }
    if (!args->sinks) {
        if (args->lse)
            *lse = row->m == -INFINITY ? -INFINITY : (float)(top + log((double)row->l));
        return row->m == -INFINITY ? 0.0f : 1.0f / row->l;
    }
    const double sink = (double)args->sinks[head];
    const double m = top > sink ? top : sink;
    if (isinf(m)) { /* -inf: neither keys nor a sink; +inf: the sink takes all */
        *lse = (float)m;
        return 0.0f;
    }
    const double weight = row->m == -INFINITY ? 0.0 : exp(top - m), sum = (double)row->l * weight + exp(sink - m);
    *lse = (float)(m + log(sum));
    return (float)(weight / sum);
}

/* Row `row` of the sequence, query head `head`: out and lse. */
static void finish_row(const struct attend_args *args, const struct score_rule *rule, i64 token, i32 head,
                       const struct row_state *state)
{
    float lse = 0.0f;
    const vec factor = vec_set1(normalise(args, rule, head, state, &lse));
    const i32 d = args->out.dim;
    const enum dtype dtype = (enum dtype)args->out.dtype;
    u8 *out = layout_token(&args->out, &args->out_runs, token, head);
    for (i32 c = 0; c < d; c += 16) {
        const vec x = vec_mul(vec_load(state->o + c), factor);
        store_n(dtype, out + (i64)c * element_bytes(dtype), x, d - c < 16 ? d - c : 16);
    }
    if (args->lse)
        *(float *)(void *)((u8 *)args->lse + token * args->lse_token_stride + head * args->lse_head_stride) = lse;
}

static void partial_write(const struct partials *part, i64 at, const struct row_state *row, i32 d)
{
    for (i32 c = 0; c < d; c += 16)
        vec_store_n(part->o + at * d + c, vec_load(row->o + c), d - c < 16 ? d - c : 16);
    part->m[at] = row->m;
    part->l[at] = row->l;
}

/* Where a split's results go: into the item's total, or to memory. */
static i64 partial_row(const struct attend_args *args, const struct attend_item *item, i64 split, i32 head, i64 packed)
{
    const i64 rows = item->n_rows * args->group;
    if (item->rows) {
        const struct shared_row *row = shared_row(args, item, packed / args->group);
        return row->partial + (split * args->n_kv_heads + head) * row->head_rows + packed % args->group;
    }
    return item->partial + ((split - item->split_begin) * item->n_heads + (head - item->head_begin)) * rows + packed;
}

static void fold(const struct attend_args *args, const struct attend_item *unit)
{
    const struct score_rule rule = rule_of(args);
    const i32 d = args->v.head_dim;
    float o[1024];
    for (i32 head = unit->head_begin; head < unit->head_begin + unit->n_heads; head++)
        for (i64 packed = 0; packed < unit->n_rows * args->group; packed++) {
            struct row_state acc = { o, -INFINITY, 0.0f };
            for (i32 c = 0; c < d; c += 16)
                vec_store(o + c, vec_zero());
            for (i64 s = unit->split_begin; s < unit->split_begin + unit->n_splits; s++) {
                const i64 at = partial_row(args, unit, s, head, packed);
                const struct row_state next = { args->part.o + at * d, args->part.m[at], args->part.l[at] };
                fold_row(&acc, &next, d, rule.c);
            }
            finish_row(args, &rule, unit->q_token + unit->row_begin + packed / args->group,
                       head * args->group + (i32)(packed % args->group), &acc);
        }
}
