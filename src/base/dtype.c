/* SPDX-License-Identifier: Apache-2.0
 * dtype.c: sizes, names and exact scalar conversions. */
#include "base/dtype.h"

#include <math.h>
#include <string.h>

i32 folio__dtype_bytes(enum dtype dtype)
{
    static const u8 bytes[] = { 0, 4, 2, 2, 1, 1, 1, 4, 8, 1 };
    return bytes[dtype];
}

const char *folio__dtype_name(enum dtype dtype)
{
    static const char *const names[] = { "none", "f32", "f16", "bf16", "e4m3", "e5m2", "i8", "i32", "i64", "bool" };
    return names[dtype];
}

static u32 bits_of(float x)
{
    u32 bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

static float float_of(u32 bits)
{
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

float folio__bf16_to_f32(u16 x)
{
    return float_of((u32)x << 16);
}

u16 folio__f32_to_bf16(float x)
{
    const u32 bits = bits_of(x);
    if ((bits & 0x7fffffffu) > 0x7f800000u)
        return (u16)(bits >> 16 | 0x40u);
    return (u16)((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}

/* f16: 1 sign, 5 exponent (bias 15), 10 mantissa bits; f32: 8 exponent (bias 127), 23 mantissa bits. */
float folio__f16_to_f32(u16 x)
{
    const u32 sign = (u32)(x & 0x8000u) << 16;
    const u32 exponent = x >> 10 & 0x1fu;
    const u32 mantissa = x & 0x3ffu;
    if (exponent == 0x1f)
        return float_of(sign | 0x7f800000u | mantissa << 13 | (mantissa ? 0x400000u : 0));
    if (exponent == 0) {
        const float magnitude = (float)mantissa * 0x1p-24f; /* exact: subnormals are multiples of 2^-24 */
        return float_of(sign | bits_of(magnitude));
    }
    return float_of(sign | (exponent + 112) << 23 | mantissa << 13);
}

u16 folio__f32_to_f16(float x)
{
    const u32 bits = bits_of(x);
    const u16 sign = (u16)(bits >> 16 & 0x8000u);
    const u32 magnitude = bits & 0x7fffffffu;
    if (magnitude > 0x7f800000u)
        return (u16)(sign | 0x7e00u | (magnitude >> 13 & 0x3ffu));
    if (magnitude >= 0x47800000u) /* >= 65536 */
        return (u16)(sign | 0x7c00u);
    if (magnitude < 0x38800000u) { /* < 2^-14: a multiple of 2^-24, rounded by the addition to 0.5 ulp grid */
        const float shifted = float_of(magnitude) + 0.5f;
        return (u16)(sign | (bits_of(shifted) - bits_of(0.5f)));
    }
    const u32 rounded = magnitude + 0xfffu + (magnitude >> 13 & 1u);
    return (u16)(sign | ((rounded >> 13) - (112u << 10)));
}

float folio__load_float(enum dtype dtype, const void *p)
{
    u16 half;
    float x;
    if (dtype == DTYPE_F32) {
        memcpy(&x, p, sizeof x);
        return x;
    }
    memcpy(&half, p, sizeof half);
    return dtype == DTYPE_F16 ? folio__f16_to_f32(half) : folio__bf16_to_f32(half);
}

void folio__store_float(enum dtype dtype, void *p, float x)
{
    if (dtype == DTYPE_F32) {
        memcpy(p, &x, sizeof x);
        return;
    }
    const u16 half = dtype == DTYPE_F16 ? folio__f32_to_f16(x) : folio__f32_to_bf16(x);
    memcpy(p, &half, sizeof half);
}

/* Rounding to odd in f32 first makes the second rounding exact: f32 has more than two spare bits over f16 and bf16. */
static float round_to_odd(double x)
{
    const float nearest = (float)x;
    if (isnan(x) || isinf(nearest) || (double)nearest == x)
        return nearest;
    u32 bits = bits_of(nearest);
    if (fabs((double)nearest) > fabs(x)) /* went up: step back to the truncated value */
        bits -= 1;
    return float_of(bits | 1u);
}

void folio__store_double(enum dtype dtype, void *p, double x)
{
    folio__store_float(dtype, p, dtype == DTYPE_F32 ? (float)x : round_to_odd(x));
}

i64 folio__load_index(enum dtype dtype, const void *p)
{
    i32 narrow;
    i64 wide;
    if (dtype == DTYPE_I64) {
        memcpy(&wide, p, sizeof wide);
        return wide;
    }
    memcpy(&narrow, p, sizeof narrow);
    return narrow;
}
