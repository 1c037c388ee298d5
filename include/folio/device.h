/* SPDX-License-Identifier: Apache-2.0
 * device.h: where work runs. A context is a backend, its kernels and its threads; make one, keep it, share it.
 *
 * Environment, read once at the first context: FOLIO_ISA caps the instruction set (c, avx2, avx512, ...);
 * FOLIO_NUM_THREADS replaces the default thread count. The CUDA backend's are listed in docs/cuda.md. */
#ifndef FOLIO_DEVICE_H
#define FOLIO_DEVICE_H

#include "folio/base.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct folio_context folio_context;

typedef enum folio_backend {
    FOLIO_BACKEND_AUTO = 0, /* CPU */
    FOLIO_BACKEND_CPU = 1,
    FOLIO_BACKEND_CUDA = 2,
    FOLIO_BACKEND_REF = 3, /* double-precision loops: the oracle; never chosen by AUTO */
} folio_backend;

/* Instruction set levels, ascending on x86-64. A context runs the best the machine has, at most the cap. */
typedef enum folio_isa {
    FOLIO_ISA_AUTO = 0,
    FOLIO_ISA_C = 1, /* plain C11, any CPU */
    FOLIO_ISA_AVX2 = 2,
    FOLIO_ISA_AVX512 = 3,
    FOLIO_ISA_AVX512_BF16 = 4,
    FOLIO_ISA_AMX = 5,
    FOLIO_ISA_NEON = 6,
    FOLIO_ISA_AMX_EMULATED =
        7, /* AMX's kernels, their tiles in plain C: tests of them on any CPU; never chosen by AUTO */
} folio_isa;

/* The host's own threads: call body(arg, i) exactly once for each i in 0 .. n-1, in any order, on any threads, and
 * return when all are done. n is at most the context's n_threads. */
typedef void (*folio_parallel_for)(void *user, void (*body)(void *arg, int32_t i), void *arg, int32_t n);

typedef struct folio_context_config {
    size_t struct_size;              /* sizeof(folio_context_config) */
    int32_t backend;                 /* folio_backend */
    int32_t isa;                     /* folio_isa: a cap; AUTO = FOLIO_ISA, else the machine's best */
    int32_t n_threads;               /* 0 = CPUs in the affinity mask, at most the cgroup quota; at most 1024 */
    int32_t device;                  /* CUDA ordinal */
    folio_parallel_for parallel_for; /* NULL = folio's own pool */
    void *parallel_user;             /* first argument of parallel_for */
    void *cuda_context;              /* CUcontext; NULL = the current one on `device`, else its primary one */
    const char *const *lib_dirs;     /* [n_lib_dirs] folders searched first for libcuda and libnvrtc; read at create */
    int32_t n_lib_dirs;
} folio_context_config;

/* cfg NULL = all defaults. EINVAL, ENOMEM, ENOTSUP (a backend or ISA this build or machine lacks, with what was
 * searched). A context may be used by many threads at once; calls that need its pool take turns. */
FOLIO_API FOLIO_NODISCARD folio_status folio_context_create(folio_context **out, const folio_context_config *cfg);
FOLIO_API void folio_context_destroy(folio_context **ctx); /* after every plan made from it */

FOLIO_API folio_backend folio_context_backend(const folio_context *ctx);
FOLIO_API folio_isa folio_context_isa(const folio_context *ctx); /* of the CPU kernels it runs */
FOLIO_API int32_t folio_context_n_threads(const folio_context *ctx);

/* What this machine can run, before any cap. */
FOLIO_API folio_isa folio_isa_best(void);
FOLIO_API int32_t folio_isa_available(folio_isa isa);   /* 1 or 0 */
FOLIO_API const char *folio_isa_missing(folio_isa isa); /* why available is 0, in words; NULL = it is 1 */
FOLIO_API const char *folio_isa_name(folio_isa isa);    /* "avx512"; "unknown" for no level. Never NULL */

/* The CUDA backend, without a GPU (docs/cuda.md). Its kernels are rows of a closed table, compiled by NVRTC
 * at first use. */
FOLIO_API int32_t folio_cuda_n_kernels(void);
FOLIO_API const char *folio_cuda_kernel_name(int32_t row); /* NULL when there is no such row */

/* Compile a row for an architecture (80, 90, ...) and throw the code away. report [n] gets ptxas' lines: registers,
 * shared memory, stack. ECOMPILE: does not compile, or spills, or uses a stack, or warns. ENOTSUP: no NVRTC, with what
 * was searched. lib_dirs [n_lib_dirs] are searched first, as in folio_context_config. */
FOLIO_API FOLIO_NODISCARD folio_status folio_cuda_compile(int32_t row, int32_t arch, const char *const *lib_dirs,
                                                          int32_t n_lib_dirs, char *report, size_t n);

/* What the CUDA backend finds here, a fact a line, "name: text": driver, devices, NVRTC, cache folder, folders
 * searched. */
FOLIO_API void folio_cuda_describe(char *text, size_t n);

#ifdef __cplusplus
}
#endif
#endif
