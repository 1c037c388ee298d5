/* SPDX-License-Identifier: Apache-2.0
 * ptx.cuh: instructions that CUDA C has no words for: barriers in shared memory, the copy engine, matrix fragments. */
#pragma once
#include "kernel/cuda/device/stress.cuh"

DEVICE u32 shared_address(const void *p)
{
    return (u32)__cvta_generic_to_shared(p);
}

/* ---- mbarriers: a phase completes when all arrivals and all announced bytes are in */

DEVICE void barrier_init(u64 *barrier, i32 n_arrivals)
{
    asm volatile("mbarrier.init.shared.b64 [%0], %1;" ::"r"(shared_address(barrier)), "r"(n_arrivals) : "memory");
}

DEVICE void barrier_arrive(u64 *barrier)
{
    delay();
    asm volatile("mbarrier.arrive.shared.b64 _, [%0];" ::"r"(shared_address(barrier)) : "memory");
}

/* For the whole warp, once all its lanes have come here. */
DEVICE void warp_arrive(u64 *barrier)
{
    __syncwarp();
    if ((threadIdx.x & 31) == 0)
        barrier_arrive(barrier);
}

DEVICE void barrier_wait(u64 *barrier, u32 phase)
{
    u32 done = 0;
    delay();
    while (!done)
        asm volatile("{\n\t.reg .pred p;\n\t"
#if __CUDA_ARCH__ >= 900
                     "mbarrier.try_wait.parity.shared.b64 p, [%1], %2;\n\t"
#else
                     "mbarrier.test_wait.parity.shared.b64 p, [%1], %2;\n\t"
#endif
                     "selp.u32 %0, 1, 0, p;\n\t}"
                     : "=r"(done)
                     : "r"(shared_address(barrier)), "r"(phase)
                     : "memory");
}

DEVICE u32 add_relaxed(u32 *counter, u32 n)
{
    u32 before;
    delay();
    asm volatile("atom.relaxed.gpu.global.add.u32 %0, [%1], %2;" : "=r"(before) : "l"(counter), "r"(n) : "memory");
    return before;
}

/* What this thread and, by __syncwarp, its warp wrote before is visible to whoever sees the sum, and the reverse. */
DEVICE u32 add_acq_rel(u32 *counter, u32 n)
{
    u32 before;
    delay();
    asm volatile("atom.acq_rel.gpu.global.add.u32 %0, [%1], %2;" : "=r"(before) : "l"(counter), "r"(n) : "memory");
    return before;
}

/* ---- what one block writes while another reads it: 16 or 8 bytes are old or new as a whole, in no order */

DEVICE void write_now(float *at, float4 x)
{
    delay();
    asm volatile("{\n\t.reg .b64 low, high;\n\t.reg .b128 all;\n\t"
                 "mov.b64 low, {%1, %2};\n\tmov.b64 high, {%3, %4};\n\tmov.b128 all, {low, high};\n\t"
                 "st.relaxed.gpu.global.b128 [%0], all;\n\t}" ::"l"(at),
                 "f"(x.x), "f"(x.y), "f"(x.z), "f"(x.w)
                 : "memory");
}

DEVICE float4 read_now(const float *at)
{
    float4 x;
    asm volatile("{\n\t.reg .b64 low, high;\n\t.reg .b128 all;\n\tld.relaxed.gpu.global.b128 all, [%4];\n\t"
                 "mov.b128 {low, high}, all;\n\tmov.b64 {%0, %1}, low;\n\tmov.b64 {%2, %3}, high;\n\t}"
                 : "=f"(x.x), "=f"(x.y), "=f"(x.z), "=f"(x.w)
                 : "l"(at)
                 : "memory");
    return x;
}

DEVICE void write_pair_now(float *at, float2 x)
{
    delay();
    asm volatile("{\n\t.reg .b64 all;\n\tmov.b64 all, {%1, %2};\n\tst.relaxed.gpu.global.b64 [%0], all;\n\t}" ::"l"(at),
                 "f"(x.x), "f"(x.y)
                 : "memory");
}

DEVICE float2 read_pair_now(const float *at)
{
    float2 x;
    asm volatile("{\n\t.reg .b64 all;\n\tld.relaxed.gpu.global.b64 all, [%2];\n\tmov.b64 {%0, %1}, all;\n\t}"
                 : "=f"(x.x), "=f"(x.y)
                 : "l"(at)
                 : "memory");
    return x;
}

/* ---- copies into shared memory */

struct tensor_map { /* made by the host; 64-byte aligned */
    __align__(64) u64 opaque[16];
};

#if __CUDA_ARCH__ >= 900
DEVICE void barrier_expect(u64 *barrier, u32 bytes)
{
    delay();
    asm volatile("mbarrier.arrive.expect_tx.shared.b64 _, [%0], %1;" ::"r"(shared_address(barrier)), "r"(bytes)
                 : "memory");
}

