/* SPDX-License-Identifier: Apache-2.0
 * status.c: names of the codes and the thread's last error. */
#include "base/status.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { MESSAGE_BYTES = 512 };

static _Thread_local char last_message[MESSAGE_BYTES];
static _Thread_local folio_error_kind last_kind;

const char *folio_status_name(folio_status status)
{
    switch (status) {
#define CASE(name, value, text) \
    case FOLIO_##name:          \
        return #name;
        FOLIO_STATUS_MAP(CASE)
#undef CASE
    }
    return "unknown";
}

const char *folio_status_text(folio_status status)
{
    switch (status) {
#define CASE(name, value, text) \
    case FOLIO_##name:          \
        return text;
        FOLIO_STATUS_MAP(CASE)
#undef CASE
    }
    return "unknown";
}

const char *folio_last_error(void)
{
    return last_message;
}

folio_error_kind folio_last_error_kind(void)
{
    return last_kind;
}

#define FOLIO__QUOTE(x) #x
#define FOLIO__TEXT(x) FOLIO__QUOTE(x)

const char *folio_version(void)
{
    return FOLIO__TEXT(FOLIO_VERSION_MAJOR) "." FOLIO__TEXT(FOLIO_VERSION_MINOR) "." FOLIO__TEXT(FOLIO_VERSION_PATCH);
}

folio_status folio__fail(folio_status status, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(last_message, sizeof last_message, format, args);
    va_end(args);
    last_kind = FOLIO_ERROR_VALUE;
    return status;
}

folio_status folio__fail_type(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(last_message, sizeof last_message, format, args);
    va_end(args);
    last_kind = FOLIO_ERROR_TYPE;
    return FOLIO_EINVAL;
}

folio_status folio__read_struct(const char *name, void *dst, size_t dst_size, const void *src)
{
    FOLIO_REQUIRE(src != NULL, FOLIO_EINVAL, "%s: NULL", name);
    size_t src_size;
    memcpy(&src_size, src, sizeof src_size);
    FOLIO_REQUIRE(src_size >= sizeof src_size && src_size <= dst_size, FOLIO_EINVAL,
                  "%s.struct_size %zu: must be %zu .. %zu, what this library knows", name, src_size, sizeof src_size,
                  dst_size);
    memset(dst, 0, dst_size);
    memcpy(dst, src, src_size);
    return FOLIO_OK;
}
