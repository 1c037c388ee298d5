/* SPDX-License-Identifier: Apache-2.0
 * parser.c: recursive descent, one function a rule. Every parse_ function gives a step, or -1 with the error recorded.
 *
 *   mod         = { "let" NAME "=" expression ";" } expression [ ";" ]
 *   expression  = binary [ "?" expression ":" expression ]
 *   binary      = unary { OPERATOR unary }              by precedence, as in C
 *   unary       = { "-" | "+" | "!" } primary
 *   primary     = NUMBER | NAME | NAME "[" list "]" | FUNCTION "(" list ")" | "(" expression ")" */
#include "mod/parser.h"

#include <math.h>
#include <string.h>

#include "mod/typing.h"

enum { MAX_LETS = FOLIO_MOD_MAX_STEPS };

struct let {
    i32 offset, length; /* name, in the text */
    i32 step;
};

struct parser {
    struct mod_lexer lexer;
    struct mod_builder *builder;
    struct mod_error *error;
    folio_mod_kind kind;
    i32 depth;
    i32 n_lets;
    struct let lets[MAX_LETS];
};

static i32 parse_expression(struct parser *parser);

static enum mod_token_kind current(const struct parser *parser)
{
    return parser->lexer.token.kind;
}

static i32 offset_of(const struct parser *parser)
{
    return parser->lexer.token.offset;
}

static bool advance(struct parser *parser)
{
    return folio__mod_lexer_next(&parser->lexer);
}

static i32 fail_expected(struct parser *parser, const char *expected)
{
    const struct mod_token *got = &parser->lexer.token;
    if (got->kind == TOKEN_END)
        folio__mod_error_at(parser->error, got->offset, "expected %s, got the end of the text", expected);
    else
        folio__mod_error_at(parser->error, got->offset, "expected %s, got '%.*s'", expected,
                            (int)(got->length < 40 ? got->length : 40), parser->lexer.text + got->offset);
    return -1;
}

static bool expect(struct parser *parser, enum mod_token_kind kind)
{
    if (current(parser) == kind)
        return advance(parser);
    if (kind == TOKEN_END) /* e.g. `a = b`, `a b` */
        fail_expected(parser, current(parser) == TOKEN_ASSIGN ? "an operator such as ==" : "an operator or the end");
    else
        fail_expected(parser, folio__mod_token_spelling(kind));
    return false;
}

/* A step from the builder: -1 there without an error means that it is full. */
static i32 built(struct parser *parser, i32 offset, i32 step)
{
    if (step < 0)
        folio__mod_error_at(parser->error, offset, "the mod has more than %d operations", FOLIO_MOD_MAX_STEPS);
    return step;
}

static bool enter(struct parser *parser)
{
    if (parser->depth++ < FOLIO_MOD_MAX_DEPTH)
        return true;
    return folio__mod_error_at(parser->error, offset_of(parser), "nested deeper than %d", FOLIO_MOD_MAX_DEPTH);
}

static bool name_is(const char *name, i32 length, const char *other)
{
    return strlen(other) == (size_t)length && memcmp(name, other, (size_t)length) == 0;
}

static const struct {
    const char *name;
    enum mod_op op;
} leaves[] = {
    { "score", MOD_SCORE }, { "b", MOD_B },         { "h", MOD_H },           { "hk", MOD_HK },   { "q", MOD_Q },
    { "kv", MOD_KV },       { "q_len", MOD_Q_LEN }, { "kv_len", MOD_KV_LEN }, { "pos", MOD_POS },
};

bool folio__mod_is_reserved(const char *name)
{
    static const char *const words[] = { "let", "inf", "true", "false" };
    for (size_t i = 0; i < COUNT_OF(words); i++)
        if (strcmp(name, words[i]) == 0)
            return true;
    for (size_t i = 0; i < COUNT_OF(leaves); i++)
        if (strcmp(name, leaves[i].name) == 0)
            return true;
    return folio__mod_find_function(name, (i32)strlen(name)) >= 0;
}

