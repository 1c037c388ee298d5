/* SPDX-License-Identifier: Apache-2.0
 * errors.c: folio_status -> the exception class that the contract names, with the library's own line as its text. */
#include "ext.h"

static PyObject *class_of(const struct ext_state *state, folio_status status)
{
    switch (status) {
    case FOLIO_EINVAL:
        return folio_last_error_kind() == FOLIO_ERROR_TYPE ? PyExc_TypeError : PyExc_ValueError;
    case FOLIO_ENOMEM:
        return PyExc_MemoryError;
    case FOLIO_ENOPAGES:
    case FOLIO_ETOOBIG:
        return state->no_pages_error;
    case FOLIO_ENOSEQS:
    case FOLIO_EHANDLE:
    case FOLIO_EBUSY:
    case FOLIO_ECORRUPT:
        return state->state_error;
    case FOLIO_ERANGE:
        return PyExc_IndexError;
    case FOLIO_ENOTSUP:
        return PyExc_NotImplementedError;
    case FOLIO_EDEVICE:
    case FOLIO_ECOMPILE:
        return state->device_error;
    case FOLIO_EIO:
        return PyExc_OSError;
    case FOLIO_OK:
        break;
    }
    return PyExc_SystemError;
}

PyObject *ext_raise(const struct ext_state *state, folio_status status)
{
    PyErr_SetString(class_of(state, status), folio_last_error());
    return NULL;
}
