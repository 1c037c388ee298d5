/* SPDX-License-Identifier: Apache-2.0
 * ffi_frame.c: reading an XLA call: buffers, attributes, errors. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "ffi.h"
#include "layout.h"

/* At registration XLA asks which version of the interface a handler speaks. What we use is the same in every minor
 * version of major 0, so the answer is the asker's own. */
static bool answer_metadata(const struct ffi_frame *frame)
{
    struct ffi_extension *extension = frame->extensions;
    while (extension && extension->type != FFI_EXTENSION_METADATA)
        extension = extension->next;
    if (!extension)
        return false;
    struct ffi_metadata *metadata = ((struct ffi_metadata_extension *)(void *)extension)->metadata;
    const bool is_known = frame->api && frame->api->version.major == FFI_MAJOR;
    metadata->version.major = FFI_MAJOR;
    metadata->version.minor = is_known ? frame->api->version.minor : FFI_MINOR;
    metadata->traits = 0;
    return true;
}

bool ffi_begin(struct ffi_frame *frame, int64_t n_args, int64_t n_rets, struct ffi_error **error)
{
    *error = NULL;
    if (answer_metadata(frame) || frame->stage != FFI_EXECUTE)
        return true;
    if (frame->args.n >= n_args && frame->rets.n >= n_rets)
        return false;
    *error = ffi_fail(frame, FFI_INVALID_ARGUMENT, "%lld arguments and %lld results; must have at least %lld and %lld",
                      (long long)frame->args.n, (long long)frame->rets.n, (long long)n_args, (long long)n_rets);
    return true;
}

struct ffi_error *ffi_fail(const struct ffi_frame *frame, enum ffi_code code, const char *format, ...)
{
    char text[512];
    va_list values;
    va_start(values, format);
    (void)vsnprintf(text, sizeof text, format, values);
    va_end(values);
    struct ffi_error_args args = { .struct_size = sizeof args, .message = text, .code = (int32_t)code };
    return frame->api->error_create(&args);
}

struct ffi_error *ffi_end(const struct ffi_frame *frame, folio_status status)
{
    switch (status) {
    case FOLIO_OK:
        return NULL;
    case FOLIO_EINVAL:
        return ffi_fail(frame, FFI_INVALID_ARGUMENT, "%s", folio_last_error());
    case FOLIO_ERANGE:
        return ffi_fail(frame, FFI_OUT_OF_RANGE, "%s", folio_last_error());
    case FOLIO_ENOTSUP:
        return ffi_fail(frame, FFI_UNIMPLEMENTED, "%s", folio_last_error());
    case FOLIO_ENOMEM:
        return ffi_fail(frame, FFI_RESOURCE_EXHAUSTED, "%s", folio_last_error());
    default:
        return ffi_fail(frame, FFI_INTERNAL, "%s", folio_last_error());
    }
}

static bool dtype_of(int32_t dtype, enum ext_dtype *out)
{
    static const struct {
        enum ffi_dtype ffi;
        enum ext_dtype ext;
    } pairs[] = { { FFI_F32, EXT_F32 },       { FFI_F16, EXT_F16 },     { FFI_BF16, EXT_BF16 },
                  { FFI_F8E4M3FN, EXT_E4M3 }, { FFI_F8E5M2, EXT_E5M2 }, { FFI_S8, EXT_I8 },
                  { FFI_S32, EXT_I32 },       { FFI_S64, EXT_I64 },     { FFI_PRED, EXT_BOOL } };
    for (size_t i = 0; i < COUNT_OF(pairs); i++)
        if ((int32_t)pairs[i].ffi == dtype) {
            *out = pairs[i].ext;
            return true;
        }
    return false;
}

