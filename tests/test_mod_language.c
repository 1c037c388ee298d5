/* SPDX-License-Identifier: Apache-2.0
 * test_mod_language.c: what texts mean, what is refused and where, and that refusals change nothing. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "base/alloc.h"
#include "mod/eval.h"

static const struct mod_env place = { .leaf = { 1, 5, 2, 7, 11, 20, 30, 17 }, .score = 2.5f };

static float slopes_data[] = { 0.5f, 0.25f, 0.125f, 1, 2, 4 };
static i32 documents_data[] = { 3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8 };
static i64 wide_data[] = { -5000000000, 7 };
static u8 flags_data[] = { 1, 0, 1 };
static u16 half_data[] = { 0x3e00 }; /* 1.5 */
static float cap_data[] = { 30 };
static i64 six[] = { 6 }, three[] = { 3 }, two[] = { 2 }, two_by_six[] = { 2, 6 }, one_by_gap[] = { 1, 2 };

#define TENSOR(data_, code_, bits_, ndim_, shape_)                                                           \
    {                                                                                                        \
        .data = data_, .device = { kDLCPU, 0 }, .ndim = ndim_, .dtype = { code_, bits_, 1 }, .shape = shape_ \
    }

static DLTensor slopes = TENSOR(slopes_data, kDLFloat, 32, 1, six);
static DLTensor documents = TENSOR(documents_data, kDLInt, 32, 2, two_by_six);
static DLTensor wide = TENSOR(wide_data, kDLInt, 64, 1, two);
static DLTensor flags = TENSOR(flags_data, kDLBool, 8, 1, three);
static DLTensor half = TENSOR(half_data, kDLFloat, 16, 0, NULL);
static DLTensor cap = TENSOR(cap_data, kDLFloat, 32, 0, NULL);

static folio_mod_capture captures[] = {
    { .name = "slopes", .tensor = &slopes },
    { .name = "doc", .tensor = &documents },
    { .name = "wide", .tensor = &wide, .flags = FOLIO_CAPTURE_WRAP },
    { .name = "flags", .tensor = &flags },
    { .name = "half", .tensor = &half },
    { .name = "cap", .tensor = &cap },
};

static folio_mod *make(folio_mod_kind kind, const char *text)
{
    folio_mod *mod = NULL;
    if (folio_mod_create(&mod, kind, text, captures, COUNT_OF(captures)) != FOLIO_OK)
        fail_msg("%s: %s", text, folio_last_error());
    return mod;
}

static struct mod_result evaluate(folio_mod_kind kind, const char *text, const struct mod_env *env)
{
    struct mod_result results[FOLIO_MOD_MAX_STEPS];
    folio_mod *mod = make(kind, text);
    const struct mod_result result = folio__mod_eval(&mod->program, env, results);
    folio_mod_destroy(&mod);
    assert_null(mod);
    return result;
}

