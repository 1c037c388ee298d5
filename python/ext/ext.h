/* SPDX-License-Identifier: Apache-2.0
 * ext.h: the module's state, and what every file of the extension uses.
 *
 *   values of a call ── params.c ─► PyObject *[] ── array*.c, layout.c ─► DLTensor ─► folio_* (the library)
 *   results          ◄── result.c ── PyObject * ◄── errors.c ── folio_status ◄──────────┘
 *
 * One state a module object: no C globals. Only the limited API of CPython 3.11 is used. */
#ifndef FOLIO_EXT_H
#define FOLIO_EXT_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdbool.h>
#include <stdint.h>

#include "folio/folio.h"

#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))

/* Element types that folio knows: X(name, NumPy's name, DLPack code, bits). */
#define EXT_DTYPES(X)                             \
    X(F32, "float32", kDLFloat, 32)               \
    X(F16, "float16", kDLFloat, 16)               \
    X(BF16, "bfloat16", kDLBfloat, 16)            \
    X(E4M3, "float8_e4m3fn", kDLFloat8_e4m3fn, 8) \
    X(E5M2, "float8_e5m2", kDLFloat8_e5m2, 8)     \
    X(I8, "int8", kDLInt, 8)                      \
    X(I32, "int32", kDLInt, 32)                   \
    X(I64, "int64", kDLInt, 64)                   \
    X(BOOL, "bool", kDLBool, 8)

#define EXT_ENUM(name, text, code, bits) EXT_##name,
enum ext_dtype { EXT_DTYPES(EXT_ENUM) EXT_N_DTYPES };
#undef EXT_ENUM

/* Whose array it is, hence what results become. */
enum ext_kind { EXT_NUMPY, EXT_TORCH, EXT_JAX, EXT_CUPY };

/* How its memory is reached, fastest first. */
enum ext_source { EXT_REFUSED, EXT_ARRAY_STRUCT, EXT_EXCHANGE_API, EXT_DLPACK, EXT_BUFFER };

struct ext_exchange_api; /* array_dlpack.c */

/* What is known of a Python type; looked up once a type. */
struct ext_type {
    PyTypeObject *type;
    enum ext_kind kind;
    enum ext_source source;
    const struct ext_exchange_api *exchange; /* EXT_EXCHANGE_API only */
};

/* Attribute names, interned once: X(name, text). */
#define EXT_NAMES(X)                             \
    X(array_struct, "__array_struct__")          \
    X(dlpack, "__dlpack__")                      \
    X(exchange_api, "__dlpack_c_exchange_api__") \
    X(max_version, "max_version")                \
    X(dlpack_device, "__dlpack_device__")        \
    X(stream, "stream")                          \
    X(dtype, "dtype")                            \
    X(requires_grad, "requires_grad")            \
    X(is_neg, "is_neg")                          \
    X(new_empty, "new_empty")                    \
    X(module, "__module__")                      \
    X(mro, "__mro__")

#define EXT_ENUM(name, text) EXT_NAME_##name,
enum { EXT_NAMES(EXT_ENUM) EXT_N_NAMES };
#undef EXT_ENUM

enum { EXT_MAX_TYPES = 16, EXT_N_SIGNATURES = 24 };

/* Contexts are made once for (backend, threads, device) and live as long as the module. */
struct ext_context {
    struct ext_context *next;
    folio_context *context;
    int32_t backend, n_threads, device;
    bool calls_back;
};

struct ext_state {
    PyObject *no_pages_error, *state_error, *device_error;
    PyTypeObject *plan_type, *cache_type, *mod_type;
    PyObject *ndarray, *np_empty;         /* numpy.ndarray, numpy.empty */
    PyObject *dtypes[EXT_N_DTYPES];       /* numpy.dtype; those of ml_dtypes are NULL until one is needed */
    PyObject *names[EXT_N_NAMES];         /* interned */
    PyObject *params[EXT_N_SIGNATURES];   /* tuple of interned parameter names, by signature */
    struct ext_type types[EXT_MAX_TYPES]; /* [n_types] types met so far */
    int n_types;
    int64_t export_stream;        /* what __dlpack__ is told for memory on a GPU: see stream.c */
    struct ext_context *contexts; /* newest first */
};

/* errors.c */

/* Raise what `status` and the thread's last error say. Returns NULL. */
PyObject *ext_raise(const struct ext_state *state, folio_status status);

/* scalars.c */

/* An int, or anything with __index__. -1 with an exception: TypeError, ValueError (does not fit). */
int ext_read_i64(const char *name, PyObject *value, int64_t *out);
int ext_read_i32(const char *name, PyObject *value, int32_t *out);
/* The index of a str among n words; words[i] NULL stands for None. ValueError lists what is allowed. */
int ext_read_word(const char *name, PyObject *value, const char *const *words, int n, int32_t *out);

/* context.c */

/* Borrowed; NULL with an exception. backend AUTO: CUDA for a tensor on a GPU, else CPU. */
folio_context *ext_context(struct ext_state *state, int32_t backend, int32_t n_threads, DLDevice device);
/* One with threads of its own, for calls whose mods call Python back: those threads wait for the interpreter, and
 * nobody who holds the interpreter may wait for them. */
folio_context *ext_context_calling_back(struct ext_state *state, int32_t backend, int32_t n_threads, DLDevice device);
void ext_contexts_free(struct ext_state *state);

#endif
