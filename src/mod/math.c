/* SPDX-License-Identifier: Apache-2.0
 * math.c: the functions of math_tmpl.h for one float, and those that go through the C library's double precision. */
#include <math.h>
#include <string.h>

#include "mod/eval.h"

typedef float M_F;
typedef i32 M_I;

static inline float m_f(float x)
{
    return x;
}

static inline i32 m_i(i32 n)
{
    return n;
}

static inline float m_add(float a, float b)
{
    return a + b;
}

static inline float m_sub(float a, float b)
{
    return a - b;
}

static inline float m_mul(float a, float b)
{
    return a * b;
}

static inline float m_div(float a, float b)
{
    return a / b;
}

static inline float m_fma(float a, float b, float c)
{
    return fmaf(a, b, c);
}

static inline float m_rint(float x)
{
    return rintf(x);
}

static inline float m_select_lt(float a, float b, float x, float y)
{
    return a < b ? x : y;
}

static inline float m_select_ordered(float x, float y, float z)
{
    return isnan(x) ? z : y;
}

static inline i32 m_to_int(float x)
{
    return (i32)x;
}

static inline float m_to_float(i32 n)
{
    return (float)n;
}

static inline i32 m_bits(float x)
{
    i32 bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

static inline float m_from_bits(i32 bits)
{
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

static inline i32 m_iadd(i32 a, i32 b)
{
    return (i32)((u32)a + (u32)b);
}

static inline i32 m_isub(i32 a, i32 b)
{
    return (i32)((u32)a - (u32)b);
}

static inline i32 m_iand(i32 a, i32 b)
{
    return a & b;
}

static inline i32 m_ior(i32 a, i32 b)
{
    return a | b;
}

static inline i32 m_ishl(i32 a, i32 count)
{
    return (i32)((u32)a << count);
}

static inline i32 m_isar(i32 a, i32 count)
{
    return a >= 0 ? a >> count : ~(~a >> count);
}

#include "mod/math_tmpl.h"

float folio__mod_exp(float x)
{
    return m_exp(x);
}

float folio__mod_exp2(float x)
{
    return m_exp2(x);
}

float folio__mod_log(float x)
{
    return m_log(x);
}

float folio__mod_tanh(float x)
{
    return m_tanh(x);
}

float folio__mod_sin(float x)
{
    return (float)sin((double)x);
}

float folio__mod_cos(float x)
{
    return (float)cos((double)x);
}

float folio__mod_pow(float x, float y)
{
    return (float)pow((double)x, (double)y);
}
