/* SPDX-License-Identifier: Apache-2.0
 * array_list.c: lists of ints, and of rows of ints, as int64 arrays: lengths, indptrs, tables, slots; numbers as
 * float32 arrays: scales. */
#include "array.h"

#include "result.h"

static bool is_list(PyObject *object)
{
    return PyList_Check(object) || PyTuple_Check(object);
}

/* Items of one list into out [n]. row < 0: the list is not a row of a table. */
static int fill(const char *name, PyObject *list, Py_ssize_t n, Py_ssize_t row, int64_t *out)
{
    for (Py_ssize_t i = 0; i < n; i++) {
        PyObject *item = PySequence_GetItem(list, i);
        PyObject *integer = item ? PyNumber_Index(item) : NULL;
        if (integer)
            out[i] = PyLong_AsLongLong(integer);
        if (!integer || PyErr_Occurred()) {
            PyObject *class = integer ? PyExc_ValueError : PyExc_TypeError;
            if (row < 0)
                PyErr_Format(class, "%s[%zd]: %R; must be an int of at most 64 bits", name, i, item);
            else
                PyErr_Format(class, "%s[%zd][%zd]: %R; must be an int of at most 64 bits", name, row, i, item);
        }
        Py_XDECREF(integer);
        Py_XDECREF(item);
        if (PyErr_Occurred())
            return -1;
    }
    return 0;
}

/* The longest row. -1 with a TypeError when some item is no row. */
static Py_ssize_t width_of(const char *name, PyObject *table, Py_ssize_t n_rows)
{
    Py_ssize_t width = 0;
    for (Py_ssize_t i = 0; i < n_rows; i++) {
        PyObject *row = PySequence_GetItem(table, i);
        const Py_ssize_t n = row && is_list(row) ? PySequence_Size(row) : -1;
        if (row && n < 0)
            PyErr_Format(PyExc_TypeError, "%s[%zd]: %R; must be a list of ints, as the rows before it", name, i, row);
        Py_XDECREF(row);
        if (n < 0)
            return -1;
        width = n > width ? n : width;
    }
    return width;
}

static int fill_rows(const char *name, PyObject *table, Py_ssize_t n_rows, Py_ssize_t width, int64_t *out)
{
    for (Py_ssize_t i = 0; i < n_rows; i++) {
        PyObject *row = PySequence_GetItem(table, i);
        const Py_ssize_t n = row ? PySequence_Size(row) : -1;
        int failed = n < 0 || n > width || fill(name, row, n, i, out + i * width) < 0;
        Py_XDECREF(row);
        if (failed)
            return -1;
        for (Py_ssize_t j = n; j < width; j++)
            out[i * width + j] = -1;
    }
    return 0;
}

PyObject *ext_indices(struct ext_state *state, const char *name, PyObject *object, int width)
{
    if (!is_list(object))
        return Py_NewRef(object);
    const Py_ssize_t n = PySequence_Size(object);
    PyObject *first = n > 0 ? PySequence_GetItem(object, 0) : NULL;
    if (PyErr_Occurred())
        return NULL;
    const bool is_table = first ? is_list(first) : width != EXT_ONE_DIM;
    Py_XDECREF(first);
    const int64_t longest = n == 0 ? width : is_table ? width_of(name, object, n) : 0;
    if (is_table && longest < 0)
        return NULL;
    const int64_t shape[] = { n, longest };
    void *out;
    PyObject *array = ext_numpy_new(state, EXT_I64, is_table ? 2 : 1, shape, &out);
    if (array && (is_table ? fill_rows(name, object, n, longest, out) : fill(name, object, n, -1, out)) < 0)
        Py_CLEAR(array);
    return array;
}

static int read_float(const char *name, PyObject *value, float *out)
{
    const double x = PyFloat_AsDouble(value);
    if (x == -1.0 && PyErr_Occurred()) {
        if (PyErr_ExceptionMatches(PyExc_TypeError))
            PyErr_Format(PyExc_TypeError, "%s: %R; must be a number or a float32 array", name, value);
        return -1;
    }
    *out = (float)x;
    return 0;
}

PyObject *ext_numbers(struct ext_state *state, const char *name, PyObject *object)
{
    const bool is_one = PyFloat_Check(object) || PyLong_Check(object);
    if (!is_one && !is_list(object))
        return Py_NewRef(object);
    const Py_ssize_t n = is_one ? 1 : PySequence_Size(object);
    const int64_t shape[] = { n };
    void *out;
    PyObject *array = n < 0 ? NULL : ext_numpy_new(state, EXT_F32, 1, shape, &out);
    for (Py_ssize_t i = 0; array && i < n; i++) {
        PyObject *item = is_one ? Py_NewRef(object) : PySequence_GetItem(object, i);
        if (!item || read_float(name, item, (float *)out + i) < 0)
            Py_CLEAR(array);
        Py_XDECREF(item);
    }
    return array;
}