/* "(" or "[" is behind us: up to max expressions, separated by commas, and the closing token. -1 = error. */
static i32 parse_list(struct parser *parser, enum mod_token_kind close, i32 max, i32 *steps /* [max] */)
{
    i32 n = 0;
    while (current(parser) != close) {
        if (n > 0 && !expect(parser, TOKEN_COMMA))
            return -1;
        const i32 offset = offset_of(parser);
        const i32 step = parse_expression(parser);
        if (step < 0)
            return -1;
        if (n >= max) {
            folio__mod_error_at(parser->error, offset, "expected %s, got one more", folio__mod_token_spelling(close));
            return -1;
        }
        steps[n++] = step;
    }
    return advance(parser) ? n : -1;
}

static i32 parse_call(struct parser *parser, i32 offset, i32 function)
{
    i32 args[MOD_MAX_PARAMETERS];
    if (!expect(parser, TOKEN_OPEN))
        return -1;
    const i32 wanted = folio__mod_function_n_args(function);
    const i32 n = parse_list(parser, TOKEN_CLOSE, wanted, args);
    if (n < 0)
        return -1;
    if (n != wanted) {
        folio__mod_error_at(parser->error, offset, "%s: expected %d arguments, got %d",
                            folio__mod_function_name(function), (int)wanted, (int)n);
        return -1;
    }
    return built(parser, offset, folio__mod_type_call(parser->builder, parser->error, offset, function, args));
}

static i32 parse_capture(struct parser *parser, i32 offset, i32 capture)
{
    const struct mod_capture *source = &parser->builder->captures[capture];
    i32 index[MOD_MAX_ARGS], n = 0;
    if (current(parser) == TOKEN_OPEN_INDEX) {
        if (!advance(parser))
            return -1;
        n = parse_list(parser, TOKEN_CLOSE_INDEX, MOD_MAX_ARGS, index);
        if (n < 0)
            return -1;
    }
    if (n != source->ndim) {
        folio__mod_error_at(parser->error, offset, "%s: expected %d indices, one a dim, got %d", source->name,
                            (int)source->ndim, (int)n);
        return -1;
    }
    for (i32 i = 0; i < n; i++) {
        const enum mod_type type = mod_type_of(parser->builder, index[i]);
        if (type == MOD_I64)
            continue;
        folio__mod_error_at(parser->error, offset, "%s: index %d: expected i64, got %s; i64() converts", source->name,
                            (int)i, folio__mod_type_name(type));
        return -1;
    }
    return built(parser, offset, folio__mod_build_load(parser->builder, capture, index));
}

static i32 fail_unknown(struct parser *parser, const char *name, i32 length, i32 offset)
{
    static const struct {
        const char *name, *hint;
    } hints[] = { { "and", "&&" },       { "or", "||" },       { "not", "!" },       { "if", "c ? a : b" },
                  { "True", "true" },    { "False", "false" }, { "q_idx", "q" },     { "kv_idx", "kv" },
                  { "float", "f32(x)" }, { "int", "i64(x)" },  { "infinity", "inf" } };
    for (size_t i = 0; i < COUNT_OF(hints); i++)
        if (name_is(name, length, hints[i].name))
            folio__mod_error_at(parser->error, offset, "unknown name '%s'; here it is %s", hints[i].name,
                                hints[i].hint);
    folio__mod_error_at(
        parser->error, offset,
        "unknown name '%.*s': expected score b h hk q kv q_len kv_len pos, a capture, a let or a function",
        (int)(length < 64 ? length : 64), name);
    return -1;
}

