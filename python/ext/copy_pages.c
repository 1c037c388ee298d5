/* SPDX-License-Identifier: Apache-2.0
 * copy_pages.c: copy_pages(): the copies that Cache.take_copies asks for. */
#include "functions.h"

#include "pages.h"
#include "params.h"

enum { K_PAGES, V_PAGES, COPIES, N_ARRAYS, LAYOUT = N_ARRAYS, PAGE_SIZE, N_VALUES };

static PyObject *copy_arrays(struct ext_state *state, struct ext_array *arrays)
{
    folio_context *context = ext_context(state, FOLIO_BACKEND_AUTO, 0, arrays[K_PAGES].tensor.device);
    void *stream;
    if (!context || ext_stream_get(state, &arrays[K_PAGES], &stream) < 0)
        return NULL;
    const DLTensor *k_pages = ext_tensor(&arrays[K_PAGES]), *v_pages = ext_tensor(&arrays[V_PAGES]);
    folio_status status;
    Py_BEGIN_ALLOW_THREADS status = folio_pages_copy(context, k_pages, v_pages, ext_tensor(&arrays[COPIES]), stream);
    Py_END_ALLOW_THREADS return status == FOLIO_OK ? Py_NewRef(Py_None) : ext_raise(state, status);
}

PyObject *ext_copy_pages(PyObject *module, PyObject *const *args, Py_ssize_t n_args, PyObject *keywords)
{
    struct ext_state *state = PyModule_GetState(module);
    PyObject *values[N_VALUES];
    if (ext_params_read(state, SIG_COPY_PAGES, "copy_pages", args, n_args, keywords, values) < 0)
        return NULL;
    PyObject *copies = ext_indices(state, "copies", values[COPIES], 2);
    if (!copies)
        return NULL;
    PyObject *const layout = values[LAYOUT], *const page_size = values[PAGE_SIZE];
    struct ext_array arrays[N_ARRAYS] = { 0 };
    PyObject *result = NULL;
    if (ext_stream_announce(state, NULL) == 0 &&
        ext_pages_read(state, &arrays[K_PAGES], "k_pages", values[K_PAGES], EXT_WRITE, layout, page_size) == 0 &&
        ext_pages_read(state, &arrays[V_PAGES], "v_pages", values[V_PAGES], EXT_WRITE, layout, page_size) == 0 &&
        ext_array_read(state, &arrays[COPIES], "copies", copies, EXT_READ) == 0)
        result = copy_arrays(state, arrays);
    for (int i = 0; i < N_ARRAYS; i++)
        ext_array_release(&arrays[i]);
    Py_DECREF(copies);
    return result;
}
