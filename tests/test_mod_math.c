/* SPDX-License-Identifier: Apache-2.0
 * test_mod_math.c: exp, exp2, log and tanh against double precision, over every exponent and at the special values. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "mod/eval.h"

static float float_of(u32 bits)
{
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* Distance from the exact value in units of the last place of an f32 of its size. */
static double ulps(float got, double exact)
{
    if (isnan(exact))
        return isnan(got) ? 0 : 1e9;
    const double rounded = (double)(float)exact;
    if (isinf(rounded) || rounded == 0)
        return (double)got == rounded ? 0 : fabs((double)got - exact) <= 0x1p-149 ? 1 : 1e9;
    int exponent;
    frexp(rounded, &exponent);
    const double ulp = ldexp(1, exponent - 24 < -149 ? -149 : exponent - 24);
    return fabs((double)got - exact) / ulp;
}

static const struct {
    const char *name;
    float (*function)(float);
    double (*exact)(double);
    double allowed;
} functions[] = {
    { "exp", folio__mod_exp, exp, 1.5 },  { "exp2", folio__mod_exp2, exp2, 1.5 },
    { "log", folio__mod_log, log, 1.5 },  { "tanh", folio__mod_tanh, tanh, 2.5 },
    { "sin", folio__mod_sin, sin, 0.51 }, { "cos", folio__mod_cos, cos, 0.51 },
};

static void every_exponent_is_accurate(void **state)
{
    (void)state;
    for (size_t f = 0; f < COUNT_OF(functions); f++)
        for (u64 bits = 0; bits <= UINT32_MAX; bits += 9973) {
            const float x = float_of((u32)bits);
            const double error = ulps(functions[f].function(x), functions[f].exact((double)x));
            if (!(error <= functions[f].allowed))
                fail_msg("%s(%a): %.9g, %.3f ulp off", functions[f].name, (double)x, (double)functions[f].function(x),
                         error);
        }
}

static void special_values(void **state)
{
    (void)state;
    static const u32 specials[] = { 0,          0x80000000, 0x7f800000, 0xff800000, 0x7fc00000, 1,
                                    0x80000001, 0x007fffff, 0x00800000, 0x7f7fffff, 0xff7fffff, 0x3f800000,
                                    0xbf800000, 0x42b17217, 0x42b17218, 0x42b17219, 0xc2cff1b4, 0xc2cff1b5,
                                    0xc2cff1b6, 0xc2aeac50, 0x43000000, 0xc3160000, 0xc3150000 };
    for (size_t f = 0; f < COUNT_OF(functions); f++)
        for (size_t i = 0; i < COUNT_OF(specials); i++) {
            const float x = float_of(specials[i]), got = functions[f].function(x);
            if (!(ulps(got, functions[f].exact((double)x)) <= functions[f].allowed))
                fail_msg("%s(%a): %a", functions[f].name, (double)x, (double)got);
        }
    assert_true(signbit(folio__mod_tanh(-0.0f)));
    for (i32 n = -149; n <= 127; n++)
        assert_true(folio__mod_exp2((float)n) == ldexpf(1, n));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_exponent_is_accurate),
        cmocka_unit_test(special_values),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