/* b 1, h 5, hk 2, q 7, kv 11, q_len 20, kv_len 30, pos 17. */
static const char *const truths[] = {
    "true",
    "!false",
    "b == 1 && h == 5 && hk == 2 && q == 7 && kv == 11 && q_len == 20 && kv_len == 30 && pos == 17",
    "1 + 2 * 3 == 7",
    "(1 + 2) * 3 == 9",
    "10 - 3 - 2 == 5",
    "2 * 7 // 4 == 3",
    "-q // 2 == -4", /* (-7) // 2 */
    "1 < 2 == true",
    "1 == 1 != false",
    "false && false || true",
    "true || false && false",
    "!false && true",
    "- -q == 7 && +q == 7",
    "(q < kv ? 1 : 2) == 1",
    "(q > kv ? 1 : q == 7 ? 2 : 3) == 2",
    "(true ? 1 : false ? 2 : 3) == 1",
    "q // 2 == 3 && q // -2 == -4 && -7 // 2 == -4 && (0 - q) // -2 == 3",
    "q % 3 == 1 && (0 - q) % 3 == 2 && q % -3 == -2 && (0 - q) % -3 == -1",
    "q // 0 == 0 && q % 0 == 0 && (q - 7) % 0 == 0",
    "div_trunc(0 - q, 2) == -3 && rem_trunc(0 - q, 2) == -1 && div_trunc(q, 0) == 0 && rem_trunc(q, 0) == 0",
    "7 / 2 == 3.5 && q / 2 == 3.5",
    "1 / 0 == inf && -1 / 0 == -inf",
    "1.0 / 0 == inf",
    "(0.0 / 0.0) != (0.0 / 0.0)",
    "9223372036854775807 + (q - 6) == -9223372036854775808",
    "-9223372036854775808 // (q - 8) == -9223372036854775808",
    "-9223372036854775808 % (q - 8) == 0",
    "-9223372036854775808 - 1 == 9223372036854775807",
    "abs(-9223372036854775808) == -9223372036854775808",
    "3037000500 * 3037000500 == -9223372036709301616",
    "0x1f == 31 && 0X10 == 16 && 0x1p-3 == 0.125 && .5 == 0.5 && 1. == 1 && 1e2 == 100.0 && 1.5f == 1.5",
    "i64(2.9) == 2 && i64(-2.9) == -2 && i64(1e30) == 9223372036854775807 && i64(-1e30) == -9223372036854775808",
    "i64(0.0 / 0.0) == 0 && i64(inf) == 9223372036854775807",
    "f32(true) == 1.0 && i64(false) == 0 && f32(q) == 7.0 && i64(q) == 7 && f32(1.5) == 1.5",
    "f32(16777217) == 16777216.0",
    "min(q, kv) == 7 && max(q, kv) == 11 && min(1.5, q) == 1.5 && max(0.0 / 0.0, 1.0) != max(1.0, 0.0 / 0.0)",
    "abs(q - kv) == 4 && abs(-2.5) == 2.5",
    "exp(0) == 1.0 && exp2(10) == 1024.0 && log(1) == 0.0 && tanh(0.0) == 0.0 && sqrt(49) == 7.0",
    "rsqrt(4.0) == 0.5 && sigmoid(0.0) == 0.5 && floor(-1.5) == -2.0 && pow(2, 10) == 1024.0 && cos(0.0) == 1.0",
    "exp(inf) == inf && exp(-inf) == 0.0 && log(0.0) == -inf && tanh(inf) == 1.0 && sin(0.0) == 0.0",
    "where(q < kv, 1, 2.5) == 1.0",
    "where(q < kv, true, false)",
    "7.5 // 2 == 3.0 && -7.5 // 2.0 == -4.0 && 7.5 % 2 == 1.5 && (-7.5) % 2.0 == 0.5",
    "bit_and(12, 10) == 8 && bit_or(12, 10) == 14 && bit_xor(12, 10) == 6 && bit_not(0) == -1",
    "bit_and(true, q == 7) && bit_or(false, true) && bit_xor(true, false) && bit_not(false)",
    "shl(1, q) == 128 && shl(1, 64) == 0 && shl(1, -1) == 0 && shr(-8, 1) == -4 && shr(-8, 99) == -1 && shr(8, 99) == "
    "0",
    "slopes[h] == 4.0 && slopes[b] == 0.25 && slopes[0] == 0.5",
    "doc[b, h] == 8 && doc[0, q - 5] == 4",
    "wide[0] == -5000000000 && wide[-1] == 7 && wide[q - 9] == -5000000000",
    "flags[0] && !flags[b]",
    "half == 1.5 && cap == 30",
    "let d = q - kv; let e = d * d; e == 16;",
    "let x = q;\n let y = x + 1;\n y == 8",
    " ( ( q ) ) == 7 ",
    "true == (q == 7) && false != (q == 7)",
    "kv <= q + kv_len - q_len && q - kv < 1024",
};

