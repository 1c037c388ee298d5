/* SPDX-License-Identifier: Apache-2.0
 * context.h: where work runs: a backend's kernels and its threads. */
#ifndef FOLIO_KERNEL_CONTEXT_H
#define FOLIO_KERNEL_CONTEXT_H

#include "base/pool.h"
#include "folio/device.h"
#include "kernel/kernels.h"

struct cuda_device; /* kernel/cuda */

struct folio_context {
    u64 magic;                     /* FOLIO__CONTEXT_MAGIC while alive */
    folio_backend backend;         /* resolved: never AUTO */
    const struct kernels *kernels; /* of the host: CPU and REF backends */
    struct pool *pool;
    struct cuda_device *cuda; /* CUDA backend, else NULL */
};

/* NULL, or destroyed: EINVAL, EHANDLE. */
folio_status folio__context_require(const folio_context *ctx);

#endif
