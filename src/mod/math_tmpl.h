/* SPDX-License-Identifier: Apache-2.0
 * math_tmpl.h: exp, exp2, log and tanh of the mod language, written once over a "vector" of any width, so that every
 * backend that includes it gives the same bits. Errors are under 2.5 ulp (tests/test_mod_math.c).
 *
 * The includer defines types M_F (floats), M_I (i32 lanes) and, as functions or macros,
 *   m_f(x) m_i(n)                              all lanes the same
 *   m_add m_sub m_mul m_div m_fma m_rint       each rounded once
 *   m_select_lt(a, b, x, y)                    a < b ? x : y; false where either is NaN
 *   m_select_ordered(x, y, z)                  x is a number ? y : z
 *   m_to_int(x) m_to_float(n)                  of integral values
 *   m_bits(x) m_from_bits(n)                   reinterpretation
 *   m_iadd m_isub m_iand m_ior m_ishl m_isar   32-bit, wrapping; counts are constants */
#ifndef FOLIO_MOD_MATH_CONSTANTS
#define FOLIO_MOD_MATH_CONSTANTS
#define M_LOG2_E 0x1.715476p+0f
#define M_LN2_HIGH 0x1.62e430p-1f /* ln 2 = high + low to 48 bits */
#define M_LN2_LOW -0x1.05c610p-29f
#endif

/* e^r - 1 for |r| <= ln(2) / 2 + a little: the Taylor series, whose next term is below 2^-29. */
static inline M_F m_expm1_small(M_F r)
{
    M_F h = m_f(1.0f / 5040);
    h = m_fma(h, r, m_f(1.0f / 720));
    h = m_fma(h, r, m_f(1.0f / 120));
    h = m_fma(h, r, m_f(1.0f / 24));
    h = m_fma(h, r, m_f(1.0f / 6));
    h = m_fma(h, r, m_f(0.5f));
    return m_fma(m_mul(r, r), h, r);
}

static inline M_F m_pow2(M_I n)
{
    return m_from_bits(m_ishl(m_iadd(n, m_i(127)), 23));
}

/* p * 2^n for -152 <= n <= 130, in two steps so that subnormal results are rounded once and large ones are inf. */
static inline M_F m_scale(M_F p, M_I n)
{
    const M_I half = m_isar(n, 1);
    return m_mul(m_mul(p, m_pow2(half)), m_pow2(m_isub(n, half)));
}

static inline M_F m_clamp(M_F x, float low, float high) /* NaN becomes high */
{
    return m_select_lt(x, m_f(high), m_select_lt(m_f(low), x, x, m_f(low)), m_f(high));
}

static inline M_F m_exp(M_F x)
{
    const M_F safe = m_clamp(x, -104.0f, 89.0f);
    const M_F n = m_rint(m_mul(safe, m_f(M_LOG2_E)));
    const M_F r = m_fma(n, m_f(-M_LN2_LOW), m_fma(n, m_f(-M_LN2_HIGH), safe));
    return m_select_ordered(x, m_scale(m_add(m_expm1_small(r), m_f(1.0f)), m_to_int(n)), x);
}

static inline M_F m_exp2(M_F x)
{
    const M_F safe = m_clamp(x, -151.0f, 129.0f);
    const M_F n = m_rint(safe);
    const M_F fraction = m_sub(safe, n);
    const M_F r = m_fma(fraction, m_f(M_LN2_LOW), m_mul(fraction, m_f(M_LN2_HIGH)));
    return m_select_ordered(x, m_scale(m_add(m_expm1_small(r), m_f(1.0f)), m_to_int(n)), x);
}

/* With e = exp(2|x|) - 1, kept exact near 0: tanh|x| = e / (e + 2). */
static inline M_F m_tanh(M_F x)
{
    const M_I sign = m_iand(m_bits(x), m_i(INT32_MIN));
    const M_F magnitude = m_from_bits(m_iand(m_bits(x), m_i(INT32_MAX)));
    const M_F twice = m_clamp(m_add(magnitude, magnitude), 0.0f, 20.0f);
    const M_F n = m_rint(m_mul(twice, m_f(M_LOG2_E)));
    const M_F r = m_fma(n, m_f(-M_LN2_LOW), m_fma(n, m_f(-M_LN2_HIGH), twice));
    const M_F s = m_pow2(m_to_int(n));
    const M_F e = m_fma(s, m_expm1_small(r), m_sub(s, m_f(1.0f)));
    const M_F y = m_div(e, m_add(e, m_f(2.0f)));
    return m_select_ordered(x, m_from_bits(m_ior(m_bits(y), sign)), x);
}

/* x = 2^k m with sqrt(1/2) <= m < sqrt(2); log m through atanh(f / (2 + f)), f = m - 1. */
static inline M_F m_log_positive(M_F x)
{
    const M_F tiny = m_f(0x1p-126f);
    const M_F scaled = m_select_lt(x, tiny, m_mul(x, m_f(0x1p25f)), x);
    const M_F k_offset = m_select_lt(x, tiny, m_f(-25.0f), m_f(0.0f));
    const M_I bits = m_isub(m_bits(scaled), m_i(0x3f3504f3));
    const M_F k = m_add(m_to_float(m_isar(bits, 23)), k_offset);
    const M_F f = m_sub(m_from_bits(m_iadd(m_iand(bits, m_i(0x7fffff)), m_i(0x3f3504f3))), m_f(1.0f));
    const M_F s = m_div(f, m_add(f, m_f(2.0f)));
    const M_F z = m_mul(s, s);
    M_F series = m_f(2.0f / 9);
    series = m_fma(series, z, m_f(2.0f / 7));
    series = m_fma(series, z, m_f(2.0f / 5));
    series = m_mul(m_fma(series, z, m_f(2.0f / 3)), z);
    const M_F half_square = m_mul(m_mul(f, f), m_f(0.5f));
    const M_F low = m_fma(s, m_add(half_square, series), m_mul(k, m_f(M_LN2_LOW)));
    return m_fma(k, m_f(M_LN2_HIGH), m_sub(f, m_sub(half_square, low)));
}

static inline M_F m_log(M_F x)
{
    const M_F zero = m_f(0.0f), infinity = m_f(INFINITY);
    const M_F finite = m_select_lt(x, infinity, m_log_positive(m_select_lt(zero, x, x, m_f(1.0f))), x);
    const M_F low = m_select_lt(x, zero, m_f(NAN), m_f(-INFINITY));
    return m_select_ordered(x, m_select_lt(zero, x, finite, low), x);
}
