/* SPDX-License-Identifier: Apache-2.0
 * typing.c: the type rules. Two numbers meet as i64 when both are, else as f32; bool is never a number. */
#include "mod/typing.h"

#include <string.h>

const char *folio__mod_type_name(enum mod_type type)
{
    static const char *const names[] = { "f32", "i64", "bool" };
    return names[type];
}

static i32 as_f32(struct mod_builder *builder, i32 a)
{
    return a >= 0 && mod_type_of(builder, a) == MOD_I64 ? folio__mod_build(builder, MOD_F_OF_I, a, -1, -1) : a;
}

/* The type in which a and b meet; a mixed pair is converted. false: there is none. */
static bool meet(struct mod_builder *builder, i32 *a, i32 *b, enum mod_type *type)
{
    const enum mod_type a_type = mod_type_of(builder, *a), b_type = mod_type_of(builder, *b);
    if ((a_type == MOD_BOOL) != (b_type == MOD_BOOL))
        return false;
    *type = a_type;
    if (a_type != b_type) {
        *type = MOD_F32;
        *a = as_f32(builder, *a);
        *b = as_f32(builder, *b);
    }
    return true;
}

static i32 fail_types(const struct mod_builder *builder, struct mod_error *error, i32 offset, const char *what,
                      const char *wants, i32 a, i32 b)
{
    const bool has_bool = mod_type_of(builder, a) == MOD_BOOL || mod_type_of(builder, b) == MOD_BOOL;
    folio__mod_error_at(error, offset, "%s: expected %s, got %s and %s%s", what, wants,
                        folio__mod_type_name(mod_type_of(builder, a)), folio__mod_type_name(mod_type_of(builder, b)),
                        strcmp(wants, "two bools") == 0 ? ""
                        : has_bool                      ? "; f32() and i64() convert a bool"
                                                        : "");
    return -1;
}

struct binary_rule {
    enum mod_token_kind token;
    i32 f32_op, i64_op, bool_op; /* enum mod_op; 0 (CONST) = not for this type */
    bool swaps;                  /* a > b is b < a */
};

static const struct binary_rule binary_rules[] = {
    { TOKEN_OR, 0, 0, MOD_OR_B, false },
    { TOKEN_AND, 0, 0, MOD_AND_B, false },
    { TOKEN_EQUAL, MOD_EQ_F, MOD_EQ_I, MOD_XOR_B, false }, /* bool: and negated */
    { TOKEN_DIFFERENT, MOD_NE_F, MOD_NE_I, MOD_XOR_B, false },
    { TOKEN_LESS, MOD_LT_F, MOD_LT_I, 0, false },
    { TOKEN_AT_MOST, MOD_LE_F, MOD_LE_I, 0, false },
    { TOKEN_MORE, MOD_LT_F, MOD_LT_I, 0, true },
    { TOKEN_AT_LEAST, MOD_LE_F, MOD_LE_I, 0, true },
    { TOKEN_PLUS, MOD_ADD_F, MOD_ADD_I, 0, false },
    { TOKEN_MINUS, MOD_SUB_F, MOD_SUB_I, 0, false },
    { TOKEN_TIMES, MOD_MUL_F, MOD_MUL_I, 0, false },
    { TOKEN_DIVIDE, MOD_DIV_F, 0, 0, false }, /* of two i64 too: below */
    { TOKEN_FLOOR_DIV, MOD_FLOOR_F, MOD_FLOORDIV_I, 0, false },
    { TOKEN_MODULO, MOD_FLOOR_F, MOD_FLOORMOD_I, 0, false },
};

/* f32: a // b = floor(a / b), a % b = a - floor(a / b) * b. */
static i32 floor_f32(struct mod_builder *builder, enum mod_token_kind token, i32 a, i32 b)
{
    const i32 quotient = folio__mod_build(builder, MOD_FLOOR_F, folio__mod_build(builder, MOD_DIV_F, a, b, -1), -1, -1);
    if (token == TOKEN_FLOOR_DIV)
        return quotient;
    return folio__mod_build(builder, MOD_SUB_F, a, folio__mod_build(builder, MOD_MUL_F, quotient, b, -1), -1);
}

static const struct binary_rule *find_rule(enum mod_token_kind token)
{
    const struct binary_rule *rule = binary_rules;
    while (rule->token != token)
        rule++;
    return rule;
}

