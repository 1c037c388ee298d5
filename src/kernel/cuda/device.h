/* SPDX-License-Identifier: Apache-2.0
 * device.h: one CUDA context as folio uses it: its limits, its loaded kernels; memory.h has its memory.
 * Shared by every folio context on the same CUDA context; safe for many threads. */
#ifndef FOLIO_KERNEL_CUDA_DEVICE_H
#define FOLIO_KERNEL_CUDA_DEVICE_H

#include <pthread.h>
#include <stdbool.h>
#include <sys/types.h>

#include "folio/device.h"
#include "kernel/cuda/config.h"
#include "kernel/cuda/device/work.h"
#include "kernel/cuda/driver.h"
#include "kernel/cuda/search.h"

enum { CUDA_MAX_ERRORS = 4096 }; /* error records, one a plan; record 0 is for calls without a plan */

struct cuda_module {
    cu_library library; /* NULL = not loaded */
    cu_function functions[CUDA_MAX_SYMBOLS];
};

struct cuda_block { /* device memory given up by a plan that may still be running: freed at the next create */
    cu_ptr memory;
    struct cuda_block *next;
};

struct cuda_device {
    const struct cuda_driver *api;
    struct cuda_device *next; /* of all open ones */
    i32 n_users;
    pid_t pid;
    cu_context context;
    u64 context_id;
    cu_device device;
    bool is_primary;   /* retained by us */
    bool has_pools;    /* cuMemAllocAsync works */
    bool checks_calls; /* FOLIO_CHECK=1 when it was opened: every call waits and reports */
    i32 ordinal, arch, n_sms, shared_optin;
    char **dirs; /* [n_dirs] folders to look for NVRTC in */
    i32 n_dirs;

    pthread_mutex_t lock; /* of all below */
    struct cuda_module modules[CUDA_N_CONFIGS];
    struct cuda_block *retired;
    struct cuda_error *errors; /* [CUDA_MAX_ERRORS] host memory that kernels write */
    cu_ptr errors_on_device;   /* the same, as they see it */
    u8 error_used[CUDA_MAX_ERRORS];
};

/* Open cfg->cuda_context, else the thread's current context when it is on cfg->device, else that device's primary one.
 * ENOTSUP: no driver, no device, older than sm_80. EINVAL: no such ordinal, a context of another device. */
folio_status folio__cuda_open(struct cuda_device **out, const folio_context_config *cfg);
void folio__cuda_close(struct cuda_device **device);

/* Between these the device's context is current; leave restores the caller's. */
struct cuda_scope {
    struct cuda_device *device;
    bool pushed;
};
folio_status folio__cuda_enter(struct cuda_scope *scope, struct cuda_device *device);
void folio__cuda_leave(struct cuda_scope *scope);

/* The loaded function of a row, compiled when this is its first use. Not inside a capture. */
folio_status folio__cuda_function(cu_function *out, struct cuda_device *device, i32 config, i32 symbol);

/* EINVAL when stream is a real handle of another context. */
folio_status folio__cuda_check_stream(const struct cuda_device *device, cu_stream stream);
folio_status folio__cuda_is_capturing(bool *capturing, const struct cuda_device *device, cu_stream stream);

struct cuda_launch {
    cu_function function;
    i32 grid, grid_y, block; /* grid_y 0 = 1 */
    size_t shared_bytes;
    cu_stream stream;
    bool overlaps; /* programmatic dependent launch: the kernel itself waits for its predecessor */
};
folio_status folio__cuda_launch(const struct cuda_device *device, const struct cuda_launch *launch, void **parameters);

#endif
