/* SPDX-License-Identifier: Apache-2.0
 * array.h: a Python object seen as a DLTensor for the length of one call.
 *
 *   type of the object          source               what is held
 *   numpy.ndarray               __array_struct__     nothing (the caller holds the array)
 *   torch.Tensor, ...           DLPack's C exchange  nothing
 *   has __dlpack__              a capsule            the managed tensor
 *   has the buffer protocol     Py_buffer            the buffer
 *
 * What is known of a type is looked up once (array_type.c). */
#ifndef FOLIO_EXT_ARRAY_H
#define FOLIO_EXT_ARRAY_H

#include "ext.h"

enum { EXT_MAX_NDIM = 8 };
enum ext_access { EXT_READ, EXT_WRITE };

struct ext_array {
    DLTensor tensor; /* shape and strides point into this struct: do not move it */
    int64_t shape[EXT_MAX_NDIM];
    int64_t strides[EXT_MAX_NDIM]; /* elements; always filled */
    bool is_present;               /* false: None or not given */
    bool is_writable;
    enum ext_kind kind;
    const struct ext_exchange_api *exchange; /* of its type, or NULL */
    enum { HOLDS_NOTHING = 0, HOLDS_MANAGED, HOLDS_VERSIONED, HOLDS_BUFFER } holds;
    union {
        DLManagedTensor *managed;
        DLManagedTensorVersioned *versioned;
        Py_buffer buffer;
    } held;
};

/* Look at `object`; NULL and None give an absent array. `name` is the argument's name in messages.
 * 0, or -1 with an exception: TypeError (dtype or kind), ValueError (read-only, unaligned). Release in either case. */
int ext_array_read(struct ext_state *state, struct ext_array *array, const char *name, PyObject *object,
                   enum ext_access access);
void ext_array_release(struct ext_array *array);

static inline DLTensor *ext_tensor(struct ext_array *array)
{
    return array->is_present ? &array->tensor : NULL;
}

/* array_list.c: a list or tuple of ints (or of such rows, padded with -1 to the longest) becomes a NumPy int64 array;
 * anything else passes through. width: an empty list is [0], or [0, width]. New reference, NULL with an exception. */
enum { EXT_ONE_DIM = -1 };
PyObject *ext_indices(struct ext_state *state, const char *name, PyObject *object, int width);

/* A number, or a list or tuple of numbers, becomes a NumPy float32 array [n]; anything else passes through. */
PyObject *ext_numbers(struct ext_state *state, const char *name, PyObject *object);

/* dtype.c */

/* The index of a DLPack type among those folio knows, -1 if it is none. */
int ext_dtype_of(DLDataType type);
DLDataType ext_dtype_dlpack(enum ext_dtype dtype);
const char *ext_dtype_name(enum ext_dtype dtype);
/* NumPy's dtype; imports ml_dtypes for those that are its. Borrowed; NULL with an exception. */
PyObject *ext_dtype_numpy(struct ext_state *state, enum ext_dtype dtype);
/* The dtype of a NumPy array whose typekind doesn't tell (ml_dtypes'): by identity. -1 if unknown. No exception. */
int ext_dtype_of_object(struct ext_state *state, PyObject *dtype);
/* A dtype that the caller names: "bfloat16", numpy.float16, torch.float32, ... -1 with a TypeError. */
int ext_dtype_read(struct ext_state *state, const char *name, PyObject *value, enum ext_dtype *dtype);
/* TypeError "q: dtype float64; folio takes float32, ...". `got` is the name, stolen; NULL keeps the exception set.
 * Returns -1. */
int ext_dtype_refuse(const char *name, PyObject *got);

/* array_type.c: source REFUSED when folio can't read such objects. -1 with an exception. */
int ext_type_of(struct ext_state *state, PyObject *object, struct ext_type *type);

/* array_numpy.c, array_dlpack.c, array_buffer.c: one for each source. */
int ext_read_array_struct(struct ext_state *state, struct ext_array *array, const char *name, PyObject *object);
int ext_read_exchange(struct ext_array *array, const char *name, PyObject *object, const struct ext_type *type);
int ext_read_dlpack(struct ext_state *state, struct ext_array *array, const char *name, PyObject *object);
int ext_read_buffer(struct ext_array *array, const char *name, PyObject *object);
/* The exchange API of a type, its newest version 1; NULL if it has none. No exception. */
const struct ext_exchange_api *ext_find_exchange(const struct ext_state *state, PyTypeObject *type);

/* The stream that the array's framework is working on. -1 with an exception. */
int ext_exchange_stream(const struct ext_array *array, void **stream);

/* stream.c */

/* What a caller's stream= asks of exporters: to be called before a call's arrays are read. value: NULL, None, an int (a
 * CUstream), or an object with .cuda_stream (PyTorch) or .ptr (CuPy). -1 with an exception. */
int ext_stream_announce(struct ext_state *state, PyObject *value);
/* The CUDA stream of a call on `array`: the one announced, else its framework's current one; NULL on a CPU. -1 with an
 * exception: a stream for the CPU, a framework that doesn't say its own. */
int ext_stream_get(const struct ext_state *state, const struct ext_array *array, void **stream);

/* ndim of an array to come fits. -1 with a ValueError. */
int ext_check_ndim(const char *name, int64_t ndim);

#endif
