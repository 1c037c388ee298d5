/* SPDX-License-Identifier: Apache-2.0
 * typing.h: operators and functions as written -> typed steps, with the few implicit conversions there are. */
#ifndef FOLIO_MOD_TYPING_H
#define FOLIO_MOD_TYPING_H

#include "mod/builder.h"
#include "mod/lexer.h"

/* a, b: steps. offset: where the operator stands. -1 and an error where types don't fit; -1 alone when the builder is
 * full. */
i32 folio__mod_type_binary(struct mod_builder *builder, struct mod_error *error, const struct mod_token *operator,
                           i32 a, i32 b);
i32 folio__mod_type_unary(struct mod_builder *builder, struct mod_error *error, const struct mod_token *operator,
                          i32 a);
i32 folio__mod_type_select(struct mod_builder *builder, struct mod_error *error, i32 offset, i32 condition, i32 a,
                           i32 b);

/* A step as f32: itself, converted from i64, or -1 with an error naming `what`. */
i32 folio__mod_type_as_f32(struct mod_builder *builder, struct mod_error *error, i32 offset, const char *what, i32 a);

enum { MOD_MAX_PARAMETERS = 3 };

/* Index of a function by name, -1 = none. */
i32 folio__mod_find_function(const char *name, i32 length);
i32 folio__mod_function_n_args(i32 function);
const char *folio__mod_function_name(i32 function);
i32 folio__mod_type_call(struct mod_builder *builder, struct mod_error *error, i32 offset, i32 function,
                         const i32 *args /* [n_args] */);

const char *folio__mod_type_name(enum mod_type type); /* "f32" */

#endif
