/* SPDX-License-Identifier: Apache-2.0
 * words.h: CUDA's words for a host's C++ compiler. A thread of a block is a coroutine (block.h); what a warp does
 * together is an exchange of up to 32 bytes a lane. */
#pragma once
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "block.h"

#define __device__
#define __forceinline__ inline
#define __global__
#define __grid_constant__
#define __shared__ static
#define __launch_bounds__(...)
#define __align__(n) alignas(n)
#define __CUDA_ARCH__ 900
#define _Static_assert static_assert

#define VECTOR(name, type, n, ...)          \
    struct alignas(sizeof(type) * n) name { \
        type __VA_ARGS__;                   \
    };
VECTOR(uint2, unsigned, 2, x, y)
VECTOR(uint4, unsigned, 4, x, y, z, w)
VECTOR(float2, float, 2, x, y)
VECTOR(float4, float, 4, x, y, z, w)

static inline uint2 make_uint2(unsigned x, unsigned y)
{
    return { x, y };
}

static inline float2 make_float2(float x, float y)
{
    return { x, y };
}

static inline float4 make_float4(float x, float y, float z, float w)
{
    return { x, y, z, w };
}

#define __syncthreads() block_sync()
#define __syncwarp() warp_sync()

template <class T> static inline T lane_value(const warp_slot *slots, int lane)
{
    T x;
    memcpy(&x, slots[lane & 31], sizeof x);
    return x;
}

template <class T> static inline T __shfl_sync(unsigned, T x, int lane)
{
    return lane_value<T>(warp_exchange(&x, sizeof x), lane);
}

template <class T> static inline T __shfl_xor_sync(unsigned, T x, int mask)
{
    const int lane = (int)threadIdx.x & 31;
    return lane_value<T>(warp_exchange(&x, sizeof x), lane ^ mask);
}

template <class T> static inline T __shfl_up_sync(unsigned, T x, int by)
{
    const int lane = (int)threadIdx.x & 31;
    const warp_slot *slots = warp_exchange(&x, sizeof x);
    return lane >= by ? lane_value<T>(slots, lane - by) : x;
}

static inline unsigned __ballot_sync(unsigned, bool x)
{
    const warp_slot *slots = warp_exchange(&x, sizeof x);
    unsigned all = 0;
    for (int lane = 0; lane < 32; lane++)
        all |= (unsigned)lane_value<bool>(slots, lane) << lane;
    return all;
}

static inline bool __any_sync(unsigned mask, bool x)
{
    return __ballot_sync(mask, x) != 0;
}

static inline int __clz(int x)
{
    return x ? __builtin_clz((unsigned)x) : 32;
}

static inline int __popc(unsigned x)
{
    return __builtin_popcount(x);
}

static inline float __uint_as_float(unsigned x)
{
    float y;
    memcpy(&y, &x, sizeof y);
    return y;
}

static inline unsigned __float_as_uint(float x)
{
    unsigned y;
    memcpy(&y, &x, sizeof y);
    return y;
}

static inline float __int_as_float(int x)
{
    return __uint_as_float((unsigned)x);
}

static inline float __fmaf_rn(float a, float b, float c)
{
    return fmaf(a, b, c);
}

static inline float __fmul_rn(float a, float b)
{
    return a * b; /* compiled with -ffp-contract=off */
}

static inline float __fsub_rn(float a, float b)
{
    return a - b;
}

static inline float __fdividef(float a, float b)
{
    return a / b;
}

template <class T> static inline T __ldcg(const T *at)
{
    return *at;
}

template <class A, class B> static inline auto min(A a, B b)
{
    typedef decltype(a + b) C;
    return (C)a < (C)b ? (C)a : (C)b;
}

template <class A, class B> static inline auto max(A a, B b)
{
    typedef decltype(a + b) C;
    return (C)a > (C)b ? (C)a : (C)b;
}
