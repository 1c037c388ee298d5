/* SPDX-License-Identifier: Apache-2.0
 * test_mod_language.c: what texts mean, and where an index out of range matters. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "mod/eval.h"

static const struct mod_env place = { .leaf = { 1, 5, 2, 7, 11, 20, 30, 17 }, .score = 2.5f };

static float slopes_data[] = { 0.5f, 0.25f, 0.125f, 1, 2, 4 };
static i32 documents_data[] = { 3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8 };
static i64 wide_data[] = { -5000000000, 7 };
static u8 flags_data[] = { 1, 0, 1 };
static u16 half_data[] = { 0x3e00 }; /* 1.5 */
static float cap_data[] = { 30 };
static i64 six[] = { 6 }, three[] = { 3 }, two[] = { 2 }, two_by_six[] = { 2, 6 };

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
    "shl(1, q) == 128 && shl(1, 64) == 0 && shl(1, -1) == 0",
    "shr(-8, 1) == -4 && shr(-8, 99) == -1 && shr(8, 99) == 0",
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
        cmocka_unit_test(empty_arrays_may_be_named_but_not_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
