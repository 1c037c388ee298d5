/* SPDX-License-Identifier: Apache-2.0
 * test_mod_errors.c: what is refused, where the error is, and that refusals change nothing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "base/alloc.h"
#include "mod/eval.h"

static float slopes_data[6], cap_data[1];
static i32 documents_data[12];
static i64 six[] = { 6 }, two[] = { 2 }, two_by_six[] = { 2, 6 }, one_by_gap[] = { 1, 2 };

#define TENSOR(data_, code_, bits_, ndim_, shape_)                                                           \
    {                                                                                                        \
        .data = data_, .device = { kDLCPU, 0 }, .ndim = ndim_, .dtype = { code_, bits_, 1 }, .shape = shape_ \
    }

static DLTensor slopes = TENSOR(slopes_data, kDLFloat, 32, 1, six);
static DLTensor documents = TENSOR(documents_data, kDLInt, 32, 2, two_by_six);
static DLTensor cap = TENSOR(cap_data, kDLFloat, 32, 0, NULL);

static folio_mod_capture captures[] = {
    { .name = "slopes", .tensor = &slopes },
    { .name = "doc", .tensor = &documents },
    { .name = "cap", .tensor = &cap },
};

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
        folio_mod *mod = (folio_mod *)captures; /* must stay as it is */
        const folio_status status =
            folio_mod_create(&mod, refusals[i].kind, refusals[i].text, captures, COUNT_OF(captures));
        assert_int_equal(status, FOLIO_EINVAL);
        assert_ptr_equal(mod, captures);
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
    assert_string_equal(text,
                        "text: line 2, column 7: expected an operator such as ==, got '='\n true = kv\n      ^\n");
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
    assert_int_equal(folio_mod_create_callback(&mod, FOLIO_MOD_SCORE, NULL, NULL, 0), FOLIO_EINVAL);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bad_texts_say_where_and_what),
        cmocka_unit_test(explain_draws_a_caret_or_lists_the_steps),
        cmocka_unit_test(limits_hold),
        cmocka_unit_test(bad_arguments_are_refused),
        cmocka_unit_test(running_out_of_memory_is_enomem),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
