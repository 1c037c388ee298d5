/* SPDX-License-Identifier: Apache-2.0
 * test_replay_oracle.c: the oracle against plain loops over f32 rows; one wrong page in 256 is a visible difference. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include "oracle.h"

enum { D = 24, HEADS = 6, KV_HEADS = 2, GROUP = HEADS / KV_HEADS, SEED = 5 };

static const struct shape shape = { "6/2/24", HEADS, KV_HEADS, D, D, 1 };

static void fill_row(const struct trace *trace, const struct oracle_row *row, i64 position, enum row_kind kind,
                     i32 head, float *x)
{
    float all[HEADS * D];
    const i32 n_heads = kind == ROW_Q ? HEADS : KV_HEADS;
    row_fill(token_identity(trace, row->request, position, SEED), row->layer, kind, n_heads, D, ELEMENT_F32, all);
    for (i32 i = 0; i < D; i++)
        x[i] = all[head * D + i];
}

/* One query head, the way a textbook has it. */
static void attend_plainly(const struct trace *trace, const struct oracle_row *row, i32 head, double *out, double *lse)
{
    float q[D], k[D], v[D];
    double sum = 0;
    fill_row(trace, row, row->position, ROW_Q, head, q);
    for (i32 i = 0; i < D; i++)
        out[i] = 0;
    for (i64 j = 0; j <= row->position; j++) {
        double score = 0;
        fill_row(trace, row, j, ROW_K, head / GROUP, k);
        fill_row(trace, row, j, ROW_V, head / GROUP, v);
        for (i32 i = 0; i < D; i++)
            score += (double)q[i] * (double)k[i];
        const double weight = exp(score / sqrt(D)); /* scores are small: no maximum to subtract */
        sum += weight;
        for (i32 i = 0; i < D; i++)
            out[i] += weight * (double)v[i];
    }
    for (i32 i = 0; i < D; i++)
        out[i] /= sum;
    *lse = log(sum);
}

static void the_oracle_is_plain_attention(void **state)
{
    (void)state;
    u64 ids[] = { 7, 8 };
    struct request requests[] = { { .prompt_tokens = 600, .output_tokens = 20, .ids_begin = 0, .n_ids = 2 },
                                  { .prompt_tokens = 3, .output_tokens = 4 } };
    const struct trace trace = {
        .requests = requests, .ids = ids, .n_requests = 2, .n_ids = 2, .scale_num = 1, .scale_den = 1
    };
    struct oracle oracle;
    assert_true(oracle_init(&oracle, &trace, &shape, SEED));
    static const struct oracle_row rows[] = { { 0, 0, 0, 0 },   { 0, 1, 3, 1 }, { 0, 599, 1, 0 },
                                              { 0, 618, 2, 1 }, { 1, 2, 0, 1 }, { 1, 5, 9, 0 } };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        double out[GROUP * D], lse[GROUP], spread[GROUP], want[D], want_lse;
        oracle_compute(&oracle, &rows[i], out, lse, spread);
        for (i32 member = 0; member < GROUP; member++) {
            attend_plainly(&trace, &rows[i], rows[i].kv_head * GROUP + member, want, &want_lse);
            assert_true(fabs(lse[member] - want_lse) < 1e-12);
            for (i32 d = 0; d < D; d++)
                if (fabs(out[member * D + d] - want[d]) > 1e-12)
                    fail_msg("row %zu, member %d, dim %d: got %.17g, want %.17g", i, member, d, out[member * D + d],
                             want[d]);
        }
    }
    oracle_free(&oracle);
}

/* Two prompts of 4096 tokens that differ in one page of 16: the last row must tell them apart, wherever that page is,
 * by much more than rounding to any type allows. Else a wrong table entry could hide. */
static void one_wrong_page_shows(void **state)
{
    (void)state;
    enum { PAGES = 256, PAGE = 16 };
    static u64 ids[2 * PAGES];
    struct request requests[2];
    for (i64 i = 0; i < 2; i++)
        requests[i] = (struct request){
            .prompt_tokens = PAGES * PAGE, .output_tokens = 1, .ids_begin = i * PAGES, .n_ids = PAGES
        };
    const struct trace trace = { .requests = requests,
                                 .ids = ids,
                                 .n_requests = 2,
                                 .n_ids = 2 * PAGES,
                                 .scale_num = PAGE,
                                 .scale_den = TRACE_ID_TOKENS };
    struct oracle oracle;
    assert_true(oracle_init(&oracle, &trace, &shape, SEED));
    static const i64 wrong_pages[] = { 0, 1, 100, PAGES - 2 };
    for (size_t w = 0; w < COUNT_OF(wrong_pages); w++) {
        for (i64 i = 0; i < PAGES; i++)
            ids[i] = ids[PAGES + i] = (u64)i + 1000 * w;
        ids[PAGES + wrong_pages[w]] = 999999;
        double right[GROUP * D], wrong[GROUP * D], lse[GROUP], spread[GROUP];
        oracle_compute(&oracle, &(struct oracle_row){ 0, PAGES * PAGE - 1, 0, 1 }, right, lse, spread);
        oracle_compute(&oracle, &(struct oracle_row){ 1, PAGES * PAGE - 1, 0, 1 }, wrong, lse, spread);
        for (enum element element = ELEMENT_F32; element <= ELEMENT_BF16; element++) {
            double worst = 0;
            for (i32 i = 0; i < GROUP * D; i++) {
                const double rounding = element == ELEMENT_BF16 ? oracle_weight_rounding(spread[i / D]) : 0;
                const double allowed = oracle_tolerance(element, right[i]) + rounding;
                worst = fmax(worst, fabs(wrong[i] - right[i]) / allowed);
            }
            if (worst < 4)
                fail_msg("page %lld of 256 wrong is only %.3g times what rounding to %s allows",
                         (long long)wrong_pages[w], worst, element_names[element]);
        }
    }
    oracle_free(&oracle);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_oracle_is_plain_attention),
        cmocka_unit_test(one_wrong_page_shows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
