/* SPDX-License-Identifier: Apache-2.0
 * ffi.h: what the XLA handlers share. They run on XLA's threads without the interpreter: nothing of Python is called.
 *
 *   handler(frame):  ffi_begin ─► ffi_read_* (buffers -> ext_array), ffi_i64, ffi_f64 ─► folio_* ─► ffi_end */
#ifndef FOLIO_EXT_FFI_H
#define FOLIO_EXT_FFI_H

#include "array.h"
#include "xla_ffi.h"

ffi_handler ext_ffi_attention, ext_ffi_append, ext_ffi_gather;

/* True when the handler has nothing to compute: *error is its result (registration asks for metadata; a stage but
 * EXECUTE). Fewer than n_args arguments or n_rets results are an error too. */
bool ffi_begin(struct ffi_frame *frame, int64_t n_args, int64_t n_rets, struct ffi_error **error);

/* XLA's error with a printf text. */
__attribute__((format(printf, 3, 4))) struct ffi_error *ffi_fail(const struct ffi_frame *frame, enum ffi_code code,
                                                                 const char *format, ...);
/* NULL for FOLIO_OK, else XLA's error with the library's own line. */
struct ffi_error *ffi_end(const struct ffi_frame *frame, folio_status status);

/* Argument or result i as a tensor; `name` is for messages. NULL, or an error: a dtype or rank folio lacks. */
struct ffi_error *ffi_read_arg(const struct ffi_frame *frame, int64_t i, const char *name, struct ext_array *array);
struct ffi_error *ffi_read_ret(const struct ffi_frame *frame, int64_t i, const char *name, struct ext_array *array);

/* The value of an attribute; `otherwise` when there is none of that name and type. */
int64_t ffi_i64(const struct ffi_frame *frame, const char *name, int64_t otherwise);
double ffi_f64(const struct ffi_frame *frame, const char *name, double otherwise);
/* A text attribute whose last byte is zero; text NULL when there is none. */
struct ffi_span ffi_text(const struct ffi_frame *frame, const char *name);

/* The layout and page_size attributes, applied to pages read from an argument. NULL, or an error. */
struct ffi_error *ffi_apply_layout(const struct ffi_frame *frame, const char *name, struct ext_array *pages);

/* ffi_context.c: the context that was found when tracing; borrowed. NULL, or an error. */
struct ffi_error *ffi_context(const struct ffi_frame *frame, folio_context **out);

/* ffi_mods.c: what a call's attributes and its arguments from `arg` on say of mods. Release in either case. */
struct ffi_mods {
    folio_mod *score_mod, *mask_mod, *block_mod; /* NULL = none */
    folio_block_mask *block_mask;
};
struct ffi_error *ffi_mods_read(const struct ffi_frame *frame, int64_t arg, struct ffi_mods *mods);
void ffi_mods_release(struct ffi_mods *mods);

#endif
