/* SPDX-License-Identifier: Apache-2.0
 * libcuda.c: a driver whose one device is the host: memory is malloc's, streams are done at once, kernels run as
 * coroutines (block.h). A graph is a list of launches and memory sets. */
#include <dlfcn.h>
#include <elf.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "kernel/cuda/driver.h"
#include "tensor_map.h"

#pragma GCC diagnostic ignored "-Wunused-parameter"
#pragma GCC diagnostic ignored "-Wmissing-prototypes"

enum {
    N_SMS = 6,
    SHARED = 227 * 1024,
    VERSION = 13000,
    MAX_STACK = 8,
    NO_CODE = 200,
    ALIGN = 256,
    MAX_PARAMETERS = 16
};

typedef bool launch_fn(const char *kernel, u32 grid_x, u32 grid_y, u32 n_threads, void **parameters);

struct kernel {
    launch_fn *launch;
    char name[64];
    const u32 *sizes; /* of its parameters, then a 0 */
};

/* A launch, with its parameters, or, when kernel is NULL, words of memory that become one value. */
struct deed {
    struct deed *next;
    const struct kernel *kernel;
    u32 grid_x, grid_y, n_threads;
    void *parameters[MAX_PARAMETERS];
    u32 *words, value;
    size_t n_words;
};

struct cu_graph_st {
    struct deed *first, **end;
};

struct cu_stream_st {
    struct cu_graph_st *captured; /* NULL: everything is done at once */
};

static char primary; /* the one context */
static void *current, *stack[MAX_STACK];
static i32 depth;

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

STUB(cuInit, (u32 flags))
GIVES(cuDriverGetVersion, (i32 * version), *version = VERSION)
GIVES(cuGetErrorName, (cu_result result, const char **name), *name = "EMULATED_ERROR")
GIVES(cuGetErrorString, (cu_result result, const char **text), *text = "in the emulated device")
GIVES(cuDeviceGetCount, (i32 * count), *count = 1)
GIVES(cuDeviceGet, (cu_device * device, i32 ordinal), *device = ordinal)
GIVES(cuDeviceGetName, (char *name, i32 bytes, cu_device device), snprintf(name, (size_t)bytes, "emulated"))
GIVES(cuDeviceGetAttribute, (i32 * value, i32 attribute, cu_device device),
      *value = attribute == CU_ATTRIBUTE_CC_MAJOR       ? 9
               : attribute == CU_ATTRIBUTE_N_SMS        ? N_SMS
               : attribute == CU_ATTRIBUTE_SHARED_OPTIN ? SHARED
                                                        : 0)

/* ---- contexts */

GIVES(cuDevicePrimaryCtxRetain, (cu_context * context, cu_device device), *context = (cu_context)(void *)&primary)
STUB(cuDevicePrimaryCtxRelease_v2, (cu_device device))
GIVES(cuCtxGetCurrent, (cu_context * context), *context = current)
GIVES(cuCtxGetDevice, (cu_device * device), *device = 0)
GIVES(cuCtxGetId, (cu_context context, u64 *id), *id = (u64)(uintptr_t)context)
GIVES(cuCtxPushCurrent_v2, (cu_context context), stack[depth++] = current; current = context)
GIVES(cuCtxPopCurrent_v2, (cu_context * context), *context = current; current = stack[--depth])
STUB(cuCtxSynchronize, (void))

/* ---- code: a shared library's bytes */

static size_t library_bytes(const void *code)
{
    const Elf64_Ehdr *header = code; /* its section table is its end */
    return header->e_shoff + (size_t)header->e_shnum * header->e_shentsize;
}

static void *open_bytes(const void *code, size_t n_bytes)
{
    char path[64];
    const int fd = memfd_create("kernel", 0);
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    void *library =
        fd >= 0 && write(fd, code, n_bytes) == (ssize_t)n_bytes ? dlopen(path, RTLD_NOW | RTLD_LOCAL) : NULL;
    if (!library)
        fprintf(stderr, "emulated driver: %s\n", dlerror());
    return library; /* fd stays open: a second library of the same path would be taken for the first */
}

cu_result cuLibraryLoadData(cu_library *library, const void *code, void *jit, void *jit_values, u32 n_jit,
                            void *options, void *values, u32 n_options)
{
    *library = open_bytes(code, library_bytes(code));
    return *library ? CU_SUCCESS : NO_CODE;
}

