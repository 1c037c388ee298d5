/* SPDX-License-Identifier: Apache-2.0
 * cubins.h: machine code of a row for an architecture: from the disk cache, else compiled and put there.
 *
 *   <cache>/<key>.cubin      key = hash of every embedded source, the options, the architecture, folio's version
 *   "FOLIOCB1" | NVRTC version | payload bytes | payload hash | payload       a file that does not add up is ignored
 *
 * The folder is FOLIO_CACHE_DIR, else XDG_CACHE_HOME/folio, else ~/.cache/folio; made with mode 0700. A folder of
 * another user, or writable by others, is not used: code lives in memory only then. Files appear by rename, whole. */
#ifndef FOLIO_KERNEL_CUDA_CUBINS_H
#define FOLIO_KERNEL_CUDA_CUBINS_H

#include <stdbool.h>

#include "kernel/cuda/nvrtc.h"

struct cubin {
    void *code; /* [n_bytes], folio__free it */
    size_t n_bytes;
    bool from_disk;
};

/* arch: 80, 90, ...; driver_major: of CUDA, 13. ENOTSUP, ECOMPILE, ENOMEM. */
folio_status folio__cubin_get(struct cubin *cubin, i32 config, i32 arch, i32 driver_major,
                              const struct cuda_search *search);
/* After the driver refused a file from the disk: so that the next get compiles. */
void folio__cubin_forget(i32 config, i32 arch);

/* The folder, for people; "" when there is none to use. */
void folio__cubin_dir(char path[CUDA_PATH_BYTES]);

/* NVRTC's options for a row: [*n_options] into options [CUDA_MAX_OPTIONS]. strict adds ptxas' report and warnings. arch
 * text lives in arch_text. */
enum { CUDA_MAX_OPTIONS = 20 };
void folio__cubin_options(const char *options[CUDA_MAX_OPTIONS], i32 *n_options, char arch_text[32], i32 config,
                          i32 arch, bool strict);

#endif
