/* SPDX-License-Identifier: Apache-2.0
 * cache_tables.c: what a cache exports: page tables, lengths, copies to do, counters. */
#include <stddef.h>

#include "cache.h"
#include "params.h"
#include "result.h"

/* The handles of a call, in memory for PyMem_Free. -1 with an exception. */
static int read_handles(PyObject *value, folio_seq **seqs, int32_t *n)
{
    PyObject *tuple = PySequence_Check(value) ? PySequence_Tuple(value) : NULL;
    if (!tuple) {
        if (!PyErr_Occurred())
            PyErr_Format(PyExc_TypeError, "seqs: %R; must be a list of handles", value);
        return -1;
    }
    const Py_ssize_t count = PyTuple_Size(tuple);
    *n = (int32_t)count;
    *seqs = count <= INT32_MAX ? PyMem_Calloc((size_t)count + 1, sizeof **seqs) : NULL;
    int failed = *seqs ? 0 : (PyErr_NoMemory(), -1);
    for (Py_ssize_t i = 0; i < count && !failed; i++)
        failed = ext_read_seq(PyTuple_GetItem(tuple, i), *seqs + i);
    Py_DECREF(tuple);
    return failed;
}

static int read_seqs(PyObject *self, const char *function, PyObject *const *args, Py_ssize_t n_args, PyObject *keywords,
                     folio_seq **seqs, int32_t *n)
{
    PyObject *value;
    *seqs = NULL;
    if (ext_params_read(ext_cache_state(self), SIG_SEQS, function, args, n_args, keywords, &value) < 0)
        return -1;
    return read_handles(value, seqs, n);
}

PyObject *ext_cache_page_table(PyObject *self, PyObject *const *args, Py_ssize_t n_args, PyObject *keywords)
{
    folio_seq *seqs;
    int32_t n;
    PyObject *array = NULL;
    if (read_seqs(self, "page_table", args, n_args, keywords, &seqs, &n) == 0) {
        int64_t shape[2] = { n, 0 };
        folio_status status = folio_cache_table_width(ext_cache_of(self), seqs, n, &shape[1]);
        int32_t *table;
        if (status == FOLIO_OK)
            array = ext_numpy_new(ext_cache_state(self), EXT_I32, 2, shape, (void **)&table);
        if (array)
            status = folio_cache_page_table(ext_cache_of(self), seqs, n, table, shape[1], NULL);
        if (status != FOLIO_OK) {
            Py_CLEAR(array);
            ext_cache_raise(self, status);
        }
    }
    PyMem_Free(seqs);
    return array;
}

PyObject *ext_cache_kv_lens(PyObject *self, PyObject *const *args, Py_ssize_t n_args, PyObject *keywords)
{
    folio_seq *seqs;
    int32_t n;
    PyObject *array = NULL;
    if (read_seqs(self, "kv_lens", args, n_args, keywords, &seqs, &n) == 0) {
        const int64_t shape[1] = { n };
        int64_t *lens;
        array = ext_numpy_new(ext_cache_state(self), EXT_I64, 1, shape, (void **)&lens);
        const folio_status status = array ? folio_cache_kv_lens(ext_cache_of(self), seqs, n, lens) : FOLIO_OK;
        if (status != FOLIO_OK) {
            Py_CLEAR(array);
            ext_cache_raise(self, status);
        }
    }
    PyMem_Free(seqs);
    return array;
}

/* positions is int64 [n, n_positions], compact. -1 with an exception. */
static int require_positions(const struct ext_array *positions, int32_t n)
{
    const DLTensor *t = &positions->tensor;
    if (t->dtype.code != kDLInt || t->dtype.bits != 64) {
        PyErr_SetString(PyExc_TypeError, "positions: another dtype; must be int64");
        return -1;
    }
    if (t->device.device_type != kDLCPU) {
        PyErr_SetString(PyExc_ValueError, "positions: not in host memory; a Cache lives on the host");
        return -1;
    }
    const bool is_fit = t->ndim == 2 && t->shape[0] == n && (t->shape[1] < 2 || t->strides[1] == 1) &&
                        (n < 2 || t->strides[0] == t->shape[1]);
    if (!is_fit)
        PyErr_Format(PyExc_ValueError, "positions: must be a compact [%d, n_positions], one row a sequence", (int)n);
    return is_fit ? 0 : -1;
}

