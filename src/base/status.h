/* SPDX-License-Identifier: Apache-2.0
 * status.h: how a call refuses. FOLIO_REQUIRE at the top of a function, with numbers; then the work. */
#ifndef FOLIO_BASE_STATUS_H
#define FOLIO_BASE_STATUS_H

#include "folio/base.h"

/* Record the thread's last error and give the status back. kind: see folio_error_kind. */
__attribute__((format(printf, 2, 3))) folio_status folio__fail(folio_status status, const char *format, ...);
__attribute__((format(printf, 1, 2))) folio_status folio__fail_type(const char *format, ...); /* EINVAL, kind TYPE */

/* FOLIO_REQUIRE(n >= 0, FOLIO_EINVAL, "n_tokens %lld: must be >= 0", (long long)n); */
#define FOLIO_REQUIRE(cond, status, ...)             \
    do {                                             \
        if (__builtin_expect(!(cond), 0))            \
            return folio__fail(status, __VA_ARGS__); \
    } while (0)

#define FOLIO_REQUIRE_TYPE(cond, ...)             \
    do {                                          \
        if (__builtin_expect(!(cond), 0))         \
            return folio__fail_type(__VA_ARGS__); \
    } while (0)

/* Pass a failure on. */
#define FOLIO_TRY(call)                                    \
    do {                                                   \
        const folio_status folio__tried = (call);          \
        if (__builtin_expect(folio__tried != FOLIO_OK, 0)) \
            return folio__tried;                           \
    } while (0)

/* Every options struct: known size or smaller, never 0. Copies *src (src->struct_size bytes) over a zeroed *dst. */
folio_status folio__read_struct(const char *name, void *dst, size_t dst_size, const void *src);

#endif
