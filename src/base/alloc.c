/* SPDX-License-Identifier: Apache-2.0
 * alloc.c: malloc with 64-byte alignment, a counter and a switch for fault injection.
 *
 * In front of every block stands a 64-byte header that says where the block came from, so that one free serves all. */
#include "base/alloc.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/bits.h"

enum {
    HEADER_BYTES = 64,
    HEADER_ROOM = 64 << 10, /* before huge pages: a whole page of the system's, however large it is */
    HUGE_BYTES = 2 << 20,
    SMALL_BYTES = 64 << 10, /* a reservation that is not worth a trip to the kernel */
};

struct header {
    size_t mapped_bytes; /* 0 = from the heap */
};

static atomic_llong n_allocations;
static atomic_llong allocations_until_failure; /* 0 = never fail */

static bool must_fail(void)
{
    atomic_fetch_add_explicit(&n_allocations, 1, memory_order_relaxed);
    if (atomic_load_explicit(&allocations_until_failure, memory_order_relaxed) == 0)
        return false;
    return atomic_fetch_sub_explicit(&allocations_until_failure, 1, memory_order_relaxed) == 1;
}

void *folio__alloc(size_t n_bytes)
{
    if (must_fail() || n_bytes > SIZE_MAX - 2 * HEADER_BYTES)
        return NULL;
    const size_t total = (n_bytes + HEADER_BYTES + 63) / 64 * 64;
    u8 *block = aligned_alloc(64, total);
    if (!block)
        return NULL;
    ((struct header *)block)->mapped_bytes = 0;
    return block + HEADER_BYTES;
}

void *folio__alloc_zero(size_t n_bytes)
{
    void *memory = folio__alloc(n_bytes);
    if (memory)
        memset(memory, 0, n_bytes);
    return memory;
}

void *folio__reserve_zero(size_t n_bytes)
{
    if (n_bytes <= SMALL_BYTES)
        return folio__alloc_zero(n_bytes);
    if (must_fail() || n_bytes > SIZE_MAX - HEADER_BYTES)
        return NULL;
    const size_t total = n_bytes + HEADER_BYTES;
    u8 *block = mmap(NULL, total, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (block == MAP_FAILED)
        return NULL;
    madvise(block, total, MADV_NOHUGEPAGE); /* a huge page would cost memory around every touch */
    ((struct header *)block)->mapped_bytes = total;
    return block + HEADER_BYTES;
}

void folio__free(void *memory)
{
    if (!memory)
        return;
    u8 *block = (u8 *)memory - HEADER_BYTES;
    const size_t mapped_bytes = ((struct header *)block)->mapped_bytes;
    if (mapped_bytes)
        munmap(block, mapped_bytes);
    else
        free(block);
}

/*   [.......| header | 2 MB boundary: memory ..............|.....]    what the dots stand for is given back */
void *folio__map_huge(size_t n_bytes)
{
    if (must_fail() || n_bytes > SIZE_MAX / 2)
        return NULL;
    const size_t n = round_up(n_bytes + (n_bytes == 0), HUGE_BYTES), total = n + 2 * HUGE_BYTES;
    u8 *got = mmap(NULL, total, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (got == MAP_FAILED)
        return NULL;
    u8 *memory = (u8 *)round_up((uintptr_t)got + HEADER_ROOM, HUGE_BYTES), *first = memory - HEADER_ROOM;
    if (first > got)
        munmap(got, (size_t)(first - got));
    munmap(memory + n, (size_t)(got + total - (memory + n)));
    madvise(memory, n, MADV_HUGEPAGE); /* a wish: without it everything still works */
    ((struct header *)first)->mapped_bytes = HEADER_ROOM + n;
    return memory;
}

void folio__unmap_huge(void *memory)
{
    if (!memory)
        return;
    u8 *first = (u8 *)memory - HEADER_ROOM;
    munmap(first, ((struct header *)first)->mapped_bytes);
}

i64 folio__alloc_count(void)
{
    return atomic_load(&n_allocations);
}

void folio__alloc_fail_at(i64 fail_at)
{
    atomic_store(&allocations_until_failure, fail_at);
}
