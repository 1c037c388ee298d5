/* SPDX-License-Identifier: Apache-2.0
 * row_slots.c: _row_slots(): where the next tokens of a sequence lie, from its row of a page table. */
#include "functions.h"

#include "array.h"
#include "result.h"

static int64_t page_at(const struct ext_array *row, int64_t i)
{
    const char *data = (const char *)row->tensor.data + row->tensor.byte_offset;
    const int64_t at = i * row->strides[0];
    return row->tensor.dtype.bits == 32 ? ((const int32_t *)(const void *)data)[at]
                                        : ((const int64_t *)(const void *)data)[at];
}

/* The row and the numbers fit, and every page is there. -1 with an exception. */
static int check(const struct ext_array *row, int64_t first, int64_t n_tokens, int64_t page_size)
{
    const int dtype = ext_dtype_of(row->tensor.dtype);
    if (row->tensor.ndim != 1 || (dtype != EXT_I32 && dtype != EXT_I64) || row->tensor.device.device_type != kDLCPU) {
        PyErr_SetString(PyExc_TypeError, "page_row: must be [n_pages] int32 or int64 in host memory");
        return -1;
    }
    if (first < 0 || n_tokens < 0 || page_size < 1 || first > INT64_MAX - n_tokens) {
        PyErr_Format(PyExc_ValueError, "first %lld, n_tokens %lld, page_size %lld; must be >= 0, >= 0 and >= 1",
                     (long long)first, (long long)n_tokens, (long long)page_size);
        return -1;
    }
    const int64_t n_columns = n_tokens ? (first + n_tokens - 1) / page_size + 1 : 0;
    if (n_columns > row->shape[0]) {
        PyErr_Format(PyExc_IndexError, "page_row: %lld pages; %lld are needed", (long long)row->shape[0],
                     (long long)n_columns);
        return -1;
    }
    for (int64_t column = first / page_size; column < n_columns; column++)
        if (page_at(row, column) < 0) {
            PyErr_Format(PyExc_IndexError, "page_row[%lld]: page %lld; must be >= 0", (long long)column,
                         (long long)page_at(row, column));
            return -1;
        }
    return 0;
}

static PyObject *make_slots(struct ext_state *state, const struct ext_array *row, int64_t first, int64_t n_tokens,
                            int64_t page_size)
{
    int64_t *slots; /* [n_tokens] */
    PyObject *result = ext_numpy_new(state, EXT_I64, 1, &n_tokens, (void **)&slots);
    for (int64_t i = 0; result && i < n_tokens; i++)
        slots[i] = page_at(row, (first + i) / page_size) * page_size + (first + i) % page_size;
    return result;
}

PyObject *ext_row_slots(PyObject *module, PyObject *args)
{
    struct ext_state *state = PyModule_GetState(module);
    PyObject *object, *result = NULL;
    long long first, n_tokens, page_size;
    if (!PyArg_ParseTuple(args, "OLLL:_row_slots", &object, &first, &n_tokens, &page_size))
        return NULL;
    struct ext_array row = { 0 };
    if (ext_array_read(state, &row, "page_row", object, EXT_READ) == 0 && check(&row, first, n_tokens, page_size) == 0)
        result = make_slots(state, &row, first, n_tokens, page_size);
    ext_array_release(&row);
    return result;
}
