/* SPDX-License-Identifier: Apache-2.0
 * test_quantised_pages.c: append and gather of quantised pages: every rounding, at every level. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "folio/pages.h"
#include "support/open_context.h"
#include "support/random.h"
#include "support/tensors.h"

static const enum dtype dtypes[] = { DTYPE_I8, DTYPE_E4M3, DTYPE_E5M2 };
static const folio_isa levels[] = { FOLIO_ISA_C, FOLIO_ISA_AVX2, FOLIO_ISA_AVX512, FOLIO_ISA_AVX512_BF16 };
enum { N_LEVELS = sizeof levels / sizeof *levels, N_DTYPES = 3 };
static void open_levels(folio_context **ctx)
{
    for (i32 i = 0; i < N_LEVELS; i++)
        ctx[i] = folio_isa_available(levels[i]) ? open_context(FOLIO_BACKEND_CPU, levels[i], 2) : NULL;
}

static void close_levels(folio_context **ctx)
{
    for (i32 i = 0; i < N_LEVELS; i++)
        folio_context_destroy(&ctx[i]);
}

enum { N_PAGES = 5, PAGE = 3, HEADS = 2, DIM_K = 19, DIM_V = 33, TOKENS = 9 };

/* The code whose value is nearest to x, the even one of two: by trying all. i8: value = code. */
static double nearest(enum dtype dtype, double x)
{
    double best = 0, best_distance = INFINITY;
    if (dtype == DTYPE_I8)
        return nearbyint(fmax(-127, fmin(127, x)));
    for (i32 code = 0; code < 256; code++) {
        const u8 byte = (u8)code;
        const double value = (double)folio__load_float(dtype, &byte), distance = fabs(value - x);
        if (isfinite(value) && (distance < best_distance || (distance == best_distance && code % 2 == 0))) {
            best = value;
            best_distance = distance;
        }
    }
    return best;
}

/* One scale a head, strided. */
static void make_head_scale(struct test_tensor *scale)
{
    tensor_make(scale, DTYPE_F32, 1, (i64[]){ HEADS }, (i64[]){ 3 }, 0, false);
    for (i64 head = 0; head < HEADS; head++)
        tensor_set(scale, &head, 0.03 + 0.01 * (double)head);
}

struct moves {
    struct test_tensor rows, back, pages, scale; /* of K or V */
};

static void moves_make(struct moves *m, enum dtype dtype, enum dtype rows, i64 dim, bool by_slot, struct rng *rng)
{
    const i64 shape[] = { N_PAGES, PAGE, HEADS, dim };
    tensor_make(&m->rows, rows, 3, (i64[]){ TOKENS, HEADS, dim }, NULL, 0, false);
    tensor_make(&m->back, DTYPE_F32, 3, (i64[]){ TOKENS, HEADS, dim }, NULL, 0, true);
    tensor_make(&m->pages, dtype, 4, shape, (i64[]){ PAGE * HEADS * (dim + 1), HEADS * (dim + 1), dim + 1, 1 }, 0,
                true);
    if (by_slot)
        tensor_make(&m->scale, DTYPE_F32, 3, shape, (i64[]){ PAGE * HEADS * 2, HEADS * 2, 2 }, 0, true);
    else
        make_head_scale(&m->scale);
    for (i64 token = 0; token < TOKENS; token++)
        for (i64 head = 0; head < HEADS; head++)
            for (i64 d = 0; d < dim; d++) {
                const double size = token == 0 ? 0 : token == 1 ? 1e-30 : token == 2 ? 3e3 : 1;
                tensor_set(&m->rows, (i64[]){ token, head, d }, size * rng_normal(rng));
            }
}

static void moves_free(struct moves *m)
{
    tensor_free(&m->rows);
    tensor_free(&m->back);
    tensor_free(&m->pages);
    tensor_free(&m->scale);
}

static void check_token(const struct moves *m, enum dtype dtype, bool made, i64 token, i64 page, i64 slot)
{
    const i64 dim = m->rows.shape[2];
    for (i64 head = 0; head < HEADS; head++) {
        float most = 0;
        for (i64 d = 0; d < dim; d++)
            most = fmaxf(most, fabsf((float)tensor_get(&m->rows, (i64[]){ token, head, d })));
        const float scale =
            (float)(made ? tensor_get(&m->scale, (i64[]){ page, slot, head }) : tensor_get(&m->scale, &head));
        if (made)
            assert_true(scale == (most == 0 ? 1 : most / folio__dtype_max(dtype)));
        for (i64 d = 0; d < dim; d++) {
            const float x = (float)tensor_get(&m->rows, (i64[]){ token, head, d });
            const double got = tensor_get(&m->pages, (i64[]){ page, slot, head, d });
            const double wanted = nearest(dtype, (double)(x / scale));
            if (got != wanted)
                fail_msg("%s, token %d, head %d, dim %d: %g / %g stored as %g, wanted %g", folio__dtype_name(dtype),
                         (int)token, (int)head, (int)d, (double)x, (double)scale, got, wanted);
            assert_true(tensor_get(&m->back, (i64[]){ token, head, d }) == (double)((float)got * scale));
        }
    }
}

/* Tokens go to slots behind each other on pages 3, 1, 4 but for one that is skipped; what is read back is what stands
 * there times its scale, and nothing else was touched. */
