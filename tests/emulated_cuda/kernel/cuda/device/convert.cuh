/* SPDX-License-Identifier: Apache-2.0
 * convert.cuh: instead of the device's: the same conversions by the host. */
#pragma once
#include "kernel/args.h"

#define DEVICE [[maybe_unused]] static inline
#define DYNAMIC_SHARED(alignment, name) u8 *const name = shared_memory

DEVICE float exp2_fast(float x)
{
    return exp2f(x);
}

DEVICE float f16_to_f32(u16 x)
{
    _Float16 y;
    memcpy(&y, &x, sizeof y);
    return (float)y;
}

DEVICE u16 f32_to_f16(float x)
{
    const _Float16 y = (_Float16)x;
    u16 bits;
    memcpy(&bits, &y, sizeof bits);
    return bits;
}

DEVICE u16 f32_to_bf16(float x)
{
    u32 bits;
    memcpy(&bits, &x, sizeof bits);
    return x != x ? 0x7fff : (u16)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}
