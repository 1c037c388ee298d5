/* SPDX-License-Identifier: Apache-2.0
 * ffi_gather.c: gather as an XLA handler.
 *
 *   args   k_pages, v_pages, page_row, kv_len (one integer), k_scale, v_scale: as attribute `arrays` says, 1 and 2
 *   rets   k, v [max_kv_len, n_kv_heads, head_dim]: kv_len tokens, then zeros */
#include <string.h>

#include "ffi.h"

enum { K_PAGES, V_PAGES, PAGE_ROW, KV_LEN, K_SCALE, V_SCALE, N_ARRAYS, N_ARGS = K_SCALE };

static struct ffi_error *read_kv_len(const struct ffi_frame *frame, const struct ext_array *array, int64_t *kv_len)
{
    int64_t n = 1;
    for (int i = 0; i < array->tensor.ndim; i++)
        n *= array->shape[i];
    const int dtype = ext_dtype_of(array->tensor.dtype);
    if (n != 1 || (dtype != EXT_I32 && dtype != EXT_I64))
        return ffi_fail(frame, FFI_INVALID_ARGUMENT, "kv_len: %lld values of %s; must be one int32 or int64",
                        (long long)n, ext_dtype_name((enum ext_dtype)dtype));
    *kv_len = dtype == EXT_I32 ? *(const int32_t *)array->tensor.data : *(const int64_t *)array->tensor.data;
    return NULL;
}

/* Result i [max_kv_len, ...] cut to its first kv_len rows; the others are zeroed. */
static struct ffi_error *cut(const struct ffi_frame *frame, int64_t i, const char *name, int64_t kv_len,
                             struct ext_array *array)
{
    struct ffi_error *error = ffi_read_ret(frame, i, name, array);
    if (error)
        return error;
    if (array->tensor.ndim != 3 || kv_len > array->shape[0])
        return ffi_fail(frame, FFI_OUT_OF_RANGE, "kv_len: %lld tokens; max_kv_len is %lld", (long long)kv_len,
                        (long long)array->shape[0]);
    const int64_t kept = kv_len > 0 ? kv_len : 0, row_bytes = array->strides[0] * (array->tensor.dtype.bits / 8);
    if (array->shape[0] > kept && row_bytes)
        memset((char *)array->tensor.data + kept * row_bytes, 0, (size_t)((array->shape[0] - kept) * row_bytes));
    array->shape[0] = kept;
    return NULL;
}

static struct ffi_error *read_args(const struct ffi_frame *frame, struct ext_array *arrays /* [N_ARRAYS] */)
{
    static const char *const names[] = { "k_pages", "v_pages", "page_row", "kv_len", "k_scale", "v_scale" };
    const int64_t given = ffi_i64(frame, "arrays", 0);
    struct ffi_error *error = NULL;
    for (int64_t i = 0, arg = 0; i < N_ARRAYS && !error; i++) {
        if (i >= K_SCALE && !(given >> (i - K_SCALE) & 1))
            continue;
        error = ffi_read_arg(frame, arg++, names[i], &arrays[i]);
        if (!error && i <= V_PAGES)
            error = ffi_apply_layout(frame, names[i], &arrays[i]);
    }
    return error;
}

struct ffi_error *ext_ffi_gather(struct ffi_frame *frame)
{
    struct ffi_error *error;
    if (ffi_begin(frame, N_ARGS, 2, &error))
        return error;
    struct ext_array arrays[N_ARRAYS] = { 0 }, k, v;
    int64_t kv_len = 0;
    folio_context *context = NULL;
    if ((error = read_args(frame, arrays)) || (error = read_kv_len(frame, &arrays[KV_LEN], &kv_len)) ||
        (error = cut(frame, 0, "k", kv_len, &k)) || (error = cut(frame, 1, "v", kv_len, &v)) ||
        (error = ffi_context(frame, &context)))
        return error;
    const folio_gather_args args = {
        .struct_size = sizeof args,
        .k_pages = &arrays[K_PAGES].tensor,
        .v_pages = &arrays[V_PAGES].tensor,
        .page_row = &arrays[PAGE_ROW].tensor,
        .kv_len = kv_len,
        .k = &k.tensor,
        .v = &v.tensor,
        .k_scale = ext_tensor(&arrays[K_SCALE]),
        .v_scale = ext_tensor(&arrays[V_SCALE]),
    };
    return ffi_end(frame, folio_pages_gather(context, &args, NULL));
}
