/* SPDX-License-Identifier: Apache-2.0
 * wgmma.cuh: the products of a warpgroup of 4 warps, and what orders them beside ordinary accesses. sm_90a only.
 *
 * Operands in shared memory lie as 128-byte lines of 64 elements, pieces at piece ^ (line % 8): the copy engine's
 * 128-byte swizzle. A descriptor names where one begins and how far its groups of 8 lines are apart. Of 64 rows warp
 * w has 16 w .., a thread of it rows lane / 4 and that + 8; of every 8 columns it has 2 * (lane % 4) and the next:
 *
 *   c[4 * j + i]: row lane / 4 + 8 * (i / 2), column 8 * j + 2 * (lane % 4) + i % 2 */
#pragma once
#include "kernel/cuda/device/ptx.cuh"

enum { GROUP_ROWS = 64, GROUP_THREADS = 128, SCORE_KEYS = 64, VALUE_COLUMNS = 128 };

/* The first half of a descriptor says where an operand begins; the second is a constant. So one that lies n bytes
 * behind is n / 16 more. Lines of 8 rows, then the next 8 rows: elements that are summed over lie side by side. */
DEVICE u32 rows_descriptor(u32 at)
{
    return at >> 4 | (u32)1 << 16;
}

/* The other way round: a line is 64 columns of one of the summed; the next 64 columns lie column_bytes behind. */
DEVICE u32 columns_descriptor(u32 at, u32 column_bytes)
{
    return at >> 4 | column_bytes >> 4 << 16;
}

/* The second half: groups of 8 lines follow one another; swizzled. */
#define DESCRIPTOR_HIGH "0x40000040"

#define FOUR(x, i) "+f"((x)[(i)]), "+f"((x)[(i) + 1]), "+f"((x)[(i) + 2]), "+f"((x)[(i) + 3])
#define WORDS(x, i) "+r"((x)[(i)]), "+r"((x)[(i) + 1]), "+r"((x)[(i) + 2]), "+r"((x)[(i) + 3])
#define SIXTEEN(x, i) FOUR(x, i), FOUR(x, (i) + 4), FOUR(x, (i) + 8), FOUR(x, (i) + 12)

/* Before the first of some products: this thread's registers and what it reads are ready. */
DEVICE void products_begin(void)
{
    asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}

DEVICE void products_end(void)
{
    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}

/* All products are done. What they write comes into the asm, so that nothing reads it before. */
DEVICE void scores_wait(float c[SCORE_KEYS / 2])
{
    asm volatile("wgmma.wait_group.sync.aligned 0;" : SIXTEEN(c, 0), SIXTEEN(c, 16)::"memory");
}

/* All but those since the last products_end but one. */
DEVICE void scores_wait_for_first(float c[SCORE_KEYS / 2])
{
    asm volatile("wgmma.wait_group.sync.aligned 1;" : SIXTEEN(c, 0), SIXTEEN(c, 16)::"memory");
}

/* a: what they read, so that nothing overwrites it before. */
DEVICE void values_wait(float c[VALUE_COLUMNS / 2], u32 a[SCORE_KEYS / 4])
{
    asm volatile("wgmma.wait_group.sync.aligned 0;"
                 : SIXTEEN(c, 0), SIXTEEN(c, 16), SIXTEEN(c, 32), SIXTEEN(c, 48), WORDS(a, 0), WORDS(a, 4), WORDS(a, 8),
                   WORDS(a, 12)::"memory");
}

/* Not when it is needed. */
DEVICE void compute_now(float x[SCORE_KEYS / 2])
{
    asm volatile("" : SIXTEEN(x, 0), SIXTEEN(x, 16)::"memory");
}

/* c [64 rows][64 keys] = or += a [64][16] * b [64][16]^T, both in shared memory. */
DEVICE void multiply_scores(float c[SCORE_KEYS / 2], u32 a, u32 b, bool adds)
{
    asm volatile("{\n\t.reg .pred p;\n\t.reg .b64 a, b;\n\tsetp.ne.b32 p, %34, 0;\n\t"
                 "mov.b64 a, {%32, " DESCRIPTOR_HIGH "};\n\tmov.b64 b, {%33, " DESCRIPTOR_HIGH "};\n\t"
                 "wgmma.mma_async.sync.aligned.m64n64k16.f32." MULTIPLY_TYPE "." MULTIPLY_TYPE " {"
                 "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
                 "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
                 "}, a, b, p, 1, 1, 0, 0;\n\t}"
                 : SIXTEEN(c, 0), SIXTEEN(c, 16)
                 : "r"(a), "r"(b), "r"((i32)adds)
                 : "memory");
}

/* c [64 rows][128 columns] += a [64][16 tokens] * b [16][128]; a in registers: of tokens 8 * (i / 2) + 2 * (lane % 4)
 * and the next, of row lane / 4 + 8 * (i % 2). */
DEVICE void multiply_values(float c[VALUE_COLUMNS / 2], const u32 a[4], u32 b)
{
    asm volatile("{\n\t.reg .pred p;\n\t.reg .b64 b;\n\tsetp.ne.b32 p, 1, 0;\n\t"
                 "mov.b64 b, {%68, " DESCRIPTOR_HIGH "};\n\t"
                 "wgmma.mma_async.sync.aligned.m64n128k16.f32." MULTIPLY_TYPE "." MULTIPLY_TYPE " {"
                 "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
                 "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "
                 "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "
                 "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
                 "}, {%64, %65, %66, %67}, b, p, 1, 1, 1;\n\t}"
                 : SIXTEEN(c, 0), SIXTEEN(c, 16), SIXTEEN(c, 32), SIXTEEN(c, 48)
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b)
                 : "memory");
}

/* What this thread has written to shared memory can be read by products and overwritten by copies, once a barrier has
 * told whoever starts them. */
DEVICE void writes_visible_to_products(void)
{
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

DEVICE void clear_16(u32 at)
{
    asm volatile("st.shared.v4.b32 [%0], {%1, %1, %1, %1};" ::"r"(at), "r"(0) : "memory");
}

/* The 128 threads of a warpgroup meet. */
DEVICE void group_sync(i32 group)
{
    delay();
    asm volatile("bar.sync %0, 128;" ::"r"(group + 1) : "memory");
}

/* Of 3 warpgroups of 168 registers a thread each, two that multiply take what the third gives: 216 + 216 + 72 =
 * 3 x 168, or they would wait forever. */
DEVICE void take_registers(void)
{
    asm volatile("setmaxnreg.inc.sync.aligned.u32 216;");
}

DEVICE void give_registers(void)
{
    asm volatile("setmaxnreg.dec.sync.aligned.u32 72;");
}
