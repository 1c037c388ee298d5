/* SPDX-License-Identifier: Apache-2.0
 * contexts.h: every host backend and ISA this build and machine can run, one context each. */
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
struct contexts contexts_create(i32 n_threads);
void contexts_destroy(struct contexts *contexts);

#endif
