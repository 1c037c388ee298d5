/* SPDX-License-Identifier: Apache-2.0
 * test_replay_model.c: rows are functions of identity alone, exact in every element type, and spread as promised. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "base/dtype.h"
#include "model.h"

enum { DIM = 80, HEADS = 3 };

static void every_element_type_holds_the_codes_exactly(void **state)
{
    (void)state;
    for (enum row_kind kind = ROW_Q; kind <= ROW_V; kind++)
        for (u64 identity = 0; identity < 200; identity++) {
            float f32[HEADS * DIM];
            u16 f16[HEADS * DIM], bf16[HEADS * DIM];
            i8 codes[DIM];
            row_fill(identity, 1, kind, HEADS, DIM, ELEMENT_F32, f32);
            row_fill(identity, 1, kind, HEADS, DIM, ELEMENT_F16, f16);
            row_fill(identity, 1, kind, HEADS, DIM, ELEMENT_BF16, bf16);
            for (i32 head = 0; head < HEADS; head++) {
                row_codes(identity, 1, kind, head, DIM, codes);
                for (i32 i = 0; i < DIM; i++) {
                    const double want = codes[i] * row_unit(kind);
                    assert_true((double)f32[head * DIM + i] == want);
                    assert_true((double)folio__f16_to_f32(f16[head * DIM + i]) == want);
                    assert_true((double)folio__bf16_to_f32(bf16[head * DIM + i]) == want);
                }
            }
        }
}

/* Any change of token, layer, kind or head changes about 255 of 256 codes. */
static void rows_of_different_places_differ(void **state)
{
    (void)state;
    const struct {
        u64 identity;
        i32 layer;
        enum row_kind kind;
        i32 head;
    } places[] = { { 1, 0, ROW_K, 0 }, { 2, 0, ROW_K, 0 }, { 1, 1, ROW_K, 0 }, { 1, 0, ROW_V, 0 },
                   { 1, 0, ROW_K, 1 }, { 0, 0, ROW_K, 0 }, { 1, 0, ROW_Q, 0 } };
    i8 codes[COUNT_OF(places)][DIM];
    for (size_t i = 0; i < COUNT_OF(places); i++) {
        row_codes(places[i].identity, places[i].layer, places[i].kind, places[i].head, DIM, codes[i]);
        for (size_t j = 0; j < i; j++) {
            i32 same = 0;
            for (i32 d = 0; d < DIM; d++)
                same += codes[i][d] == codes[j][d];
            assert_in_range(same, 0, 5);
        }
    }
}

static void codes_are_spread_evenly(void **state)
{
    (void)state;
    double sum = 0, squares = 0;
    const i64 n = 2000;
    for (u64 identity = 0; identity < (u64)n; identity++) {
        i8 codes[8];
        row_codes(identity, 0, ROW_V, 0, 8, codes);
        for (i32 i = 0; i < 8; i++) {
            sum += codes[i];
            squares += (double)codes[i] * codes[i];
        }
    }
    /* Uniform over -128 .. 127: mean -0.5, variance 5461.25; 16,000 draws. */
    assert_true(fabs(sum / (8.0 * (double)n) + 0.5) < 3);
    assert_true(fabs(squares / (8.0 * (double)n) - 5461.5) < 200);
}

/* Two requests with the same ids have the same prompt, and answers of their own. */
static void equal_ids_are_equal_tokens(void **state)
{
    (void)state;
    u64 ids[] = { 3, 4, 3, 5 };
    struct request requests[] = {
        { .prompt_tokens = 1000, .output_tokens = 9, .ids_begin = 0, .n_ids = 2 },
        { .prompt_tokens = 1000, .output_tokens = 9, .ids_begin = 2, .n_ids = 2 },
        { .prompt_tokens = 1000, .output_tokens = 9 },
    };
    const struct trace trace = {
        .requests = requests, .ids = ids, .n_requests = 3, .n_ids = 4, .scale_num = 1, .scale_den = 1
    };
    assert_true(token_identity(&trace, 0, 511, 7) == token_identity(&trace, 1, 511, 7));
    assert_true(token_identity(&trace, 0, 511, 7) != token_identity(&trace, 0, 510, 7));
    assert_true(token_identity(&trace, 0, 511, 7) != token_identity(&trace, 0, 511, 8));
    assert_true(token_identity(&trace, 0, 512, 7) != token_identity(&trace, 1, 512, 7));
    assert_true(token_identity(&trace, 0, 1000, 7) != token_identity(&trace, 1, 1000, 7));
    assert_true(token_identity(&trace, 2, 511, 7) != token_identity(&trace, 1, 511, 7));
}

static void shapes_are_names_or_three_numbers(void **state)
{
    (void)state;
    struct shape shape;
    assert_true(shape_parse("smollm2-135m", &shape));
    assert_int_equal(shape.n_layers, 30);
    assert_true(shape_parse("14/2/96", &shape));
    assert_int_equal(shape.n_q_heads, 14);
    assert_int_equal(shape.n_kv_heads, 2);
    assert_int_equal(shape.dim_qk, 96);
    assert_int_equal(shape.dim_v, 96);
    assert_true(shape_parse("16/1/576/512", &shape));
    assert_int_equal(shape.dim_v, 512);
    static const char *const bad[] = { "",       "llama", "9/3",    "9/3/64/",  "9/3/64/1025", "9/3/64x", "9/2/64",
                                       "0/0/64", "3/9/4", "9/3/-4", "8/8/1025", "8/0/8",       "-8/8/8" };
    for (size_t i = 0; i < COUNT_OF(bad); i++)
        if (shape_parse(bad[i], &shape))
            fail_msg("\"%s\" was taken for a shape", bad[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_element_type_holds_the_codes_exactly),
        cmocka_unit_test(rows_of_different_places_differ),
        cmocka_unit_test(codes_are_spread_evenly),
        cmocka_unit_test(equal_ids_are_equal_tokens),
        cmocka_unit_test(shapes_are_names_or_three_numbers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
