/* SPDX-License-Identifier: Apache-2.0
 * test_kernels_move.c: append, gather and merge of every level: the same bits as ref (merge: near ref, and one set of
 * bits), nothing written beside the rows asked for. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "kernel/kernels.h"
#include "support/strided.h"

enum {
    PAGES = 5,
    PAGE_SIZE = 3,
    HEADS = 2,
    TOKENS = 7,
    MAX_DIM = 80,
    BYTES = PAGES * PAGE_SIZE * HEADS * (MAX_DIM + 4) * 4
};

static const folio_isa isas[] = { FOLIO_ISA_C, FOLIO_ISA_AVX2, FOLIO_ISA_AVX512, FOLIO_ISA_AVX512_BF16 };
static const enum dtype floats[] = { DTYPE_F32, DTYPE_F16, DTYPE_BF16 };
static const i32 dims[] = { 1, 2, 15, 16, 17, 31, 32, 33, 63, 64, 80 };

static const struct kernels *level(size_t i)
{
    return folio_isa_available(isas[i]) ? folio__select_cpu(isas[i]) : NULL;
}

/* Random bits: NaNs, infinities and subnormals too. */
static void fill(u8 *p, size_t n, u64 seed)
{
    for (size_t i = 0; i < n; i++)
        p[i] = (u8)random_next(&seed);
}

static struct pages_view pages(u8 *data, enum dtype dtype, i32 d)
{
    const i64 row = (d + 3) * folio__dtype_bytes(dtype);
    return (struct pages_view){ .data = data,
                                .head_stride = row,
                                .slot_stride = row * HEADS,
                                .page_stride = row * HEADS * PAGE_SIZE,
                                .n_pages = PAGES,
                                .head_dim = d,
                                .dtype = dtype };
}

static struct rows_view rows(u8 *data, enum dtype dtype, i32 d)
{
    const i64 row = (d + 1) * folio__dtype_bytes(dtype);
    return (
        struct rows_view){ .data = data, .head_stride = row, .token_stride = row * HEADS, .dtype = dtype, .dim = d };
}

struct buffers {
    u8 k_pages[BYTES], v_pages[BYTES], k[BYTES], v[BYTES];
};

static void run_append(struct buffers *b, const struct kernels *kernels, enum dtype to, enum dtype from, i32 d)
{
    static const i64 slots[TOKENS] = { 14, 0, -1, 7, 3, -5, 9 };
    const struct append_args args = { .k = rows(b->k, from, d),
                                      .v = rows(b->v, from, MAX_DIM - d + 1),
                                      .k_pages = pages(b->k_pages, to, d),
                                      .v_pages = pages(b->v_pages, to, MAX_DIM - d + 1),
                                      .slots = slots,
                                      .slots_are_i64 = 1,
                                      .page_size = PAGE_SIZE,
                                      .n_kv_heads = HEADS };
    kernels->append(&args, 0, 4);
    kernels->append(&args, 4, TOKENS);
}

static void run_gather(struct buffers *b, const struct kernels *kernels, enum dtype to, enum dtype from, i32 d)
{
    static const i32 row[] = { 4, 1, 1 };
    const struct gather_args args = { .k = rows(b->k, to, d),
                                      .v = rows(b->v, to, MAX_DIM - d + 1),
                                      .k_pages = pages(b->k_pages, from, d),
                                      .v_pages = pages(b->v_pages, from, MAX_DIM - d + 1),
                                      .page_row = row,
                                      .page_size = PAGE_SIZE,
                                      .n_kv_heads = HEADS };
    kernels->gather(&args, 0, 2);
    kernels->gather(&args, 2, TOKENS);
}

typedef void (*mover)(struct buffers *, const struct kernels *, enum dtype, enum dtype, i32);

