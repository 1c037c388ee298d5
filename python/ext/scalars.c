/* SPDX-License-Identifier: Apache-2.0
 * scalars.c: ints and words of a call. */
#include "ext.h"

#include <string.h>

int ext_read_i64(const char *name, PyObject *value, int64_t *out)
{
    PyObject *integer = PyNumber_Index(value);
    if (!integer) {
        if (PyErr_ExceptionMatches(PyExc_TypeError))
            PyErr_Format(PyExc_TypeError, "%s: %R; must be an int", name, value);
        return -1;
    }
    *out = PyLong_AsLongLong(integer);
    Py_DECREF(integer);
    if (*out != -1 || !PyErr_Occurred())
        return 0;
    PyErr_Format(PyExc_ValueError, "%s: %R; does not fit 64 bits", name, value);
    return -1;
}

int ext_read_i32(const char *name, PyObject *value, int32_t *out)
{
    int64_t wide;
    if (ext_read_i64(name, value, &wide) < 0)
        return -1;
    *out = (int32_t)wide;
    if (*out == wide)
        return 0;
    PyErr_Format(PyExc_ValueError, "%s: %R; does not fit 32 bits", name, value);
    return -1;
}

/* "a", "b" and "c", None first where it is allowed. */
static PyObject *allowed(const char *const *words, int n)
{
    PyObject *text = PyUnicode_FromString(words[0] ? "" : "None");
    for (int i = words[0] ? 0 : 1; i < n && text; i++) {
        PyObject *longer = PyUnicode_FromFormat("%U%s\"%s\"", text, i ? ", " : "", words[i]);
        Py_DECREF(text);
        text = longer;
    }
    return text;
}

int ext_read_word(const char *name, PyObject *value, const char *const *words, int n, int32_t *out)
{
    const bool is_text = PyUnicode_Check(value);
    const char *text = is_text ? PyUnicode_AsUTF8AndSize(value, NULL) : NULL;
    if (is_text && !text)
        return -1;
    for (int i = 0; i < n; i++)
        if (words[i] ? text && strcmp(text, words[i]) == 0 : value == Py_None) {
            *out = i;
            return 0;
        }
    PyObject *list = allowed(words, n);
    if (list)
        PyErr_Format(is_text ? PyExc_ValueError : PyExc_TypeError, "%s: %R; must be one of %U", name, value, list);
    Py_XDECREF(list);
    return -1;
}