DEVICE void barriers_visible_to_copies(void)
{
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}

DEVICE void map_prefetch(const struct tensor_map *map)
{
    asm volatile("prefetch.tensormap [%0];" ::"l"(map) : "memory");
}

/* K and V are read once: they should not push out what will be read again. */
DEVICE u64 policy_evict_first(void)
{
    u64 policy;
    asm volatile("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(policy));
    return policy;
}

DEVICE void box_5d(u32 to, const struct tensor_map *map, u64 *barrier, i32 slot, i32 head, i32 page, u64 policy)
{
    asm volatile("cp.async.bulk.tensor.5d.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint "
                 "[%0], [%1, {%3, %4, %3, %5, %6}], [%2], %7;" ::"r"(to),
                 "l"(map), "r"(shared_address(barrier)), "r"(0), "r"(slot), "r"(head), "r"(page), "l"(policy)
                 : "memory");
}

/* 64 elements of some tokens: of a map whose boxes have one line of each. */
DEVICE void column_box_5d(u32 to, const struct tensor_map *map, u64 *barrier, i32 slot, i32 line, i32 head, i32 page,
                          u64 policy)
{
    asm volatile("cp.async.bulk.tensor.5d.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint "
                 "[%0], [%1, {%3, %4, %5, %6, %7}], [%2], %8;" ::"r"(to),
                 "l"(map), "r"(shared_address(barrier)), "r"(0), "r"(slot), "r"(line), "r"(head), "r"(page), "l"(policy)
                 : "memory");
}

/* Lines of a token follow one another: the map's second dimension. */
DEVICE void fine_box_5d(u32 to, const struct tensor_map *map, u64 *barrier, i32 slot, i32 head, i32 page, u64 policy)
{
    asm volatile("cp.async.bulk.tensor.5d.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint "
                 "[%0], [%1, {%3, %3, %4, %5, %6}], [%2], %7;" ::"r"(to),
                 "l"(map), "r"(shared_address(barrier)), "r"(0), "r"(slot), "r"(head), "r"(page), "l"(policy)
                 : "memory");
}

/* Into the L2 only. The order of coordinates is that of box_5d, or of fine_box_5d. */
DEVICE void box_ahead_5d(const struct tensor_map *map, bool is_fine, i32 slot, i32 head, i32 page)
{
    asm volatile("cp.async.bulk.prefetch.tensor.5d.L2.global.tile [%0, {%1, %2, %3, %4, %5}];" ::"l"(map), "r"(0),
                 "r"(is_fine ? 0 : slot), "r"(is_fine ? slot : 0), "r"(head), "r"(page)
                 : "memory");
}

/* Wait for the grid before this one in the stream; let the next one start. */
DEVICE void grid_wait(void)
{
    delay();
    asm volatile("griddepcontrol.wait;" ::: "memory");
}

DEVICE void grid_launch_next(void)
{
    delay();
    asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
}
#else
DEVICE void grid_wait(void)
{
}

DEVICE void grid_launch_next(void)
{
}
#endif

DEVICE void copy_16(u32 to, const void *from)
{
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(to), "l"(from) : "memory");
}

/* Arrives when the thread's copies so far are in; the barrier counts this arrival. */
DEVICE void copies_arrive(u64 *barrier)
{
    delay();
    asm volatile("cp.async.mbarrier.arrive.noinc.shared.b64 [%0];" ::"r"(shared_address(barrier)) : "memory");
}

/* ---- matrix fragments of 16-bit elements */

DEVICE void load_matrices(u32 x[4], u32 at)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(x[0]), "=r"(x[1]), "=r"(x[2]), "=r"(x[3])
                 : "r"(at)
                 : "memory");
}

DEVICE void load_matrices_transposed(u32 x[4], u32 at)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(x[0]), "=r"(x[1]), "=r"(x[2]), "=r"(x[3])
                 : "r"(at)
                 : "memory");
}

/* c [16 rows][8 columns] += a [16][16] * b [16][8] */
DEVICE void multiply(float c[4], const u32 a[4], u32 b0, u32 b1)
{
#if CONFIG_DTYPE == 2
#define MULTIPLY_TYPE "f16"
#else
#define MULTIPLY_TYPE "bf16"
#endif
    asm("mma.sync.aligned.m16n8k16.row.col.f32." MULTIPLY_TYPE "." MULTIPLY_TYPE ".f32 "
        "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

/* Two floats as 16-bit elements: low, high. */
DEVICE u32 pack(float low, float high)
{
    u32 x;
#if CONFIG_DTYPE == 2
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(x) : "f"(high), "f"(low));
#else
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(x) : "f"(high), "f"(low));
#endif
    return x;
}

/* An 8 x 8 matrix of 16-bit elements across the warp, rows and columns exchanged. */
DEVICE u32 transpose(u32 x)
{
    u32 y;
    asm("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;" : "=r"(y) : "r"(x));
    return y;
}
