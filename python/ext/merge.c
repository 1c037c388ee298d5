/* SPDX-License-Identifier: Apache-2.0
 * merge.c: merge(): partial results over disjoint keys into one. */
#include "functions.h"

#include "array.h"
#include "params.h"
#include "result.h"

enum { OUTS, LSES, OUT, LSE, N_ARRAYS };

/* A list of partials is stacked by its own framework; an array passes through. New reference. */
static PyObject *stacked(struct ext_state *state, const char *name, PyObject *value)
{
    if (!PyList_Check(value) && !PyTuple_Check(value))
        return Py_NewRef(value);
    PyObject *first = PySequence_Size(value) > 0 ? PySequence_GetItem(value, 0) : NULL;
    struct ext_type type;
    PyObject *stack = NULL;
    if (!first)
        PyErr_Format(PyExc_ValueError, "%s: an empty list; must have at least one partial", name);
    else if (ext_type_of(state, first, &type) == 0)
        stack = ext_stack(type.kind, value);
    Py_XDECREF(first);
    return stack;
}

static int read_inputs(struct ext_state *state, struct ext_array *arrays, PyObject *outs, PyObject *lses)
{
    if (ext_stream_announce(state, NULL) < 0 || ext_array_read(state, &arrays[OUTS], "outs", outs, EXT_READ) < 0 ||
        ext_array_read(state, &arrays[LSES], "lses", lses, EXT_READ) < 0)
        return -1;
    if (!arrays[OUTS].is_present || !arrays[LSES].is_present) {
        PyErr_Format(PyExc_TypeError, "%s: None; must be an array", arrays[OUTS].is_present ? "lses" : "outs");
        return -1;
    }
    if (arrays[OUTS].tensor.ndim != 4) {
        PyErr_Format(PyExc_ValueError, "outs: %d dims; must have 4: [n_parts, n_tokens, n_heads, head_dim]",
                     (int)arrays[OUTS].tensor.ndim);
        return -1;
    }
    return 0;
}

static folio_status merge_arrays(folio_context *context, struct ext_array *arrays, void *stream)
{
    const folio_merge_args args = {
        .struct_size = sizeof args,
        .outs = &arrays[OUTS].tensor,
        .lses = &arrays[LSES].tensor,
        .out = &arrays[OUT].tensor,
        .lse = &arrays[LSE].tensor,
    };
    folio_status status;
    Py_BEGIN_ALLOW_THREADS status = folio_merge(context, &args, stream);
    Py_END_ALLOW_THREADS return status;
}

static PyObject *merge(struct ext_state *state, struct ext_array *arrays, PyObject *outs, PyObject *lses)
{
    if (read_inputs(state, arrays, outs, lses) < 0)
        return NULL;
    const struct ext_array *like = &arrays[OUTS];
    folio_context *context = ext_context(state, FOLIO_BACKEND_AUTO, 0, like->tensor.device);
    void *stream;
    if (!context || ext_stream_get(state, like, &stream) < 0)
        return NULL;
    const enum ext_dtype dtype = (enum ext_dtype)ext_dtype_of(like->tensor.dtype);
    PyObject *out = ext_result_new(state, like, outs, dtype, 3, like->shape + 1);
    PyObject *lse = out ? ext_result_new(state, like, outs, EXT_F32, 2, like->shape + 1) : NULL;
    PyObject *result = NULL;
    if (lse && ext_array_read(state, &arrays[OUT], "out", out, EXT_WRITE) == 0 &&
        ext_array_read(state, &arrays[LSE], "lse", lse, EXT_WRITE) == 0) {
        const folio_status status = merge_arrays(context, arrays, stream);
        if (status == FOLIO_OK) {
            out = ext_result_finish(like->kind, out);
            lse = ext_result_finish(like->kind, lse);
            result = out && lse ? PyTuple_Pack(2, out, lse) : NULL;
        } else {
            ext_raise(state, status);
        }
    }
    Py_XDECREF(out);
    Py_XDECREF(lse);
    return result;
}

PyObject *ext_merge(PyObject *module, PyObject *const *args, Py_ssize_t n_args, PyObject *keywords)
{
    struct ext_state *state = PyModule_GetState(module);
    PyObject *values[2];
    if (ext_params_read(state, SIG_MERGE, "merge", args, n_args, keywords, values) < 0)
        return NULL;
    PyObject *outs = stacked(state, "outs", values[0]);
    PyObject *lses = outs ? stacked(state, "lses", values[1]) : NULL;
    struct ext_array arrays[N_ARRAYS] = { 0 };
    PyObject *result = lses ? merge(state, arrays, outs, lses) : NULL;
    for (int i = 0; i < N_ARRAYS; i++)
        ext_array_release(&arrays[i]);
    Py_XDECREF(outs);
    Py_XDECREF(lses);
    return result;
}
