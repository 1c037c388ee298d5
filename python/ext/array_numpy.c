/* SPDX-License-Identifier: Apache-2.0
 * array_numpy.c: NumPy arrays through __array_struct__, which costs a tenth of a microsecond and, unlike the buffer
 * protocol and __dlpack__, also works for the element types of ml_dtypes. */
#include "array.h"

/* NumPy's PyArrayInterface (its layout is a documented fact). */
struct array_struct {
    int two;
    int ndim;
    char typekind; /* 'f', 'i', 'u', 'b', 'c', 'V', 'O', ... */
    int itemsize;
    int flags;
    Py_intptr_t *shape, *strides; /* [ndim]; strides in bytes */
    void *data;
    PyObject *descr;
};

enum { NOT_SWAPPED = 0x200, WRITEABLE = 0x400 };

/* -1: not one of folio's. ml_dtypes: bfloat16 is V2; the 8-bit floats are V1 or f1. */
static int dtype_of(struct ext_state *state, const struct array_struct *a, PyObject *object)
{
    if (!(a->flags & NOT_SWAPPED))
        return -1;
    switch (a->typekind) {
    case 'f':
        if (a->itemsize == 4)
            return EXT_F32;
        if (a->itemsize == 2)
            return EXT_F16;
        if (a->itemsize == 1)
            break;
        return -1;
    case 'i':
        return a->itemsize == 8 ? EXT_I64 : a->itemsize == 4 ? EXT_I32 : a->itemsize == 1 ? EXT_I8 : -1;
    case 'b':
        return a->itemsize == 1 ? EXT_BOOL : -1;
    case 'V':
        break;
    default:
        return -1;
    }
    PyObject *dtype = PyObject_GetAttr(object, state->names[EXT_NAME_dtype]);
    const int found = dtype ? ext_dtype_of_object(state, dtype) : -1;
    Py_XDECREF(dtype);
    PyErr_Clear();
    return found;
}

static int fill(struct ext_array *array, const char *name, const struct array_struct *a, DLDataType dtype)
{
    array->tensor = (DLTensor){ .data = a->data, .device = { kDLCPU, 0 }, .ndim = a->ndim, .dtype = dtype };
    array->is_writable = a->flags & WRITEABLE;
    for (int i = 0; i < a->ndim; i++) {
        array->shape[i] = a->shape[i];
        array->strides[i] = a->strides[i] / a->itemsize;
        if (a->strides[i] % a->itemsize && a->shape[i] > 1) {
            PyErr_Format(PyExc_ValueError, "%s: stride of dim %d, %zd bytes, is no multiple of its %d-byte elements",
                         name, i, (Py_ssize_t)a->strides[i], a->itemsize);
            return -1;
        }
    }
    return 0;
}

int ext_read_array_struct(struct ext_state *state, struct ext_array *array, const char *name, PyObject *object)
{
    PyObject *capsule = PyObject_GetAttr(object, state->names[EXT_NAME_array_struct]);
    const struct array_struct *a = capsule ? PyCapsule_GetPointer(capsule, NULL) : NULL;
    int result = -1;
    if (a && ext_check_ndim(name, a->ndim) == 0) {
        const int dtype = dtype_of(state, a, object);
        result = dtype < 0 ? ext_dtype_refuse(name, PyObject_GetAttr(object, state->names[EXT_NAME_dtype]))
                           : fill(array, name, a, ext_dtype_dlpack((enum ext_dtype)dtype));
    }
    Py_XDECREF(capsule); /* the memory is the array's, and the caller holds the array */
    return result;
}
