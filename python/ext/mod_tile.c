/* SPDX-License-Identifier: Apache-2.0
 * mod_tile.c: a tile of scores goes to a Python function and comes back, on whatever thread the library works.
 *
 * The function gets a memoryview that is released when it returns, so nothing of it can outlive the tile. */
#include "mod.h"

/* Keep the first exception; its traceback stays with it. */
static void keep_error(struct ext_mod *self)
{
    PyObject *class, *error, *traceback;
    PyErr_Fetch(&class, &error, &traceback);
    PyErr_NormalizeException(&class, &error, &traceback);
    if (traceback)
        PyException_SetTraceback(error, traceback);
    Py_XDECREF(class);
    Py_XDECREF(traceback);
    if (self->error)
        Py_XDECREF(error);
    else
        self->error = error;
}

static bool call(struct ext_mod *self, PyObject *memory, const folio_tile *t)
{
    PyObject *result = PyObject_CallFunction(self->function, "OLLLLLLL", memory, (long long)t->b, (long long)t->h,
                                             (long long)t->q_begin, (long long)t->n_rows, (long long)t->kv_begin,
                                             (long long)t->n_keys, (long long)t->row_stride);
    Py_XDECREF(result);
    return result;
}

folio_status ext_mod_tile(void *user, float *scores, const folio_tile *where)
{
    struct ext_mod *self = user;
    if (where->n_rows == 0 || where->n_keys == 0)
        return FOLIO_OK;
    const int64_t n_floats = (where->n_rows - 1) * where->row_stride + where->n_keys;
    const PyGILState_STATE gil = PyGILState_Ensure();
    PyObject *memory =
        PyMemoryView_FromMemory((char *)scores, (Py_ssize_t)(n_floats * (int64_t)sizeof *scores), PyBUF_WRITE);
    const bool is_good = memory && call(self, memory, where);
    if (!is_good)
        keep_error(self);
    PyObject *released = memory ? PyObject_CallMethod(memory, "release", NULL) : NULL;
    if (!released)
        PyErr_Clear();
    Py_XDECREF(released);
    Py_XDECREF(memory);
    PyGILState_Release(gil);
    return is_good ? FOLIO_OK : FOLIO_EINVAL;
}
