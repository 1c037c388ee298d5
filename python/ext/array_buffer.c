/* SPDX-License-Identifier: Apache-2.0
 * array_buffer.c: the buffer protocol: array.array, memoryview, ctypes arrays. */
#include "array.h"

#include <string.h>

/* struct-module format -> dtype; the item size decides among the C integers. -1: not one of folio's. */
static int dtype_of(const Py_buffer *buffer)
{
    const char *format = buffer->format ? buffer->format : "B";
    if (strchr("@=<", format[0]) && format[0]) /* the machines folio runs on are little-endian */
        format++;
    if (strlen(format) != 1)
        return -1;
    const Py_ssize_t n = buffer->itemsize;
    switch (format[0]) {
    case 'f':
        return EXT_F32;
    case 'e':
        return EXT_F16;
    case '?':
        return EXT_BOOL;
    case 'b':
    case 'i':
    case 'l':
    case 'q':
    case 'n':
        return n == 8 ? EXT_I64 : n == 4 ? EXT_I32 : n == 1 ? EXT_I8 : -1;
    default:
        return -1;
    }
}

static int fill(struct ext_array *array, const char *name, const Py_buffer *buffer)
{
    if (ext_check_ndim(name, buffer->ndim) < 0)
        return -1;
    const int dtype = dtype_of(buffer);
    if (dtype < 0)
        return ext_dtype_refuse(name, PyUnicode_FromFormat("'%s'", buffer->format ? buffer->format : "B"));
    array->tensor = (DLTensor){ .data = buffer->buf,
                                .device = { kDLCPU, 0 },
                                .ndim = buffer->ndim,
                                .dtype = ext_dtype_dlpack((enum ext_dtype)dtype) };
    array->is_writable = !buffer->readonly;
    int64_t compact = 1; /* ctypes gives no strides even when asked for them */
    for (int i = buffer->ndim - 1; i >= 0; i--) {
        const Py_ssize_t stride = buffer->strides ? buffer->strides[i] : 0;
        array->shape[i] = buffer->shape[i];
        array->strides[i] = buffer->strides ? stride / buffer->itemsize : compact;
        compact *= buffer->shape[i];
        if (stride % buffer->itemsize && buffer->shape[i] > 1) {
            PyErr_Format(PyExc_ValueError, "%s: stride of dim %d, %zd bytes, is no multiple of its %zd-byte elements",
                         name, i, stride, buffer->itemsize);
            return -1;
        }
    }
    return 0;
}

int ext_read_buffer(struct ext_array *array, const char *name, PyObject *object)
{
    Py_buffer *buffer = &array->held.buffer;
    if (PyObject_GetBuffer(object, buffer, PyBUF_STRIDED_RO | PyBUF_FORMAT) < 0)
        return -1;
    array->holds = HOLDS_BUFFER;
    return fill(array, name, buffer);
}
