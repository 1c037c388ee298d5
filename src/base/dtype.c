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

/* e4m3: bias 7, 3 mantissa bits, no infinity, NaN is all ones. e5m2: the upper half of an f16. */
float folio__e4m3_to_f32(u8 x)
{
    const u32 magnitude = x & 0x7fu, sign = (u32)(x & 0x80u) << 24;
    if (magnitude == 0x7f)
        return float_of(sign | 0x7fc00000u);
    if (magnitude < 8)
        return float_of(sign | bits_of((float)magnitude * 0x1p-9f));
    return float_of(sign | (magnitude + (120u << 3)) << 20);
}

float folio__e5m2_to_f32(u8 x)
{
    return folio__f16_to_f32((u16)(x << 8));
}

u8 folio__f32_to_e4m3(float x)
{
    const u32 bits = bits_of(x), magnitude = bits & 0x7fffffffu;
    const u32 sign = bits >> 24 & 0x80u;
    if (magnitude > 0x7f800000u)
        return (u8)(sign | 0x7fu);
    if (magnitude >= 0x43e00000u) /* >= 448 */
        return (u8)(sign | 0x7eu);
    if (magnitude < 0x3c800000u) /* < 2^-6: a multiple of 2^-9, rounded by the addition */
        return (u8)(sign | (bits_of(float_of(magnitude) + 16384.0f) - bits_of(16384.0f)));
    const u32 rounded = magnitude + 0x7ffffu + (magnitude >> 20 & 1u);
    return (u8)(sign | ((rounded >> 20) - (120u << 3)));
}

u8 folio__f32_to_e5m2(float x)
{
    const u32 bits = bits_of(x), magnitude = bits & 0x7fffffffu;
    const u32 sign = bits >> 24 & 0x80u;
    if (magnitude > 0x7f800000u)
        return (u8)(sign | 0x7fu);
    if (magnitude >= 0x47600000u) /* >= 57344 */
        return (u8)(sign | 0x7bu);
    if (magnitude < 0x38800000u) /* < 2^-14: a multiple of 2^-16 */
        return (u8)(sign | (bits_of(float_of(magnitude) + 128.0f) - bits_of(128.0f)));
    const u32 rounded = magnitude + 0xfffffu + (magnitude >> 21 & 1u);
    return (u8)(sign | ((rounded >> 21) - (112u << 2)));
}

i8 folio__f32_to_i8(float x)
{
    if (isnan(x))
        return 0;
    return (i8)rintf(x > 127.0f ? 127.0f : x < -127.0f ? -127.0f : x);
}

float folio__dtype_max(enum dtype dtype)
{
    return dtype == DTYPE_E4M3 ? 448.0f : dtype == DTYPE_E5M2 ? 57344.0f : 127.0f;
}

static float load_byte(enum dtype dtype, const void *p)
{
    u8 byte;
    i8 whole;
    memcpy(&byte, p, sizeof byte);
    memcpy(&whole, p, sizeof whole);
    return dtype == DTYPE_E4M3   ? folio__e4m3_to_f32(byte)
           : dtype == DTYPE_E5M2 ? folio__e5m2_to_f32(byte)
                                 : (float)whole;
}

static void store_byte(enum dtype dtype, void *p, float x)
{
    const u8 byte = dtype == DTYPE_E4M3   ? folio__f32_to_e4m3(x)
                    : dtype == DTYPE_E5M2 ? folio__f32_to_e5m2(x)
                                          : (u8)folio__f32_to_i8(x);
    memcpy(p, &byte, sizeof byte);
}

float folio__load_float(enum dtype dtype, const void *p)
{
    u16 half;
    float x;
    if (dtype_is_quantised(dtype))
        return load_byte(dtype, p);
    if (dtype == DTYPE_F32) {
        memcpy(&x, p, sizeof x);
        return x;
    }
    memcpy(&half, p, sizeof half);
    return dtype == DTYPE_F16 ? folio__f16_to_f32(half) : folio__bf16_to_f32(half);
}

void folio__store_float(enum dtype dtype, void *p, float x)
{
    if (dtype_is_quantised(dtype)) {
        store_byte(dtype, p, x);
        return;
    }
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
