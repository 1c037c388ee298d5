/* SPDX-License-Identifier: Apache-2.0
 * ffi_context.c: the library context of a handler, found when the call is traced.
 *
 *   tracing, with the interpreter:   _ffi_context(backend, num_threads) ─► attributes `context`, `process`
 *   running, without it:             ffi_context(frame) ◄── the same two
 *
 * XLA hands a handler nothing but the call, so the call carries the address. It means something in the process that
 * traced it alone: `process` tells another's, where a compiled program was carried to, before the address is used. */
#include <unistd.h>

#include "ffi.h"
#include "functions.h"

/* Where this code lies and the process id: another process has another, save by an accident of both. */
static int64_t this_process(void)
{
    const union {
        ffi_handler *function;
        uintptr_t address;
    } code = { .function = ext_ffi_attention };
    return (int64_t)((uint64_t)code.address * 0x9e3779b97f4a7c15u + (uint64_t)getpid());
}

/* _ffi_context(backend, num_threads) -> (context, process): the values of the two attributes. The module, whose context
 * it is, then stays for good: nobody knows when the last compiled program is gone. */
PyObject *ext_ffi_context(PyObject *module, PyObject *args)
{
    int backend, n_threads;
    if (!PyArg_ParseTuple(args, "ii", &backend, &n_threads))
        return NULL;
    folio_context *context = ext_context(PyModule_GetState(module), backend, n_threads, (DLDevice){ kDLCPU, 0 });
    if (!context)
        return NULL;
    Py_INCREF(module);
    return Py_BuildValue("LL", (long long)(intptr_t)context, (long long)this_process());
}

struct ffi_error *ffi_context(const struct ffi_frame *frame, folio_context **out)
{
    *out = NULL;
    const int64_t address = ffi_i64(frame, "context", 0);
    if (!address || ffi_i64(frame, "process", 0) != this_process())
        return ffi_fail(frame, FFI_FAILED_PRECONDITION,
                        "context: the program was compiled in another process; trace it again in this one");
    *out = (folio_context *)(intptr_t)address; /* NOLINT(performance-no-int-to-ptr): it came from a pointer */
    return NULL;
}
