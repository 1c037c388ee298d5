/* SPDX-License-Identifier: Apache-2.0
 * ptx.cuh: instead of the device's: barriers that count, copies that take their time, matrices element by element.
 * An address in shared memory counts from the dynamic part's beginning. */
#pragma once
#include "kernel/cuda/device/stress.cuh"
#include "tensor_map.h"

DEVICE u32 shared_address(const void *p)
{
    return (u32)((const u8 *)p - shared_memory);
}

/* ---- mbarriers, in the 64 bits that the device has for them */

struct barrier {
    u64 pending : 20, n_arrivals : 20; /* of this phase: not yet; all */
    u64 n_bytes : 23;                  /* announced and not in */
    u64 phase : 1;
};

DEVICE void barrier_settle(struct barrier *b)
{
    if (b->pending || b->n_bytes)
        return;
    b->pending = b->n_arrivals;
    b->phase ^= 1;
    something_happened();
}

DEVICE void barrier_init(u64 *barrier, i32 n_arrivals)
{
    const struct barrier b = { (u64)n_arrivals, (u64)n_arrivals, 0, 0 };
    memcpy(barrier, &b, sizeof b);
}

DEVICE void barrier_arrive(u64 *barrier)
{
    struct barrier *b = (struct barrier *)barrier;
    if (b->pending == 0)
        misuse("an arrival too many");
    b->pending--;
    barrier_settle(b);
}

DEVICE void warp_arrive(u64 *barrier)
{
    __syncwarp();
    if ((threadIdx.x & 31) == 0)
        barrier_arrive(barrier);
}

DEVICE void barrier_wait(u64 *barrier, u32 phase)
{
    while (((volatile struct barrier *)barrier)->phase == (phase & 1))
        give_turn();
}

DEVICE void barrier_expect(u64 *barrier, u32 bytes)
{
    ((struct barrier *)barrier)->n_bytes += bytes;
    barrier_arrive(barrier);
}

DEVICE u32 add_relaxed(u32 *counter, u32 n)
{
    const u32 before = *counter;
    *counter += n;
    return before;
}

DEVICE u32 add_acq_rel(u32 *counter, u32 n)
{
    return add_relaxed(counter, n);
}

DEVICE void write_now(float *at, float4 x)
{
    *(float4 *)at = x;
}

DEVICE void write_pair_now(float *at, float2 x)
{
    *(float2 *)at = x;
}

DEVICE float4 read_now(const float *at)
{
    return *(const float4 *)at;
}

DEVICE float2 read_pair_now(const float *at)
{
    return *(const float2 *)at;
}

/* ---- copies into shared memory */

struct tensor_map {
    alignas(64) u64 opaque[16];
};

DEVICE void barriers_visible_to_copies(void)
{
}

DEVICE void map_prefetch(const struct tensor_map *map)
{
}

DEVICE u64 policy_evict_first(void)
{
    return 0;
}

/* 128 bytes of the innermost dimension, swizzled by the address; zeros where the box is outside. */
DEVICE void copy_line(u32 to, const struct map_words *m, const i64 at[4])
{
    i64 offset = 0;
    bool is_inside = true;
    for (i32 d = 0; d < 4; d++) {
        is_inside &= at[d] >= 0 && at[d] < m->dims[d + 1];
        offset += at[d] * m->strides[d];
    }
    for (u32 piece = 0; piece < 8; piece++) {
        u8 *out = shared_memory + to + (piece ^ (to / 128 & 7)) * 16;
        if (is_inside)
            memcpy(out, m->base + offset + piece * 16, 16);
        else
            memset(out, 0, 16);
    }
}

struct box { /* on its way */
    u32 to;
    struct map_words map;
    u64 *barrier;
    i64 at[4];
};

DEVICE void box_arrives(const void *what)
{
    const struct box *box = (const struct box *)what;
    const struct map_words m = box->map;
    const u32 n_lines = m.box[1] * m.box[2] * m.box[3] * m.box[4];
    if (box->to % 128 || box->to + n_lines * 128 > SHARED_BYTES)
        misuse("a box to no line of shared memory");
    for (u32 line = 0; line < n_lines; line++) {
        i64 here[4];
        u32 rest = line;
        for (i32 d = 0; d < 4; rest /= m.box[++d])
            here[d] = box->at[d] + rest % m.box[d + 1];
        copy_line(box->to + line * 128, &m, here);
    }
    struct barrier *b = (struct barrier *)box->barrier;
    b->n_bytes -= n_lines * 128;
    barrier_settle(b);
}

DEVICE void copy_box(u32 to, const struct tensor_map *map, u64 *barrier, const i64 at[4])
{
    struct box box = { to, {}, barrier, { at[0], at[1], at[2], at[3] } };
    memcpy(&box.map, map, sizeof box.map);
    do_later(box_arrives, &box, sizeof box);
}

