/* SPDX-License-Identifier: Apache-2.0
 * test_dtype.c: the scalar conversions are exact: every f16 and bf16 value goes out and back, ties go to even. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/dtype.h"

static void every_half_survives_the_round_trip(void **state)
{
    (void)state;
    for (u32 x = 0; x <= 0xffff; x++) {
        const float f16 = folio__f16_to_f32((u16)x), bf16 = folio__bf16_to_f32((u16)x);
        if (isnan(f16))
            assert_true(isnan(folio__f16_to_f32(folio__f32_to_f16(f16))));
        else
            assert_int_equal(folio__f32_to_f16(f16), x);
        if (isnan(bf16))
            assert_true(isnan(folio__bf16_to_f32(folio__f32_to_bf16(bf16))));
        else
            assert_int_equal(folio__f32_to_bf16(bf16), x);
    }
}

/* Halfway between neighbours a and b, and one f32 step to either side: even, a, b. */
static void narrowing_rounds_to_nearest_even(void **state)
{
    (void)state;
    for (u32 x = 0; x < 0x7bff; x++) {
        const float a = folio__f16_to_f32((u16)x), b = folio__f16_to_f32((u16)(x + 1));
        const float middle = (a + b) / 2;
        assert_int_equal(folio__f32_to_f16(middle), x + (x & 1));
        assert_int_equal(folio__f32_to_f16(nextafterf(middle, a)), x);
        assert_int_equal(folio__f32_to_f16(nextafterf(middle, b)), x + 1);
    }
    for (u32 x = 0; x < 0x7f7f; x++) {
        const float a = folio__bf16_to_f32((u16)x), b = folio__bf16_to_f32((u16)(x + 1));
        const float middle = (float)(((double)a + (double)b) / 2);
        assert_int_equal(folio__f32_to_bf16(middle), x + (x & 1));
        assert_int_equal(folio__f32_to_bf16(nextafterf(middle, a)), x);
        assert_int_equal(folio__f32_to_bf16(nextafterf(middle, b)), x + 1);
    }
    assert_int_equal(folio__f32_to_f16(65520.0f), 0x7c00);
    assert_int_equal(folio__f32_to_f16(65519.0f), 0x7bff);
    assert_int_equal(folio__f32_to_f16(-INFINITY), 0xfc00);
}

/* A double just past a tie would round the wrong way through f32. */
static void doubles_are_rounded_once(void **state)
{
    (void)state;
    u16 x;
    folio__store_double(DTYPE_F16, &x, 1.0 + 0x1p-11 + 0x1p-40);
    assert_int_equal(x, 0x3c01);
    folio__store_double(DTYPE_F16, &x, 1.0 + 0x1p-11);
    assert_int_equal(x, 0x3c00);
    folio__store_double(DTYPE_BF16, &x, -(1.0 + 0x1p-8 + 0x1p-45));
    assert_int_equal(x, 0xbf81);
    folio__store_double(DTYPE_BF16, &x, -(1.0 + 0x1p-8 - 0x1p-45));
    assert_int_equal(x, 0xbf80);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_half_survives_the_round_trip),
        cmocka_unit_test(narrowing_rounds_to_nearest_even),
        cmocka_unit_test(doubles_are_rounded_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
