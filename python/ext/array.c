/* SPDX-License-Identifier: Apache-2.0
 * array.c: reading an object through its type's source, and letting go of it. */
#include "array.h"

int ext_check_ndim(const char *name, int64_t ndim)
{
    if (ndim <= EXT_MAX_NDIM)
        return 0;
    PyErr_Format(PyExc_ValueError, "%s: %lld dims; at most %d", name, (long long)ndim, EXT_MAX_NDIM);
    return -1;
}

static int read_from(struct ext_state *state, struct ext_array *array, const char *name, PyObject *object,
                     const struct ext_type *type)
{
    switch (type->source) {
    case EXT_ARRAY_STRUCT:
        return ext_read_array_struct(state, array, name, object);
    case EXT_EXCHANGE_API:
        return ext_read_exchange(array, name, object, type);
    case EXT_DLPACK:
        return ext_read_dlpack(state, array, name, object);
    case EXT_BUFFER:
        return ext_read_buffer(array, name, object);
    case EXT_REFUSED:
        break;
    }
    PyErr_Format(PyExc_TypeError, "%s: %R; must be an array: NumPy, PyTorch, JAX, or one with __dlpack__ or a buffer",
                 name, Py_TYPE(object));
    return -1;
}

/* PyTorch: memory that autograd watches is not ours to read behind its back, and a view may keep its sign in a bit
 * beside the memory, which DLPack does not carry. */
static int refuse_torch(const struct ext_state *state, const char *name, PyObject *object)
{
    PyObject *requires_grad = PyObject_GetAttr(object, state->names[EXT_NAME_requires_grad]);
    const int has_grad = requires_grad ? PyObject_IsTrue(requires_grad) : -1;
    Py_XDECREF(requires_grad);
    if (has_grad == 1)
        PyErr_Format(PyExc_TypeError, "%s: a tensor that requires grad; folio has no backward pass: use %s.detach()",
                     name, name);
    if (has_grad != 0)
        return -1;
    PyObject *answer = PyObject_CallMethodObjArgs(object, state->names[EXT_NAME_is_neg], NULL);
    const int is_negative = answer ? PyObject_IsTrue(answer) : -1;
    Py_XDECREF(answer);
    if (is_negative == 1)
        PyErr_Format(PyExc_TypeError, "%s: a lazily negated view; use %s.resolve_neg()", name, name);
    return is_negative == 0 ? 0 : -1;
}

/* What refuse_torch says is the better reason for a failed export; else the one that is set stays. */
static int refuse_torch_export(const struct ext_state *state, const char *name, PyObject *object)
{
    PyObject *class, *error, *traceback;
    PyErr_Fetch(&class, &error, &traceback);
    if (refuse_torch(state, name, object) == 0) {
        PyErr_Restore(class, error, traceback);
        return -1;
    }
    Py_XDECREF(class);
    Py_XDECREF(error);
    Py_XDECREF(traceback);
    return -1;
}

/* Only numbers with a fraction have a gradient or a lazy sign: indices need no look. */
static bool is_fractional(DLDataType type)
{
    return type.code != kDLInt && type.code != kDLUInt && type.code != kDLBool;
}

static int refuse_read_only(const char *name, enum ext_kind kind)
{
    if (kind == EXT_JAX)
        PyErr_Format(PyExc_TypeError, "%s: JAX arrays are immutable; it is written in place", name);
    else
        PyErr_Format(PyExc_ValueError, "%s: read-only; it is written in place", name);
    return -1;
}

int ext_array_read(struct ext_state *state, struct ext_array *array, const char *name, PyObject *object,
                   enum ext_access access)
{
    array->holds = HOLDS_NOTHING;
    array->is_present = false;
    if (!object || object == Py_None)
        return 0;
    struct ext_type type;
    if (ext_type_of(state, object, &type) < 0)
        return -1;
    array->kind = type.kind;
    array->exchange = type.exchange;
    array->is_writable = true;
    const bool is_torch = type.kind == EXT_TORCH && type.source != EXT_REFUSED;
    if (type.kind == EXT_JAX && access == EXT_WRITE)
        return refuse_read_only(name, type.kind);
    if (read_from(state, array, name, object, &type) < 0)
        return is_torch ? refuse_torch_export(state, name, object) : -1;
    if (is_torch && is_fractional(array->tensor.dtype) && refuse_torch(state, name, object) < 0)
        return -1;
    array->tensor.shape = array->shape;
    array->tensor.strides = array->strides;
    array->is_present = true;
    if (access == EXT_WRITE && !array->is_writable)
        return refuse_read_only(name, type.kind);
    return 0;
}

void ext_array_release(struct ext_array *array)
{
    switch (array->holds) {
    case HOLDS_NOTHING:
        return;
    case HOLDS_MANAGED:
        if (array->held.managed->deleter)
            array->held.managed->deleter(array->held.managed);
        break;
    case HOLDS_VERSIONED:
        if (array->held.versioned->deleter)
            array->held.versioned->deleter(array->held.versioned);
        break;
    case HOLDS_BUFFER:
        PyBuffer_Release(&array->held.buffer);
        break;
    }
    array->holds = HOLDS_NOTHING;
}
