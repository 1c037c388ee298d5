/* SPDX-License-Identifier: Apache-2.0
 * test_quantised_bad.c: scales that do not count are not judged; those that do, and are wrong, are refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <string.h>

#include "folio/attend.h"
#include "support/open_context.h"
#include "support/tensors.h"

struct bad {
    struct test_tensor k, v, q, out, table, lens, scale, scale_i32;
    folio_attend_args args;
};

static void bad_make(struct bad *b)
{
    const i64 pages[] = { 2, 4, 2, 8 };
    tensor_make(&b->k, DTYPE_I8, 4, pages, NULL, 0, false);
    tensor_make(&b->v, DTYPE_I8, 4, pages, NULL, 0, false);
    tensor_make(&b->q, DTYPE_BF16, 3, (i64[]){ 1, 4, 8 }, NULL, 0, false);
    tensor_make(&b->out, DTYPE_BF16, 3, (i64[]){ 1, 4, 8 }, NULL, 0, true);
    tensor_make(&b->table, DTYPE_I32, 2, (i64[]){ 1, 2 }, NULL, 0, false);
    tensor_make(&b->lens, DTYPE_I32, 1, (i64[]){ 1 }, NULL, 0, false);
    tensor_make(&b->scale, DTYPE_F32, 1, (i64[]){ 2 }, NULL, 0, false);
    tensor_make(&b->scale_i32, DTYPE_I32, 1, (i64[]){ 2 }, NULL, 0, false);
    memset(b->q.block, 0, b->q.block_bytes);
    for (i64 i = 0; i < 2; i++) {
        tensor_set_index(&b->table, (i64[]){ 0, i }, i);
        tensor_set(&b->scale, &i, 0.5);
    }
    tensor_set_index(&b->lens, &(i64){ 0 }, 7);
    b->args = (folio_attend_args){ .struct_size = sizeof b->args,
                                   .q = &b->q.dl,
                                   .k_pages = &b->k.dl,
                                   .v_pages = &b->v.dl,
                                   .page_table = &b->table.dl,
                                   .kv_lens = &b->lens.dl,
                                   .k_scale = &b->scale.dl,
                                   .v_scale = &b->scale.dl,
                                   .out = &b->out.dl };
}

static void bad_free(struct bad *b)
{
    tensor_free(&b->k);
    tensor_free(&b->v);
    tensor_free(&b->q);
    tensor_free(&b->out);
    tensor_free(&b->table);
    tensor_free(&b->lens);
    tensor_free(&b->scale);
    tensor_free(&b->scale_i32);
}

static void expect(struct bad *b, folio_context *ctx, folio_error_kind kind, const char *words)
{
    const u64 before = tensor_hash(&b->out);
    assert_int_equal(folio_attend(ctx, NULL, &b->args, NULL), FOLIO_EINVAL);
    if (!strstr(folio_last_error(), words) || folio_last_error_kind() != kind)
        fail_msg("\"%s\" should say \"%s\"", folio_last_error(), words);
    assert_int_equal(tensor_hash(&b->out), before);
    bad_free(b);
    bad_make(b);
}

/* Of one page of one slot every stride of the scales is 0, as if there were one for all slots. */
static void scales_of_unused_slots_are_not_judged(void **state)
{
    (void)state;
    folio_context *ctx = open_context(FOLIO_BACKEND_CPU, FOLIO_ISA_AUTO, 0);
    struct bad b;
    bad_make(&b);
    struct test_tensor one, scale;
    tensor_make(&one, DTYPE_I8, 4, (i64[]){ 1, 1, 2, 8 }, NULL, 0, false);
    tensor_make(&scale, DTYPE_F32, 3, (i64[]){ 1, 1, 2 }, NULL, 0, false);
    for (i64 head = 0; head < 2; head++)
        tensor_set(&scale, (i64[]){ 0, 0, head }, NAN);
    tensor_set_index(&b.lens, &(i64){ 0 }, 0);
    b.args.k_pages = b.args.v_pages = &one.dl;
    b.args.k_scale = b.args.v_scale = &scale.dl;
    assert_int_equal(folio_attend(ctx, NULL, &b.args, NULL), FOLIO_OK);
    for (i64 d = 0; d < 8; d++)
        assert_true(tensor_get(&b.out, (i64[]){ 0, 0, d }) == 0);
    tensor_free(&one);
    tensor_free(&scale);
    bad_free(&b);
    folio_context_destroy(&ctx);
}

static void bad_scales_are_refused(void **state)
{
    (void)state;
    folio_context *ctx = open_context(FOLIO_BACKEND_CPU, FOLIO_ISA_AUTO, 0);
    struct bad b;
    bad_make(&b);
    static const double values[] = { 0, -1, NAN, INFINITY };
    for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
        tensor_set(&b.scale, &(i64){ 1 }, values[i]);
        expect(&b, ctx, FOLIO_ERROR_VALUE, "k_scale[1]");
    }
    b.scale.shape[0] = 3;
    expect(&b, ctx, FOLIO_ERROR_VALUE, "k_scale: 3 elements; must be 1, or one for each of the 2 kv heads");
    b.scale.dl.ndim = 2;
    b.scale.shape[1] = 1;
    expect(&b, ctx, FOLIO_ERROR_VALUE, "k_scale: 2 dims");
    b.args.v_scale = &b.scale_i32.dl;
    expect(&b, ctx, FOLIO_ERROR_TYPE, "v_scale: dtype i32; must be f32");
    b.k.dl.dtype = b.v.dl.dtype = dl_type(DTYPE_BF16);
    b.k.shape[3] = b.v.shape[3] = 4;
    b.q.shape[2] = b.out.shape[2] = 4;
    expect(&b, ctx, FOLIO_ERROR_VALUE, "k_scale: given with pages of bf16");
    b.v.dl.dtype = dl_type(DTYPE_E4M3);
    expect(&b, ctx, FOLIO_ERROR_TYPE, "v_pages: dtype e4m3; must be k_pages', i8");
    assert_int_equal(folio_attend(ctx, NULL, &b.args, NULL), FOLIO_OK);
    bad_free(&b);
    folio_context_destroy(&ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(scales_of_unused_slots_are_not_judged),
        cmocka_unit_test(bad_scales_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