STUB(cuLibraryUnload, (cu_library library)) /* kernels of it may still be known to a test */

cu_result cuLibraryGetKernel(cu_kernel *kernel, cu_library library, const char *name)
{
    struct kernel *k = calloc(1, sizeof *k);
    void *symbol = dlsym((void *)library, "launch");
    if (!k || !symbol)
        return NO_CODE;
    memcpy(&k->launch, &symbol, sizeof symbol);
    const u32 *(*sizes)(const char *) = NULL;
    symbol = dlsym((void *)library, "parameter_sizes");
    memcpy(&sizes, &symbol, sizeof symbol);
    k->sizes = sizes ? sizes(name) : NULL;
    if (!k->sizes)
        return NO_CODE;
    snprintf(k->name, sizeof k->name, "%s", name);
    *kernel = (cu_kernel)(void *)k;
    return CU_SUCCESS;
}

GIVES(cuKernelGetFunction, (cu_function * function, cu_kernel kernel), *function = (cu_function)(void *)kernel)
STUB(cuFuncLoad, (cu_function function))
GIVES(cuFuncGetAttribute, (i32 * value, i32 attribute, cu_function function), *value = 0)
STUB(cuFuncSetAttribute, (cu_function function, i32 attribute, i32 value))
GIVES(cuOccupancyMaxActiveBlocksPerMultiprocessor,
      (i32 * n_blocks, cu_function function, i32 n_threads, size_t shared_bytes), *n_blocks = 1)

static cu_result do_deed(struct deed *d)
{
    for (size_t i = 0; i < d->n_words; i++)
        d->words[i] = d->value;
    if (!d->kernel)
        return CU_SUCCESS;
    return d->kernel->launch(d->kernel->name, d->grid_x, d->grid_y, d->n_threads, d->parameters) ? CU_SUCCESS : NO_CODE;
}

static struct cu_graph_st *captured(cu_stream stream)
{
    return (uintptr_t)stream > 2 ? stream->captured : NULL;
}

/* A captured deed has parameters of its own. */
static cu_result do_or_keep(cu_stream stream, const struct deed *deed)
{
    struct deed now = *deed;
    struct cu_graph_st *graph = captured(stream);
    if (!graph)
        return do_deed(&now);
    struct deed *kept = malloc(sizeof *kept);
    *kept = now;
    for (i32 i = 0; kept->kernel && kept->kernel->sizes[i]; i++) {
        const size_t bytes = kept->kernel->sizes[i];
        kept->parameters[i] = aligned_alloc(ALIGN, bytes / ALIGN * ALIGN + ALIGN);
        memcpy(kept->parameters[i], deed->parameters[i], bytes);
    }
    *graph->end = kept;
    graph->end = &kept->next;
    return CU_SUCCESS;
}

cu_result cuLaunchKernelEx(const struct cu_launch_config *c, cu_function function, void **parameters, void **extra)
{
    struct deed d = {
        .kernel = (const void *)function, .grid_x = c->grid_x, .grid_y = c->grid_y, .n_threads = c->block_x
    };
    for (i32 i = 0; d.kernel->sizes[i]; i++)
        d.parameters[i] = parameters[i];
    return do_or_keep(c->stream, &d);
}

/* ---- memory */

static void *bytes_at(cu_ptr at)
{
    return (void *)(uintptr_t)at;
}

cu_result cuMemAlloc_v2(cu_ptr *memory, size_t bytes)
{
    void *block = aligned_alloc(ALIGN, bytes / ALIGN * ALIGN + ALIGN);
    if (!block)
        return CU_ERROR_OUT_OF_MEMORY;
    memset(block, 0xff, bytes);
    *memory = (cu_ptr)(uintptr_t)block;
    return CU_SUCCESS;
}

GIVES(cuMemFree_v2, (cu_ptr memory), free(bytes_at(memory)))
GIVES(cuMemHostAlloc, (void **memory, size_t bytes, u32 flags), *memory = calloc(1, bytes))
GIVES(cuMemFreeHost, (void *memory), free(memory))
GIVES(cuMemHostGetDevicePointer_v2, (cu_ptr * device, void *host, u32 flags), *device = (cu_ptr)(uintptr_t)host)
GIVES(cuMemcpyHtoDAsync_v2, (cu_ptr to, const void *from, size_t bytes, cu_stream stream),
      memcpy(bytes_at(to), from, bytes))
