/* SPDX-License-Identifier: Apache-2.0
 * kernels.h: one table of function pointers a host backend. Chosen once (context.h), then only called through.
 * Kernels allocate nothing, call nobody back and may run on many threads at once on disjoint items. */
#ifndef FOLIO_KERNEL_KERNELS_H
#define FOLIO_KERNEL_KERNELS_H

#include "folio/device.h"
#include "kernel/args.h"

struct kernels {
    const char *name; /* "avx512" */
    folio_isa isa;

    /* Tokens [begin, end) of args->k and args->v into their slots; slots are checked, -1 skips. */
    void (*append)(const struct append_args *args, i64 begin, i64 end);
    /* Tokens [begin, end) of a page row into args->k and args->v. */
    void (*gather)(const struct gather_args *args, i64 begin, i64 end);

    /* How the plan cuts work for these shapes and dtypes. Must not depend on lengths. */
    struct tiling (*tiling)(const struct attend_args *args);
    /* Bytes one worker needs beside the partials; 64-byte aligned when given. */
    size_t (*scratch_bytes)(const struct attend_args *args);
    /* One item: writes out and lse, or its splits' partials. */
    void (*attend)(const struct attend_args *args, const struct attend_item *item, void *scratch);
    /* All splits of a finished unit, left to right: partials -> out and lse. `unit` is its first item with n_splits and
     * partial covering all of them. */
    void (*fold)(const struct attend_args *args, const struct attend_item *unit);

    /* Query tokens [begin, end): normalised parts -> one. */
    void (*merge)(const struct merge_args *args, i64 begin, i64 end);
};

extern const struct kernels folio__kernels_ref; /* the oracle: double precision, obvious loops */
extern const struct kernels folio__kernels_c;
extern const struct kernels folio__kernels_avx2;
extern const struct kernels folio__kernels_avx512;
extern const struct kernels folio__kernels_avx512_bf16;  /* near the others on bf16, and on int8 from 512 keys on */
extern const struct kernels folio__kernels_amx;          /* likewise */
extern const struct kernels folio__kernels_amx_emulated; /* amx's with tiles in plain C; only where asked for */

/* The best table at or below cap (AUTO = no cap but FOLIO_ISA's) that this build and machine have. Never NULL. */
const struct kernels *folio__select_cpu(folio_isa cap);

#endif