static void texts_mean_what_they_say(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(truths); i++) {
        const struct mod_result result = evaluate(FOLIO_MOD_MASK, truths[i], &place);
        if (result.value.i != 1 || result.poison)
            fail_msg("%s: got %lld, poison %d", truths[i], (long long)result.value.i, (int)result.poison);
    }
}

static void score_mods_give_f32(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        float value;
    } cases[] = {
        { "score", 2.5f },
        { "score + slopes[h] * (kv - pos)", 2.5f + 4.0f * -6.0f },
        { "kv", 11 },
        { "q < kv ? score : -inf", 2.5f },
        { "q > kv ? score : -inf", -INFINITY },
        { "-score", -2.5f },
        { "cap * tanh(score / cap)", 30.0f * 0.08314104f },
        { "3.40282347e+38", 3.40282347e+38f },
        { "1.17549435e-38", 1.17549435e-38f },
        { "1e-45", 1e-45f },
        { "0.1", 0.1f },
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        const float got = evaluate(FOLIO_MOD_SCORE, cases[i].text, &place).value.f;
        if (got != cases[i].value && !(fabsf(got - cases[i].value) < 1e-6f * fabsf(got)))
            fail_msg("%s: got %.9g, expected %.9g", cases[i].text, (double)got, (double)cases[i].value);
    }
}

/* An index out of range counts only where its value does. */
static void poison_spreads_where_it_counts(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        bool poison;
    } cases[] = {
        { "slopes[h] == 4.0", false },
        { "slopes[h + 1] == 4.0", true },
        { "slopes[-1] == 4.0", true },
        { "wide[-2] == 7", false },
        { "wide[-3] == 7", true },
        { "q < kv ? slopes[0] == 0.5 : slopes[kv] == 0.5", false },
        { "q > kv ? slopes[0] == 0.5 : slopes[kv] == 0.5", true },
        { "where(slopes[kv] > 0, 1, 2) == 1", true },
        { "q > kv && slopes[kv] == 4.0", false },
        { "slopes[kv] == 4.0 && q > kv", false },
        { "q < kv && slopes[kv] == 4.0", true },
        { "q < kv || slopes[kv] == 4.0", false },
        { "q > kv || slopes[kv] == 4.0", true },
        { "doc[b, doc[b, kv]] == 1", true },
        { "let unused = slopes[kv]; true", false },
        { "slopes[kv] == 4.0 && slopes[kv] == 5.0", true },
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++)
        if (evaluate(FOLIO_MOD_MASK, cases[i].text, &place).poison != cases[i].poison)
            fail_msg("%s: expected poison %d", cases[i].text, (int)cases[i].poison);
}

