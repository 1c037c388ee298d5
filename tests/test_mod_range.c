/* SPDX-License-Identifier: Apache-2.0
 * test_mod_range.c: what interval analysis says of a box holds at every place in it. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "mod/range.h"
#include "support/mod_random.h"

static bool holds(enum mod_type type, const struct mod_range *range, const struct mod_result *result)
{
    if (result->poison && !range->may_be_poison)
        return false;
    if (type == MOD_BOOL)
        return range->truth & (result->value.i ? MOD_MAY_BE_TRUE : MOD_MAY_BE_FALSE);
    if (type == MOD_I64)
        return range->lo <= result->value.i && result->value.i <= range->hi;
    if (isnan(result->value.f))
        return range->may_be_nan;
    return range->flo <= result->value.f && result->value.f <= range->fhi;
}

/* Every place of a small box against the box's ranges, step by step. */
static void check_box(const struct mod_program *program, const struct mod_box *box, bool read_captures, u64 *seed,
                      const char *text)
{
    static struct mod_range ranges[FOLIO_MOD_MAX_STEPS];
    static struct mod_result results[FOLIO_MOD_MAX_STEPS];
    struct mod_env env;
    for (size_t i = 0; i < COUNT_OF(env.leaf); i++)
        env.leaf[i] = box->leaf[i].lo;
    folio__mod_ranges(program, box, read_captures, ranges);
    for (i64 q = box->leaf[MOD_Q - MOD_B].lo; q <= box->leaf[MOD_Q - MOD_B].hi; q++)
        for (i64 kv = box->leaf[MOD_KV - MOD_B].lo; kv <= box->leaf[MOD_KV - MOD_B].hi; kv++) {
            env.leaf[MOD_Q - MOD_B] = q;
            env.leaf[MOD_POS - MOD_B] = q - box->leaf[MOD_Q - MOD_B].lo + box->leaf[MOD_POS - MOD_B].lo;
            env.leaf[MOD_KV - MOD_B] = kv;
            env.score = (float)mod_random_below(seed, 1000) / 50 - 10;
            folio__mod_eval(program, &env, results);
            for (i32 i = 0; i < program->n_steps; i++)
                if (!holds(program->steps[i].type, &ranges[i], &results[i]))
                    fail_msg("%s\n  at q %lld, kv %lld: step %d (%s) is outside of its range", text, (long long)q,
                             (long long)kv, (int)i, folio__mod_ops[program->steps[i].op].name);
        }
}

static struct mod_box random_box(u64 *seed)
{
    const i64 q_len = 1 + mod_random_below(seed, MOD_RANDOM_ROWS), kv_len = 1 + mod_random_below(seed, MOD_RANDOM_KEYS);
    const i64 q = mod_random_below(seed, q_len), kv = mod_random_below(seed, kv_len);
    const i64 rows = mod_random_below(seed, 6), keys = mod_random_below(seed, 6), h = mod_random_below(seed, 8);
    const i64 b = mod_random_below(seed, 2), offset = mod_random_below(seed, 2) ? kv_len - q_len : 0;
    const i64 at[][2] = { { b, b },          { h, h },         { h / 2, h / 2 },   { q, q + rows },
                          { kv, kv + keys }, { q_len, q_len }, { kv_len, kv_len }, { q + offset, q + rows + offset } };
    struct mod_box box;
    for (size_t i = 0; i < COUNT_OF(at); i++) {
        box.leaf[i].lo = at[i][0];
        box.leaf[i].hi = at[i][1];
    }
    return box;
}

static void ranges_hold_everywhere(void **state)
{
    (void)state;
    u64 seed = 1;
    char text[4096];
    for (i32 round = 0; round < 20000; round++) {
        const folio_mod_kind kind = round % 2 ? FOLIO_MOD_MASK : FOLIO_MOD_SCORE;
        const i32 size = (i32)mod_random_below(&seed, 16);
        mod_random_text(&seed, kind, size, round % 4 >= 2, text, sizeof text);
        folio_mod *mod = NULL;
        if (folio_mod_create(&mod, kind, text, mod_random_captures(7), MOD_RANDOM_CAPTURES) != FOLIO_OK)
            fail_msg("%s: %s", text, folio_last_error());
        const struct mod_box box = random_box(&seed);
        check_box(&mod->program, &box, round % 3 == 0, &seed, text);
        folio_mod_destroy(&mod);
    }
}

/* Ranges that no leaf reaches: each i64 op on all pairs of small and of extreme intervals. */
static void i64_ops_hold_at_the_ends(void **state)
{
    (void)state;
    static const i64 ends[] = { INT64_MIN, INT64_MIN + 1, -70,      -64, -3, -2, -1, 0, 1, 2, 3, 5, 62, 63,
                                64,        INT64_MAX - 1, INT64_MAX };
    for (i32 op = MOD_ADD_I; op <= MOD_NOT_I; op++)
        for (size_t al = 0; al < COUNT_OF(ends); al++)
            for (size_t ah = al; ah < COUNT_OF(ends); ah++)
                for (size_t bl = 0; bl < COUNT_OF(ends); bl++)
                    for (size_t bh = bl; bh < COUNT_OF(ends); bh++) {
                        const struct mod_range a = { .lo = ends[al], .hi = ends[ah] },
                                               b = { .lo = ends[bl], .hi = ends[bh] };
                        const struct mod_range *const args[] = { &a, &b };
                        const struct mod_range range = folio__mod_range_of((enum mod_op)op, args);
                        for (size_t i = al; i <= ah; i++)
                            for (size_t j = bl; j <= bh; j++) {
                                const union mod_value values[] = { { .i = ends[i] }, { .i = ends[j] } };
                                const i64 x = folio__mod_apply((enum mod_op)op, values).i;
                                if (x < range.lo || x > range.hi)
                                    fail_msg("%s(%lld, %lld)", folio__mod_ops[op].name, (long long)ends[i],
                                             (long long)ends[j]);
                            }
                    }
}

