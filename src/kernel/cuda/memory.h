/* SPDX-License-Identifier: Apache-2.0
 * memory.h: a device's memory for plans, and the records in host memory where kernels report errors. */
#ifndef FOLIO_KERNEL_CUDA_MEMORY_H
#define FOLIO_KERNEL_CUDA_MEMORY_H

#include "kernel/cuda/device.h"

/* Device memory for a plan. Not inside a capture: EBUSY. Frees what was retired before. */
folio_status folio__cuda_alloc(cu_ptr *memory, struct cuda_device *device, size_t n_bytes);
/* Give it back: work may still be running on it, so it is freed at the next alloc. */
void folio__cuda_retire(struct cuda_device *device, cu_ptr memory);
void folio__cuda_free_retired(struct cuda_device *device); /* the device is entered */

/* Record 0, which belongs to calls without a plan, is there after this. */
folio_status folio__cuda_error_ready(struct cuda_device *device);
/* A plan's own record: its index. */
folio_status folio__cuda_error_take(i32 *index, struct cuda_device *device);
void folio__cuda_error_give(struct cuda_device *device, i32 index);
struct cuda_error *folio__cuda_error_on_device(const struct cuda_device *device, i32 index);

/* ERANGE when the record holds an error, in words, once: the record is empty then. */
folio_status folio__cuda_error_report(struct cuda_device *device, i32 index);
/* With FOLIO_CHECK=1 in the environment at open: wait for the stream, then report. Not inside a capture. */
folio_status folio__cuda_check_now(struct cuda_device *device, i32 index, cu_stream stream);

#endif
