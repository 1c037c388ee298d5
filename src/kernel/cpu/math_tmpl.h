/* SPDX-License-Identifier: Apache-2.0
 * math_tmpl.h: exp2 and tanh over a vector; the same bits at every level.
 * The coefficients are minimax fits of the relative error (Lawson and Remez iterations in 30 digits). */

/* 2^x for x <= 127; 0 below 2^-125, for -inf too; NaN for NaN. Relative error 2e-7; 2^0 is exactly 1.
 * x = n + f with whole n and |f| <= 1/2; 2^f is a polynomial of degree 5 (9e-8). */
static inline vec vec_exp2(vec x)
{
    const vec n = vec_round(x);
    const vec f = vec_sub(x, n);
    vec p = vec_set1(0.00132647657294f);
    p = vec_fma(p, f, vec_set1(0.00967150917634f));
    p = vec_fma(p, f, vec_set1(0.0555073367813f));
    p = vec_fma(p, f, vec_set1(0.240222421414f));
    p = vec_fma(p, f, vec_set1(0.693146977523f));
    p = vec_fma(p, f, vec_set1(1.0f));
    return vec_exp2_scale(p, n, x, -125.0f);
}

/* The same within 3e-6, for weights that are rounded to 8 bits. */
static inline vec vec_exp2_near(vec x)
{
    const vec n = vec_round(x);
    const vec f = vec_sub(x, n);
    vec p = vec_set1(0.00958285f);
    p = vec_fma(p, f, vec_set1(0.05590642f));
    p = vec_fma(p, f, vec_set1(0.24024099f));
    p = vec_fma(p, f, vec_set1(0.69312419f));
    p = vec_fma(p, f, vec_set1(1.0f));
    return vec_exp2_scale(p, n, x, -125.0f);
}

#if VEC_TILES
/* The same for any x, on [0, 1] instead of [-1/2, 1/2]: fewer instructions, and no comparison. Below 2^-126 it ends in
 * denormals, which bf16 takes for 0. */
static inline vec vec_exp2_floor(vec x)
{
    const vec f = vec_fraction(x);
    vec p = vec_set1(0.0134266853f);
    p = vec_fma(p, f, vec_set1(0.0522424725f));
    p = vec_fma(p, f, vec_set1(0.241280206f));
    p = vec_fma(p, f, vec_set1(0.693044845f));
    p = vec_fma(p, f, vec_set1(1.0f));
    return vec_scale_floor(p, x);
}
#endif

/* tanh, relative error 4e-7. |x| < 0.625: odd polynomial; above: 1 - 2 / (e^(2|x|) + 1), which is 1 from 10 on. */
static inline vec vec_tanh(vec x)
{
    const vec size = vec_abs(x);
    const vec z = vec_mul(x, x);
    vec p = vec_set1(-0.00571704505935f);
    p = vec_fma(p, z, vec_set1(0.0206505873f));
    p = vec_fma(p, z, vec_set1(-0.0537434980818f));
    p = vec_fma(p, z, vec_set1(0.13331491287f));
    p = vec_fma(p, z, vec_set1(-0.333332839253f));
    const vec small = vec_fma(vec_mul(p, z), x, x);

    const vec ten = vec_set1(10.0f); /* NaN passes: a comparison with it is false */
    const vec bounded = vec_select(vec_less(ten, size), ten, size);
    const vec e = vec_exp2(vec_mul(bounded, vec_set1(2.88539008f))); /* 2 / ln 2 */
    const vec ratio = vec_div(vec_set1(2.0f), vec_add(e, vec_set1(1.0f)));
    const vec large = vec_sign_of(vec_sub(vec_set1(1.0f), ratio), x);
    return vec_select(vec_less(size, vec_set1(0.625f)), small, large);
}

/* 0 while all lanes are finite, else NaN. */
static inline vec vec_nothing_of(vec a)
{
    return vec_sub(a, a);
}
