/* SPDX-License-Identifier: Apache-2.0
 * weights_tmpl.h: weight_row for several rows of a strip at once, where their scores are the dot products: what one row
 * waits for, the others fill. The same bits. */

enum { WEIGHT_ROWS = VEC_ACCS >= 16 ? 4 : 2 };

struct weight_rows {
    float *s; /* [WEIGHT_ROWS][S_STRIDE]; columns [begin, end), multiples of 16, -inf where a row sees no key */
    i32 begin, end;
    float c;
    float *m, *l;               /* [WEIGHT_ROWS], [WEIGHT_ROWS][16] */
    float factors[WEIGHT_ROWS]; /* for what was summed before, mostly 1 */
};

/* The maxima follow; what to subtract, and the sums so far. */
INLINE void weight_rows_follow(struct weight_rows *a, vec base[WEIGHT_ROWS], vec sums[WEIGHT_ROWS])
{
    vec top[WEIGHT_ROWS];
    UNROLL(4)
    for (i32 i = 0; i < WEIGHT_ROWS; i++)
        top[i] = vec_set1(-INFINITY);
    for (i32 col = a->begin; col < a->end; col += 16)
        UNROLL(4)
    for (i32 i = 0; i < WEIGHT_ROWS; i++)
        top[i] = vec_max(vec_load(a->s + i * S_STRIDE + col), top[i]);
    float highest[WEIGHT_ROWS];
    UNROLL(4)
    for (i32 i = 0; i < WEIGHT_ROWS; i++)
        highest[i] = vec_max_lane(top[i]);
    for (i32 i = 0; i < WEIGHT_ROWS; i++) {
        sums[i] = vec_load(a->l + i * 16);
        a->factors[i] = 1.0f;
        if ((highest[i] - a->m[i]) * a->c > RESCALE_ABOVE) {
            a->factors[i] = vec_max_lane(vec_exp2(vec_set1((a->m[i] - highest[i]) * a->c)));
            sums[i] = vec_mul(sums[i], vec_set1(a->factors[i]));
            a->m[i] = highest[i];
        }
        base[i] = vec_set1(a->m[i] == -INFINITY ? 0.0f : a->m[i]);
    }
}

INLINE void weight_rows_of(bool pairs, struct weight_rows *a)
{
    const vec c = vec_set1(a->c);
    vec base[WEIGHT_ROWS], sums[WEIGHT_ROWS];
    weight_rows_follow(a, base, sums);
    for (i32 col = a->begin; col < a->end; col += 16)
        UNROLL(4)
    for (i32 i = 0; i < WEIGHT_ROWS; i++) {
        float *s = a->s + i * S_STRIDE;
        const vec p = weight_exp2(pairs, vec_mul(vec_sub(vec_load(s + col), base[i]), c));
        sums[i] = vec_add(sums[i], p);
        weight_store(pairs, s, col, p);
    }
    UNROLL(4)
    for (i32 i = 0; i < WEIGHT_ROWS; i++)
        vec_store(a->l + i * 16, sums[i]);
}

static void weight_rows(bool pairs, struct weight_rows *a)
{
    if (pairs && VEC_PAIRS)
        weight_rows_of(true, a);
    else
        weight_rows_of(false, a);
}
