/* SPDX-License-Identifier: Apache-2.0
 * array_dlpack.c: DLPack's two doors: the C exchange API of a type (1.3), and __dlpack__ with its capsule. */
#include "array.h"

#include <string.h>

/* The exchange API of DLPack 1.3: one table of functions a type, in a capsule named "dlpack_exchange_api". */
struct ext_exchange_api {
    DLPackVersion version;
    const struct ext_exchange_api *previous; /* an older table of the same exporter, or NULL */
    int (*allocate)(DLTensor *prototype, DLManagedTensorVersioned **out, void *user,
                    void (*set_error)(void *user, const char *kind, const char *message));
    int (*managed_from_object)(void *object, DLManagedTensorVersioned **out);
    int (*object_from_managed)(DLManagedTensorVersioned *tensor, void **out);
    int (*tensor_from_object)(void *object, DLTensor *out); /* borrows from object; may be NULL */
    int (*current_stream)(int device_type, int32_t device, void **out);
};

const struct ext_exchange_api *ext_find_exchange(const struct ext_state *state, PyTypeObject *type)
{
    PyObject *capsule = PyObject_GetAttr((PyObject *)type, state->names[EXT_NAME_exchange_api]);
    const struct ext_exchange_api *api = capsule ? PyCapsule_GetPointer(capsule, "dlpack_exchange_api") : NULL;
    Py_XDECREF(capsule);
    PyErr_Clear();
    while (api && api->version.major > DLPACK_MAJOR_VERSION)
        api = api->previous;
    const bool usable = api && api->version.major == DLPACK_MAJOR_VERSION && api->tensor_from_object;
    return usable ? api : NULL;
}

static int refuse_dtype(const char *name, DLDataType type)
{
    static const char *const kinds[] = { "int", "uint", "float", "opaque", "bfloat", "complex", "bool" };
    if (type.code < COUNT_OF(kinds))
        return ext_dtype_refuse(name, PyUnicode_FromFormat("%s%d", kinds[type.code], (int)type.bits));
    return ext_dtype_refuse(name, PyUnicode_FromFormat("DLPack code %d, %d bits", (int)type.code, (int)type.bits));
}

/* Copy what `from` says; no strides means compact. */
static int fill(struct ext_array *array, const char *name, const DLTensor *from)
{
    if (ext_check_ndim(name, from->ndim) < 0)
        return -1;
    if (ext_dtype_of(from->dtype) < 0)
        return refuse_dtype(name, from->dtype);
    array->tensor = *from;
    int64_t compact = 1;
    for (int i = from->ndim - 1; i >= 0; i--) {
        array->shape[i] = from->shape[i];
        array->strides[i] = from->strides ? from->strides[i] : compact;
        compact = (int64_t)((uint64_t)compact * (uint64_t)from->shape[i]); /* empty or it fits: it is in memory */
    }
    return 0;
}

/* Did JAX refuse because a function is being traced, and there is no value yet? */
static bool is_tracing(PyObject *cause)
{
    PyObject *class = PyObject_GetAttrString((PyObject *)Py_TYPE(cause), "__name__");
    const bool yes = class && (PyUnicode_CompareWithASCIIString(class, "ConcretizationTypeError") == 0 ||
                               PyUnicode_CompareWithASCIIString(class, "TracerArrayConversionError") == 0);
    Py_XDECREF(class);
    PyErr_Clear();
    return yes;
}

/* TypeError with the first line of what the exporter said; PyTorch adds a stack trace. */
static void set_export_error(const char *name, PyObject *cause)
{
    if (is_tracing(cause)) {
        PyErr_Format(PyExc_TypeError, "%s: a traced array; under jax.jit use folio.jax", name);
        return;
    }
    PyObject *text = PyObject_Str(cause);
    PyObject *lines = text ? PyUnicode_Splitlines(text, 0) : NULL;
    PyObject *first = lines && PyList_Size(lines) > 0 ? PyList_GetItem(lines, 0) : text;
    if (first)
        PyErr_Format(PyExc_TypeError, "%s: it can't be exported: %U", name, first);
    Py_XDECREF(lines);
    Py_XDECREF(text);
}

/* Whatever an exporter says against exporting, it is the argument's kind that is wrong: a TypeError caused by it. */
static int refuse_export(const char *name)
{
    if (!PyErr_Occurred() || PyErr_ExceptionMatches(PyExc_MemoryError) || !PyErr_ExceptionMatches(PyExc_Exception))
        return -1;
    PyObject *class, *cause, *traceback;
    PyErr_Fetch(&class, &cause, &traceback);
    PyErr_NormalizeException(&class, &cause, &traceback);
    Py_XDECREF(class);
    Py_XDECREF(traceback);
    set_export_error(name, cause);
    PyObject *error;
    PyErr_Fetch(&class, &error, &traceback);
    PyErr_NormalizeException(&class, &error, &traceback);
    PyException_SetCause(error, cause); /* steals cause */
    PyErr_Restore(class, error, traceback);
    return -1;
}