/* What a name means: a constant, a place, a let, a capture, a function. */
static i32 parse_name(struct parser *parser)
{
    const struct mod_token token = parser->lexer.token;
    const char *name = parser->lexer.text + token.offset;
    struct mod_builder *builder = parser->builder;
    if (!advance(parser))
        return -1;
    if (name_is(name, token.length, "inf"))
        return built(parser, token.offset, folio__mod_build_f32(builder, INFINITY));
    if (name_is(name, token.length, "true") || name_is(name, token.length, "false"))
        return built(parser, token.offset, folio__mod_build_bool(builder, token.length == 4));
    for (size_t i = 0; i < COUNT_OF(leaves); i++) {
        if (!name_is(name, token.length, leaves[i].name))
            continue;
        if (leaves[i].op == MOD_SCORE && parser->kind == FOLIO_MOD_MASK) {
            folio__mod_error_at(parser->error, token.offset, "a mask mod has no score; only a score mod has");
            return -1;
        }
        return built(parser, token.offset, folio__mod_build(builder, leaves[i].op, -1, -1, -1));
    }
    for (i32 i = 0; i < parser->n_lets; i++)
        if (token.length == parser->lets[i].length &&
            memcmp(name, parser->lexer.text + parser->lets[i].offset, (size_t)token.length) == 0)
            return parser->lets[i].step;
    for (i32 i = 0; i < builder->n_captures; i++)
        if (name_is(name, token.length, builder->captures[i].name))
            return parse_capture(parser, token.offset, i);
    const i32 function = folio__mod_find_function(name, token.length);
    return function >= 0 ? parse_call(parser, token.offset, function)
                         : fail_unknown(parser, name, token.length, token.offset);
}

static i32 parse_integer(struct parser *parser, bool negated)
{
    const struct mod_token token = parser->lexer.token;
    const u64 limit = (u64)INT64_MAX + (negated ? 1 : 0);
    if (token.value.u > limit) {
        folio__mod_error_at(parser->error, token.offset, "%.*s does not fit in an i64", (int)token.length,
                            parser->lexer.text + token.offset);
        return -1;
    }
    const i64 value = (i64)(negated ? 0 - token.value.u : token.value.u);
    return advance(parser) ? built(parser, token.offset, folio__mod_build_i64(parser->builder, value)) : -1;
}

static i32 parse_primary(struct parser *parser)
{
    const struct mod_token token = parser->lexer.token;
    i32 step;
    switch (token.kind) {
    case TOKEN_INTEGER:
        return parse_integer(parser, false);
    case TOKEN_FLOAT:
        return advance(parser) ? built(parser, token.offset, folio__mod_build_f32(parser->builder, token.value.f)) : -1;
    case TOKEN_NAME:
        return parse_name(parser);
    case TOKEN_OPEN:
        if (!advance(parser))
            return -1;
        step = parse_expression(parser);
        return step >= 0 && expect(parser, TOKEN_CLOSE) ? step : -1;
    default:
        return fail_expected(parser, "an expression");
    }
}

static i32 parse_unary(struct parser *parser)
{
    const struct mod_token token = parser->lexer.token;
    if (token.kind != TOKEN_MINUS && token.kind != TOKEN_PLUS && token.kind != TOKEN_NOT)
        return parse_primary(parser);
    if (!enter(parser) || !advance(parser))
        return -1;
    const bool negated_literal = token.kind == TOKEN_MINUS && current(parser) == TOKEN_INTEGER;
    i32 step = negated_literal ? parse_integer(parser, true) : parse_unary(parser);
    if (step >= 0 && !negated_literal)
        step = built(parser, token.offset, folio__mod_type_unary(parser->builder, parser->error, &token, step));
    parser->depth--;
    return step;
}

static i32 precedence(enum mod_token_kind kind)
{
    switch (kind) {
    case TOKEN_OR:
        return 1;
    case TOKEN_AND:
        return 2;
    case TOKEN_EQUAL:
    case TOKEN_DIFFERENT:
        return 3;
    case TOKEN_LESS:
    case TOKEN_AT_MOST:
    case TOKEN_MORE:
    case TOKEN_AT_LEAST:
        return 4;
    case TOKEN_PLUS:
    case TOKEN_MINUS:
        return 5;
    case TOKEN_TIMES:
    case TOKEN_DIVIDE:
    case TOKEN_FLOOR_DIV:
    case TOKEN_MODULO:
        return 6;
    default:
        return 0;
    }
}