static const struct {
    folio_mod_kind kind;
    const char *text, *message; /* all of it, behind "text: " */
} refusals[] = {
    { FOLIO_MOD_MASK, "", "line 1, column 1: expected an expression, got the end of the text" },
    { FOLIO_MOD_MASK, "q <", "line 1, column 4: expected an expression, got the end of the text" },
    { FOLIO_MOD_MASK, "(q < kv", "line 1, column 8: expected ')', got the end of the text" },
    { FOLIO_MOD_MASK, "(q < kv;", "line 1, column 8: expected ')', got ';'" },
    { FOLIO_MOD_MASK, "q < kv)", "line 1, column 7: expected an operator or the end, got ')'" },
    { FOLIO_MOD_MASK, "q = kv", "line 1, column 3: expected an operator such as ==, got '='" },
    { FOLIO_MOD_MASK, "q < kv ? true", "line 1, column 14: expected ':', got the end of the text" },
    { FOLIO_MOD_MASK, "q <\n  kv &",
      "line 2, column 6: '&' is not an operator; use && || != ! or bit_and bit_or bit_xor bit_not" },
    { FOLIO_MOD_MASK, "q ** 2 < kv", "line 1, column 3: '**' is not an operator; use pow(x, y)" },
    { FOLIO_MOD_MASK, "q < kv and true", "line 1, column 8: expected an operator or the end, got 'and'" },
    { FOLIO_MOD_MASK, "not (q < kv)", "line 1, column 1: unknown name 'not'; here it is !" },
    { FOLIO_MOD_MASK, "q < k",
      "line 1, column 5: unknown name 'k': expected score b h hk q kv q_len kv_len pos, a capture, a let or a "
      "function" },
    { FOLIO_MOD_MASK, "score > 0", "line 1, column 1: a mask mod has no score; only a score mod has" },
    { FOLIO_MOD_MASK, "q + 1", "line 1, column 1: the result of a mask mod: expected a bool, got i64" },
    { FOLIO_MOD_MASK, "0.5", "line 1, column 1: the result of a mask mod: expected a bool, got f32" },
    { FOLIO_MOD_SCORE, "q < kv",
      "line 1, column 1: the result of a score mod: expected a number, got bool; f32() and i64() convert a bool" },
    { FOLIO_MOD_SCORE, "score + (q < kv)",
      "line 1, column 7: '+': expected two numbers, got f32 and bool; f32() and i64() convert a bool" },
    { FOLIO_MOD_MASK, "q < kv < 3",
      "line 1, column 8: '<': expected two numbers, got bool and i64; f32() and i64() convert a bool" },
    { FOLIO_MOD_MASK, "q && kv", "line 1, column 3: '&&': expected two bools, got i64 and i64" },
    { FOLIO_MOD_MASK, "!q", "line 1, column 1: '!': expected a bool, got i64" },
    { FOLIO_MOD_MASK, "-true", "line 1, column 1: '-': expected a number, got bool" },
    { FOLIO_MOD_MASK, "q ? true : false", "line 1, column 3: the condition of ?: or where: expected a bool, got i64" },
    { FOLIO_MOD_MASK, "where(true, 1, false)",
      "line 1, column 1: the branches of ?: or where: expected two numbers or two bools, got i64 and bool; f32() and "
      "i64() convert a bool" },
    { FOLIO_MOD_SCORE, "exp(true)", "line 1, column 1: exp: expected numbers, got bool" },
    { FOLIO_MOD_SCORE, "min(1)", "line 1, column 1: min: expected 2 arguments, got 1" },
    { FOLIO_MOD_SCORE, "exp(1, 2)", "line 1, column 8: expected ')', got one more" },
    { FOLIO_MOD_SCORE, "exp 1", "line 1, column 5: expected '(', got '1'" },
    { FOLIO_MOD_SCORE, "min(1 2)", "line 1, column 7: expected ',', got '2'" },
    { FOLIO_MOD_SCORE, "slopes", "line 1, column 1: slopes: expected 1 indices, one a dim, got 0" },
    { FOLIO_MOD_SCORE, "slopes[h, q]", "line 1, column 1: slopes: expected 1 indices, one a dim, got 2" },
    { FOLIO_MOD_SCORE, "slopes[0.5]", "line 1, column 1: slopes: index 0: expected i64, got f32; i64() converts" },
    { FOLIO_MOD_SCORE, "slopes[true]", "line 1, column 1: slopes: index 0: expected i64, got bool; i64() converts" },
    { FOLIO_MOD_SCORE, "cap[0]", "line 1, column 1: cap: expected 0 indices, one a dim, got 1" },
    { FOLIO_MOD_SCORE, "bit_and(1.0, 2)", "line 1, column 1: bit_and: expected i64 or bool, got f32 and i64" },
    { FOLIO_MOD_SCORE, "shl(1.0, 2)", "line 1, column 1: shl: expected i64, got f32 and i64" },
    { FOLIO_MOD_SCORE, "9223372036854775808", "line 1, column 1: 9223372036854775808 does not fit in an i64" },
    { FOLIO_MOD_SCORE, "99999999999999999999", "line 1, column 1: 99999999999999999999 does not fit in an i64" },
    { FOLIO_MOD_SCORE, "1e39", "line 1, column 1: 1e39 does not fit in an f32; infinity is inf" },
    { FOLIO_MOD_SCORE, "1x", "line 1, column 1: '1x' is not a number" },
    { FOLIO_MOD_SCORE, "0x", "line 1, column 1: '0x' is not a number" },
    { FOLIO_MOD_SCORE, "1.2.3", "line 1, column 1: '1.2.' is not a number" },
    { FOLIO_MOD_SCORE, "score @ 2", "line 1, column 7: '@' does not belong in a mod" },
    { FOLIO_MOD_SCORE, "score \xc3\xa9", "line 1, column 7: character 0xc3 does not belong in a mod" },
    { FOLIO_MOD_SCORE, "let x = 1", "line 1, column 10: expected ';', got the end of the text" },
    { FOLIO_MOD_SCORE, "let x = 1;", "line 1, column 11: expected an expression, got the end of the text" },
    { FOLIO_MOD_SCORE, "let = 1; 2", "line 1, column 5: expected a name, got '='" },
    { FOLIO_MOD_SCORE, "let x = 1; let x = 2; x", "line 1, column 16: 'x' is taken; a let needs a new name" },
    { FOLIO_MOD_SCORE, "let kv = 1; kv", "line 1, column 5: 'kv' is taken; a let needs a new name" },
    { FOLIO_MOD_SCORE, "let doc = 1; 2", "line 1, column 5: 'doc' is taken; a let needs a new name" },
    { FOLIO_MOD_SCORE, "let x = x; x",
      "line 1, column 9: unknown name 'x': expected score b h hk q kv q_len kv_len pos, a capture, a let or a "
      "function" },
};

