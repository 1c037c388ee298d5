/* SPDX-License-Identifier: Apache-2.0
 * spare.c: one workspace a context, kept from call to call. Whoever takes it has it alone. */
#include "base/alloc.h"
#include "kernel/context.h"

enum { MAX_KEPT_BYTES = 32 << 20 };

void *folio__spare_take(struct spare *spare, size_t *n_bytes)
{
    void *memory = atomic_exchange(&spare->memory, NULL);
    if (memory && *(size_t *)memory >= *n_bytes) {
        *n_bytes = *(size_t *)memory;
        return memory;
    }
    folio__free(memory);
    if (*n_bytes < sizeof(size_t))
        *n_bytes = sizeof(size_t);
    return folio__reserve_zero(*n_bytes);
}

void folio__spare_give(struct spare *spare, void *memory, size_t n_bytes)
{
    if (memory && n_bytes <= MAX_KEPT_BYTES) {
        *(size_t *)memory = n_bytes;
        memory = atomic_exchange(&spare->memory, memory);
    }
    folio__free(memory);
}

void folio__spare_destroy(struct spare *spare)
{
    folio__free(atomic_exchange(&spare->memory, NULL));
}