static i32 parse_binary(struct parser *parser, i32 at_least)
{
    i32 a = parse_unary(parser);
    while (a >= 0 && precedence(current(parser)) >= at_least) {
        const struct mod_token operator= parser->lexer.token;
        if (!advance(parser))
            return -1;
        const i32 b = parse_binary(parser, precedence(operator.kind) + 1);
        if (b < 0)
            return -1;
        a = built(parser, operator.offset, folio__mod_type_binary(parser->builder, parser->error, &operator, a, b));
    }
    return a;
}

static i32 parse_expression(struct parser *parser)
{
    if (!enter(parser))
        return -1;
    i32 step = parse_binary(parser, 1);
    if (step >= 0 && current(parser) == TOKEN_QUESTION) {
        const i32 offset = offset_of(parser);
        const i32 a = advance(parser) ? parse_expression(parser) : -1;
        const i32 b = a >= 0 && expect(parser, TOKEN_COLON) ? parse_expression(parser) : -1;
        step = b < 0
                   ? -1
                   : built(parser, offset, folio__mod_type_select(parser->builder, parser->error, offset, step, a, b));
    }
    parser->depth--;
    return step;
}

static bool let_name_is_free(struct parser *parser, const struct mod_token *token)
{
    char name[FOLIO_MOD_MAX_NAME + 1] = { 0 };
    if (token->length > FOLIO_MOD_MAX_NAME)
        return folio__mod_error_at(parser->error, token->offset, "a name of %d characters; at most %d",
                                   (int)token->length, FOLIO_MOD_MAX_NAME);
    memcpy(name, parser->lexer.text + token->offset, (size_t)token->length);
    bool taken = folio__mod_is_reserved(name);
    for (i32 i = 0; i < parser->n_lets; i++)
        taken |= name_is(parser->lexer.text + parser->lets[i].offset, parser->lets[i].length, name);
    for (i32 i = 0; i < parser->builder->n_captures; i++)
        taken |= strcmp(parser->builder->captures[i].name, name) == 0;
    return !taken || folio__mod_error_at(parser->error, token->offset, "'%s' is taken; a let needs a new name", name);
}

/* "let" is the current token. */
static bool parse_let(struct parser *parser)
{
    if (!advance(parser))
        return false;
    const struct mod_token name = parser->lexer.token;
    if (!expect(parser, TOKEN_NAME) || !let_name_is_free(parser, &name) || !expect(parser, TOKEN_ASSIGN))
        return false;
    if (parser->n_lets == MAX_LETS)
        return folio__mod_error_at(parser->error, name.offset, "more than %d lets", MAX_LETS);
    const i32 step = parse_expression(parser);
    if (step < 0 || !expect(parser, TOKEN_SEMICOLON))
        return false;
    parser->lets[parser->n_lets++] = (struct let){ .offset = name.offset, .length = name.length, .step = step };
    return true;
}

static i32 parse_mod(struct parser *parser)
{
    while (current(parser) == TOKEN_NAME &&
           name_is(parser->lexer.text + offset_of(parser), parser->lexer.token.length, "let"))
        if (!parse_let(parser))
            return -1;
    const i32 offset = offset_of(parser);
    i32 step = parse_expression(parser);
    if (step < 0 || (current(parser) == TOKEN_SEMICOLON && !advance(parser)) || !expect(parser, TOKEN_END))
        return -1;
    if (parser->kind == FOLIO_MOD_SCORE)
        return built(parser, offset,
                     folio__mod_type_as_f32(parser->builder, parser->error, offset, "the result of a score mod", step));
    if (mod_type_of(parser->builder, step) == MOD_BOOL)
        return step;
    folio__mod_error_at(parser->error, offset, "the result of a mask mod: expected a bool, got %s",
                        folio__mod_type_name(mod_type_of(parser->builder, step)));
    return -1;
}

i32 folio__mod_parse(struct mod_builder *builder, struct mod_error *error, folio_mod_kind kind, const char *text)
{
    struct parser parser = { .builder = builder, .error = error, .kind = kind };
    const bool begun = folio__mod_lexer_begin(&parser.lexer, text, error);
    const i32 result = begun ? parse_mod(&parser) : -1;
    folio__mod_lexer_end(&parser.lexer);
    return result;
}
