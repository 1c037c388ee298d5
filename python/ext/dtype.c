/* SPDX-License-Identifier: Apache-2.0
 * dtype.c: element types in their three spellings: folio's, DLPack's, NumPy's. */
#include "array.h"

#include <string.h>

#define EXT_ROW(name, text, code, bits) { { (code), (bits), 1 }, (text) },
static const struct {
    DLDataType dlpack;
    const char *text;
} dtypes[EXT_N_DTYPES] = { EXT_DTYPES(EXT_ROW) };
#undef EXT_ROW

int ext_dtype_of(DLDataType type)
{
    for (int i = 0; i < EXT_N_DTYPES; i++)
        if (type.code == dtypes[i].dlpack.code && type.bits == dtypes[i].dlpack.bits && type.lanes == 1)
            return i;
    return -1;
}

DLDataType ext_dtype_dlpack(enum ext_dtype dtype)
{
    return dtypes[dtype].dlpack;
}

const char *ext_dtype_name(enum ext_dtype dtype)
{
    return dtypes[dtype].text;
}

static bool is_of_ml_dtypes(enum ext_dtype dtype)
{
    return dtype == EXT_BF16 || dtype == EXT_E4M3 || dtype == EXT_E5M2;
}

/* numpy.dtype(getattr(module, name)) into state->dtypes. */
static int load(struct ext_state *state, PyObject *module, PyObject *numpy, enum ext_dtype dtype)
{
    PyObject *scalar = dtype == EXT_BOOL ? PyUnicode_FromString("bool") /* numpy.bool came late */
                                         : PyObject_GetAttrString(module, dtypes[dtype].text);
    if (scalar)
        state->dtypes[dtype] = PyObject_CallMethod(numpy, "dtype", "O", scalar);
    Py_XDECREF(scalar);
    return state->dtypes[dtype] ? 0 : -1;
}

static int load_all(struct ext_state *state, PyObject *module, bool of_ml_dtypes)
{
    PyObject *numpy = PyImport_ImportModule("numpy");
    int failed = numpy ? 0 : -1;
    for (enum ext_dtype i = 0; i < EXT_N_DTYPES && !failed; i++)
        if (is_of_ml_dtypes(i) == of_ml_dtypes && !state->dtypes[i])
            failed = load(state, of_ml_dtypes ? module : numpy, numpy, i);
    Py_XDECREF(numpy);
    return failed;
}

PyObject *ext_dtype_numpy(struct ext_state *state, enum ext_dtype dtype)
{
    if (!state->dtypes[dtype]) {
        PyObject *module = is_of_ml_dtypes(dtype) ? PyImport_ImportModule("ml_dtypes") : NULL;
        if (is_of_ml_dtypes(dtype) && !module)
            return NULL;
        const int failed = load_all(state, module, module != NULL);
        Py_XDECREF(module);
        if (failed)
            return NULL;
    }
    return state->dtypes[dtype];
}

static int find(const struct ext_state *state, PyObject *dtype)
{
    for (int i = 0; i < EXT_N_DTYPES; i++)
        if (state->dtypes[i] == dtype)
            return i;
    return -1;
}

int ext_dtype_of_object(struct ext_state *state, PyObject *dtype)
{
    int found = find(state, dtype);
    if (found >= 0)
        return found;
    if (!state->dtypes[EXT_BF16]) { /* ml_dtypes may have been imported since */
        PyObject *text = PyUnicode_FromString("ml_dtypes");
        PyObject *module = text ? PyImport_GetModule(text) : NULL;
        Py_XDECREF(text);
        if (module) {
            load_all(state, module, true);
            Py_DECREF(module);
        }
        PyErr_Clear();
    }
    found = find(state, dtype);
    for (int i = 0; i < EXT_N_DTYPES && found < 0; i++) /* an equal one, such as from a pickle */
        if (state->dtypes[i] && PyObject_RichCompareBool(state->dtypes[i], dtype, Py_EQ) == 1)
            found = i;
    PyErr_Clear();
    return found;
}

/* The name in "bfloat16" or "torch.bfloat16"; -1 if there is none. */
static int find_name(const char *text)
{
    const char *name = strncmp(text, "torch.", 6) == 0 ? text + 6 : text;
    for (int i = 0; i < EXT_N_DTYPES; i++)
        if (strcmp(name, dtypes[i].text) == 0)
            return i;
    return -1;
}

int ext_dtype_read(struct ext_state *state, const char *name, PyObject *value, enum ext_dtype *dtype)
{
    PyObject *string = PyObject_Str(value);
    const char *text = string ? PyUnicode_AsUTF8AndSize(string, NULL) : NULL;
    int found = text ? find_name(text) : -1;
    Py_XDECREF(string);
    if (text && found < 0) {
        PyObject *numpy = PyImport_ImportModule("numpy");
        PyObject *object = numpy ? PyObject_CallMethod(numpy, "dtype", "O", value) : NULL;
        found = object ? ext_dtype_of_object(state, object) : -1;
        Py_XDECREF(object);
        Py_XDECREF(numpy);
        PyErr_Clear();
    }
    if (found < 0)
        return text ? ext_dtype_refuse(name, Py_NewRef(value)) : -1;
    *dtype = (enum ext_dtype)found;
    return 0;
}

int ext_dtype_refuse(const char *name, PyObject *got)
{
    if (got)
        PyErr_Format(PyExc_TypeError,
                     "%s: dtype %S; folio takes float32, float16, bfloat16 for values, int8, float8_e4m3fn and "
                     "float8_e5m2 for pages, int32 and int64 for indices, "
                     "bool for masks, in native byte order",
                     name, got);
    Py_XDECREF(got);
    return -1;
}
