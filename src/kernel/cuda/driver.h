/* SPDX-License-Identifier: Apache-2.0
 * driver.h: the CUDA driver API, declared by us and found by dlopen: no CUDA at build time, none needed at run time.
 * Only what folio calls. Names and layouts are facts of the driver's ABI. */
#ifndef FOLIO_KERNEL_CUDA_DRIVER_H
#define FOLIO_KERNEL_CUDA_DRIVER_H

#include "base/types.h"
#include "folio/base.h"

typedef i32 cu_result; /* 0 = success */
typedef i32 cu_device;
typedef u64 cu_ptr; /* device memory */
typedef struct cu_context_st *cu_context;
typedef struct cu_stream_st *cu_stream;
typedef struct cu_library_st *cu_library;
typedef struct cu_kernel_st *cu_kernel;
typedef struct cu_function_st *cu_function;
typedef struct cu_event_st *cu_event;
typedef struct cu_graph_st *cu_graph;
typedef struct cu_graph_exec_st *cu_graph_exec;

enum {
    CU_SUCCESS = 0,
    CU_ERROR_OUT_OF_MEMORY = 2,
    CU_ERROR_DEINITIALIZED = 4,
    CU_ERROR_NO_DEVICE = 100,
    CU_ERROR_INVALID_IMAGE = 200,
    CU_ERROR_NO_BINARY_FOR_GPU = 209,

    CU_ATTRIBUTE_N_SMS = 16,
    CU_ATTRIBUTE_CC_MAJOR = 75,
    CU_ATTRIBUTE_CC_MINOR = 76,
    CU_ATTRIBUTE_SHARED_OPTIN = 97,
    CU_ATTRIBUTE_MEMORY_POOLS = 115,

    CU_FUNCTION_STATIC_SHARED = 1,
    CU_FUNCTION_DYNAMIC_SHARED = 8,
    CU_HOST_PORTABLE = 1,
    CU_HOST_DEVICEMAP = 2,
    CU_CAPTURE_NONE = 0,
    CU_CAPTURE_THREAD_LOCAL = 1,
    CU_CAPTURE_RELAXED = 2,
    CU_LAUNCH_PROGRAMMATIC_SERIALIZATION = 6,

    CU_TENSOR_FLOAT16 = 6,
    CU_TENSOR_BFLOAT16 = 9,
    CU_TENSOR_SWIZZLE_128B = 3,
    CU_TENSOR_PROMOTION_NONE = 0,
};

struct cu_launch_attribute {
    i32 id, padding;
    union {
        u8 bytes[64];
        i32 value;
    } value;
};

struct cu_launch_config {
    u32 grid_x, grid_y, grid_z, block_x, block_y, block_z;
    u32 shared_bytes;
    cu_stream stream;
    struct cu_launch_attribute *attributes; /* [n_attributes] */
    u32 n_attributes;
};

/* A tensor map is 128 opaque bytes, 64-byte aligned. */
struct cu_tensor_map {
    _Alignas(64) u64 opaque[16];
};

