/* SPDX-License-Identifier: Apache-2.0
 * nvrtc.h: CUDA C -> machine code by NVRTC, found by dlopen when something must be compiled and not before. */
#ifndef FOLIO_KERNEL_CUDA_NVRTC_H
#define FOLIO_KERNEL_CUDA_NVRTC_H

#include "base/types.h"
#include "folio/base.h"
#include "kernel/cuda/search.h"

struct nvrtc_job {
    const char *file;           /* its name in folio__cuda_sources */
    const char *const *options; /* [n_options] */
    i32 n_options;
    i32 max_major; /* newest NVRTC the driver can load code of; 0 = no driver to ask, any */
};

struct nvrtc_result {
    void *cubin; /* [n_bytes], folio__free it */
    size_t n_bytes;
    char *log;   /* warnings and ptxas' report; folio__free it; may be NULL */
    i32 version; /* 13000 = 13.0 */
};

/* ENOTSUP: no NVRTC, with what was searched. ECOMPILE: the log's first error line; result->log has all even then. */
folio_status folio__nvrtc_compile(struct nvrtc_result *result, const struct nvrtc_job *job,
                                  const struct cuda_search *search);
void folio__nvrtc_free(struct nvrtc_result *result);

/* Where NVRTC is: its version and path. ENOTSUP as above. */
folio_status folio__nvrtc_find(i32 *version, char path[CUDA_PATH_BYTES], i32 max_major,
                               const struct cuda_search *search);

#endif
