/* SPDX-License-Identifier: Apache-2.0
 * memory.c: large blocks, 2 MB aligned, on huge pages where the system gives them. */
#include "memory.h"

#include <stdint.h>
#include <sys/mman.h>

enum { HUGE = 2 << 20 };

static size_t rounded(size_t bytes)
{
    return (bytes + HUGE - 1) & ~(size_t)(HUGE - 1);
}

void *memory_map(size_t bytes)
{
    if (bytes > SIZE_MAX - 2 * (size_t)HUGE)
        return NULL;
    const size_t n = rounded(bytes);
    char *got = mmap(NULL, n + HUGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (got == MAP_FAILED)
        return NULL;
    char *block = (char *)(((uintptr_t)got + HUGE - 1) & ~(uintptr_t)(HUGE - 1));
    const size_t before = (size_t)(block - got);
    if (before)
        munmap(got, before);
    if (before != HUGE)
        munmap(block + n, HUGE - before);
    madvise(block, n, MADV_HUGEPAGE); /* a wish: without it everything still works */
    return block;
}

void memory_unmap(void *block, size_t bytes)
{
    if (block)
        munmap(block, rounded(bytes));
}
