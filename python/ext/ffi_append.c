/* SPDX-License-Identifier: Apache-2.0
 * ffi_append.c: append as an XLA handler: the pages that come in are the pages that go out.
 *
 *   args   k, v, k_pages, v_pages, slots        rets   k_pages, v_pages, aliased to args 2 and 3
 *   XLA copies the pages before the call when someone still needs the old ones; donated pages it does not. */
#include <string.h>

#include "ffi.h"

enum { K, V, K_PAGES, V_PAGES, SLOTS, N_ARGS };

static int64_t bytes_of(const struct ext_array *array)
{
    int64_t bytes = array->tensor.dtype.bits / 8;
    for (int i = 0; i < array->tensor.ndim; i++)
        bytes *= array->shape[i];
    return bytes;
}

/* Result i takes over the pages of argument `from`. */
static struct ffi_error *take_over(const struct ffi_frame *frame, int64_t i, const char *name, struct ext_array *pages)
{
    struct ext_array result;
    struct ffi_error *error = ffi_read_ret(frame, i, name, &result);
    if (error)
        return error;
    if (bytes_of(&result) != bytes_of(pages))
        return ffi_fail(frame, FFI_INTERNAL, "%s: the result's size differs from the argument's", name);
    if (result.tensor.data != pages->tensor.data && bytes_of(pages))
        memcpy(result.tensor.data, pages->tensor.data, (size_t)bytes_of(pages));
    pages->tensor.data = result.tensor.data;
    return ffi_apply_layout(frame, name, pages);
}

struct ffi_error *ext_ffi_append(struct ffi_frame *frame)
{
    static const char *const names[] = { "k", "v", "k_pages", "v_pages", "slots" };
    struct ffi_error *error;
    if (ffi_begin(frame, N_ARGS, 2, &error))
        return error;
    struct ext_array arrays[N_ARGS];
    for (int i = 0; i < N_ARGS; i++)
        if ((error = ffi_read_arg(frame, i, names[i], &arrays[i])))
            return error;
    folio_context *context = NULL;
    if ((error = take_over(frame, 0, "k_pages", &arrays[K_PAGES])) ||
        (error = take_over(frame, 1, "v_pages", &arrays[V_PAGES])) || (error = ffi_context(frame, &context)))
        return error;
    const folio_append_args args = {
        .struct_size = sizeof args,
        .k = &arrays[K].tensor,
        .v = &arrays[V].tensor,
        .k_pages = &arrays[K_PAGES].tensor,
        .v_pages = &arrays[V_PAGES].tensor,
        .slots = &arrays[SLOTS].tensor,
    };
    return ffi_end(frame, folio_pages_append(context, &args, NULL));
}
