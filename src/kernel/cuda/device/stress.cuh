/* SPDX-License-Identifier: Apache-2.0
 * stress.cuh: random delays before waits and arrivals, in builds with CONFIG_STRESS=1: whoever relies on an order that
 * no barrier gives then gets other bits. Nothing at all in every other build. */
#pragma once
#include "kernel/cuda/device/numbers.cuh"

#if CONFIG_STRESS
/* One time in four, up to 2 us. */
DEVICE void delay(void)
{
    u32 x = ((u32)clock64() ^ blockIdx.x * 0x9e3779b9u ^ threadIdx.x * 0x85ebca6bu) * 0xc2b2ae35u;
    x ^= x >> 15;
    if ((x & 3) == 0)
        __nanosleep(x >> 8 & 2047);
}
#else
DEVICE void delay(void)
{
}
#endif
