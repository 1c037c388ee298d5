/* SPDX-License-Identifier: Apache-2.0
 * ffi_targets.c: ffi_targets(): the XLA handlers as the capsules that jax.ffi.register_ffi_target takes. */
#include "ffi.h"
#include "functions.h"

PyObject *ext_ffi_targets(PyObject *module, PyObject *const *args, Py_ssize_t n_args, PyObject *keywords)
{
    static const struct {
        const char *name;
        ffi_handler *handler;
    } targets[] = { { "folio_attention", ext_ffi_attention },
                    { "folio_append", ext_ffi_append },
                    { "folio_gather", ext_ffi_gather } };
    (void)module, (void)args;
    if (n_args || (keywords && PyTuple_Size(keywords))) {
        PyErr_SetString(PyExc_TypeError, "ffi_targets() takes no arguments");
        return NULL;
    }
    PyObject *result = PyDict_New();
    for (size_t i = 0; i < COUNT_OF(targets) && result; i++) {
        union {
            ffi_handler *function;
            void *pointer;
        } address = { .function = targets[i].handler };
        PyObject *capsule = PyCapsule_New(address.pointer, "xla._CUSTOM_CALL_TARGET", NULL);
        if (!capsule || PyDict_SetItemString(result, targets[i].name, capsule) < 0)
            Py_CLEAR(result);
        Py_XDECREF(capsule);
    }
    return result;
}
