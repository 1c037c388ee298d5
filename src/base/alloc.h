/* SPDX-License-Identifier: Apache-2.0
 * alloc.h: the library's only way to memory, so that tests can count allocations and make any of them fail. */
#ifndef FOLIO_BASE_ALLOC_H
#define FOLIO_BASE_ALLOC_H

#include "base/types.h"

/* n bytes, 64-byte aligned, contents undefined; NULL when there is no memory. n == 0 gives a valid pointer. */
void *folio__alloc(size_t n_bytes);
/* The same, zeroed. */
void *folio__alloc_zero(size_t n_bytes);
/* Zeroed address space that costs memory only where it is touched: for big, sparsely used tables. */
void *folio__reserve_zero(size_t n_bytes);
void folio__free(void *memory); /* of any of the three; NULL is fine */

/* Zeroed and untouched, 2 MB aligned, on huge pages where the system gives them. NULL when there is no memory. */
void *folio__map_huge(size_t n_bytes);
void folio__unmap_huge(void *memory); /* NULL is fine */

/* For tests. Every allocation since the last call counts; the fail_at-th from now on (1 = the next) returns NULL, 0 =
 * none does. Process-wide. */
i64 folio__alloc_count(void);
void folio__alloc_fail_at(i64 fail_at);

#endif
