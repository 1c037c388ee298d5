/* SPDX-License-Identifier: Apache-2.0
 * from_contiguous.c: pages_from_contiguous(): a [B, H, S, D] tensor cut into pages and the table that says so. */
#include "functions.h"

#include "layout.h"
#include "params.h"
#include "result.h"

enum { X, PAGES, TABLE, N_ARRAYS };

static int check(const struct ext_array *x, int64_t page_size)
{
    if (!x->is_present) {
        PyErr_SetString(PyExc_TypeError, "x: None; must be an array [B, H, S, D]");
        return -1;
    }
    if (x->tensor.ndim != 4) {
        PyErr_Format(PyExc_ValueError, "x: %d dims; must have 4: [B, H, S, D]", (int)x->tensor.ndim);
        return -1;
    }
    if (page_size < 1) {
        PyErr_Format(PyExc_ValueError, "page_size: %lld; must be >= 1", (long long)page_size);
        return -1;
    }
    return 0;
}

/* The library's view of the results: pages [n, page_size, H, D] of the container [n, H, page_size, D], and a table
 * [B, pages a sequence] of [B, 1, pages a sequence, 1]. */
static int view_results(struct ext_state *state, struct ext_array *arrays, PyObject *container, PyObject *table)
{
    if (ext_array_read(state, &arrays[PAGES], "container", container, EXT_WRITE) < 0 ||
        ext_layout_apply(&arrays[PAGES], "container", EXT_HND, 0) < 0 ||
        ext_array_read(state, &arrays[TABLE], "page_table", table, EXT_WRITE) < 0)
        return -1;
    struct ext_array *t = &arrays[TABLE];
    t->tensor.ndim = 2;
    t->shape[1] = t->shape[2];
    t->strides[1] = t->strides[2];
    return 0;
}

static PyObject *cut(struct ext_state *state, struct ext_array *arrays, PyObject *x, int64_t page_size)
{
    const struct ext_array *from = &arrays[X];
    const int64_t n_tokens = from->shape[2], pages_per_seq = n_tokens / page_size + (n_tokens % page_size != 0);
    int64_t n_pages;
    if (__builtin_mul_overflow(from->shape[0], pages_per_seq, &n_pages))
        return PyErr_Format(PyExc_ValueError, "x: its pages pass 63 bits");
    const int64_t pages_shape[] = { n_pages, from->shape[1], page_size, from->shape[3] };
    const int64_t table_shape[] = { from->shape[0], 1, pages_per_seq, 1 };
    folio_context *context = ext_context(state, FOLIO_BACKEND_AUTO, 0, from->tensor.device);
    void *stream;
    if (!context || ext_stream_get(state, from, &stream) < 0)
        return NULL;
    PyObject *container =
        ext_result_new(state, from, x, (enum ext_dtype)ext_dtype_of(from->tensor.dtype), 4, pages_shape);
    PyObject *table = container ? ext_result_new(state, from, x, EXT_I32, 4, table_shape) : NULL;
    PyObject *result = NULL;
    if (table && view_results(state, arrays, container, table) == 0) {
        folio_status status;
        Py_BEGIN_ALLOW_THREADS status =
            folio_pages_from_contiguous(context, &arrays[PAGES].tensor, &arrays[TABLE].tensor, &from->tensor, stream);
        Py_END_ALLOW_THREADS if (status == FOLIO_OK)
        {
            container = ext_result_finish(from->kind, container);
            table = ext_result_finish(from->kind, table);
            result = container && table ? PyTuple_Pack(2, container, table) : NULL;
        }
        else
        {
            ext_raise(state, status);
        }
    }
    Py_XDECREF(container);
    Py_XDECREF(table);
    return result;
}

PyObject *ext_pages_from_contiguous(PyObject *module, PyObject *const *args, Py_ssize_t n_args, PyObject *keywords)
{
    struct ext_state *state = PyModule_GetState(module);
    PyObject *values[2];
    int64_t page_size;
    if (ext_params_read(state, SIG_FROM_CONTIGUOUS, "pages_from_contiguous", args, n_args, keywords, values) < 0 ||
        ext_read_i64("page_size", values[1], &page_size) < 0)
        return NULL;
    struct ext_array arrays[N_ARRAYS] = { 0 };
    PyObject *result = NULL;
    if (ext_stream_announce(state, NULL) == 0 && ext_array_read(state, &arrays[X], "x", values[0], EXT_READ) == 0 &&
        check(&arrays[X], page_size) == 0)
        result = cut(state, arrays, values[0], page_size);
    for (int i = 0; i < N_ARRAYS; i++)
        ext_array_release(&arrays[i]);
    return result;
}
