/* SPDX-License-Identifier: Apache-2.0
 * append.c: append(): new tokens into their slots. */
#include "functions.h"

#include "pages.h"
#include "params.h"

enum { K, V, K_PAGES, V_PAGES, SLOTS, LAYOUT, PAGE_SIZE, K_SCALE, V_SCALE, N_VALUES };
enum { LIST_SLOTS, LIST_K_SCALE, LIST_V_SCALE, N_LISTS }; /* values that may be lists or numbers */

/* arrays [N_VALUES], by value. */
static int read_append(struct ext_state *state, PyObject *const *values, PyObject *const *lists,
                       struct ext_array *arrays)
{
    if (ext_stream_announce(state, NULL) < 0 || ext_array_read(state, &arrays[K], "k", values[K], EXT_READ) < 0 ||
        ext_array_read(state, &arrays[V], "v", values[V], EXT_READ) < 0 ||
        ext_pages_read(state, &arrays[K_PAGES], "k_pages", values[K_PAGES], EXT_WRITE, values[LAYOUT],
                       values[PAGE_SIZE]) < 0 ||
        ext_pages_read(state, &arrays[V_PAGES], "v_pages", values[V_PAGES], EXT_WRITE, values[LAYOUT],
                       values[PAGE_SIZE]) < 0)
        return -1;
    if (ext_array_read(state, &arrays[SLOTS], "slots", lists[LIST_SLOTS], EXT_READ) < 0 ||
        ext_scale_read(state, &arrays[K_SCALE], "k_scale", lists[LIST_K_SCALE], true) < 0)
        return -1;
    return ext_scale_read(state, &arrays[V_SCALE], "v_scale", lists[LIST_V_SCALE], true);
}

static PyObject *append_arrays(struct ext_state *state, struct ext_array *arrays)
{
    folio_context *context = ext_context(state, FOLIO_BACKEND_AUTO, 0, arrays[K_PAGES].tensor.device);
    void *stream;
    if (!context || ext_stream_get(state, &arrays[K_PAGES], &stream) < 0)
        return NULL;
    /* Scales by slot are computed: those of new tokens are not there yet. */
    const bool makes_scales = (arrays[K_SCALE].is_present && arrays[K_SCALE].tensor.ndim == 3) ||
                              (arrays[V_SCALE].is_present && arrays[V_SCALE].tensor.ndim == 3);
    const folio_append_args args = {
        .struct_size = sizeof args,
        .k = ext_tensor(&arrays[K]),
        .v = ext_tensor(&arrays[V]),
        .k_pages = ext_tensor(&arrays[K_PAGES]),
        .v_pages = ext_tensor(&arrays[V_PAGES]),
        .slots = ext_tensor(&arrays[SLOTS]),
        .k_scale = ext_tensor(&arrays[K_SCALE]),
        .v_scale = ext_tensor(&arrays[V_SCALE]),
        .flags = makes_scales ? FOLIO_APPEND_MAKES_SCALES : 0,
    };
    folio_status status;
    if (ext_moves_much(&arrays[K])) {
        Py_BEGIN_ALLOW_THREADS status = folio_pages_append(context, &args, stream);
        Py_END_ALLOW_THREADS
    } else {
        status = folio_pages_append(context, &args, stream);
    }
    return status == FOLIO_OK ? Py_NewRef(Py_None) : ext_raise(state, status);
}

PyObject *ext_append(PyObject *module, PyObject *const *args, Py_ssize_t n_args, PyObject *keywords)
{
    struct ext_state *state = PyModule_GetState(module);
    PyObject *values[N_VALUES];
    if (ext_params_read(state, SIG_APPEND, "append", args, n_args, keywords, values) < 0)
        return NULL;
    PyObject *lists[N_LISTS] = { ext_indices(state, "slots", values[SLOTS], EXT_ONE_DIM) };
    if (lists[LIST_SLOTS] && values[K_SCALE])
        lists[LIST_K_SCALE] = ext_numbers(state, "k_scale", values[K_SCALE]);
    if (lists[LIST_SLOTS] && values[V_SCALE] && !PyErr_Occurred())
        lists[LIST_V_SCALE] = ext_numbers(state, "v_scale", values[V_SCALE]);
    struct ext_array arrays[N_VALUES] = { 0 };
    PyObject *result = NULL;
    if (!PyErr_Occurred() && read_append(state, values, lists, arrays) == 0)
        result = append_arrays(state, arrays);
    for (int i = 0; i < N_VALUES; i++)
        ext_array_release(&arrays[i]);
    for (int i = 0; i < N_LISTS; i++)
        Py_XDECREF(lists[i]);
    return result;
}