int ext_read_exchange(struct ext_array *array, const char *name, PyObject *object, const struct ext_type *type)
{
    DLTensor tensor = { 0 };
    if (type->exchange->tensor_from_object(object, &tensor) != 0)
        return refuse_export(name);
    return fill(array, name, &tensor);
}

int ext_exchange_stream(const struct ext_array *array, void **stream)
{
    const DLDevice device = array->tensor.device;
    return array->exchange->current_stream((int)device.device_type, device.device_id, stream) == 0 ? 0 : -1;
}

/* Does the object say that it lies on a GPU? Then its exporter wants a stream. No exception. */
static bool is_on_gpu(const struct ext_state *state, PyObject *object)
{
    PyObject *device = PyObject_CallMethodObjArgs(object, state->names[EXT_NAME_dlpack_device], NULL);
    PyObject *type = device && PyTuple_Check(device) ? PyTuple_GetItem(device, 0) : NULL;
    PyObject *number = type ? PyNumber_Index(type) : NULL;
    const bool yes = number && PyLong_AsLong(number) == kDLCUDA;
    Py_XDECREF(number);
    Py_XDECREF(device);
    PyErr_Clear();
    return yes;
}

static int add_stream(const struct ext_state *state, PyObject *keywords)
{
    PyObject *stream = PyLong_FromLongLong(state->export_stream);
    const int failed = stream ? PyDict_SetItem(keywords, state->names[EXT_NAME_stream], stream) : -1;
    Py_XDECREF(stream);
    return failed;
}

/* object.__dlpack__(max_version=(1, 1)), or without for exporters that know no version. */
static PyObject *export(const struct ext_state *state, PyObject *object, bool wants_stream)
{
    PyObject *method = PyObject_GetAttr(object, state->names[EXT_NAME_dlpack]);
    PyObject *no_args = PyTuple_New(0), *keywords = PyDict_New();
    PyObject *version = Py_BuildValue("(ii)", DLPACK_MAJOR_VERSION, DLPACK_MINOR_VERSION);
    PyObject *capsule = NULL;
    if (method && no_args && keywords && version && (!wants_stream || add_stream(state, keywords) == 0) &&
        PyDict_SetItem(keywords, state->names[EXT_NAME_max_version], version) == 0) {
        capsule = PyObject_Call(method, no_args, keywords);
        if (!capsule && PyErr_ExceptionMatches(PyExc_TypeError)) {
            PyErr_Clear();
            PyDict_DelItem(keywords, state->names[EXT_NAME_max_version]);
            capsule = PyObject_Call(method, no_args, keywords);
        }
    }
    Py_XDECREF(method);
    Py_XDECREF(no_args);
    Py_XDECREF(keywords);
    Py_XDECREF(version);
    return capsule;
}

/* Take the managed tensor out of the capsule: it is ours from here, and the capsule's destructor leaves it alone. */
static int take(struct ext_array *array, const char *name, PyObject *capsule)
{
    if (PyCapsule_IsValid(capsule, "dltensor_versioned")) {
        array->held.versioned = PyCapsule_GetPointer(capsule, "dltensor_versioned");
        if (PyCapsule_SetName(capsule, "used_dltensor_versioned") < 0)
            return -1;
        array->holds = HOLDS_VERSIONED;
        if (array->held.versioned->version.major != DLPACK_MAJOR_VERSION) {
            PyErr_Format(PyExc_TypeError, "%s: exported as DLPack %u; folio reads version %d", name,
                         (unsigned)array->held.versioned->version.major, DLPACK_MAJOR_VERSION);
            return -1;
        }
        array->is_writable = !(array->held.versioned->flags & DLPACK_FLAG_BITMASK_READ_ONLY);
        return fill(array, name, &array->held.versioned->dl_tensor);
    }
    if (!PyCapsule_IsValid(capsule, "dltensor")) {
        PyErr_Format(PyExc_TypeError, "%s: __dlpack__ gave %R; must be a DLPack capsule", name, capsule);
        return -1;
    }
    array->held.managed = PyCapsule_GetPointer(capsule, "dltensor");
    if (PyCapsule_SetName(capsule, "used_dltensor") < 0)
        return -1;
    array->holds = HOLDS_MANAGED;
    return fill(array, name, &array->held.managed->dl_tensor);
}

int ext_read_dlpack(struct ext_state *state, struct ext_array *array, const char *name, PyObject *object)
{
    const bool on_gpu = is_on_gpu(state, object);
    if (on_gpu && array->kind == EXT_JAX) { /* before JAX's own words about a stream it does not know */
        PyErr_Format(PyExc_TypeError,
                     "%s: a JAX array on a GPU: folio can't know the stream that JAX works on; move it to the CPU, or "
                     "use PyTorch or CuPy",
                     name);
        return -1;
    }
    PyObject *capsule = export(state, object, on_gpu);
    if (!capsule)
        return refuse_export(name);
    const int result = take(array, name, capsule);
    Py_DECREF(capsule);
    return result;
}
