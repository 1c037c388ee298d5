/* SPDX-License-Identifier: Apache-2.0
 * sources.h: the device code and the headers it includes, embedded byte for byte at build (cmake/embed.cmake). */
#ifndef FOLIO_KERNEL_CUDA_SOURCES_H
#define FOLIO_KERNEL_CUDA_SOURCES_H

#include "base/types.h"

struct cuda_source {
    const char *name; /* as #include names it: "kernel/args.h" */
    const char *text; /* [n_bytes], then a 0 */
    size_t n_bytes;
};

extern const struct cuda_source folio__cuda_sources[]; /* [folio__cuda_n_sources] by name */
extern const i32 folio__cuda_n_sources;

#endif
