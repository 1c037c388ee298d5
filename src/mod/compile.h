/* SPDX-License-Identifier: Apache-2.0
 * compile.h: text and captures -> program, with the error where there is one. */
#ifndef FOLIO_MOD_COMPILE_H
#define FOLIO_MOD_COMPILE_H

#include "mod/lexer.h"
#include "mod/program.h"

/* *mod is owned by the caller (folio_mod_destroy). error->message is set for errors of the text only. */
folio_status folio__mod_compile(folio_mod **mod, struct mod_error *error, folio_mod_kind kind, const char *text,
                                const folio_mod_capture *captures, i32 n_captures);

/* The steps, one a line, into text [n]; always terminated. */
void folio__mod_list(const struct mod_program *program, char *text, size_t n);

#endif
