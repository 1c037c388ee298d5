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

/* The mark of a tile, in the dict of the Python thread. */
static const char inside[] = "folio.tile";

bool ext_mod_is_inside(void)
{
    PyObject *of_thread = PyThreadState_GetDict();
    return of_thread && PyDict_GetItemString(of_thread, inside);
}

/* Mark the thread, or take the mark off; true if it had one. */
static bool mark(bool on)
{
    const bool was = ext_mod_is_inside();
    PyObject *of_thread = PyThreadState_GetDict();
    if (of_thread && on != was &&
        (on ? PyDict_SetItemString(of_thread, inside, Py_True) : PyDict_DelItemString(of_thread, inside)) < 0)
        PyErr_Clear();
    return was;
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
    const bool was_inside = mark(true);
    const bool is_good = memory && call(self, memory, where);
    if (!is_good)
        keep_error(self);
    PyObject *released = memory ? PyObject_CallMethod(memory, "release", NULL) : NULL;
    if (!released)
        PyErr_Clear();
    Py_XDECREF(released);
    Py_XDECREF(memory);
    mark(was_inside);
    PyGILState_Release(gil);
    return is_good ? FOLIO_OK : FOLIO_EINVAL;
}