i32 folio__mod_type_binary(struct mod_builder *builder, struct mod_error *error, const struct mod_token *operator,
                           i32 a, i32 b)
{
    const struct binary_rule *rule = find_rule(operator->kind);
    const char *spelling = folio__mod_token_spelling(operator->kind);
    const char *wants = !rule->f32_op ? "two bools" : rule->bool_op ? "two numbers or two bools" : "two numbers";
    enum mod_type type;
    if (!meet(builder, &a, &b, &type))
        return fail_types(builder, error, operator->offset, spelling, wants, a, b);
    if (type == MOD_I64 && rule->token == TOKEN_DIVIDE) {
        type = MOD_F32;
        a = as_f32(builder, a);
        b = as_f32(builder, b);
    }
    const i32 op = type == MOD_F32 ? rule->f32_op : type == MOD_I64 ? rule->i64_op : rule->bool_op;
    if (!op)
        return fail_types(builder, error, operator->offset, spelling, wants, a, b);
    if (op == MOD_FLOOR_F)
        return floor_f32(builder, rule->token, a, b);
    const i32 step = folio__mod_build(builder, (enum mod_op)op, rule->swaps ? b : a, rule->swaps ? a : b, -1);
    return op == MOD_XOR_B && rule->token == TOKEN_EQUAL ? folio__mod_build(builder, MOD_NOT_B, step, -1, -1) : step;
}

i32 folio__mod_type_unary(struct mod_builder *builder, struct mod_error *error, const struct mod_token *operator, i32 a)
{
    const enum mod_type type = mod_type_of(builder, a);
    const bool negates_bool = operator->kind == TOKEN_NOT;
    if (negates_bool != (type == MOD_BOOL)) {
        folio__mod_error_at(error, operator->offset, "%s: expected %s, got %s",
                            folio__mod_token_spelling(operator->kind), negates_bool ? "a bool" : "a number",
                            folio__mod_type_name(type));
        return -1;
    }
    if (operator->kind == TOKEN_PLUS)
        return a;
    return folio__mod_build(builder, negates_bool ? MOD_NOT_B : type == MOD_F32 ? MOD_NEG_F : MOD_NEG_I, a, -1, -1);
}

i32 folio__mod_type_select(struct mod_builder *builder, struct mod_error *error, i32 offset, i32 condition, i32 a,
                           i32 b)
{
    enum mod_type type = mod_type_of(builder, condition);
    if (type != MOD_BOOL) {
        folio__mod_error_at(error, offset, "the condition of ?: or where: expected a bool, got %s",
                            folio__mod_type_name(type));
        return -1;
    }
    if (!meet(builder, &a, &b, &type))
        return fail_types(builder, error, offset, "the branches of ?: or where", "two numbers or two bools", a, b);
    static const enum mod_op ops[] = { MOD_SELECT_F, MOD_SELECT_I, MOD_SELECT_B };
    return folio__mod_build(builder, ops[type], condition, a, b);
}

i32 folio__mod_type_as_f32(struct mod_builder *builder, struct mod_error *error, i32 offset, const char *what, i32 a)
{
    if (mod_type_of(builder, a) != MOD_BOOL)
        return as_f32(builder, a);
    folio__mod_error_at(error, offset, "%s: expected a number, got bool; f32() and i64() convert a bool", what);
    return -1;
}

/* NUMBER: i64 stays i64. REAL: f32, converted from i64. INTEGER: i64 only. BITS: i64 or bool. The others are their
 * own. */
enum signature { NUMBER, REAL, INTEGER, BITS, WHERE, TO_F32, TO_I64, RSQRT, SIGMOID };

static const struct {
    const char *name;
    enum signature signature;
    i32 n_args;
    i32 f32_op, i64_op, bool_op;
} functions[] = {
    { "min", NUMBER, 2, MOD_MIN_F, MOD_MIN_I, 0 },
    { "max", NUMBER, 2, MOD_MAX_F, MOD_MAX_I, 0 },
    { "abs", NUMBER, 1, MOD_ABS_F, MOD_ABS_I, 0 },
    { "exp", REAL, 1, MOD_EXP_F, 0, 0 },
    { "exp2", REAL, 1, MOD_EXP2_F, 0, 0 },
    { "log", REAL, 1, MOD_LOG_F, 0, 0 },
    { "tanh", REAL, 1, MOD_TANH_F, 0, 0 },
    { "sqrt", REAL, 1, MOD_SQRT_F, 0, 0 },
    { "rsqrt", RSQRT, 1, MOD_SQRT_F, 0, 0 },
    { "sigmoid", SIGMOID, 1, MOD_EXP_F, 0, 0 },
    { "floor", REAL, 1, MOD_FLOOR_F, 0, 0 },
    { "where", WHERE, 3, 0, 0, 0 },
    { "pow", REAL, 2, MOD_POW_F, 0, 0 },
    { "f32", TO_F32, 1, 0, 0, 0 },
    { "i64", TO_I64, 1, 0, 0, 0 },
    { "sin", REAL, 1, MOD_SIN_F, 0, 0 },
    { "cos", REAL, 1, MOD_COS_F, 0, 0 },
    { "div_trunc", INTEGER, 2, 0, MOD_DIV_I, 0 },
    { "rem_trunc", INTEGER, 2, 0, MOD_REM_I, 0 },
    { "shl", INTEGER, 2, 0, MOD_SHL_I, 0 },
    { "shr", INTEGER, 2, 0, MOD_SHR_I, 0 },
    { "bit_and", BITS, 2, 0, MOD_AND_I, MOD_AND_B },
    { "bit_or", BITS, 2, 0, MOD_OR_I, MOD_OR_B },
    { "bit_xor", BITS, 2, 0, MOD_XOR_I, MOD_XOR_B },
    { "bit_not", BITS, 1, 0, MOD_NOT_I, MOD_NOT_B },
};