static void f32_ops_hold_at_the_ends(void **state)
{
    (void)state;
    static const float ends[] = { -INFINITY, -3e38f, -2, -1, -1e-44f, 0, 1e-44f, 1e-20f, 0.5f, 1, 88, 1e30f, INFINITY };
    for (i32 op = MOD_ADD_F; op <= MOD_COS_F; op++)
        for (size_t al = 0; al < COUNT_OF(ends); al++)
            for (size_t ah = al; ah < COUNT_OF(ends); ah++)
                for (size_t bl = 0; bl < COUNT_OF(ends); bl++)
                    for (size_t bh = bl; bh < COUNT_OF(ends); bh++) {
                        const struct mod_range a = { .flo = ends[al], .fhi = ends[ah] },
                                               b = { .flo = ends[bl], .fhi = ends[bh] };
                        const struct mod_range *const args[] = { &a, &b };
                        const struct mod_range range = folio__mod_range_of((enum mod_op)op, args);
                        for (size_t i = al; i <= ah; i++)
                            for (size_t j = bl; j <= bh; j++) {
                                const union mod_value values[] = { { .f = ends[i] }, { .f = ends[j] } };
                                const struct mod_result x = { .value = folio__mod_apply((enum mod_op)op, values) };
                                if (!holds(MOD_F32, &range, &x))
                                    fail_msg("%s(%g, %g)", folio__mod_ops[op].name, (double)ends[i], (double)ends[j]);
                            }
                    }
}

/* The analysis must not merely say "unknown": the masks people write are decided away from their edges. */
static void usual_masks_are_decided(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        i64 q[2], kv[2];
        u8 truth;
    } cases[] = {
        /* q_len 64, kv_len 100, so pos = q + 36 */
        { "kv <= q + kv_len - q_len && q + kv_len - q_len - kv < 16", { 0, 7 }, { 0, 15 }, MOD_MAY_BE_FALSE },
        { "kv <= q + kv_len - q_len && q + kv_len - q_len - kv < 16", { 0, 7 }, { 44, 60 }, MOD_MAY_BE_FALSE },
        { "kv <= q + kv_len - q_len && q + kv_len - q_len - kv < 16", { 0, 7 }, { 30, 36 }, MOD_MAY_BE_TRUE },
        { "kv <= pos && pos - kv < 16", { 0, 7 }, { 28, 31 }, MOD_MAY_BE_TRUE },
        { "kv <= pos && pos - kv < 16", { 0, 7 }, { 28, 40 }, MOD_MAY_BE_TRUE | MOD_MAY_BE_FALSE },
        { "abs(pos - kv) < 8", { 0, 7 }, { 60, 70 }, MOD_MAY_BE_FALSE },
        { "q // 16 == kv // 16", { 16, 31 }, { 0, 15 }, MOD_MAY_BE_FALSE },
        { "q // 16 == kv // 16", { 16, 31 }, { 16, 31 }, MOD_MAY_BE_TRUE },
        { "kv % 32 < 4", { 0, 7 }, { 36, 60 }, MOD_MAY_BE_FALSE },
        { "f32(kv) * 0.5 < f32(q)", { 40, 50 }, { 0, 7 }, MOD_MAY_BE_TRUE },
        { "kv < wide[1] || kv <= pos", { 0, 7 }, { 0, 20 }, MOD_MAY_BE_TRUE },
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct mod_range ranges[64];
        folio_mod *mod = NULL;
        const i64 at[][2] = { { 0, 0 },
                              { 0, 7 },
                              { 0, 1 },
                              { cases[i].q[0], cases[i].q[1] },
                              { cases[i].kv[0], cases[i].kv[1] },
                              { 64, 64 },
                              { 100, 100 },
                              { cases[i].q[0] + 36, cases[i].q[1] + 36 } };
        struct mod_box box;
        memcpy(&box, at, sizeof box);
        assert_int_equal(
            folio_mod_create(&mod, FOLIO_MOD_MASK, cases[i].text, mod_random_captures(7), MOD_RANDOM_CAPTURES),
            FOLIO_OK);
        folio__mod_ranges(&mod->program, &box, false, ranges);
        if (ranges[mod->program.result].truth != cases[i].truth)
            fail_msg("%s, case %d: truth %d", cases[i].text, (int)i, (int)ranges[mod->program.result].truth);
        folio_mod_destroy(&mod);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ranges_hold_everywhere),
        cmocka_unit_test(i64_ops_hold_at_the_ends),
        cmocka_unit_test(f32_ops_hold_at_the_ends),
        cmocka_unit_test(usual_masks_are_decided),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
