/* SPDX-License-Identifier: Apache-2.0
 * append.c: append(): new tokens into their slots. */
#include "functions.h"

#include "pages.h"
#include "params.h"

enum { K, V, K_PAGES, V_PAGES, SLOTS, N_ARRAYS, LAYOUT = N_ARRAYS, PAGE_SIZE, K_SCALE, V_SCALE, N_VALUES };

static int read_append(struct ext_state *state, PyObject *const *values, PyObject *slots, struct ext_array *arrays)
{
    if (ext_array_read(state, &arrays[K], "k", values[K], EXT_READ) < 0 ||
        ext_array_read(state, &arrays[V], "v", values[V], EXT_READ) < 0 ||
        ext_pages_read(state, &arrays[K_PAGES], "k_pages", values[K_PAGES], EXT_WRITE, values[LAYOUT],
                       values[PAGE_SIZE]) < 0 ||
        ext_pages_read(state, &arrays[V_PAGES], "v_pages", values[V_PAGES], EXT_WRITE, values[LAYOUT],
                       values[PAGE_SIZE]) < 0)
        return -1;
    return ext_array_read(state, &arrays[SLOTS], "slots", slots, EXT_READ);
}

static PyObject *append_arrays(struct ext_state *state, struct ext_array *arrays)
{
    folio_context *context = ext_context(state, FOLIO_BACKEND_AUTO, 0, arrays[K_PAGES].tensor.device);
    if (!context)
        return NULL;
    const folio_append_args args = {
        .struct_size = sizeof args,
        .k = ext_tensor(&arrays[K]),
        .v = ext_tensor(&arrays[V]),
        .k_pages = ext_tensor(&arrays[K_PAGES]),
        .v_pages = ext_tensor(&arrays[V_PAGES]),
        .slots = ext_tensor(&arrays[SLOTS]),
    };
    folio_status status;
    if (ext_moves_much(&arrays[K])) {
        Py_BEGIN_ALLOW_THREADS status = folio_pages_append(context, &args, NULL);
        Py_END_ALLOW_THREADS
    } else {
        status = folio_pages_append(context, &args, NULL);
    }
    return status == FOLIO_OK ? Py_NewRef(Py_None) : ext_raise(state, status);
}

PyObject *ext_append(PyObject *module, PyObject *const *args, Py_ssize_t n_args, PyObject *keywords)
{
    struct ext_state *state = PyModule_GetState(module);
    PyObject *values[N_VALUES];
    if (ext_params_read(state, SIG_APPEND, "append", args, n_args, keywords, values) < 0 ||
        ext_refuse_scale("k_scale", values[K_SCALE]) < 0 || ext_refuse_scale("v_scale", values[V_SCALE]) < 0)
        return NULL;
    PyObject *slots = ext_indices(state, "slots", values[SLOTS], EXT_ONE_DIM);
    if (!slots)
        return NULL;
    struct ext_array arrays[N_ARRAYS] = { 0 };
    PyObject *result = NULL;
    if (read_append(state, values, slots, arrays) == 0)
        result = append_arrays(state, arrays);
    for (int i = 0; i < N_ARRAYS; i++)
        ext_array_release(&arrays[i]);
    Py_DECREF(slots);
    return result;
}
