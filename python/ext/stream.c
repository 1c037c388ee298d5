/* SPDX-License-Identifier: Apache-2.0
 * stream.c: on which CUDA stream a call works.
 *
 *   stream=None       the stream that q's framework is working on; exporters need not wait for anything
 *   stream=S          S; exporters make it wait for what they still do (DLPack's protocol: __dlpack__(stream=S))
 *
 * PyTorch's C exchange never waits: with a stream of one's own, what wrote the tensors must be ordered before it. */
#include "array.h"

enum { NO_STREAM = -1 }; /* DLPack's word for: do not wait */

/* An attribute's value as a handle; 0 and *found, or -1 with an exception. */
static int read_attribute(PyObject *value, const char *name, int64_t *out, bool *found)
{
    PyObject *handle = PyObject_GetAttrString(value, name);
    *found = handle != NULL;
    if (!handle) {
        PyErr_Clear();
        return 0;
    }
    *out = (int64_t)PyLong_AsUnsignedLongLong(handle);
    Py_DECREF(handle);
    return PyErr_Occurred() ? -1 : 0;
}

static int read_handle(PyObject *value, int64_t *out)
{
    if (PyLong_Check(value)) {
        *out = (int64_t)PyLong_AsUnsignedLongLong(value);
        if (PyErr_Occurred())
            PyErr_Format(PyExc_ValueError, "stream: %R; must be a CUstream handle, 0 .. 2^64 - 1", value);
        return PyErr_Occurred() ? -1 : 0;
    }
    bool found;
    if (read_attribute(value, "cuda_stream", out, &found) < 0)
        return -1;
    if (!found && read_attribute(value, "ptr", out, &found) < 0)
        return -1;
    if (!found)
        PyErr_Format(PyExc_TypeError, "stream: %R; must be None, an int, a torch.cuda.Stream or a cupy.cuda.Stream",
                     value);
    return found ? 0 : -1;
}

int ext_stream_announce(struct ext_state *state, PyObject *value)
{
    state->export_stream = NO_STREAM;
    if (!value || value == Py_None)
        return 0;
    int64_t handle;
    if (read_handle(value, &handle) < 0)
        return -1;
    state->export_stream = handle ? handle : 1; /* DLPack and CUDA: 1 is the legacy default stream by name */
    return 0;
}

/* cupy.cuda.get_current_stream().ptr */
static int cupy_stream(void **stream)
{
    PyObject *module = PyImport_ImportModule("cupy.cuda");
    PyObject *current = module ? PyObject_CallMethod(module, "get_current_stream", NULL) : NULL;
    int64_t handle = 0;
    const int failed = current ? read_handle(current, &handle) : -1;
    Py_XDECREF(current);
    Py_XDECREF(module);
    *stream = (void *)(uintptr_t)handle;
    return failed;
}

int ext_stream_get(const struct ext_state *state, const struct ext_array *array, void **stream)
{
    *stream = NULL;
    if (!array->is_present || array->tensor.device.device_type != kDLCUDA) {
        if (state->export_stream == NO_STREAM)
            return 0;
        PyErr_SetString(PyExc_ValueError, "stream: given, but the tensors are not on a GPU; must be None");
        return -1;
    }
    if (state->export_stream != NO_STREAM) {
        *stream = (void *)(uintptr_t)state->export_stream;
        return 0;
    }
    if (array->exchange)
        return ext_exchange_stream(array, stream);
    if (array->kind == EXT_CUPY)
        return cupy_stream(stream);
    PyErr_SetString(PyExc_ValueError, "stream: None; these tensors on a GPU don't say theirs: give the CUDA stream");
    return -1;
}