GIVES(cuMemcpyDtoHAsync_v2, (void *to, cu_ptr from, size_t bytes, cu_stream stream), memcpy(to, bytes_at(from), bytes))
cu_result cuMemsetD32Async(cu_ptr memory, u32 value, size_t n, cu_stream stream)
{
    return do_or_keep(stream, &(struct deed){ .words = bytes_at(memory), .value = value, .n_words = n });
}

/* ---- streams, graphs, events */

GIVES(cuStreamIsCapturing, (cu_stream stream, i32 *status), *status = captured(stream) ? 1 : CU_CAPTURE_NONE)
GIVES(cuStreamGetCtx, (cu_stream stream, cu_context *context), *context = (cu_context)(void *)&primary)
STUB(cuStreamSynchronize, (cu_stream stream))
GIVES(cuStreamCreate, (cu_stream * stream, u32 flags), *stream = calloc(1, sizeof **stream))
GIVES(cuStreamDestroy_v2, (cu_stream stream), free(stream))
cu_result cuStreamBeginCapture_v2(cu_stream stream, i32 mode)
{
    stream->captured = calloc(1, sizeof *stream->captured);
    stream->captured->end = &stream->captured->first;
    return CU_SUCCESS;
}
GIVES(cuStreamEndCapture, (cu_stream stream, cu_graph *graph), *graph = stream->captured; stream->captured = NULL)
STUB(cuThreadExchangeStreamCaptureMode, (i32 * mode))
GIVES(cuGraphInstantiateWithFlags, (cu_graph_exec * exec, cu_graph graph, u64 flags),
      *exec = (cu_graph_exec)(void *)graph)
GIVES(cuGraphLaunch, (cu_graph_exec exec, cu_stream stream),
      for (struct deed *d = ((cu_graph)(void *)exec)->first; d; d = d->next) do_deed(d))
STUB(cuGraphDestroy, (cu_graph graph)) /* the same as its instance */
cu_result cuGraphExecDestroy(cu_graph_exec exec)
{
    struct cu_graph_st *graph = (cu_graph)(void *)exec;
    for (struct deed *next, *d = graph->first; d; d = next) {
        next = d->next;
        for (i32 i = 0; i < MAX_PARAMETERS; i++)
            free(d->parameters[i]);
        free(d);
    }
    free(graph);
    return CU_SUCCESS;
}
STUB(cuEventCreate, (cu_event * event, u32 flags))
STUB(cuEventRecord, (cu_event event, cu_stream stream))
STUB(cuEventElapsedTime, (float *milliseconds, cu_event begin, cu_event end))
STUB(cuEventDestroy_v2, (cu_event event))

/* ---- tensor maps: the words themselves, refused where the copy engine would */

static bool is_legal(const u64 *strides, const u32 *box, const u32 *steps)
{
    for (i32 i = 0; i < MAP_RANK; i++)
        if (box[i] == 0 || box[i] > 256 || steps[i] != 1 ||
            (i > 0 && (strides[i - 1] % 16 || strides[i - 1] >= UINT64_C(1) << 40)))
            return false;
    return true;
}

cu_result cuTensorMapEncodeTiled(struct cu_tensor_map *map, i32 dtype, u32 rank, void *base, const u64 *dims,
                                 const u64 *strides, const u32 *box, const u32 *steps, i32 interleave, i32 swizzle,
                                 i32 promotion, i32 fill)
{
    struct map_words m = { .base = base };
    if (rank != MAP_RANK || swizzle != CU_TENSOR_SWIZZLE_128B || box[0] != 64 || (uintptr_t)base % 16 ||
        !is_legal(strides, box, steps))
        return NO_CODE;
    for (i32 i = 0; i < MAP_RANK; i++)
        m.dims[i] = (u32)dims[i], m.box[i] = box[i];
    for (i32 i = 1; i < MAP_RANK; i++)
        m.strides[i - 1] = (i64)strides[i - 1];
    memcpy(map, &m, sizeof m);
    return CU_SUCCESS;
}
