/* SPDX-License-Identifier: Apache-2.0
 * guarded.c: memory between two red zones. */
#include "support/guarded.h"

#include <stdlib.h>
#include <string.h>

#include "base/bits.h"

enum { RED_BYTES = 192, RED = 0xa5 };

/* Under address sanitizer a red zone must not be read either. */
#if defined(__SANITIZE_ADDRESS__)
void __asan_poison_memory_region(const volatile void *p, size_t n);
void __asan_unpoison_memory_region(const volatile void *p, size_t n);
#else
#define __asan_poison_memory_region(p, n) ((void)(p), (void)(n))
#define __asan_unpoison_memory_region(p, n) ((void)(p), (void)(n))
#endif

static void guarded_lock(const struct guarded *g, bool lock)
{
    u8 *const zones[] = { g->block, g->block + RED_BYTES + g->bytes };
    for (size_t i = 0; i < COUNT_OF(zones); i++)
        if (lock)
            __asan_poison_memory_region(zones[i], RED_BYTES);
        else
            __asan_unpoison_memory_region(zones[i], RED_BYTES);
}

void guarded_free(struct guarded *g)
{
    if (g->block)
        guarded_lock(g, false);
    free(g->block);
    g->block = NULL;
}

void *guarded_alloc(struct guarded *g, size_t bytes, int fill)
{
    guarded_free(g);
    g->bytes = bytes;
    g->block = aligned_alloc(64, (bytes + 2 * RED_BYTES + 63) / 64 * 64);
    if (!g->block)
        abort();
    memset(g->block, RED, bytes + 2 * RED_BYTES);
    memset(g->block + RED_BYTES, fill, bytes);
    guarded_lock(g, true);
    return g->block + RED_BYTES;
}

void *guarded_data(const struct guarded *g)
{
    return g->block + RED_BYTES;
}

bool guarded_intact(const struct guarded *g)
{
    if (!g->block)
        return true;
    bool intact = true;
    guarded_lock(g, false);
    for (size_t i = 0; i < RED_BYTES; i++)
        intact &= g->block[i] == RED && g->block[RED_BYTES + g->bytes + i] == RED;
    guarded_lock(g, true);
    return intact;
}