static void bad_texts_say_where_and_what(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(refusals); i++) {
        folio_mod *mod = (folio_mod *)&place; /* must stay as it is */
        const folio_status status =
            folio_mod_create(&mod, refusals[i].kind, refusals[i].text, captures, COUNT_OF(captures));
        assert_int_equal(status, FOLIO_EINVAL);
        assert_ptr_equal(mod, &place);
        assert_int_equal(folio_last_error_kind(), FOLIO_ERROR_VALUE);
        if (strncmp(folio_last_error(), "text: ", 6) != 0 || strcmp(folio_last_error() + 6, refusals[i].message) != 0)
            fail_msg("%s\n  got      %s\n  expected text: %s", refusals[i].text, folio_last_error(),
                     refusals[i].message);
    }
}

static void explain_draws_a_caret_or_lists_the_steps(void **state)
{
    (void)state;
    char text[1024];
    assert_int_equal(folio_mod_explain(FOLIO_MOD_MASK, "true &&\n\ttrue = kv\n", NULL, 0, text, sizeof text),
                     FOLIO_EINVAL);
    assert_string_equal(text, "text: line 2, column 7: expected an operator such as ==, got '='\n true = kv\n      ^\n");
    char tiny[20];
    assert_int_equal(folio_mod_explain(FOLIO_MOD_MASK, "q = kv", NULL, 0, tiny, sizeof tiny), FOLIO_EINVAL);
    assert_string_equal(tiny, "text: line 1, colum");
    assert_int_equal(folio_mod_explain(FOLIO_MOD_SCORE, "score + slopes[h] * (kv - pos) + slopes[h] * 0", captures,
                                       COUNT_OF(captures), text, sizeof text),
                     FOLIO_OK);
    assert_non_null(strstr(text, "load slopes s1"));
    assert_non_null(strstr(text, "the result"));
    assert_null(strstr(strstr(text, "load slopes") + 1, "load slopes")); /* one load, though written twice */
}

