/* SPDX-License-Identifier: Apache-2.0
 * lexer.h: text -> tokens, one at a time; and where in the text an error is. */
#ifndef FOLIO_MOD_LEXER_H
#define FOLIO_MOD_LEXER_H

#include <locale.h>
#include <stdbool.h>

#include "base/types.h"

/* X(NAME, spelling). Longer spellings stand before their prefixes. */
#define MOD_PUNCTUATION_MAP(X) \
    X(OR, "||")                \
    X(AND, "&&")               \
    X(EQUAL, "==")             \
    X(DIFFERENT, "!=")         \
    X(AT_MOST, "<=")           \
    X(AT_LEAST, ">=")          \
    X(FLOOR_DIV, "//")         \
    X(LESS, "<")               \
    X(MORE, ">")               \
    X(PLUS, "+")               \
    X(MINUS, "-")              \
    X(TIMES, "*")              \
    X(DIVIDE, "/")             \
    X(MODULO, "%")             \
    X(NOT, "!")                \
    X(QUESTION, "?")           \
    X(COLON, ":")              \
    X(COMMA, ",")              \
    X(SEMICOLON, ";")          \
    X(ASSIGN, "=")             \
    X(OPEN, "(")               \
    X(CLOSE, ")")              \
    X(OPEN_INDEX, "[")         \
    X(CLOSE_INDEX, "]")

#define MOD__TOKEN_ENUM(name, spelling) TOKEN_##name,
enum mod_token_kind {
    TOKEN_END = 0,
    TOKEN_NAME,
    TOKEN_INTEGER, /* value.u; up to 2^63, which only a minus sign makes an i64 */
    TOKEN_FLOAT,
    MOD_PUNCTUATION_MAP(MOD__TOKEN_ENUM) TOKEN_N_KINDS
};
#undef MOD__TOKEN_ENUM

struct mod_token {
    enum mod_token_kind kind;
    i32 offset, length; /* bytes of the text */
    union {
        u64 u;
        float f;
    } value;
};

/* The first error; message[0] == 0 while there is none. */
struct mod_error {
    i32 offset; /* byte of the text */
    char message[256];
};

struct mod_lexer {
    const char *text;
    i32 next; /* offset behind the current token */
    struct mod_token token;
    struct mod_error *error;
    locale_t c_locale; /* numbers must not depend on the process's locale */
};

/* Begin at the text's first token. */
bool folio__mod_lexer_begin(struct mod_lexer *lexer, const char *text, struct mod_error *error);
void folio__mod_lexer_end(struct mod_lexer *lexer);

/* Step to the next token; false and an error where there is none that could be. */
bool folio__mod_lexer_next(struct mod_lexer *lexer);

const char *folio__mod_token_spelling(enum mod_token_kind kind); /* "')'", "a name" */

/* Records the first error only. Always false. */
__attribute__((format(printf, 3, 4))) bool folio__mod_error_at(struct mod_error *error, i32 offset, const char *format,
                                                               ...);

/* 1-based line and column of a byte. */
void folio__mod_position(const char *text, i32 offset, i32 *line, i32 *column);

#endif
