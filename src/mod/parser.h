/* SPDX-License-Identifier: Apache-2.0
 * parser.h: text -> steps. */
#ifndef FOLIO_MOD_PARSER_H
#define FOLIO_MOD_PARSER_H

#include "mod/builder.h"
#include "mod/lexer.h"

/* The step that holds the text's result, of the type the kind asks for; -1 and an error. */
i32 folio__mod_parse(struct mod_builder *builder, struct mod_error *error, folio_mod_kind kind, const char *text);

/* Is `name` taken by the language itself? */
bool folio__mod_is_reserved(const char *name);

#endif
