/* SPDX-License-Identifier: Apache-2.0
 * ffi_append.c: append as an XLA handler: the pages that come in are the pages that go out.
 *
 *   args   k_pages, v_pages, k, v, slots, k_scale, v_scale     the last two as attribute `arrays` says, 1 and 2
 *   rets   k_pages, v_pages, and the scales that are by slot    each aliased to its argument
 *
 *   XLA copies the pages before the call when someone still needs the old ones; donated pages it does not. */
#include <string.h>

#include "ffi.h"

enum { K_PAGES, V_PAGES, K, V, SLOTS, K_SCALE, V_SCALE, N_ARRAYS, N_ARGS = K_SCALE };

static const char *const names[] = { "k_pages", "v_pages", "k", "v", "slots", "k_scale", "v_scale" };

static int64_t bytes_of(const struct ext_array *array)
{
    int64_t bytes = array->tensor.dtype.bits / 8;
    for (int i = 0; i < array->tensor.ndim; i++)
        bytes *= array->shape[i];
    return bytes;
}

/* Result i takes over what an argument holds. */
static struct ffi_error *take_over(const struct ffi_frame *frame, int64_t i, const char *name, struct ext_array *from)
{
    struct ext_array result;
    struct ffi_error *error = ffi_read_ret(frame, i, name, &result);
    if (error)
        return error;
    if (bytes_of(&result) != bytes_of(from))
        return ffi_fail(frame, FFI_INTERNAL, "%s: the result's size differs from the argument's", name);
    if (result.tensor.data != from->tensor.data && bytes_of(from))
        memcpy(result.tensor.data, from->tensor.data, (size_t)bytes_of(from));
    from->tensor.data = result.tensor.data;
    return NULL;
}

/* Scales by slot are computed: those of new tokens are not there yet. */
static bool is_by_slot(const struct ext_array *scale)
{
    return scale->is_present && scale->tensor.ndim == 3;
}

static struct ffi_error *read_args(const struct ffi_frame *frame, struct ext_array *arrays /* [N_ARRAYS] */)
{
    const int64_t given = ffi_i64(frame, "arrays", 0);
    struct ffi_error *error = NULL;
    for (int64_t i = 0, arg = 0; i < N_ARRAYS && !error; i++)
        if (i < K_SCALE || given >> (i - K_SCALE) & 1)
            error = ffi_read_arg(frame, arg++, names[i], &arrays[i]);
    return error;
}

/* What is written goes to the results. */
static struct ffi_error *read_results(const struct ffi_frame *frame, struct ext_array *arrays /* [N_ARRAYS] */)
{
    static const int places[] = { K_PAGES, V_PAGES, K_SCALE, V_SCALE };
    struct ffi_error *error = NULL;
    for (int64_t i = 0, ret = 0; i < (int64_t)COUNT_OF(places) && !error; i++) {
        struct ext_array *array = &arrays[places[i]];
        if (places[i] >= K_SCALE && !is_by_slot(array))
            continue;
        error = take_over(frame, ret++, names[places[i]], array);
        if (!error && places[i] <= V_PAGES)
            error = ffi_apply_layout(frame, names[places[i]], array);
    }
    return error;
}

struct ffi_error *ext_ffi_append(struct ffi_frame *frame)
{
    struct ffi_error *error;
    if (ffi_begin(frame, N_ARGS, 2, &error))
        return error;
    struct ext_array arrays[N_ARRAYS] = { 0 };
    folio_context *context = NULL;
    if ((error = read_args(frame, arrays)) || (error = read_results(frame, arrays)) ||
        (error = ffi_context(frame, &context)))
        return error;
    const bool makes_scales = is_by_slot(&arrays[K_SCALE]) || is_by_slot(&arrays[V_SCALE]);
    const folio_append_args args = {
        .struct_size = sizeof args,
        .k = &arrays[K].tensor,
        .v = &arrays[V].tensor,
        .k_pages = &arrays[K_PAGES].tensor,
        .v_pages = &arrays[V_PAGES].tensor,
        .slots = &arrays[SLOTS].tensor,
        .k_scale = ext_tensor(&arrays[K_SCALE]),
        .v_scale = ext_tensor(&arrays[V_SCALE]),
        .flags = makes_scales ? FOLIO_APPEND_MAKES_SCALES : 0,
    };
    return ffi_end(frame, folio_pages_append(context, &args, NULL));
}
