/* SPDX-License-Identifier: Apache-2.0
 * attention.c: attention() and explain(): a plan for one call. */
#include "functions.h"

#include "attend_call.h"

static void forget(PyObject **objects)
{
    for (int i = 0; i < N_OBJECTS; i++)
        Py_CLEAR(objects[i]);
}

static folio_status attend(folio_context *context, const struct ext_call *call, bool lets_go)
{
    if (!lets_go)
        return folio_attend(context, NULL, &call->args, call->stream);
    folio_status status;
    Py_BEGIN_ALLOW_THREADS status = folio_attend(context, NULL, &call->args, call->stream);
    Py_END_ALLOW_THREADS return status;
}

static PyObject *run(struct ext_state *state, struct ext_call *call, PyObject **objects,
                     const struct ext_options *options)
{
    folio_context *context = ext_call_context(state, call, objects, options);
    if (!context || ext_call_make_results(state, call, objects, options->return_lse) < 0)
        return NULL;
    PyObject *const *const mods = objects + F_MODS;
    const bool lets_go = ext_is_long(ext_call_work(call), options->backend) || ext_mods_call_back(mods);
    if (ext_mods_enter(mods) < 0)
        return NULL;
    const folio_status status = attend(context, call, lets_go);
    if (ext_mods_leave(mods, status))
        return NULL;
    return status == FOLIO_OK ? ext_call_give(call, objects, options->return_lse) : ext_raise(state, status);
}

/* The text of folio_explain, whatever its status: it says why. */
static PyObject *tell(struct ext_state *state, struct ext_call *call, PyObject **objects,
                      const struct ext_options *options)
{
    enum { TEXT_BYTES = 8192 };
    folio_context *context = ext_call_context(state, call, objects, options);
    if (!context || ext_call_describe_results(call) < 0)
        return NULL;
    char *text = PyMem_Calloc(1, TEXT_BYTES);
    if (!text)
        return PyErr_NoMemory();
    (void)folio_explain(context, &call->args, text, TEXT_BYTES);
    PyObject *result = ext_mods_explain(objects + F_MODS, text);
    PyMem_Free(text);
    return result;
}

typedef PyObject *(*body)(struct ext_state *, struct ext_call *, PyObject **, const struct ext_options *);

/* Values -> options, arrays; then what is asked for; then let go of everything. */
static PyObject *with_call(PyObject *module, enum ext_signature_id id, const char *function, PyObject *const *args,
                           Py_ssize_t n_args, PyObject *keywords, body body)
{
    struct ext_state *state = PyModule_GetState(module);
    PyObject *values[N_ATTEND_PARAMS], *objects[N_OBJECTS];
    struct ext_options options;
    if (ext_params_read(state, id, function, args, n_args, keywords, values) < 0 ||
        ext_options_read(values, &options) < 0)
        return NULL;
    PyObject *result = NULL;
    if (ext_objects_read(state, values, objects) == 0) {
        struct ext_call call;
        if (ext_call_read(state, &call, objects, NULL, &options, values[P_stream]) == 0)
            result = body(state, &call, objects, &options);
        ext_call_release(&call);
    }
    forget(objects);
    return result;
}

PyObject *ext_attention(PyObject *module, PyObject *const *args, Py_ssize_t n_args, PyObject *keywords)
{
    return with_call(module, SIG_ATTENTION, "attention", args, n_args, keywords, run);
}

PyObject *ext_explain(PyObject *module, PyObject *const *args, Py_ssize_t n_args, PyObject *keywords)
{
    return with_call(module, SIG_EXPLAIN, "explain", args, n_args, keywords, tell);
}
