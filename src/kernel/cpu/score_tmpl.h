/* SPDX-License-Identifier: Apache-2.0
 * score_tmpl.h: from dot products to softmax weights, a row of a score tile at a time; used by both kernel families.
 *
 *   s  [keys of a chunk or tile], in L1     dots ─► score_row (if not plain) ─► weight_row ─► weights in place
 *
 * weights are exp2((s - m) * c): the difference first, because s * c - m * c is inf - inf for logits of 1e30.
 * The running maximum m follows only when it would grow by more than 8 in base 2, so o is rarely rescaled. Masked keys
 * are a true -inf; m = -inf means "no key yet". */

enum { CHUNK = 32, RESCALE_ABOVE = 8 }; /* CHUNK: keys that the rows family takes at once */

struct score_rule {
    bool raw;       /* scores are the dot products as they are, but for masks: scale is in c */
    bool plain;     /* and nothing masks: score_row is not needed */
    float q_factor; /* q is multiplied by this when it is read: 1, -1, 0 */
    float scale;    /* not raw: score = dot * scale ... */
    float cap, inv_cap;
    float c;        /* base-2 exponent of a score difference */
    double natural; /* a score times this is in natural units */
};

static struct score_rule rule_of(const struct attend_args *args)
{
    const double log2e = 1.4426950408889634, size = fabs(args->scale);
    struct score_rule rule = { .q_factor = 1.0f, .scale = (float)args->scale, .c = (float)log2e, .natural = 1.0 };
    const bool in_range = size == 0.0 || (size > 1e-30 && size < 1e30);
    rule.raw = in_range && args->softcap == 0.0 && !args->alibi_slopes && !args->bias.data && !args->score_mod;
    rule.plain = rule.raw && !args->mask.data && !mod_is_used(args);
    if (args->softcap != 0.0) {
        rule.cap = (float)args->softcap;
        rule.inv_cap = (float)(1.0 / args->softcap);
    }
    if (!rule.raw)
        return rule;
    if (size == 0.0) {
        rule.q_factor = 0.0f;
        return rule;
    }
    rule.q_factor = args->scale < 0.0 ? -1.0f : 1.0f;
    rule.c = (float)(size * log2e);
    rule.natural = size;
    return rule;
}

/* A query vector's place in the call. */
struct score_place {
    i64 token; /* in q */
    i64 position;
    i32 head; /* query head */
};

/* n elements of bias from key on; nothing behind them is touched. */
static vec load_bias(const struct score_view *bias, const struct score_place *at, i64 key, i32 n)
{
    const u8 *p = layout_score(bias, at->token, at->head, key);
    const enum dtype dtype = (enum dtype)bias->dtype;
    if (bias->key_stride == element_bytes(dtype))
        return load_n(dtype, p, n);
    float x[16] = { 0 };
    for (i32 i = 0; i < n; i++)
        x[i] = folio__load_float(dtype, p + i * bias->key_stride);
    return vec_load(x);
}

/* -inf removes the key, whose dot product may be NaN. */
static vec add_bias(vec x, vec bias)
{
    return vec_select(vec_less(bias, vec_set1(-FLT_MAX)), bias, vec_add(x, bias));
}

static vec_mask load_mask(const struct score_view *mask, const struct score_place *at, i64 key, i32 n)
{
    const u8 *p = layout_score(mask, at->token, at->head, key);
    if (mask->key_stride == 1)
        return vec_mask_bytes(p, n);
    u8 bytes[16] = { 0 };
    for (i32 i = 0; i < n; i++)
        bytes[i] = p[i * mask->key_stride];
    return vec_mask_bytes(bytes, 16);
}

/* Whose row it is, for mods; s[0] is lane `lane` of the runner's tile. runner NULL = no mods. */
struct score_mods {
    struct mod_runner *runner;
    i32 head, packed; /* kv head, packed row */
    i32 lane;
};

static void mask_row(const struct attend_args *args, const struct score_place *at, i64 key0, i32 lo, i32 hi, float *s)
{
    for (i32 col = lo; col < hi; col += 16) {
        const i32 n = hi - col < 16 ? hi - col : 16;
        const vec x = vec_select(load_mask(&args->mask, at, key0 + col, n), vec_load(s + col), vec_set1(-INFINITY));
        vec_store_n(s + col, x, n);
    }
}

/* Are the dot products of the rows that come next their scores? mods NULL = none. */
static bool scores_are_dots(const struct attend_args *args, const struct score_rule *rule,
                            const struct mod_runner *mods)
{
    return rule->plain || (rule->raw && !args->mask.data && !mods->needs.mask && !mods->needs.block);
}

