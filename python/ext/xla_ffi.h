/* SPDX-License-Identifier: Apache-2.0
 * xla_ffi.h: what folio uses of XLA's FFI, version 0.x: layouts and numbers are the interface's, the names are ours.
 *
 *   XLA ── ffi_frame ─► handler          args, rets: ffi_buffer *[n]      attrs: sorted by name, each with a type
 *       ◄── ffi_error * ──┘              NULL = done
 *
 * Every struct but the small ones begins with its size, so that a caller may know more or fewer fields than we do.
 * tests/python-big/test_jax_abi.py compares all of this with the header of the installed jaxlib. */
#ifndef FOLIO_EXT_XLA_FFI_H
#define FOLIO_EXT_XLA_FFI_H

#include <stddef.h>
#include <stdint.h>

enum { FFI_MAJOR = 0, FFI_MINOR = 1 }; /* the oldest version with these layouts */

enum ffi_extension_type { FFI_EXTENSION_METADATA = 1 };
enum ffi_stage { FFI_INSTANTIATE = 0, FFI_PREPARE = 1, FFI_INITIALIZE = 2, FFI_EXECUTE = 3 };
enum ffi_value_type { FFI_BUFFER = 1 }; /* of an arg or a ret */
enum ffi_attr_type { FFI_ATTR_ARRAY = 1, FFI_ATTR_DICTIONARY = 2, FFI_ATTR_SCALAR = 3, FFI_ATTR_STRING = 4 };

enum ffi_code {
    FFI_INVALID_ARGUMENT = 3,
    FFI_RESOURCE_EXHAUSTED = 8,
    FFI_FAILED_PRECONDITION = 9,
    FFI_OUT_OF_RANGE = 11,
    FFI_UNIMPLEMENTED = 12,
    FFI_INTERNAL = 13,
};

enum ffi_dtype {
    FFI_PRED = 1,
    FFI_S8 = 2,
    FFI_S32 = 4,
    FFI_S64 = 5,
    FFI_F16 = 10,
    FFI_F32 = 11,
    FFI_F64 = 12,
    FFI_BF16 = 16,
    FFI_F8E5M2 = 19,
    FFI_F8E4M3FN = 20,
};

struct ffi_extension {
    size_t struct_size;
    int32_t type; /* ffi_extension_type */
    struct ffi_extension *next;
};

struct ffi_version {
    size_t struct_size;
    struct ffi_extension *extensions;
    int major, minor;
};

struct ffi_error; /* XLA's */

struct ffi_error_args {
    size_t struct_size;
    struct ffi_extension *extensions;
    const char *message; /* copied */
    int32_t code;        /* ffi_code */
};

struct ffi_buffer {
    size_t struct_size;
    struct ffi_extension *extensions;
    int32_t dtype; /* ffi_dtype */
    void *data;    /* row-major */
    int64_t rank;
    int64_t *dims; /* [rank] */
};

struct ffi_scalar {
    int32_t dtype; /* ffi_dtype */
    void *value;
};

struct ffi_span {
    const char *text; /* [n_bytes], not terminated */
    size_t n_bytes;
};

struct ffi_values {
    size_t struct_size;
    struct ffi_extension *extensions;
    int64_t n;
    int32_t *types; /* [n] ffi_value_type */
    void **values;  /* [n] ffi_buffer * */
};

struct ffi_attrs {
    size_t struct_size;
    struct ffi_extension *extensions;
    int64_t n;
    int32_t *types;          /* [n] ffi_attr_type */
    struct ffi_span **names; /* [n] ascending */
    void **values;           /* [n] ffi_scalar *, ffi_span * ... */
};

struct ffi_api {
    size_t struct_size;
    struct ffi_extension *extensions;
    struct ffi_version version;
    const void *internal;
    struct ffi_error *(*error_create)(struct ffi_error_args *args);
    /* more follows */
};

struct ffi_frame {
    size_t struct_size;
    struct ffi_extension *extensions;
    const struct ffi_api *api;
    void *execution;
    int32_t stage; /* ffi_stage */
    struct ffi_values args, rets;
    struct ffi_attrs attrs;
    /* more follows */
};

/* Asked for at registration, in place of a call. */
struct ffi_metadata {
    size_t struct_size;
    struct ffi_version version; /* out */
    uint32_t traits;            /* out */
    /* more follows, zeroed by XLA */
};

struct ffi_metadata_extension {
    struct ffi_extension base;
    struct ffi_metadata *metadata;
};

typedef struct ffi_error *ffi_handler(struct ffi_frame *frame);

#endif