static void limits_hold(void **state)
{
    (void)state;
    static char text[FOLIO_MOD_MAX_TEXT + 2];
    folio_mod *mod = NULL;
    for (i32 extra = 0; extra <= 1; extra++) { /* the expression itself is one level */
        const i32 depth = FOLIO_MOD_MAX_DEPTH - 1 + extra;
        memset(text, '(', (size_t)depth);
        memcpy(text + depth, "1", 1);
        memset(text + depth + 1, ')', (size_t)depth);
        text[2 * depth + 1] = '\0';
        assert_int_equal(folio_mod_create(&mod, FOLIO_MOD_SCORE, text, NULL, 0), extra ? FOLIO_EINVAL : FOLIO_OK);
        folio_mod_destroy(&mod);
    }
    memset(text, '-', 5000);
    strcpy(text + 5000, "1.0");
    assert_int_equal(folio_mod_create(&mod, FOLIO_MOD_SCORE, text, NULL, 0), FOLIO_EINVAL);
    assert_non_null(strstr(folio_last_error(), "nested deeper than 200"));
    memset(text, ' ', FOLIO_MOD_MAX_TEXT + 1);
    text[0] = '1';
    assert_int_equal(folio_mod_create(&mod, FOLIO_MOD_SCORE, text, NULL, 0), FOLIO_EINVAL);
    text[FOLIO_MOD_MAX_TEXT] = '\0';
    assert_int_equal(folio_mod_create(&mod, FOLIO_MOD_SCORE, text, NULL, 0), FOLIO_OK);
    folio_mod_destroy(&mod);
    for (i32 extra = 0; extra <= 1; extra++) { /* score, then additions of it to itself */
        size_t used = (size_t)snprintf(text, sizeof text, "score");
        for (i32 i = 1; i < FOLIO_MOD_MAX_STEPS + extra; i++)
            used += (size_t)snprintf(text + used, sizeof text - used, "+score");
        assert_int_equal(folio_mod_create(&mod, FOLIO_MOD_SCORE, text, NULL, 0), extra ? FOLIO_EINVAL : FOLIO_OK);
        folio_mod_destroy(&mod);
    }
    assert_non_null(strstr(folio_last_error(), "more than 1024 operations"));
}

