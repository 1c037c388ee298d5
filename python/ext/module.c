/* SPDX-License-Identifier: Apache-2.0
 * module.c: folio._ext: what it offers, and its state. */
#include "functions.h"

#include "mod.h"
#include "params.h"

#define KEYWORDS(function) (PyCFunction)(void *)(function), METH_FASTCALL | METH_KEYWORDS
static PyMethodDef functions[] = {
    { "attention", KEYWORDS(ext_attention), ext_doc_attention },
    { "plan", KEYWORDS(ext_plan), ext_doc_plan },
    { "explain", KEYWORDS(ext_explain), ext_doc_explain },
    { "append", KEYWORDS(ext_append), ext_doc_append },
    { "gather", KEYWORDS(ext_gather), ext_doc_gather },
    { "copy_pages", KEYWORDS(ext_copy_pages), ext_doc_copy_pages },
    { "pages_from_contiguous", KEYWORDS(ext_pages_from_contiguous), ext_doc_pages_from_contiguous },
    { "merge", KEYWORDS(ext_merge), ext_doc_merge },
    { "_mod_of_text", ext_mod_of_text, METH_VARARGS, "For folio._mods." },
    { "_mod_of_function", ext_mod_of_function, METH_VARARGS, "For folio._mods." },
    { "_mod_of_blocks", ext_mod_of_blocks, METH_VARARGS, "For folio._mods." },
    { "_row_slots", ext_row_slots, METH_VARARGS, "For folio.compat." },
    { "_ffi_context", ext_ffi_context, METH_VARARGS, "For folio.jax." },
    { "ffi_targets", KEYWORDS(ext_ffi_targets), ext_doc_ffi_targets },
    { 0 },
};
#undef KEYWORDS

static int init_names(struct ext_state *state)
{
#define EXT_TEXT(name, text) (text),
    static const char *const texts[] = { EXT_NAMES(EXT_TEXT) };
#undef EXT_TEXT
    for (int i = 0; i < EXT_N_NAMES; i++)
        if (!(state->names[i] = PyUnicode_InternFromString(texts[i])))
            return -1;
    return 0;
}

static int init_numpy(struct ext_state *state)
{
    PyObject *numpy = PyImport_ImportModule("numpy");
    if (!numpy)
        return -1;
    state->ndarray = PyObject_GetAttrString(numpy, "ndarray");
    state->np_empty = PyObject_GetAttrString(numpy, "empty");
    Py_DECREF(numpy);
    return state->ndarray && state->np_empty ? 0 : -1;
}

/* A new exception class, in the module and in the state. NULL with an exception. */
static PyObject *add_error(PyObject *module, const char *name, PyObject *base, const char *doc)
{
    PyObject *qualified = PyUnicode_FromFormat("folio.%s", name);
    const char *text = qualified ? PyUnicode_AsUTF8AndSize(qualified, NULL) : NULL;
    PyObject *error = text ? PyErr_NewExceptionWithDoc(text, doc, base, NULL) : NULL;
    Py_XDECREF(qualified);
    if (error && PyModule_AddObjectRef(module, name, error) < 0)
        Py_CLEAR(error);
    return error;
}

static int init_errors(PyObject *module, struct ext_state *state)
{
    state->no_pages_error = add_error(module, "NoPagesError", PyExc_MemoryError,
                                      "The pool of a Cache has too few free pages.\n\n"
                                      "needed: pages the call asked for; free: pages there were; can_fit: False when "
                                      "even an empty pool would not do.");
    state->state_error = add_error(module, "StateError", PyExc_RuntimeError,
                                   "The call is fine, the object's state is not: a closed sequence, no sequence slot "
                                   "left, a plan that is running.");
    state->device_error =
        add_error(module, "DeviceError", PyExc_RuntimeError, "A device failed, or a kernel did not compile.");
    return state->no_pages_error && state->state_error && state->device_error ? 0 : -1;
}

static PyTypeObject *add_type(PyObject *module, PyType_Spec *spec)
{
    PyTypeObject *type = (PyTypeObject *)PyType_FromModuleAndSpec(module, spec, NULL);
    if (type && PyModule_AddType(module, type) < 0)
        Py_CLEAR(type);
    return type;
}

static int init(PyObject *module)
{
    struct ext_state *state = PyModule_GetState(module);
    if (init_names(state) < 0 || init_numpy(state) < 0 || init_errors(module, state) < 0 || ext_params_init(state) < 0)
        return -1;
    state->plan_type = add_type(module, &ext_plan_spec);
    state->cache_type = add_type(module, &ext_cache_spec);
    state->mod_type = add_type(module, &ext_mod_spec);
    if (!state->plan_type || !state->cache_type || !state->mod_type)
        return -1;
    return PyModule_AddStringConstant(module, "__version__", folio_version());
}

/* Every object the state holds, for the collector. */
static int traverse(PyObject *module, visitproc visit, void *arg)
{
    struct ext_state *state = PyModule_GetState(module);
    Py_VISIT(state->no_pages_error);
    Py_VISIT(state->state_error);
    Py_VISIT(state->device_error);
    Py_VISIT(state->plan_type);
    Py_VISIT(state->cache_type);
    Py_VISIT(state->mod_type);
    Py_VISIT(state->ndarray);
    Py_VISIT(state->np_empty);
    for (int i = 0; i < EXT_N_DTYPES; i++)
        Py_VISIT(state->dtypes[i]);
    for (int i = 0; i < state->n_types; i++)
        Py_VISIT(state->types[i].type);
    return 0;
}

static int clear(PyObject *module)
{
    struct ext_state *state = PyModule_GetState(module);
    Py_CLEAR(state->no_pages_error);
    Py_CLEAR(state->state_error);
    Py_CLEAR(state->device_error);
    Py_CLEAR(state->plan_type);
    Py_CLEAR(state->cache_type);
    Py_CLEAR(state->mod_type);
    Py_CLEAR(state->ndarray);
    Py_CLEAR(state->np_empty);
    for (int i = 0; i < EXT_N_DTYPES; i++)
        Py_CLEAR(state->dtypes[i]);
    for (int i = 0; i < EXT_N_NAMES; i++)
        Py_CLEAR(state->names[i]);
    for (int i = 0; i < N_SIGNATURES; i++)
        Py_CLEAR(state->params[i]);
    for (int i = 0; i < state->n_types; i++)
        Py_CLEAR(state->types[i].type);
    state->n_types = 0;
    return 0;
}

static void release(void *module)
{
    clear(module);
    ext_contexts_free(PyModule_GetState(module));
}

static PyModuleDef_Slot slots[] = { { Py_mod_exec, (void *)init }, { 0 } };

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "folio._ext",
    .m_doc = "The C side of folio: use it through `import folio`.",
    .m_size = sizeof(struct ext_state),
    .m_methods = functions,
    .m_slots = slots,
    .m_traverse = traverse,
    .m_clear = clear,
    .m_free = release,
};

PyMODINIT_FUNC PyInit__ext(void)
{
    return PyModuleDef_Init(&definition);
}