/* X(member, symbol, required, parameters) */
#define FOLIO__CUDA_FUNCTIONS(X)                                                                                    \
    X(init, "cuInit", 1, (u32 flags))                                                                               \
    X(driver_version, "cuDriverGetVersion", 1, (i32 * version))                                                     \
    X(error_name, "cuGetErrorName", 1, (cu_result result, const char **name))                                       \
    X(error_text, "cuGetErrorString", 1, (cu_result result, const char **text))                                     \
    X(device_count, "cuDeviceGetCount", 1, (i32 * count))                                                           \
    X(device_get, "cuDeviceGet", 1, (cu_device * device, i32 ordinal))                                              \
    X(device_name, "cuDeviceGetName", 1, (char *name, i32 bytes, cu_device device))                                 \
    X(device_attribute, "cuDeviceGetAttribute", 1, (i32 * value, i32 attribute, cu_device device))                  \
    X(primary_retain, "cuDevicePrimaryCtxRetain", 1, (cu_context * context, cu_device device))                      \
    X(primary_release, "cuDevicePrimaryCtxRelease_v2", 1, (cu_device device))                                       \
    X(context_current, "cuCtxGetCurrent", 1, (cu_context * context))                                                \
    X(context_device, "cuCtxGetDevice", 1, (cu_device * device))                                                    \
    X(context_id, "cuCtxGetId", 1, (cu_context context, u64 * id))                                                  \
    X(context_push, "cuCtxPushCurrent_v2", 1, (cu_context context))                                                 \
    X(context_pop, "cuCtxPopCurrent_v2", 1, (cu_context * context))                                                 \
    X(context_synchronize, "cuCtxSynchronize", 1, (void))                                                           \
    X(library_load, "cuLibraryLoadData", 1,                                                                         \
      (cu_library * library, const void *code, void *jit, void *jit_values, u32 n_jit, void *options, void *values, \
       u32 n_options))                                                                                              \
    X(library_unload, "cuLibraryUnload", 1, (cu_library library))                                                   \
    X(library_kernel, "cuLibraryGetKernel", 1, (cu_kernel * kernel, cu_library library, const char *name))          \
    X(kernel_function, "cuKernelGetFunction", 1, (cu_function * function, cu_kernel kernel))                        \
    X(function_load, "cuFuncLoad", 0, (cu_function function))                                                       \
    X(function_get, "cuFuncGetAttribute", 1, (i32 * value, i32 attribute, cu_function function))                    \
    X(function_set, "cuFuncSetAttribute", 1, (cu_function function, i32 attribute, i32 value))                      \
    X(function_occupancy, "cuOccupancyMaxActiveBlocksPerMultiprocessor", 1,                                         \
      (i32 * n_blocks, cu_function function, i32 n_threads, size_t shared_bytes))                                   \
    X(launch, "cuLaunchKernelEx", 1,                                                                                \
      (const struct cu_launch_config *config, cu_function function, void **parameters, void **extra))               \
    X(mem_alloc, "cuMemAlloc_v2", 1, (cu_ptr * memory, size_t bytes))                                               \
    X(mem_free, "cuMemFree_v2", 1, (cu_ptr memory))                                                                 \
    X(mem_alloc_async, "cuMemAllocAsync", 0, (cu_ptr * memory, size_t bytes, cu_stream stream))                     \
    X(mem_free_async, "cuMemFreeAsync", 0, (cu_ptr memory, cu_stream stream))                                       \
    X(host_alloc, "cuMemHostAlloc", 1, (void **memory, size_t bytes, u32 flags))                                    \
    X(host_free, "cuMemFreeHost", 1, (void *memory))                                                                \
    X(host_pointer, "cuMemHostGetDevicePointer_v2", 1, (cu_ptr * device, void *host, u32 flags))                    \
    X(to_device, "cuMemcpyHtoDAsync_v2", 1, (cu_ptr to, const void *from, size_t bytes, cu_stream stream))          \
    X(to_host, "cuMemcpyDtoHAsync_v2", 1, (void *to, cu_ptr from, size_t bytes, cu_stream stream))                  \
    X(set_u32, "cuMemsetD32Async", 1, (cu_ptr memory, u32 value, size_t n, cu_stream stream))                       \
    X(stream_capturing, "cuStreamIsCapturing", 1, (cu_stream stream, i32 * status))                                 \
    X(stream_context, "cuStreamGetCtx", 1, (cu_stream stream, cu_context * context))                                \
    X(stream_synchronize, "cuStreamSynchronize", 1, (cu_stream stream))                                             \
    X(stream_create, "cuStreamCreate", 1, (cu_stream * stream, u32 flags))                                          \
    X(stream_destroy, "cuStreamDestroy_v2", 1, (cu_stream stream))                                                  \
    X(capture_begin, "cuStreamBeginCapture_v2", 1, (cu_stream stream, i32 mode))                                    \
    X(capture_end, "cuStreamEndCapture", 1, (cu_stream stream, cu_graph * graph))                                   \
    X(capture_mode, "cuThreadExchangeStreamCaptureMode", 1, (i32 * mode))                                           \
    X(graph_instantiate, "cuGraphInstantiateWithFlags", 1, (cu_graph_exec * exec, cu_graph graph, u64 flags))       \
    X(graph_launch, "cuGraphLaunch", 1, (cu_graph_exec exec, cu_stream stream))                                     \
    X(graph_exec_destroy, "cuGraphExecDestroy", 1, (cu_graph_exec exec))                                            \
    X(graph_destroy, "cuGraphDestroy", 1, (cu_graph graph))                                                         \
    X(event_create, "cuEventCreate", 1, (cu_event * event, u32 flags))                                              \
    X(event_record, "cuEventRecord", 1, (cu_event event, cu_stream stream))                                         \
    X(event_elapsed, "cuEventElapsedTime", 1, (float *milliseconds, cu_event begin, cu_event end))                  \
    X(event_destroy, "cuEventDestroy_v2", 1, (cu_event event))                                                      \
    X(tensor_map_encode, "cuTensorMapEncodeTiled", 0,                                                               \
      (struct cu_tensor_map * map, i32 dtype, u32 rank, void *base, const u64 *dims, const u64 *strides,            \
       const u32 *box, const u32 *steps, i32 interleave, i32 swizzle, i32 promotion, i32 fill))

struct cuda_driver {
#define FOLIO__MEMBER(member, symbol, required, parameters) cu_result(*member) parameters;
    FOLIO__CUDA_FUNCTIONS(FOLIO__MEMBER)
#undef FOLIO__MEMBER
    i32 version; /* 13000 = 13.0 */
};

struct cuda_search; /* search.h */

/* The driver, opened and initialised once a process. ENOTSUP with what was searched when there is none; EDEVICE when it
 * does not start. A child made by fork() after that cannot use CUDA: ENOTSUP. */
folio_status folio__cuda_driver(const struct cuda_driver **out, const struct cuda_search *search);

/* A failed driver call as a status: ENOMEM for memory, else EDEVICE, with the driver's own words. */
folio_status folio__cuda_fail(const struct cuda_driver *driver, cu_result result, const char *call);

/* FOLIO_TRY for driver calls: CUDA_TRY(driver, mem_free, (memory)); */
#define CUDA_TRY(driver, member, arguments)                                  \
    do {                                                                     \
        const cu_result cuda__result = (driver)->member arguments;           \
        if (__builtin_expect(cuda__result != CU_SUCCESS, 0))                 \
            return folio__cuda_fail((driver), cuda__result, "cu: " #member); \
    } while (0)

#endif
