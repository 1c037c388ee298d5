/* SPDX-License-Identifier: Apache-2.0
 * wgmma.cuh: instead of the device's: each thread sums up its own elements when the product is asked for. What wgmma
 * reads from shared memory is found through the same descriptors. */
#pragma once
#include "kernel/cuda/device/ptx.cuh"

enum { GROUP_ROWS = 64, GROUP_THREADS = 128, SCORE_KEYS = 64, VALUE_COLUMNS = 128 };

DEVICE u32 rows_descriptor(u32 at)
{
    return at >> 4 | (u32)1 << 16;
}

DEVICE u32 columns_descriptor(u32 at, u32 column_bytes)
{
    return at >> 4 | column_bytes >> 4 << 16;
}

/* An element by the address it would have without the swizzle. */
DEVICE float element_at(u32 at)
{
    u16 x;
    memcpy(&x, shared_memory + (at ^ (at / 128 & 7) * 16), 2);
    return element_to_f32(x);
}

/* The address that a descriptor begins at, and its two distances in bytes. */
struct description {
    u32 at, leading, stride;
};

DEVICE struct description describe(u32 descriptor)
{
    const struct description d = { (descriptor & 0x3fff) << 4, (descriptor >> 16 & 0x3fff) << 4, 1024 };
    return d;
}

/* Row `row` of 16 elements that are summed over, side by side. */
DEVICE float in_row(const struct description *d, i32 row, i32 k)
{
    return element_at(d->at + (u32)(row / 8) * d->stride + (u32)(row % 8 * 128 + k * 2));
}

/* Column `column` of 16 lines. */
DEVICE float in_column(const struct description *d, i32 column, i32 k)
{
    return element_at(d->at + (u32)(column / 64) * d->leading + (u32)(k / 8) * d->stride +
                      (u32)(k % 8 * 128 + column % 64 * 2));
}

DEVICE void products_begin(void)
{
    __syncwarp();
}

DEVICE void products_end(void)
{
    __syncwarp();
}

DEVICE void scores_wait(float c[SCORE_KEYS / 2])
{
    __syncwarp();
}

DEVICE void scores_wait_for_first(float c[SCORE_KEYS / 2])
{
    __syncwarp();
}

DEVICE void values_wait(float c[VALUE_COLUMNS / 2], u32 a[SCORE_KEYS / 4])
{
    __syncwarp();
}

DEVICE void compute_now(float x[SCORE_KEYS / 2])
{
}

DEVICE void multiply_scores(float c[SCORE_KEYS / 2], u32 a, u32 b, bool adds)
{
    const struct description x = describe(a), y = describe(b);
    const i32 lane = threadIdx.x & 31;
    for (i32 row = 0; row < 2; row++) {
        float q[16];
        for (i32 k = 0; k < 16; k++)
            q[k] = in_row(&x, (i32)(threadIdx.x / 32 % 4) * 16 + lane / 4 + row * 8, k);
        for (i32 i = 0; i < SCORE_KEYS / 4; i++) {
            float *sum = &c[i / 2 * 4 + row * 2 + i % 2];
            *sum = adds ? *sum : 0.0f;
            for (i32 k = 0; k < 16; k++)
                *sum += q[k] * in_row(&y, i / 2 * 8 + lane % 4 * 2 + i % 2, k);
        }
    }
}

DEVICE void multiply_values(float c[VALUE_COLUMNS / 2], const u32 a[4], u32 b)
{
    struct four {
        struct pair x[4];
    };
    const warp_slot *all = warp_exchange(a, 16);
    const struct description y = describe(b);
    const i32 lane = threadIdx.x & 31;
    for (i32 k = 0; k < 16; k++) {
        const struct four p = lane_value<struct four>(all, lane / 4 * 4 + k % 8 / 2);
        const float rows[2] = { element_to_f32(p.x[k / 8 * 2].x[k % 2]), element_to_f32(p.x[k / 8 * 2 + 1].x[k % 2]) };
        for (i32 i = 0; i < VALUE_COLUMNS / 4; i++) {
            const float v = in_column(&y, i / 2 * 8 + lane % 4 * 2 + i % 2, k);
            for (i32 row = 0; row < 2; row++)
                c[i / 2 * 4 + row * 2 + i % 2] += rows[row] * v;
        }
    }
}

DEVICE void writes_visible_to_products(void)
{
}

DEVICE void clear_16(u32 at)
{
    memset(shared_memory + at, 0, 16);
}

DEVICE void group_sync(i32 group)
{
    part_sync(group + 1, GROUP_THREADS);
}

DEVICE void take_registers(void)
{
}

DEVICE void give_registers(void)
{
}