static void bad_arguments_are_refused(void **state)
{
    (void)state;
    folio_mod *mod = NULL;
    float value = 1;
    i64 stride[] = { 1, -1 };
    DLTensor scalar = TENSOR(&value, kDLFloat, 32, 0, NULL), gaps = TENSOR(&value, kDLFloat, 32, 2, one_by_gap),
             complex = TENSOR(&value, kDLComplex, 64, 0, NULL), fp8 = TENSOR(&value, kDLFloat8_e5m2, 8, 0, NULL),
             empty = TENSOR(NULL, kDLFloat, 32, 1, two);
    gaps.strides = stride;
    const struct {
        folio_mod_capture capture;
        folio_error_kind kind;
    } bad[] = {
        { { .name = NULL, .tensor = &scalar }, FOLIO_ERROR_VALUE },
        { { .name = "", .tensor = &scalar }, FOLIO_ERROR_VALUE },
        { { .name = "1a", .tensor = &scalar }, FOLIO_ERROR_VALUE },
        { { .name = "a b", .tensor = &scalar }, FOLIO_ERROR_VALUE },
        { { .name = "kv", .tensor = &scalar }, FOLIO_ERROR_VALUE },
        { { .name = "exp", .tensor = &scalar }, FOLIO_ERROR_VALUE },
        { { .name = "let", .tensor = &scalar }, FOLIO_ERROR_VALUE },
        { { .name = "a234567890123456789012345678901234567890123456789012345678901234", .tensor = &scalar },
          FOLIO_ERROR_VALUE },
        { { .name = "a", .tensor = NULL }, FOLIO_ERROR_VALUE },
        { { .name = "a", .tensor = &scalar, .flags = 2 }, FOLIO_ERROR_VALUE },
        { { .name = "a", .tensor = &gaps }, FOLIO_ERROR_VALUE },
        { { .name = "a", .tensor = &empty }, FOLIO_ERROR_VALUE },
        { { .name = "a", .tensor = &complex }, FOLIO_ERROR_TYPE },
        { { .name = "a", .tensor = &fp8 }, FOLIO_ERROR_TYPE },
    };
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        assert_int_equal(folio_mod_create(&mod, FOLIO_MOD_SCORE, "1", &bad[i].capture, 1), FOLIO_EINVAL);
        assert_int_equal(folio_last_error_kind(), bad[i].kind);
    }
    const folio_mod_capture twice[] = { { .name = "a", .tensor = &scalar }, { .name = "a", .tensor = &scalar } };
    assert_int_equal(folio_mod_create(&mod, FOLIO_MOD_SCORE, "1", twice, 2), FOLIO_EINVAL);
    assert_int_equal(folio_mod_create(NULL, FOLIO_MOD_SCORE, "1", NULL, 0), FOLIO_EINVAL);
    assert_int_equal(folio_mod_create(&mod, (folio_mod_kind)0, "1", NULL, 0), FOLIO_EINVAL);
    assert_int_equal(folio_mod_create(&mod, (folio_mod_kind)3, "1", NULL, 0), FOLIO_EINVAL);
    assert_int_equal(folio_mod_create(&mod, FOLIO_MOD_SCORE, NULL, NULL, 0), FOLIO_EINVAL);
    assert_int_equal(folio_mod_create(&mod, FOLIO_MOD_SCORE, "1", NULL, 1), FOLIO_EINVAL);
    assert_int_equal(folio_mod_create(&mod, FOLIO_MOD_SCORE, "1", NULL, -1), FOLIO_EINVAL);
    assert_int_equal(folio_mod_create(&mod, FOLIO_MOD_SCORE, "1", twice, 65), FOLIO_EINVAL);
    assert_int_equal(folio_mod_create_callback(&mod, FOLIO_MOD_SCORE, NULL, NULL), FOLIO_EINVAL);
    assert_null(mod);
    folio_mod_destroy(NULL);
    folio_mod_destroy(&mod);
}

/* Every allocation may fail; then nothing is made and nothing leaks (the sanitizer build sees leaks). */
static void running_out_of_memory_is_enomem(void **state)
{
    (void)state;
    for (i64 nth = 1;; nth++) {
        folio_mod *mod = NULL;
        folio__alloc_fail_at(nth);
        const folio_status status =
            folio_mod_create(&mod, FOLIO_MOD_SCORE, "score + cap", captures, COUNT_OF(captures));
        folio__alloc_fail_at(0);
        if (status == FOLIO_OK) {
            assert_true(nth > 1);
            folio_mod_destroy(&mod);
            break;
        }
        assert_int_equal(status, FOLIO_ENOMEM);
        assert_null(mod);
    }
}

static void empty_arrays_may_be_named_but_not_read(void **state)
{
    (void)state;
    i64 none[] = { 0 };
    DLTensor empty = TENSOR(NULL, kDLFloat, 32, 1, none);
    const folio_mod_capture capture = { .name = "e", .tensor = &empty };
    struct mod_result results[16];
    folio_mod *mod = NULL;
    assert_int_equal(folio_mod_create(&mod, FOLIO_MOD_SCORE, "e[0]", &capture, 1), FOLIO_OK);
    assert_true(folio__mod_eval(&mod->program, &place, results).poison);
    folio_mod_destroy(&mod);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(texts_mean_what_they_say),
        cmocka_unit_test(score_mods_give_f32),
        cmocka_unit_test(poison_spreads_where_it_counts),
        cmocka_unit_test(bad_texts_say_where_and_what),
        cmocka_unit_test(explain_draws_a_caret_or_lists_the_steps),
        cmocka_unit_test(limits_hold),
        cmocka_unit_test(bad_arguments_are_refused),
        cmocka_unit_test(running_out_of_memory_is_enomem),
        cmocka_unit_test(empty_arrays_may_be_named_but_not_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