/* Dot products of one row -> scores in natural units, in place. */
static void natural_row(const struct attend_args *args, const struct score_rule *rule, const struct score_place *at,
                        i64 key0, i32 lo, i32 hi, float *s)
{
    const float slope = args->alibi_slopes ? args->alibi_slopes[at->head] : 0.0f;
    for (i32 col = lo; col < hi; col += 16) {
        const i32 n = hi - col < 16 ? hi - col : 16;
        const i64 key = key0 + col;
        vec x = vec_mul(vec_load(s + col), vec_set1(rule->scale));
        if (rule->cap != 0.0f)
            x = vec_mul(vec_tanh(vec_mul(x, vec_set1(rule->inv_cap))), vec_set1(rule->cap));
        if (args->alibi_slopes)
            x = vec_fma(vec_set1(slope), vec_add(vec_set1((float)(key - at->position)), vec_iota()), x);
        if (args->bias.data)
            x = add_bias(x, load_bias(&args->bias, at, key, n));
        vec_store_n(s + col, x, n);
    }
}

/* Dot products of one row -> scores, in place: columns [lo, hi) of s, which are keys key0 + column. Raw ones stay dot
 * products, where they are not masked. */
static void score_row(const struct attend_args *args, const struct score_rule *rule, const struct score_place *at,
                      const struct score_mods *mods, i64 key0, i32 lo, i32 hi, float *s)
{
    if (!rule->raw)
        natural_row(args, rule, at, key0, lo, hi, s);
    if (mods->runner)
        folio__mod_row(mods->runner, mods->head, mods->packed, mods->lane, lo, hi, s);
    if (args->mask.data)
        mask_row(args, at, key0, lo, hi, s);
}

/* Weights of 16 columns in place: f32, or rounded to bf16 in the first half of the row. Their sum is not of the rounded
 * ones, so that lse is exact. */
INLINE void weight_store(bool pairs, float *s, i32 col, vec p)
{
#if VEC_PAIRS
    if (pairs) {
        vec_store_rounded((u16 *)(void *)s + col, p);
        return;
    }
#endif
    (void)pairs;
    vec_store(s + col, p);
}

/* Of weights that are rounded to 8 bits fewer terms do. */
INLINE vec weight_exp2(bool pairs, vec x)
{
    return pairs ? vec_exp2_near(x) : vec_exp2(x);
}

/* Columns [lo, hi) of a row of n columns (a multiple of 16): scores -> weights in place, zeros in all other columns.
 * Updates the row's running maximum *m and lane sums l [16]. Gives the factor for what was summed before, mostly 1. */
INLINE float weight_row_of(bool pairs, float *s, i32 n, i32 lo, i32 hi, float c, float *m, float *l)
{
    const i32 first = lo / 16 * 16, last = (hi + 15) / 16 * 16; /* vectors that hold a key; hi > lo */
    const vec none = vec_set1(-INFINITY);
    vec top = none;
    for (i32 col = first; col < last; col += 16) {
        vec x = vec_load(s + col);
        if (col < lo || col + 16 > hi) {
            x = vec_select(vec_mask_range(col < lo ? lo - col : 0, hi - col < 16 ? hi - col : 16), x, none);
            vec_store(s + col, x);
        }
        top = vec_max(x, top);
    }
    const float highest = vec_max_lane(top);
    float factor = 1.0f;
    vec sums = vec_load(l);
    if ((highest - *m) * c > RESCALE_ABOVE) {
        factor = vec_max_lane(vec_exp2(vec_set1((*m - highest) * c)));
        sums = vec_mul(sums, vec_set1(factor));
        *m = highest;
    }
    const vec base = vec_set1(*m == -INFINITY ? 0.0f : *m); /* -inf - -inf would be NaN; any finite base gives 0 */
    for (i32 col = 0; col < first; col += 16)
        weight_store(pairs, s, col, vec_zero());
    for (i32 col = first; col < last; col += 16) {
        const vec p = weight_exp2(pairs, vec_mul(vec_sub(vec_load(s + col), base), vec_set1(c)));
        sums = vec_add(sums, p);
        weight_store(pairs, s, col, p);
    }
    for (i32 col = last; col < n; col += 16)
        weight_store(pairs, s, col, vec_zero());
    vec_store(l, sums);
    return factor;
}

static float weight_row(bool pairs, float *s, i32 n, i32 lo, i32 hi, float c, float *m, float *l)
{
    return pairs && VEC_PAIRS ? weight_row_of(true, s, n, lo, hi, c, m, l)
                              : weight_row_of(false, s, n, lo, hi, c, m, l);
}
