/* SPDX-License-Identifier: Apache-2.0
 * base.h: version, status codes, the last error. Everything else in folio includes this.
 *
 * Errors. Every call that can fail returns a folio_status; FOLIO_OK is 0, everything else is negative. The thread's
 * last error (folio_last_error) is one line that names the argument, what was got and what is allowed.
 * A call that fails has changed nothing. (Errors that can only be found while computing, such as a raising callback or
 * a device fault, leave out and lse unspecified; pages, tables and cache are unchanged even then.)
 *
 * Threads. Distinct objects are independent. One object needs outside locking unless its header says otherwise.
 * Pointers. Nothing given to a call is kept after it returns, except memory given at create.
 *
 * The library never prints, exits or aborts. */
#ifndef FOLIO_BASE_H
#define FOLIO_BASE_H

#include <stddef.h>
#include <stdint.h>

#define FOLIO_VERSION_MAJOR 0
#define FOLIO_VERSION_MINOR 1
#define FOLIO_VERSION_PATCH 0

#if defined(_WIN32)
#define FOLIO_API
#else
#define FOLIO_API __attribute__((visibility("default")))
#endif

#if defined(__GNUC__)
#define FOLIO_NODISCARD __attribute__((warn_unused_result))
#else
#define FOLIO_NODISCARD
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* X(name, value, text). The values are part of the ABI. */
#define FOLIO_STATUS_MAP(X)                         \
    X(OK, 0, "success")                             \
    X(EINVAL, -1, "invalid argument")               \
    X(ENOMEM, -2, "out of memory")                  \
    X(ENOPAGES, -3, "not enough free pages")        \
    X(ETOOBIG, -4, "can never fit")                 \
    X(ENOSEQS, -5, "every sequence slot is in use") \
    X(EHANDLE, -6, "stale or foreign handle")       \
    X(EBUSY, -7, "busy")                            \
    X(ERANGE, -8, "index or id out of range")       \
    X(ENOTSUP, -9, "not supported")                 \
    X(EDEVICE, -10, "device error")                 \
    X(ECOMPILE, -11, "kernel compilation failed")   \
    X(EIO, -12, "input or output error")            \
    X(ECORRUPT, -13, "internal state is corrupt")

#define FOLIO__STATUS_ENUM(name, value, text) FOLIO_##name = (value),
typedef enum folio_status { FOLIO_STATUS_MAP(FOLIO__STATUS_ENUM) } folio_status;
#undef FOLIO__STATUS_ENUM

/* Was the last FOLIO_EINVAL about a value or about a type? Bindings raise different classes for the two. */
typedef enum folio_error_kind {
    FOLIO_ERROR_VALUE = 0, /* shape, stride, range, device, NULL */
    FOLIO_ERROR_TYPE = 1,  /* a dtype, or a pair of dtypes */
} folio_error_kind;

/* "EINVAL" and "invalid argument" for FOLIO_EINVAL; "unknown" for a number that is no status. Never NULL. */
FOLIO_API const char *folio_status_name(folio_status status);
FOLIO_API const char *folio_status_text(folio_status status);

/* The calling thread's last error: one line, valid until the thread's next failing folio call; "" before the first.
 * Never NULL. Successful calls leave it alone. */
FOLIO_API const char *folio_last_error(void);
FOLIO_API folio_error_kind folio_last_error_kind(void);

/* The version of the library that runs, "0.1.0"; compare with FOLIO_VERSION_* of the headers compiled against. */
FOLIO_API const char *folio_version(void);

#ifdef __cplusplus
}
#endif
#endif
