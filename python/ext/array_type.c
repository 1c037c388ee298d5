/* SPDX-License-Identifier: Apache-2.0
 * array_type.c: what is known of a type: whose it is, and the fastest way to its memory. Remembered by type. */
#include "array.h"

#include <string.h>

/* The first part of type.__module__ is `package`. */
static bool is_from(const struct ext_state *state, PyObject *type, const char *package)
{
    PyObject *module = PyObject_GetAttr(type, state->names[EXT_NAME_module]);
    Py_ssize_t n = 0;
    const char *text = module && PyUnicode_Check(module) ? PyUnicode_AsUTF8AndSize(module, &n) : NULL;
    const size_t length = strlen(package);
    const bool yes = text && strncmp(text, package, length) == 0 && (text[length] == 0 || text[length] == '.');
    Py_XDECREF(module);
    PyErr_Clear();
    return yes;
}

/* The kind of the nearest base that comes from a framework; NUMPY for all others: that is what they get back. */
static enum ext_kind kind_of(const struct ext_state *state, PyTypeObject *type)
{
    static const struct {
        const char *package;
        enum ext_kind kind;
    } packages[] = { { "torch", EXT_TORCH }, { "jax", EXT_JAX }, { "jaxlib", EXT_JAX }, { "cupy", EXT_CUPY } };
    PyObject *mro = PyObject_GetAttr((PyObject *)type, state->names[EXT_NAME_mro]);
    enum ext_kind kind = EXT_NUMPY;
    const Py_ssize_t n = mro ? PyTuple_Size(mro) : 0;
    for (Py_ssize_t i = 0; i < n && kind == EXT_NUMPY; i++)
        for (size_t k = 0; k < COUNT_OF(packages) && kind == EXT_NUMPY; k++)
            if (is_from(state, PyTuple_GetItem(mro, i), packages[k].package))
                kind = packages[k].kind;
    Py_XDECREF(mro);
    PyErr_Clear();
    return kind;
}

static bool has(PyTypeObject *type, PyObject *name)
{
    return PyObject_HasAttr((PyObject *)type, name) == 1;
}

static enum ext_source source_of(const struct ext_state *state, PyObject *object, const struct ext_type *type)
{
    if (PyType_IsSubtype(type->type, (PyTypeObject *)state->ndarray)) /* a mask of numpy.ma would be lost */
        return is_from(state, (PyObject *)type->type, "numpy.ma") ? EXT_REFUSED : EXT_ARRAY_STRUCT;
    if (type->exchange)
        return EXT_EXCHANGE_API;
    if (has(type->type, state->names[EXT_NAME_dlpack]))
        return EXT_DLPACK;
    if (PyObject_CheckBuffer(object))
        return EXT_BUFFER;
    if (has(type->type, state->names[EXT_NAME_array_struct]))
        return EXT_ARRAY_STRUCT;
    return EXT_REFUSED;
}

int ext_type_of(struct ext_state *state, PyObject *object, struct ext_type *out)
{
    PyTypeObject *const type = Py_TYPE(object);
    for (int i = 0; i < state->n_types; i++)
        if (state->types[i].type == type) {
            *out = state->types[i];
            return 0;
        }
    struct ext_type met = { .type = type };
    met.exchange = ext_find_exchange(state, type);
    met.kind = kind_of(state, type);
    met.source = source_of(state, object, &met);
    if (PyErr_Occurred())
        return -1;
    if (state->n_types < EXT_MAX_TYPES && met.source != EXT_REFUSED) {
        Py_INCREF((PyObject *)type); /* keeps the address from naming another type */
        state->types[state->n_types++] = met;
    }
    *out = met;
    return 0;
}
