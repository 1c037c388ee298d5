/* SPDX-License-Identifier: Apache-2.0
 * rows_weight_tmpl.h: the rows family's scores of a chunk -> weights. */

/* n columns of a row times the scales of their keys; 0 stays 0, whatever the scale of a key that is masked. */
static void rows_scale(float *s, const float *scale, i32 n)
{
    for (i32 col = 0; col < n; col += 16) {
        const vec x = vec_load(s + col);
        const vec is_there = vec_abs(x);
        vec_store(s + col, vec_select(vec_less(vec_zero(), is_there), vec_mul(x, vec_load(scale + col)), x));
    }
}

/* Scores of row r -> weights; o rescaled where the maximum moved. */
static void rows_weight(const struct rows_pass *pass, const struct rows_step *step, i32 r)
{
    const i64 key = step->block->key + step->at, row = (i64)step->head * pass->n_padded + r;
    const float *k_scale = rows_k_scale(pass, step), *v_scale = rows_v_scale(pass, step);
    float *s = pass->s + step->head * pass->s_head + r * pass->s_stride;
    const struct keys keys = keys_within(pass->row_keys[r], key, key + step->n);
    if (keys.begin >= keys.end) {
        memset(s, 0, (size_t)pass->s_stride * sizeof *s);
        return;
    }
    const i32 lo = (i32)(keys.begin - key), hi = (i32)(keys.end - key);
    if (k_scale)
        rows_scale(s, k_scale, step->n);
    if (!scores_are_dots(pass->args, &pass->rule, pass->mods)) {
        const struct score_place at = place_of(pass->args, pass->item, pass->head_begin + step->head, r);
        const struct score_mods mods = { pass->mods, pass->head_begin + step->head, r, step->at };
        score_row(pass->args, &pass->rule, &at, &mods, key, lo, hi, s);
    }
    const float factor = weight_row(false, s, pass->chunk < 16 ? 16 : pass->chunk, lo, hi, pass->rule.c, &pass->m[row],
                                    pass->l + row * 16);
    if (v_scale)
        rows_scale(s, v_scale, step->n);
    if (factor != 1.0f)
        scale_row(pass->o + row * pass->v_pad, pass->v_pad, factor);
}

static void rows_weights(const struct rows_pass *pass, const struct rows_step *step)
{
    for (i32 r = 0; r < pass->n_rows; r++)
        rows_weight(pass, step, r);
}
