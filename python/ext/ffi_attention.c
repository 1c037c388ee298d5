/* SPDX-License-Identifier: Apache-2.0
 * ffi_attention.c: attention as an XLA handler.
 *
 *   args   the arrays that are given, in the order below; attribute `arrays` has a bit for each; then those of the mods
 *   rets   out, and lse where it is wanted
 *   attrs  every option of folio_attend_args by its name, i64 or f64; layout, page_size; what
 *          ffi_mods.c and ffi_context.c read */
#include <stddef.h>

#include "ffi.h"

/* The order of folio.jax's ARRAYS. */
static const struct {
    const char *name;
    size_t offset; /* of the DLTensor pointer in folio_attend_args */
} fields[] = {
#define FIELD(name)                              \
    {                                            \
#name, offsetof(folio_attend_args, name) \
    }
    FIELD(q),         FIELD(k_pages),    FIELD(v_pages),  FIELD(kv_lens),      FIELD(page_table), FIELD(v_page_table),
    FIELD(kv_indptr), FIELD(kv_indices), FIELD(q_indptr), FIELD(alibi_slopes), FIELD(sinks),      FIELD(mask),
    FIELD(bias),      FIELD(k_scale),    FIELD(v_scale),
#undef FIELD
};

enum { N_ARRAYS = COUNT_OF(fields), K_PAGES = 1, V_PAGES = 2 };

struct call {
    folio_attend_args args;
    struct ext_array arrays[N_ARRAYS], out, lse;
    struct ffi_mods mods;
};

static void read_options(const struct ffi_frame *frame, folio_attend_args *args)
{
    args->struct_size = sizeof *args;
    args->scale = ffi_f64(frame, "scale", 0);
    args->softcap = ffi_f64(frame, "softcap", 0);
    args->window_left = ffi_i64(frame, "window_left", -1);
    args->window_right = ffi_i64(frame, "window_right", -1);
    args->max_q_len = ffi_i64(frame, "max_q_len", 0);
    args->max_kv_len = ffi_i64(frame, "max_kv_len", 0);
    args->causal = (int32_t)ffi_i64(frame, "causal", 0);
    args->align = (int32_t)ffi_i64(frame, "align", 0);
    args->flags = (uint32_t)ffi_i64(frame, "flags", 0);
    args->num_splits = (int32_t)ffi_i64(frame, "num_splits", 0);
}

/* *n: how many of the arguments were read. */
static struct ffi_error *read_arrays(const struct ffi_frame *frame, struct call *call, int64_t *n)
{
    const int64_t given = ffi_i64(frame, "arrays", 0);
    struct ffi_error *error = NULL;
    for (int64_t i = 0; i < N_ARRAYS && !error; i++) {
        if (!(given >> i & 1))
            continue;
        struct ext_array *array = &call->arrays[i];
        error = ffi_read_arg(frame, (*n)++, fields[i].name, array);
        if (!error && (i == K_PAGES || i == V_PAGES))
            error = ffi_apply_layout(frame, fields[i].name, array);
        DLTensor **slot = (DLTensor **)(void *)((char *)&call->args + fields[i].offset);
        *slot = &array->tensor;
    }
    return error;
}

static struct ffi_error *read_results(const struct ffi_frame *frame, struct call *call)
{
    struct ffi_error *error = ffi_read_ret(frame, 0, "out", &call->out);
    call->args.out = &call->out.tensor;
    if (error || frame->rets.n < 2)
        return error;
    call->args.lse = &call->lse.tensor;
    return ffi_read_ret(frame, 1, "lse", &call->lse);
}

static struct ffi_error *read_mods(const struct ffi_frame *frame, struct call *call, int64_t arg)
{
    struct ffi_error *error = ffi_mods_read(frame, arg, &call->mods);
    call->args.score_mod = call->mods.score_mod;
    call->args.mask_mod = call->mods.mask_mod;
    call->args.block_mask = call->mods.block_mask;
    return error;
}

struct ffi_error *ext_ffi_attention(struct ffi_frame *frame)
{
    struct ffi_error *error;
    if (ffi_begin(frame, 1, 1, &error))
        return error;
    struct call call = { .lse = { .is_present = false } };
    folio_context *context = NULL;
    read_options(frame, &call.args);
    int64_t n = 0;
    if (!(error = read_arrays(frame, &call, &n)) && !(error = read_results(frame, &call)) &&
        !(error = ffi_context(frame, &context)) && !(error = read_mods(frame, &call, n)))
        error = ffi_end(frame, folio_attend(context, NULL, &call.args, NULL));
    ffi_mods_release(&call.mods);
    return error;
}
