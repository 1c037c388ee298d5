/* SPDX-License-Identifier: Apache-2.0
 * numbers.cuh: elements of tensors as floats, and back. */
#pragma once
#include "kernel/cuda/device/convert.cuh"

#define INFINITY_F __int_as_float(0x7f800000)
#define NAN_F __int_as_float(0x7fffffff)
#define LOG2_E 1.4426950408889634f
#define LN_2 0.6931471805599453f

DEVICE float bf16_to_f32(u16 x)
{
    return __int_as_float((int)((u32)x << 16));
}

DEVICE float load_number(const void *p, i32 dtype)
{
    return dtype == DTYPE_F32   ? *(const float *)p
           : dtype == DTYPE_F16 ? f16_to_f32(*(const u16 *)p)
                                : bf16_to_f32(*(const u16 *)p);
}

DEVICE void store_number(void *p, i32 dtype, float x)
{
    if (dtype == DTYPE_F32)
        *(float *)p = x;
    else
        *(u16 *)p = dtype == DTYPE_F16 ? f32_to_f16(x) : f32_to_bf16(x);
}

DEVICE i32 number_bytes(i32 dtype)
{
    return dtype == DTYPE_F32 ? 4 : 2;
}

DEVICE i64 load_index(const void *p, i32 is_i64, i64 i)
{
    return is_i64 ? ((const i64 *)p)[i] : ((const i32 *)p)[i];
}

/* x / y of what nearly always has 32 bits: a division of 64 is a hundred instructions. 0 <= x, 0 < y */
DEVICE i64 divide(i64 x, i64 y)
{
    return ((u64)x | (u64)y) >> 32 ? x / y : (i64)((u32)x / (u32)y);
}

DEVICE i32 clamp(i32 x, i32 lo, i32 hi)
{
    return min(max(x, lo), hi);
}

DEVICE i64 clamp64(i64 x, i64 lo, i64 hi)
{
    return x < lo ? lo : x > hi ? hi : x;
}