static void check_moves(folio_context *ctx, enum dtype dtype, enum dtype rows, bool made)
{
    static const i64 pages[] = { 3, 1, 4 };
    struct rng rng = { 7 };
    struct moves k, v;
    moves_make(&k, dtype, rows, DIM_K, made, &rng);
    moves_make(&v, dtype, rows, DIM_V, made, &rng);
    struct test_tensor slots, row;
    tensor_make(&slots, DTYPE_I64, 1, (i64[]){ TOKENS }, NULL, 0, false);
    tensor_make(&row, DTYPE_I64, 1, (i64[]){ 3 }, NULL, 0, false);
    for (i64 i = 0; i < TOKENS; i++)
        tensor_set_index(&slots, &i, i == 4 ? -1 : pages[i / PAGE] * PAGE + i % PAGE);
    for (i64 i = 0; i < 3; i++)
        tensor_set_index(&row, &i, pages[i]);
    const folio_append_args append = { .struct_size = sizeof append,
                                       .k = &k.rows.dl,
                                       .v = &v.rows.dl,
                                       .k_pages = &k.pages.dl,
                                       .v_pages = &v.pages.dl,
                                       .slots = &slots.dl,
                                       .k_scale = &k.scale.dl,
                                       .v_scale = &v.scale.dl,
                                       .flags = made ? FOLIO_APPEND_MAKES_SCALES : 0 };
    assert_int_equal(folio_pages_append(ctx, &append, NULL), FOLIO_OK);
    const folio_gather_args gather = { .struct_size = sizeof gather,
                                       .k_pages = &k.pages.dl,
                                       .v_pages = &v.pages.dl,
                                       .page_row = &row.dl,
                                       .kv_len = TOKENS,
                                       .k = &k.back.dl,
                                       .v = &v.back.dl,
                                       .k_scale = &k.scale.dl,
                                       .v_scale = &v.scale.dl };
    assert_int_equal(folio_pages_gather(ctx, &gather, NULL), FOLIO_OK);
    for (i64 token = 0; token < TOKENS; token++) {
        if (token == 4)
            continue;
        check_token(&k, dtype, made, token, pages[token / PAGE], token % PAGE);
        check_token(&v, dtype, made, token, pages[token / PAGE], token % PAGE);
    }
    assert_true(tensor_gaps_intact(&k.pages) && tensor_gaps_intact(&v.pages) && tensor_gaps_intact(&k.back));
    assert_true(!made || (tensor_gaps_intact(&k.scale) && tensor_gaps_intact(&v.scale)));
    assert_int_equal(*tensor_at(&k.pages, (i64[]){ 1, 1, 0, 0 }), OUTPUT_FILL); /* token 4's slot, skipped */
    assert_int_equal(*tensor_at(&v.pages, (i64[]){ 0, 0, 0, 0 }), OUTPUT_FILL);
    tensor_free(&slots);
    tensor_free(&row);
    moves_free(&k);
    moves_free(&v);
}

static void append_rounds_to_nearest_and_gather_multiplies(void **state)
{
    (void)state;
    static const enum dtype rows[] = { DTYPE_F32, DTYPE_F16, DTYPE_BF16 };
    folio_context *ctx[N_LEVELS + 1];
    open_levels(ctx);
    ctx[N_LEVELS] = open_context(FOLIO_BACKEND_REF, FOLIO_ISA_AUTO, 2);
    for (i32 i = 0; i <= N_LEVELS; i++)
        for (i32 dtype = 0; ctx[i] && dtype < N_DTYPES; dtype++)
            for (i32 j = 0; j < 3; j++) {
                check_moves(ctx[i], dtypes[dtype], rows[j], true);
                check_moves(ctx[i], dtypes[dtype], rows[j], false);
            }
    folio_context_destroy(&ctx[N_LEVELS]);
    close_levels(ctx);
}

/* One row of one element: NaN, infinities and what is too large. */
static void what_has_no_code_saturates(void **state)
{
    (void)state;
    static const struct {
        double x, i8, e4m3, e5m2;
    } rows[] = {
        { INFINITY, 127, 448, 57344 }, { -INFINITY, -127, -448, -57344 },
        { 1e6, 127, 448, 57344 },      { -1e6, -127, -448, -57344 },
        { NAN, 0, NAN, NAN },          { 0x1p-10, 0, 0, 0x1p-10 },
        { 2.5, 2, 2.5, 2.5 },          { 3.5, 4, 3.5, 3.5 },
        { 465, 127, 448, 448 },
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const double wanted[] = { rows[i].i8, rows[i].e4m3, rows[i].e5m2 };
        for (i32 j = 0; j < N_DTYPES; j++) {
            u8 byte;
            folio__store_float(dtypes[j], &byte, (float)rows[i].x);
            const double got = (double)folio__load_float(dtypes[j], &byte);
            if (!(got == wanted[j] || (isnan(got) && isnan(wanted[j]))))
                fail_msg("%g as %s: %g, wanted %g", rows[i].x, folio__dtype_name(dtypes[j]), got, wanted[j]);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(append_rounds_to_nearest_and_gather_multiplies),
        cmocka_unit_test(what_has_no_code_saturates),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
