/* SPDX-License-Identifier: Apache-2.0
 * fours_amx_tmpl.h: scores as tiles give them, S^T, to weights, four rows at a time: a vector is four keys of four
 * rows, so that all four maxima are one comparison, and nothing is transposed but the weights. */

#if VEC_TILES
static void rows_four_move(const struct rows_pass *pass, i64 row, const float tops[4])
{
    float *m = pass->m + row;
    for (i32 r = 0; r < 4; r++) {
        if (!((tops[r] - m[r]) * pass->rule.c > RESCALE_ABOVE))
            continue;
        const float factor = vec_max_lane(vec_exp2(vec_set1((m[r] - tops[r]) * pass->rule.c)));
        scale_row(pass->l + (row + r) * 16, 16, factor);
        scale_row(pass->o + (row + r) * pass->v_pad, pass->v_pad, factor);
        m[r] = tops[r];
    }
}

/* The maxima of four rows follow `top`; what to subtract. */
INLINE vec rows_four_follow(const struct rows_pass *pass, i64 row, vec top)
{
    float *m = pass->m + row;
    const float c = pass->rule.c;
    const vec moved = vec_mul(vec_sub(top, vec_four_load(m)), vec_set1(c));
    if (vec_any_less(vec_set1(RESCALE_ABOVE), moved)) {
        float tops[16];
        vec_store(tops, top);
        rows_four_move(pass, row, tops);
    }
    const vec base = vec_four_load(m);
    return vec_select(vec_less(vec_set1(-INFINITY), base), base, vec_zero());
}

/* Rows `first` .. first + 3 of n_rows. */
INLINE void rows_amx_four(const struct rows_pass *pass, i32 head, i32 first, i32 n_rows)
{
    const struct rows_amx *amx = pass->amx;
    const i64 row = (i64)head * n_rows + first;
    const float *s = amx->s + first;
    vec x[8], sums = vec_zero(), top = vec_set1(-INFINITY);
    UNROLL(8)
    for (i32 i = 0; i < 8; i++) {
        x[i] = n_rows == 4 ? vec_load(s + 16 * i) : vec_four_rows(s + 4 * i * n_rows, n_rows);
        top = vec_max(x[i], top);
    }
    float sum[16];
    const vec bases = rows_four_follow(pass, row, vec_four_max(top)), c = vec_set1(pass->rule.c);
    UNROLL(8)
    for (i32 i = 0; i < 8; i++) {
        x[i] = vec_exp2_near(vec_mul(vec_sub(x[i], bases), c));
        sums = vec_add(sums, x[i]);
    }
    vec_store(sum, vec_four_sum(sums));
    for (i32 r = 0; r < 4; r++)
        pass->l[(row + r) * 16] += sum[r];
    UNROLL(2)
    for (i32 group = 0; group < GROUPS; group++) {
        vec rows[4];
        vec_four_transpose(x + 4 * group, rows);
        UNROLL(4)
        for (i32 r = 0; r < 4; r++) {
            u32 *p = amx->p + ((i64)group * n_rows + first + r) * 16;
            vec_store_slots(p, p + (i64)GROUPS * n_rows * 16, rows[r]);
        }
    }
}

static void rows_amx_fours(const struct rows_pass *pass, i32 head)
{
    if (pass->n_rows == 4) {
        rows_amx_four(pass, head, 0, 4);
        return;
    }
    for (i32 first = 0; first < pass->n_rows; first += 4)
        rows_amx_four(pass, head, first, pass->n_rows);
}
#endif