static PyObject *find_slots(PyObject *self, const folio_seq *seqs, int32_t n, const struct ext_array *positions)
{
    const DLTensor *t = &positions->tensor;
    int64_t *slots;
    PyObject *array = ext_numpy_new(ext_cache_state(self), EXT_I64, 2, t->shape, (void **)&slots);
    if (!array)
        return NULL;
    const int64_t *data = t->data ? (const int64_t *)(const void *)((const char *)t->data + t->byte_offset) : NULL;
    const folio_status status = folio_cache_slots(ext_cache_of(self), seqs, n, data, t->shape[1], slots);
    if (status == FOLIO_OK)
        return array;
    Py_DECREF(array);
    return ext_cache_raise(self, status);
}

PyObject *ext_cache_slots(PyObject *self, PyObject *const *args, Py_ssize_t n_args, PyObject *keywords)
{
    struct ext_state *state = ext_cache_state(self);
    PyObject *values[2], *result = NULL;
    folio_seq *seqs = NULL;
    int32_t n;
    struct ext_array positions = { 0 };
    if (ext_params_read(state, SIG_SLOTS, "slots", args, n_args, keywords, values) < 0)
        return NULL;
    PyObject *array = ext_indices(state, "positions", values[1], 0);
    if (array && read_handles(values[0], &seqs, &n) == 0 &&
        ext_array_read(state, &positions, "positions", array, EXT_READ) == 0 && require_positions(&positions, n) == 0)
        result = find_slots(self, seqs, n, &positions);
    ext_array_release(&positions);
    Py_XDECREF(array);
    PyMem_Free(seqs);
    return result;
}

static folio_status read_stats(PyObject *self, folio_cache_stats *stats)
{
    *stats = (folio_cache_stats){ .struct_size = sizeof *stats };
    return folio_cache_get_stats(ext_cache_of(self), stats);
}

PyObject *ext_cache_take_copies(PyObject *self, PyObject *no_args)
{
    (void)no_args;
    folio_cache_stats stats;
    folio_status status = read_stats(self, &stats);
    if (status != FOLIO_OK)
        return ext_cache_raise(self, status);
    const int64_t shape[2] = { stats.n_copies, 2 };
    int64_t *pairs, n;
    PyObject *array = ext_numpy_new(ext_cache_state(self), EXT_I64, 2, shape, (void **)&pairs);
    status = array ? folio_cache_take_copies(ext_cache_of(self), pairs, stats.n_copies, &n) : FOLIO_OK;
    if (status != FOLIO_OK) {
        Py_CLEAR(array);
        ext_cache_raise(self, status);
    }
    return array;
}

PyObject *ext_cache_free_pages(PyObject *self, PyObject *no_args)
{
    (void)no_args;
    folio_cache_stats stats;
    folio_status status = read_stats(self, &stats);
    if (status != FOLIO_OK)
        return ext_cache_raise(self, status);
    int32_t *pages;
    PyObject *array = ext_numpy_new(ext_cache_state(self), EXT_I32, 1, &stats.n_free, (void **)&pages);
    status = array ? folio_cache_free_pages(ext_cache_of(self), pages, stats.n_free) : FOLIO_OK;
    if (status != FOLIO_OK) {
        Py_CLEAR(array);
        ext_cache_raise(self, status);
    }
    return array;
}

PyObject *ext_cache_stats(PyObject *self, PyObject *no_args)
{
#define COUNTER(name)                            \
    {                                            \
#name, offsetof(folio_cache_stats, name) \
    }
    static const struct {
        const char *name;
        size_t offset;
    } counters[] = {
        COUNTER(n_pages),   COUNTER(n_free),      COUNTER(n_held),         COUNTER(n_shared),
        COUNTER(n_seqs),    COUNTER(n_tokens),    COUNTER(n_slots_unused), COUNTER(n_copies),
        COUNTER(peak_held), COUNTER(n_allocated), COUNTER(n_released),
    };
#undef COUNTER
    (void)no_args;
    folio_cache_stats stats;
    const folio_status status = read_stats(self, &stats);
    if (status != FOLIO_OK)
        return ext_cache_raise(self, status);
    PyObject *dict = PyDict_New();
    for (size_t i = 0; i < COUNT_OF(counters) && dict; i++) {
        const int64_t value = *(const int64_t *)(const void *)((const char *)&stats + counters[i].offset);
        PyObject *number = PyLong_FromLongLong(value);
        if (!number || PyDict_SetItemString(dict, counters[i].name, number) < 0)
            Py_CLEAR(dict);
        Py_XDECREF(number);
    }
    return dict;
}