static struct ffi_error *read_buffer(const struct ffi_frame *frame, const struct ffi_buffer *buffer, const char *name,
                                     struct ext_array *array)
{
    enum ext_dtype dtype;
    if (!dtype_of(buffer->dtype, &dtype))
        return ffi_fail(frame, FFI_INVALID_ARGUMENT, "%s: XLA dtype %d; folio takes float32, float16, bfloat16, ...",
                        name, (int)buffer->dtype);
    if (buffer->rank > EXT_MAX_NDIM)
        return ffi_fail(frame, FFI_INVALID_ARGUMENT, "%s: %lld dims; at most %d", name, (long long)buffer->rank,
                        (int)EXT_MAX_NDIM);
    *array = (struct ext_array){ .is_present = true, .is_writable = true, .kind = EXT_JAX };
    array->tensor = (DLTensor){ .data = buffer->data,
                                .device = { kDLCPU, 0 },
                                .ndim = (int32_t)buffer->rank,
                                .dtype = ext_dtype_dlpack(dtype),
                                .shape = array->shape,
                                .strides = array->strides };
    int64_t stride = 1;
    for (int64_t i = buffer->rank - 1; i >= 0; i--) {
        array->shape[i] = buffer->dims[i];
        array->strides[i] = stride;
        stride *= buffer->dims[i]; /* an array of this size exists */
    }
    return NULL;
}

struct ffi_error *ffi_read_arg(const struct ffi_frame *frame, int64_t i, const char *name, struct ext_array *array)
{
    if (i >= frame->args.n)
        return ffi_fail(frame, FFI_INVALID_ARGUMENT, "%s: missing from the call's %lld arguments", name,
                        (long long)frame->args.n);
    return read_buffer(frame, frame->args.values[i], name, array);
}

struct ffi_error *ffi_read_ret(const struct ffi_frame *frame, int64_t i, const char *name, struct ext_array *array)
{
    return read_buffer(frame, frame->rets.values[i], name, array);
}

/* The attribute's value when it is of that type, else NULL. */
static const void *attribute(const struct ffi_frame *frame, const char *name, enum ffi_attr_type type)
{
    const size_t n_bytes = strlen(name);
    for (int64_t i = 0; i < frame->attrs.n; i++) {
        const struct ffi_span *span = frame->attrs.names[i];
        if (span->n_bytes == n_bytes && memcmp(span->text, name, n_bytes) == 0)
            return frame->attrs.types[i] == (int32_t)type ? frame->attrs.values[i] : NULL;
    }
    return NULL;
}

/* The attribute's value when it is a scalar of that dtype, else NULL. */
static const void *scalar(const struct ffi_frame *frame, const char *name, enum ffi_dtype dtype)
{
    const struct ffi_scalar *value = attribute(frame, name, FFI_ATTR_SCALAR);
    return value && value->dtype == (int32_t)dtype ? value->value : NULL;
}

struct ffi_span ffi_text(const struct ffi_frame *frame, const char *name)
{
    const struct ffi_span *span = attribute(frame, name, FFI_ATTR_STRING);
    const bool is_ended = span && span->n_bytes && span->text[span->n_bytes - 1] == '\0';
    return is_ended ? *span : (struct ffi_span){ NULL, 0 };
}

int64_t ffi_i64(const struct ffi_frame *frame, const char *name, int64_t otherwise)
{
    const void *value = scalar(frame, name, FFI_S64);
    if (value)
        memcpy(&otherwise, value, sizeof otherwise);
    return otherwise;
}

double ffi_f64(const struct ffi_frame *frame, const char *name, double otherwise)
{
    const void *value = scalar(frame, name, FFI_F64);
    if (value)
        memcpy(&otherwise, value, sizeof otherwise);
    return otherwise;
}

struct ffi_error *ffi_apply_layout(const struct ffi_frame *frame, const char *name, struct ext_array *pages)
{
    const int64_t layout = ffi_i64(frame, "layout", EXT_NHD), page_size = ffi_i64(frame, "page_size", 0);
    if (ext_layout_permute(pages, (int32_t)layout, page_size))
        return NULL;
    return ffi_fail(frame, FFI_INVALID_ARGUMENT, "%s: shape does not fit layout %d with page_size %lld", name,
                    (int)layout, (long long)page_size);
}
