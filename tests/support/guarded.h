/* SPDX-License-Identifier: Apache-2.0
 * guarded.h: memory between two red zones: a write past either end shows afterwards, under AddressSanitizer at once. */
#ifndef TESTS_GUARDED_H
#define TESTS_GUARDED_H

#include <stdbool.h>
#include <stddef.h>

#include "base/types.h"

struct guarded {
    u8 *block; /* zone, bytes, zone; NULL = nothing yet */
    size_t bytes;
};

/* Bytes of `fill`, 64-byte aligned, in place of what g held. Aborts when there is no memory. */
void *guarded_alloc(struct guarded *g, size_t bytes, int fill);
void *guarded_data(const struct guarded *g); /* what alloc returned */
void guarded_free(struct guarded *g);
bool guarded_intact(const struct guarded *g); /* nothing yet is intact */

#endif
