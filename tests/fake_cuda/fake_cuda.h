/* SPDX-License-Identifier: Apache-2.0
 * fake_cuda.h: a driver and a compiler that do nothing, but count and can be told to fail. */
#ifndef FOLIO_TESTS_FAKE_CUDA_H
#define FOLIO_TESTS_FAKE_CUDA_H

#include "base/types.h"

enum { FAKE_N_STREAMS = 2 };

struct fake_cuda {
    i32 init_result;            /* of cuInit */
    i32 arch;                   /* 75 = 7.5 */
    i64 memory;                 /* bytes that can still be taken */
    i32 launch_result;          /* of cuLaunchKernelEx */
    const char *compile_log;    /* NULL = compiles; else it fails with this log */
    i32 n_allocs, n_live;       /* blocks of device memory ever taken, and now */
    i32 n_retained, n_launches; /* primary contexts now; kernels ever */
    i32 n_waits, n_compiled;    /* synchronisations, programs ever */
    void *current;              /* context of the (one) thread */
};

/* What libcuda.so.1 of this folder exports beside the driver's functions, and libnvrtc.so.13 finds by dlsym. */
typedef struct fake_cuda *fake_cuda_fn(void);

/* Handle of stream i; stream 0 is the primary context's, stream 1 another's. */
#define FAKE_STREAM(i) ((void *)(uintptr_t)(0x1000 * ((i) + 1)))

#endif