static void check_same_as_ref(mover move)
{
    struct buffers *want = malloc(sizeof *want), *got = malloc(sizeof *got);
    for (size_t to = 0; to < COUNT_OF(floats); to++)
        for (size_t from = 0; from < COUNT_OF(floats); from++)
            for (size_t i = 0; i < COUNT_OF(dims); i++)
                for (size_t isa = 0; isa < COUNT_OF(isas); isa++) {
                    if (!level(isa))
                        continue;
                    fill((u8 *)want, sizeof *want, 9 * to + from);
                    memcpy(got, want, sizeof *got);
                    move(want, &folio__kernels_ref, floats[to], floats[from], dims[i]);
                    move(got, level(isa), floats[to], floats[from], dims[i]);
                    if (memcmp(got, want, sizeof *got))
                        fail_msg("%s differs from ref: %s from %s, dim %d", level(isa)->name,
                                 folio__dtype_name(floats[to]), folio__dtype_name(floats[from]), dims[i]);
                }
    free(want);
    free(got);
}

static void append_is_exact(void **state)
{
    (void)state;
    check_same_as_ref(run_append);
}

static void gather_is_exact(void **state)
{
    (void)state;
    check_same_as_ref(run_gather);
}

enum { PARTS = 4 };

static void run_merge(float *out, float *lse, const struct kernels *kernels, const float *outs, const float *lses,
                      i32 d)
{
    const struct merge_args args = { .outs = rows((u8 *)(uintptr_t)outs, DTYPE_F32, d),
                                     .outs_part_stride = TOKENS * HEADS * (d + 1) * 4,
                                     .lses = lses,
                                     .lses_part_stride = TOKENS * HEADS * 4,
                                     .lses_token_stride = HEADS * 4,
                                     .lses_head_stride = 4,
                                     .out = rows((u8 *)out, DTYPE_F32, d),
                                     .lse = lse,
                                     .lse_token_stride = HEADS * 4,
                                     .lse_head_stride = 4,
                                     .n_parts = PARTS,
                                     .n_heads = HEADS };
    kernels->merge(&args, 0, TOKENS);
}

static void merge_is_near_ref(void **state)
{
    (void)state;
    static float outs[PARTS * TOKENS * HEADS * (MAX_DIM + 1)], lses[PARTS * TOKENS * HEADS];
    static float want[TOKENS * HEADS * (MAX_DIM + 1)], got[COUNT_OF(want)], first[COUNT_OF(want)];
    float want_lse[TOKENS * HEADS], got_lse[TOKENS * HEADS], first_lse[TOKENS * HEADS];
    u64 random = 5;
    for (size_t i = 0; i < COUNT_OF(dims); i++) {
        const i32 d = dims[i];
        for (size_t j = 0; j < COUNT_OF(outs); j++)
            outs[j] = (float)random_below(&random, 4001) / 1000.0f - 2.0f;
        for (size_t j = 0; j < COUNT_OF(lses);
             j++) /* empty ones, whose out means nothing; far and near ones; all empty */
            lses[j] = j % (TOKENS * HEADS) == 3 || random_below(&random, 4) == 0
                          ? -INFINITY
                          : (float)random_below(&random, 2001) / 50.0f - 20.0f;
        for (size_t j = 0; j < COUNT_OF(lses); j++)
            if (lses[j] == -INFINITY)
                for (i32 c = 0; c < d; c++)
                    outs[(i32)j * (d + 1) + c] = NAN;
        memset(want, 0, sizeof want);
        run_merge(want, want_lse, &folio__kernels_ref, outs, lses, d);
        for (size_t isa = 0; isa < COUNT_OF(isas); isa++) {
            if (!level(isa))
                continue;
            memset(got, 0, sizeof got);
            run_merge(got, got_lse, level(isa), outs, lses, d);
            for (size_t j = 0; j < COUNT_OF(want); j++)
                assert_true(fabsf(got[j] - want[j]) <= 1e-6f);
            for (size_t j = 0; j < COUNT_OF(want_lse); j++)
                assert_true(got_lse[j] == want_lse[j] || fabsf(got_lse[j] - want_lse[j]) <= 4e-6f);
            if (isa == 0) {
                memcpy(first, got, sizeof first);
                memcpy(first_lse, got_lse, sizeof first_lse);
            }
            assert_memory_equal(first, got, sizeof got);
            assert_memory_equal(first_lse, got_lse, sizeof got_lse);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(append_is_exact),
        cmocka_unit_test(gather_is_exact),
        cmocka_unit_test(merge_is_near_ref),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
