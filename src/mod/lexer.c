/* SPDX-License-Identifier: Apache-2.0
 * lexer.c: numbers, names and punctuation; hints for what other languages spell differently. */
#include "mod/lexer.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_NUMBER = 63 };

bool folio__mod_error_at(struct mod_error *error, i32 offset, const char *format, ...)
{
    if (error->message[0])
        return false;
    va_list args;
    va_start(args, format);
    vsnprintf(error->message, sizeof error->message, format, args);
    va_end(args);
    error->offset = offset;
    return false;
}

void folio__mod_position(const char *text, i32 offset, i32 *line, i32 *column)
{
    *line = *column = 1;
    for (i32 i = 0; i < offset; i++) {
        *column = text[i] == '\n' ? 1 : *column + 1;
        *line += text[i] == '\n';
    }
}

const char *folio__mod_token_spelling(enum mod_token_kind kind)
{
#define SPELLING(name, spelling) "'" spelling "'",
    static const char *const spellings[] = { "the end of the text", "a name", "a number", "a number",
                                             MOD_PUNCTUATION_MAP(SPELLING) };
#undef SPELLING
    return spellings[kind];
}

/* ASCII only, whatever the locale. */
static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_hex_digit(char c)
{
    return is_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

static bool is_name_start(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

static bool is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

/* Behind a number's characters: digits, one point, and an exponent with its sign; *is_float when it is none of ours. */
static const char *scan_number(const char *p, bool *is_float)
{
    const bool hex = p[0] == '0' && (p[1] == 'x' || p[1] == 'X');
    p += hex ? 2 : 0;
    while (hex ? is_hex_digit(*p) : is_digit(*p))
        p++;
    if (*p == '.') {
        *is_float = true;
        p++;
        while (hex ? is_hex_digit(*p) : is_digit(*p))
            p++;
    }
    const char exponent = hex ? 'p' : 'e';
    if ((*p | 0x20) == exponent) {
        const char *digits = p + 1 + (p[1] == '+' || p[1] == '-');
        if (is_digit(*digits)) {
            *is_float = true;
            for (p = digits; is_digit(*p);)
                p++;
        }
    }
    if (*is_float && !hex && (*p | 0x20) == 'f') /* C's suffix */
        p++;
    return p;
}

static bool lex_integer(struct mod_lexer *lexer, const char *digits, i32 offset)
{
    char *end;
    const u64 limit = UINT64_C(1) << 63;
    u64 value = 0;
    const bool hex = digits[0] == '0' && (digits[1] | 0x20) == 'x';
    for (end = (char *)digits + (hex ? 2 : 0); *end; end++) {
        const u64 digit = is_digit(*end) ? (u64)(*end - '0') : (u64)((*end | 0x20) - 'a' + 10);
        const u64 base = hex ? 16 : 10;
        if (value > (limit - digit) / base)
            return folio__mod_error_at(lexer->error, offset, "%s does not fit in an i64", digits);
        value = value * base + digit;
    }
    lexer->token.kind = TOKEN_INTEGER;
    lexer->token.value.u = value;
    return true;
}

static bool lex_number(struct mod_lexer *lexer, const char *begin)
{
    bool is_float = false;
    const char *end = scan_number(begin, &is_float);
    const i32 offset = (i32)(begin - lexer->text), length = (i32)(end - begin);
    char digits[MAX_NUMBER + 1] = { 0 };
    if (length > MAX_NUMBER)
        return folio__mod_error_at(lexer->error, offset, "a number of %d characters; at most %d", (int)length,
                                   MAX_NUMBER);
    memcpy(digits, begin, (size_t)length);
    const bool hex = digits[0] == '0' && (digits[1] | 0x20) == 'x';
    if (is_name_start(*end) || is_digit(*end) || *end == '.' || (hex && length == 2))
        return folio__mod_error_at(lexer->error, offset, "'%s%.1s' is not a number", digits, end);
    lexer->token.offset = offset;
    lexer->token.length = length;
    lexer->next = offset + length;
    if (!is_float)
        return lex_integer(lexer, digits, offset);
    char *stop;
    lexer->token.kind = TOKEN_FLOAT;
    lexer->token.value.f = strtof_l(digits, &stop, lexer->c_locale);
    if (*stop && (*stop | 0x20) != 'f')
        return folio__mod_error_at(lexer->error, offset, "'%s' is not a number", digits);
    if (isinf(lexer->token.value.f))
        return folio__mod_error_at(lexer->error, offset, "%s does not fit in an f32; infinity is inf", digits);
    return true;
}

static bool lex_punctuation(struct mod_lexer *lexer, const char *begin)
{
#define SPELLING(name, spelling) spelling,
    static const char *const spellings[] = { MOD_PUNCTUATION_MAP(SPELLING) };
#undef SPELLING
    const i32 offset = (i32)(begin - lexer->text);
    if (begin[0] == '*' && begin[1] == '*')
        return folio__mod_error_at(lexer->error, offset, "'**' is not an operator; use pow(x, y)");
    for (size_t i = 0; i < COUNT_OF(spellings); i++) {
        const size_t length = strlen(spellings[i]);
        if (strncmp(begin, spellings[i], length) != 0)
            continue;
        lexer->token.kind = (enum mod_token_kind)(TOKEN_OR + (i32)i);
        lexer->token.offset = offset;
        lexer->token.length = (i32)length;
        lexer->next = offset + (i32)length;
        return true;
    }
    if (*begin == '&' || *begin == '|' || *begin == '^' || *begin == '~')
        return folio__mod_error_at(lexer->error, offset,
                                   "'%c' is not an operator; use && || != ! or bit_and bit_or bit_xor bit_not", *begin);
    if (*begin < ' ' || *begin > '~')
        return folio__mod_error_at(lexer->error, offset, "character 0x%02x does not belong in a mod",
                                   (unsigned)(u8)*begin);
    return folio__mod_error_at(lexer->error, offset, "'%c' does not belong in a mod", *begin);
}

bool folio__mod_lexer_next(struct mod_lexer *lexer)
{
    const char *p = lexer->text + lexer->next;
    while (is_space(*p))
        p++;
    lexer->token = (struct mod_token){ .kind = TOKEN_END, .offset = (i32)(p - lexer->text) };
    if (*p == '\0')
        return true;
    if (is_digit(*p) || (*p == '.' && is_digit(p[1])))
        return lex_number(lexer, p);
    if (!is_name_start(*p))
        return lex_punctuation(lexer, p);
    const char *end = p;
    while (is_name_start(*end) || is_digit(*end))
        end++;
    lexer->token.kind = TOKEN_NAME;
    lexer->token.length = (i32)(end - p);
    lexer->next = (i32)(end - lexer->text);
    return true;
}

bool folio__mod_lexer_begin(struct mod_lexer *lexer, const char *text, struct mod_error *error)
{
    *lexer = (struct mod_lexer){ .text = text, .error = error, .c_locale = newlocale(LC_ALL_MASK, "C", (locale_t)0) };
    if (!lexer->c_locale)
        return folio__mod_error_at(error, 0, "the C locale is missing");
    return folio__mod_lexer_next(lexer);
}

void folio__mod_lexer_end(struct mod_lexer *lexer)
{
    if (lexer->c_locale)
        freelocale(lexer->c_locale);
}
