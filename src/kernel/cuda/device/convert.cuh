/* SPDX-License-Identifier: Apache-2.0
 * convert.cuh: conversions and the exponential, each one instruction; what every device function is declared with. */
#pragma once
#include "kernel/args.h"

#define DEVICE static __device__ __forceinline__
#define DYNAMIC_SHARED(alignment, name)    \
    extern __shared__ __align__(alignment) \
    u8 name[]

DEVICE float exp2_fast(float x) /* 2 ulp; -inf gives 0 */
{
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

DEVICE float f16_to_f32(u16 x)
{
    float y;
    asm("cvt.f32.f16 %0, %1;" : "=f"(y) : "h"(x));
    return y;
}

DEVICE u16 f32_to_f16(float x)
{
    u16 y;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(y) : "f"(x));
    return y;
}

DEVICE u16 f32_to_bf16(float x)
{
    u32 y;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(y) : "f"(0.0f), "f"(x));
    return (u16)y;
}
