/* SPDX-License-Identifier: Apache-2.0
 * contexts.h: the host backends and ISAs that this build and machine can run, one context each. */
#ifndef TESTS_CONTEXTS_H
#define TESTS_CONTEXTS_H

#include "base/types.h"
#include "folio/device.h"

enum { MAX_CONTEXTS = 8 };

struct contexts {
    folio_context *at[MAX_CONTEXTS];
    const char *name[MAX_CONTEXTS]; /* "ref", "c", "avx2", ... */
    i32 n;
};
struct contexts contexts_create(i32 n_threads);     /* ref, and levels of equal bits */
struct contexts contexts_create_all(i32 n_threads); /* and those that round weights to bf16 */
void contexts_destroy(struct contexts *contexts);

#endif
