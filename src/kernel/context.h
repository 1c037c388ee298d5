/* SPDX-License-Identifier: Apache-2.0
 * context.h: where work runs: a backend's kernels and its threads. */
#ifndef FOLIO_KERNEL_CONTEXT_H
#define FOLIO_KERNEL_CONTEXT_H

#include <stdatomic.h>

#include "base/pool.h"
#include "folio/device.h"
#include "kernel/kernels.h"

struct cuda_device; /* kernel/cuda */

/* The workspace of the last call without a plan, for the next one: else the system would map, clear and unmap it each
 * time. Idle memory begins with its size. */
struct spare {
    _Atomic(void *) memory;
};

struct folio_context {
    u64 magic;                     /* FOLIO__CONTEXT_MAGIC while alive */
    folio_backend backend;         /* resolved: never AUTO */
    const struct kernels *kernels; /* of the host: CPU and REF backends */
    struct pool *pool;
    struct cuda_device *cuda; /* CUDA backend, else NULL */
    struct spare spare;
};

/* At least *n_bytes, 64-byte aligned, contents undefined; *n_bytes becomes what it has. NULL: there is no memory. */
void *folio__spare_take(struct spare *spare, size_t *n_bytes);
/* memory of take, or NULL; it is kept or freed. */
void folio__spare_give(struct spare *spare, void *memory, size_t n_bytes);
void folio__spare_destroy(struct spare *spare);

/* NULL, or destroyed: EINVAL, EHANDLE. */
folio_status folio__context_require(const folio_context *ctx);

#endif
