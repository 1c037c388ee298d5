/* SPDX-License-Identifier: Apache-2.0
 * result.c: NumPy in, NumPy out; torch in, torch out; JAX in, JAX out; CuPy in, CuPy out. */
#include "result.h"

static PyObject *shape_tuple(int ndim, const int64_t *shape)
{
    PyObject *tuple = PyTuple_New(ndim);
    for (int i = 0; tuple && i < ndim; i++) {
        PyObject *extent = PyLong_FromLongLong(shape[i]);
        if (!extent || PyTuple_SetItem(tuple, i, extent) < 0)
            Py_CLEAR(tuple);
    }
    return tuple;
}

/* empty(shape, dtype) of NumPy or CuPy, whose dtypes are the same objects. */
static PyObject *call_empty(struct ext_state *state, PyObject *empty, enum ext_dtype dtype, int ndim,
                            const int64_t *shape)
{
    PyObject *numpy_dtype = ext_dtype_numpy(state, dtype);
    PyObject *tuple = numpy_dtype ? shape_tuple(ndim, shape) : NULL;
    PyObject *array = tuple ? PyObject_CallFunctionObjArgs(empty, tuple, numpy_dtype, NULL) : NULL;
    Py_XDECREF(tuple);
    return array;
}

static PyObject *numpy_empty(struct ext_state *state, enum ext_dtype dtype, int ndim, const int64_t *shape)
{
    return call_empty(state, state->np_empty, dtype, ndim, shape);
}

static PyObject *cupy_empty(struct ext_state *state, enum ext_dtype dtype, int ndim, const int64_t *shape)
{
    PyObject *cupy = PyImport_ImportModule("cupy");
    PyObject *empty = cupy ? PyObject_GetAttrString(cupy, "empty") : NULL;
    PyObject *array = empty ? call_empty(state, empty, dtype, ndim, shape) : NULL;
    Py_XDECREF(empty);
    Py_XDECREF(cupy);
    return array;
}

PyObject *ext_numpy_new(struct ext_state *state, enum ext_dtype dtype, int ndim, const int64_t *shape, void **data)
{
    PyObject *array = numpy_empty(state, dtype, ndim, shape);
    struct ext_array view;
    if (array && ext_array_read(state, &view, "result", array, EXT_WRITE) < 0)
        Py_CLEAR(array);
    *data = array ? view.tensor.data : NULL;
    return array;
}

/* like.new_empty(shape), with dtype=torch.<name> where it differs. */
static PyObject *torch_empty(const struct ext_state *state, const struct ext_array *like, PyObject *like_object,
                             enum ext_dtype dtype, int ndim, const int64_t *shape)
{
    PyObject *method = PyObject_GetAttr(like_object, state->names[EXT_NAME_new_empty]);
    PyObject *tuple = shape_tuple(ndim, shape);
    PyObject *args = tuple ? PyTuple_Pack(1, tuple) : NULL;
    PyObject *keywords = NULL, *result = NULL;
    if (ext_dtype_of(like->tensor.dtype) != (int)dtype) {
        PyObject *torch = PyImport_ImportModule("torch");
        PyObject *torch_dtype = torch ? PyObject_GetAttrString(torch, ext_dtype_name(dtype)) : NULL;
        keywords = torch_dtype ? PyDict_New() : NULL;
        if (keywords && PyDict_SetItem(keywords, state->names[EXT_NAME_dtype], torch_dtype) < 0)
            Py_CLEAR(keywords);
        Py_XDECREF(torch_dtype);
        Py_XDECREF(torch);
    }
    if (method && args && !PyErr_Occurred())
        result = PyObject_Call(method, args, keywords);
    Py_XDECREF(keywords);
    Py_XDECREF(args);
    Py_XDECREF(tuple);
    Py_XDECREF(method);
    return result;
}

PyObject *ext_result_new(struct ext_state *state, const struct ext_array *like, PyObject *like_object,
                         enum ext_dtype dtype, int ndim, const int64_t *shape)
{
    if (like->kind == EXT_TORCH)
        return torch_empty(state, like, like_object, dtype, ndim, shape);
    if (like->kind == EXT_CUPY)
        return cupy_empty(state, dtype, ndim, shape);
    return numpy_empty(state, dtype, ndim, shape);
}

static PyObject *call_of(const char *module_name, const char *function_name, PyObject *argument)
{
    PyObject *module = PyImport_ImportModule(module_name);
    PyObject *function = module ? PyObject_GetAttrString(module, function_name) : NULL;
    PyObject *result = function ? PyObject_CallFunctionObjArgs(function, argument, NULL) : NULL;
    Py_XDECREF(function);
    Py_XDECREF(module);
    return result;
}

PyObject *ext_result_finish(enum ext_kind kind, PyObject *result)
{
    if (kind != EXT_JAX || !result)
        return result;
    PyObject *array = call_of("jax.numpy", "asarray", result);
    Py_DECREF(result);
    return array;
}

PyObject *ext_stack(enum ext_kind kind, PyObject *list)
{
    static const char *const modules[] = {
        [EXT_NUMPY] = "numpy", [EXT_TORCH] = "torch", [EXT_JAX] = "jax.numpy", [EXT_CUPY] = "cupy"
    };
    return call_of(modules[kind], "stack", list);
}
