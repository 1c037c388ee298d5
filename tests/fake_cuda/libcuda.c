/* SPDX-License-Identifier: Apache-2.0
 * libcuda.c: the driver's functions that folio calls, without a device: they count, and fail where told to. */
#include <stdint.h>
#include <stdlib.h>

#include "fake_cuda/fake_cuda.h"
#include "kernel/cuda/driver.h"

#pragma GCC diagnostic ignored "-Wunused-parameter"
#pragma GCC diagnostic ignored "-Wmissing-prototypes"

enum { N_SMS = 4, SHARED = 227 * 1024, VERSION = 13000, MAX_BLOCKS = 64, MAX_STACK = 8 };

static struct fake_cuda fake = { .arch = 90, .memory = INT64_MAX };
static struct {
    cu_ptr at;
    i64 bytes;
} blocks[MAX_BLOCKS];
static void *stack[MAX_STACK];
static i32 depth;
static char primary, other; /* contexts */

struct fake_cuda *fake_cuda(void)
{
    return &fake;
}

#define STUB(symbol, parameters) \
    cu_result symbol parameters  \
    {                            \
        return CU_SUCCESS;       \
    }
#define GIVES(symbol, parameters, assignment) \
    cu_result symbol parameters               \
    {                                         \
        assignment;                           \
        return CU_SUCCESS;                    \
    }

cu_result cuInit(u32 flags)
{
    return fake.init_result;
}
GIVES(cuDriverGetVersion, (i32 * version), *version = VERSION)
GIVES(cuGetErrorName, (cu_result result, const char **name), *name = "FAKE_ERROR")
GIVES(cuGetErrorString, (cu_result result, const char **text), *text = "as told")
GIVES(cuDeviceGetCount, (i32 * count), *count = 1)
GIVES(cuDeviceGet, (cu_device * device, i32 ordinal), *device = ordinal)
GIVES(cuDeviceGetName, (char *name, i32 bytes, cu_device device), name[0] = '\0')
cu_result cuDeviceGetAttribute(i32 *value, i32 attribute, cu_device device)
{
    *value = attribute == CU_ATTRIBUTE_CC_MAJOR       ? fake.arch / 10
             : attribute == CU_ATTRIBUTE_CC_MINOR     ? fake.arch % 10
             : attribute == CU_ATTRIBUTE_N_SMS        ? N_SMS
             : attribute == CU_ATTRIBUTE_SHARED_OPTIN ? SHARED
             : attribute == CU_ATTRIBUTE_MEMORY_POOLS ? 0
                                                      : 0;
    return CU_SUCCESS;
}

GIVES(cuDevicePrimaryCtxRetain, (cu_context * context, cu_device device), *context = (cu_context)(void *)&primary;
      fake.n_retained++)
GIVES(cuDevicePrimaryCtxRelease_v2, (cu_device device), fake.n_retained--)
GIVES(cuCtxGetCurrent, (cu_context * context), *context = fake.current)
GIVES(cuCtxGetDevice, (cu_device * device), *device = 0)
GIVES(cuCtxGetId, (cu_context context, u64 *id), *id = (u64)(uintptr_t)context)
GIVES(cuCtxPushCurrent_v2, (cu_context context), stack[depth++] = fake.current; fake.current = context)
GIVES(cuCtxPopCurrent_v2, (cu_context * context), *context = fake.current; fake.current = stack[--depth])
GIVES(cuCtxSynchronize, (void), fake.n_waits++)
GIVES(cuLibraryLoadData,
      (cu_library * library, const void *code, void *jit, void *jit_values, u32 n_jit, void *options, void *values,
       u32 n_options),
      *library = (cu_library)(uintptr_t)&fake)
STUB(cuLibraryUnload, (cu_library library))
GIVES(cuLibraryGetKernel, (cu_kernel * kernel, cu_library library, const char *name),
      *kernel = (cu_kernel)(uintptr_t)&fake)