DEVICE void box_5d(u32 to, const struct tensor_map *map, u64 *barrier, i32 slot, i32 head, i32 page, u64 policy)
{
    const i64 at[4] = { slot, 0, head, page };
    copy_box(to, map, barrier, at);
}

DEVICE void column_box_5d(u32 to, const struct tensor_map *map, u64 *barrier, i32 slot, i32 line, i32 head, i32 page,
                          u64 policy)
{
    const i64 at[4] = { slot, line, head, page };
    copy_box(to, map, barrier, at);
}

DEVICE void fine_box_5d(u32 to, const struct tensor_map *map, u64 *barrier, i32 slot, i32 head, i32 page, u64 policy)
{
    const i64 at[4] = { 0, slot, head, page };
    copy_box(to, map, barrier, at);
}

DEVICE void box_ahead_5d(const struct tensor_map *map, bool is_fine, i32 slot, i32 head, i32 page)
{
}

DEVICE void grid_wait(void)
{
}

DEVICE void grid_launch_next(void)
{
}

DEVICE void copy_16(u32 to, const void *from)
{
    if (to % 16 || (uintptr_t)from % 16)
        misuse("a copy of 16 bytes that is not aligned to them");
    memcpy(shared_memory + to, from, 16);
}

DEVICE void copies_arrive(u64 *barrier)
{
    barrier_arrive(barrier);
}

/* ---- matrix fragments of 16-bit elements: of 8 x 8 lane i has row i / 4, columns 2 * (i % 4) and the next */

struct pair {
    u16 x[2];
};

DEVICE u32 pair_bits(struct pair p)
{
    return p.x[0] | (u32)p.x[1] << 16;
}

DEVICE void load_matrices(u32 x[4], u32 at)
{
    const warp_slot *rows = warp_exchange(&at, sizeof at);
    const i32 lane = threadIdx.x & 31;
    for (i32 m = 0; m < 4; m++)
        memcpy(&x[m], shared_memory + lane_value<u32>(rows, m * 8 + lane / 4) + lane % 4 * 4, 4);
    __syncwarp();
}

DEVICE void load_matrices_transposed(u32 x[4], u32 at)
{
    const warp_slot *rows = warp_exchange(&at, sizeof at);
    const i32 lane = threadIdx.x & 31;
    for (i32 m = 0; m < 4; m++) {
        struct pair p;
        for (i32 i = 0; i < 2; i++)
            memcpy(&p.x[i], shared_memory + lane_value<u32>(rows, m * 8 + lane % 4 * 2 + i) + lane / 4 * 2, 2);
        x[m] = pair_bits(p);
    }
    __syncwarp();
}

DEVICE float element_to_f32(u16 x)
{
#if CONFIG_DTYPE == 2
    return f16_to_f32(x);
#else
    return __uint_as_float((u32)x << 16);
#endif
}

struct operands {
    struct pair a[4], b[2];
};

/* c [16 rows][8 columns] += a [16][16] * b [16][8] */
DEVICE void multiply(float c[4], const u32 a[4], u32 b0, u32 b1)
{
    const u32 words[6] = { a[0], a[1], a[2], a[3], b0, b1 };
    const warp_slot *all = warp_exchange(words, sizeof words);
    const i32 lane = threadIdx.x & 31;
    for (i32 i = 0; i < 4; i++) {
        const i32 row = lane / 4 + i / 2 * 8, column = lane % 4 * 2 + i % 2;
        for (i32 k = 0; k < 16; k++) {
            const struct operands x = lane_value<struct operands>(all, row % 8 * 4 + k % 8 / 2);
            const struct operands y = lane_value<struct operands>(all, column * 4 + k % 8 / 2);
            c[i] += element_to_f32(x.a[row / 8 + k / 8 * 2].x[k % 2]) * element_to_f32(y.b[k / 8].x[k % 2]);
        }
    }
}

DEVICE u32 pack(float low, float high)
{
#if CONFIG_DTYPE == 2
    const struct pair p = { { f32_to_f16(low), f32_to_f16(high) } };
#else
    const struct pair p = { { f32_to_bf16(low), f32_to_bf16(high) } };
#endif
    return pair_bits(p);
}

DEVICE u32 transpose(u32 x)
{
    const warp_slot *all = warp_exchange(&x, sizeof x);
    const i32 lane = threadIdx.x & 31;
    struct pair p;
    for (i32 i = 0; i < 2; i++)
        p.x[i] = lane_value<struct pair>(all, (lane % 4 * 2 + i) * 4 + lane / 8).x[lane / 4 % 2];
    return pair_bits(p);
}