i32 folio__mod_find_function(const char *name, i32 length)
{
    for (size_t i = 0; i < COUNT_OF(functions); i++)
        if (strlen(functions[i].name) == (size_t)length && memcmp(functions[i].name, name, (size_t)length) == 0)
            return (i32)i;
    return -1;
}

i32 folio__mod_function_n_args(i32 function)
{
    return functions[function].n_args;
}

const char *folio__mod_function_name(i32 function)
{
    return functions[function].name;
}

static i32 convert(struct mod_builder *builder, enum mod_type to, i32 a)
{
    static const enum mod_op ops[][3] = { { 0, MOD_F_OF_I, MOD_F_OF_B }, { MOD_I_OF_F, 0, MOD_I_OF_B } };
    const enum mod_op op = ops[to][mod_type_of(builder, a)];
    return op ? folio__mod_build(builder, op, a, -1, -1) : a;
}

/* 1 / y, and the sigmoid's 1 / (1 + e^-x). */
static i32 reciprocal(struct mod_builder *builder, i32 y)
{
    return folio__mod_build(builder, MOD_DIV_F, folio__mod_build_f32(builder, 1.0f), y, -1);
}

static i32 sigmoid(struct mod_builder *builder, i32 x)
{
    const i32 e = folio__mod_build(builder, MOD_EXP_F, folio__mod_build(builder, MOD_NEG_F, x, -1, -1), -1, -1);
    return reciprocal(builder, folio__mod_build(builder, MOD_ADD_F, folio__mod_build_f32(builder, 1.0f), e, -1));
}

/* The one type both (or the only) arguments meet in, checked against what the signature takes. */
static bool arguments_fit(struct mod_builder *builder, i32 function, i32 *a, i32 *b, enum mod_type *type)
{
    if (*b < 0)
        *type = mod_type_of(builder, *a);
    else if (!meet(builder, a, b, type))
        return false;
    switch (functions[function].signature) {
    case INTEGER:
        return *type == MOD_I64;
    case BITS:
        return *type != MOD_F32;
    default:
        return *type != MOD_BOOL;
    }
}

i32 folio__mod_type_call(struct mod_builder *builder, struct mod_error *error, i32 offset, i32 function,
                         const i32 *args)
{
    static const char *const wants[] = { [NUMBER] = "numbers",   [REAL] = "numbers",  [INTEGER] = "i64",
                                         [BITS] = "i64 or bool", [RSQRT] = "numbers", [SIGMOID] = "numbers" };
    const enum signature signature = functions[function].signature;
    i32 a = args[0], b = functions[function].n_args > 1 ? args[1] : -1;
    if (signature == WHERE)
        return folio__mod_type_select(builder, error, offset, a, b, args[2]);
    if (signature == TO_F32 || signature == TO_I64)
        return convert(builder, signature == TO_F32 ? MOD_F32 : MOD_I64, a);
    enum mod_type type;
    if (!arguments_fit(builder, function, &a, &b, &type)) {
        folio__mod_error_at(error, offset, "%s: expected %s, got %s%s%s", functions[function].name, wants[signature],
                            folio__mod_type_name(mod_type_of(builder, args[0])), b < 0 ? "" : " and ",
                            b < 0 ? "" : folio__mod_type_name(mod_type_of(builder, args[1])));
        return -1;
    }
    if (signature == REAL || signature == RSQRT || signature == SIGMOID) {
        type = MOD_F32;
        a = as_f32(builder, a);
        b = as_f32(builder, b);
    }
    if (signature == SIGMOID)
        return sigmoid(builder, a);
    const i32 op = type == MOD_F32   ? functions[function].f32_op
                   : type == MOD_I64 ? functions[function].i64_op
                                     : functions[function].bool_op;
    const i32 step = folio__mod_build(builder, (enum mod_op)op, a, b, -1);
    return signature == RSQRT ? reciprocal(builder, step) : step;
}