GIVES(cuKernelGetFunction, (cu_function * function, cu_kernel kernel), *function = (cu_function)(uintptr_t)&fake)
STUB(cuFuncLoad, (cu_function function))
GIVES(cuFuncGetAttribute, (i32 * value, i32 attribute, cu_function function), *value = 0)
STUB(cuFuncSetAttribute, (cu_function function, i32 attribute, i32 value))
GIVES(cuOccupancyMaxActiveBlocksPerMultiprocessor,
      (i32 * n_blocks, cu_function function, i32 n_threads, size_t shared_bytes), *n_blocks = 1)
cu_result cuLaunchKernelEx(const struct cu_launch_config *config, cu_function function, void **parameters, void **extra)
{
    fake.n_launches += fake.launch_result == CU_SUCCESS;
    return fake.launch_result;
}

/* Addresses that nobody reads. */
cu_result cuMemAlloc_v2(cu_ptr *memory, size_t bytes)
{
    if ((i64)bytes > fake.memory)
        return CU_ERROR_OUT_OF_MEMORY;
    for (i32 i = 0; i < MAX_BLOCKS; i++)
        if (!blocks[i].at) {
            fake.memory -= (i64)bytes;
            blocks[i].bytes = (i64)bytes;
            *memory = blocks[i].at = (cu_ptr)(i + 1) << 40;
            fake.n_allocs++, fake.n_live++;
            return CU_SUCCESS;
        }
    return CU_ERROR_OUT_OF_MEMORY;
}

cu_result cuMemFree_v2(cu_ptr memory)
{
    for (i32 i = 0; i < MAX_BLOCKS; i++)
        if (blocks[i].at == memory) {
            fake.memory += blocks[i].bytes;
            blocks[i].at = 0;
            fake.n_live--;
            return CU_SUCCESS;
        }
    return CU_ERROR_INVALID_IMAGE;
}

GIVES(cuMemHostAlloc, (void **memory, size_t bytes, u32 flags), *memory = calloc(1, bytes))
GIVES(cuMemFreeHost, (void *memory), free(memory))
GIVES(cuMemHostGetDevicePointer_v2, (cu_ptr * device, void *host, u32 flags), *device = (cu_ptr)(uintptr_t)host)
STUB(cuMemcpyHtoDAsync_v2, (cu_ptr to, const void *from, size_t bytes, cu_stream stream))
STUB(cuMemcpyDtoHAsync_v2, (void *to, cu_ptr from, size_t bytes, cu_stream stream))
STUB(cuMemsetD32Async, (cu_ptr memory, u32 value, size_t n, cu_stream stream))
GIVES(cuStreamIsCapturing, (cu_stream stream, i32 *status), *status = CU_CAPTURE_NONE)
GIVES(cuStreamGetCtx, (cu_stream stream, cu_context *context),
      *context = (cu_context)(void *)((void *)stream == FAKE_STREAM(0) ? &primary : &other))
GIVES(cuStreamSynchronize, (cu_stream stream), fake.n_waits++)
STUB(cuStreamCreate, (cu_stream * stream, u32 flags))
STUB(cuStreamDestroy_v2, (cu_stream stream))
STUB(cuStreamBeginCapture_v2, (cu_stream stream, i32 mode))
STUB(cuStreamEndCapture, (cu_stream stream, cu_graph *graph))
STUB(cuThreadExchangeStreamCaptureMode, (i32 * mode))
STUB(cuGraphInstantiateWithFlags, (cu_graph_exec * exec, cu_graph graph, u64 flags))
STUB(cuGraphLaunch, (cu_graph_exec exec, cu_stream stream))
STUB(cuGraphExecDestroy, (cu_graph_exec exec))
STUB(cuGraphDestroy, (cu_graph graph))
STUB(cuEventCreate, (cu_event * event, u32 flags))
STUB(cuEventRecord, (cu_event event, cu_stream stream))
STUB(cuEventElapsedTime, (float *milliseconds, cu_event begin, cu_event end))
STUB(cuEventDestroy_v2, (cu_event event))
STUB(cuTensorMapEncodeTiled,
     (struct cu_tensor_map * map, i32 dtype, u32 rank, void *base, const u64 *dims, const u64 *strides, const u32 *box,
      const u32 *steps, i32 interleave, i32 swizzle, i32 promotion, i32 fill))
