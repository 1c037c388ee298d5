/* SPDX-License-Identifier: Apache-2.0
 * gather.c: gather(): a sequence's K and V back from its pages. */
#include "functions.h"

#include "pages.h"
#include "params.h"
#include "result.h"

enum { K_PAGES, V_PAGES, PAGE_ROW, K, V, SCALE_OF_K, SCALE_OF_V, N_ARRAYS };
enum { KV_LEN = PAGE_ROW + 1, LAYOUT, PAGE_SIZE, K_SCALE, V_SCALE, DTYPE, N_VALUES };

static folio_status gather_arrays(struct ext_state *state, struct ext_array *arrays, int64_t kv_len)
{
    folio_context *context = ext_context(state, FOLIO_BACKEND_AUTO, 0, arrays[K_PAGES].tensor.device);
    void *stream;
    if (!context || ext_stream_get(state, &arrays[K_PAGES], &stream) < 0)
        return FOLIO_OK; /* an exception is set */
    const folio_gather_args args = {
        .struct_size = sizeof args,
        .k_pages = ext_tensor(&arrays[K_PAGES]),
        .v_pages = ext_tensor(&arrays[V_PAGES]),
        .page_row = ext_tensor(&arrays[PAGE_ROW]),
        .kv_len = kv_len,
        .k = ext_tensor(&arrays[K]),
        .v = ext_tensor(&arrays[V]),
        .k_scale = ext_tensor(&arrays[SCALE_OF_K]),
        .v_scale = ext_tensor(&arrays[SCALE_OF_V]),
    };
    folio_status status;
    if (ext_moves_much(&arrays[K])) {
        Py_BEGIN_ALLOW_THREADS status = folio_pages_gather(context, &args, stream);
        Py_END_ALLOW_THREADS
    } else {
        status = folio_pages_gather(context, &args, stream);
    }
    return status;
}

/* Room for one of the two results, [kv_len, n_kv_heads, head_dim]. A negative kv_len is left to the library. */
static PyObject *make(struct ext_state *state, struct ext_array *result, const struct ext_array *pages,
                      PyObject *pages_object, PyObject *dtype_value, int64_t kv_len)
{
    enum ext_dtype dtype = (enum ext_dtype)ext_dtype_of(pages->tensor.dtype);
    if (dtype == EXT_I8 || dtype == EXT_E4M3 || dtype == EXT_E5M2)
        dtype = EXT_F32;
    if (dtype_value && dtype_value != Py_None && ext_dtype_read(state, "dtype", dtype_value, &dtype) < 0)
        return NULL;
    const int64_t shape[] = { kv_len > 0 ? kv_len : 0, pages->shape[2], pages->shape[3] };
    PyObject *object = ext_result_new(state, pages, pages_object, dtype, 3, shape);
    if (object && ext_array_read(state, result, "result", object, EXT_WRITE) < 0)
        Py_CLEAR(object);
    return object;
}

/* kv_len beyond what the row's pages hold is refused before memory for it is asked. */
static int check_kv_len(const struct ext_array *arrays, int64_t kv_len)
{
    const struct ext_array *row = &arrays[PAGE_ROW], *pages = &arrays[K_PAGES];
    const int64_t n = row->is_present && row->tensor.ndim == 1 ? row->shape[0] : 0, page_size = pages->shape[1];
    if (page_size < 1 || kv_len <= 0 || (kv_len - 1) / page_size < n)
        return 0;
    PyErr_Format(PyExc_IndexError, "kv_len: %lld tokens; page_row has %lld pages of %lld slots", (long long)kv_len,
                 (long long)n, (long long)page_size);
    return -1;
}

static int read_scale(struct ext_state *state, struct ext_array *scale, const char *name, PyObject *value,
                      PyObject **object)
{
    *object = value ? ext_numbers(state, name, value) : NULL;
    return value && !*object ? -1 : ext_scale_read(state, scale, name, *object, false);
}

static int read_inputs(struct ext_state *state, PyObject *const *values, PyObject *row, struct ext_array *arrays)
{
    static const char *const names[] = { "k_pages", "v_pages" };
    if (ext_stream_announce(state, NULL) < 0)
        return -1;
    for (int i = K_PAGES; i <= V_PAGES; i++) {
        if (ext_pages_read(state, &arrays[i], names[i], values[i], EXT_READ, values[LAYOUT], values[PAGE_SIZE]) < 0)
            return -1;
        if (!arrays[i].is_present) {
            PyErr_Format(PyExc_TypeError, "%s: None; must be an array of pages", names[i]);
            return -1;
        }
    }
    return ext_array_read(state, &arrays[PAGE_ROW], "page_row", row, EXT_READ);
}

/* scales [2]: new references to what is read, NULL where absent. */
static PyObject *gather(struct ext_state *state, PyObject *const *values, PyObject *row, struct ext_array *arrays,
                        PyObject **scales)
{
    int64_t kv_len;
    if (read_inputs(state, values, row, arrays) < 0 ||
        read_scale(state, &arrays[SCALE_OF_K], "k_scale", values[K_SCALE], &scales[0]) < 0 ||
        read_scale(state, &arrays[SCALE_OF_V], "v_scale", values[V_SCALE], &scales[1]) < 0 ||
        ext_read_i64("kv_len", values[KV_LEN], &kv_len) < 0 || check_kv_len(arrays, kv_len) < 0)
        return NULL;
    PyObject *k = make(state, &arrays[K], &arrays[K_PAGES], values[K_PAGES], values[DTYPE], kv_len);
    PyObject *v = k ? make(state, &arrays[V], &arrays[V_PAGES], values[V_PAGES], values[DTYPE], kv_len) : NULL;
    const folio_status status = v ? gather_arrays(state, arrays, kv_len) : FOLIO_OK;
    if (status != FOLIO_OK)
        ext_raise(state, status);
    PyObject *result = NULL;
    if (!PyErr_Occurred()) {
        k = ext_result_finish(arrays[K_PAGES].kind, k);
        v = ext_result_finish(arrays[V_PAGES].kind, v);
        result = k && v ? PyTuple_Pack(2, k, v) : NULL;
    }
    Py_XDECREF(k);
    Py_XDECREF(v);
    return result;
}

PyObject *ext_gather(PyObject *module, PyObject *const *args, Py_ssize_t n_args, PyObject *keywords)
{
    struct ext_state *state = PyModule_GetState(module);
    PyObject *values[N_VALUES];
    if (ext_params_read(state, SIG_GATHER, "gather", args, n_args, keywords, values) < 0)
        return NULL;
    PyObject *row = ext_indices(state, "page_row", values[PAGE_ROW], EXT_ONE_DIM);
    if (!row)
        return NULL;
    struct ext_array arrays[N_ARRAYS] = { 0 };
    PyObject *scales[2] = { NULL, NULL };
    PyObject *result = gather(state, values, row, arrays, scales);
    for (int i = 0; i < N_ARRAYS; i++)
        ext_array_release(&arrays[i]);
    Py_XDECREF(scales[0]);
    Py_XDECREF(scales[1]);
    Py_DECREF(row);
    return result;
}
