/* SPDX-License-Identifier: Apache-2.0
 * test_cuda_refused.c: what the CUDA backend says and leaves behind when the driver, the device, its memory or the
 * compiler fails; what an attend costs the host. With a fake driver (fake_cuda/): no GPU, nothing is computed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdbool.h>
#include <stdint.h>
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "fake_cuda/fake_cuda.h"
#include "folio/folio.h"

enum { BATCH = 2, HEADS = 4, KV_HEADS = 2, DIM = 128, PAGE = 16, N_PAGES = 8, WIDTH = 3 };

static struct fake_cuda *fake;

/* A decode problem at addresses that nobody reads. */
struct problem {
    i64 q_shape[3], pages_shape[4], table_shape[2], lens_shape[1];
    DLTensor q, k, v, table, lens, out;
    folio_attend_args args;
};

static DLTensor tensor(uintptr_t at, int32_t ndim, i64 *shape, DLDataType dtype)
{
    return (DLTensor){
        .data = (void *)at, .device = { .device_type = kDLCUDA }, .ndim = ndim, .dtype = dtype, .shape = shape
    };
}

static void make(struct problem *p)
{
    const DLDataType bf16 = { kDLBfloat, 16, 1 }, int32 = { kDLInt, 32, 1 };
    *p = (struct problem){ .q_shape = { BATCH, HEADS, DIM },
                           .pages_shape = { N_PAGES, PAGE, KV_HEADS, DIM },
                           .table_shape = { BATCH, WIDTH },
                           .lens_shape = { BATCH } };
    p->q = tensor(0x10000000, 3, p->q_shape, bf16);
    p->k = tensor(0x20000000, 4, p->pages_shape, bf16);
    p->v = tensor(0x30000000, 4, p->pages_shape, bf16);
    p->table = tensor(0x40000000, 2, p->table_shape, int32);
    p->lens = tensor(0x50000000, 1, p->lens_shape, int32);
    p->out = tensor(0x60000000, 3, p->q_shape, bf16);
    p->args = (folio_attend_args){ .struct_size = sizeof p->args,
                                   .q = &p->q,
                                   .k_pages = &p->k,
                                   .v_pages = &p->v,
                                   .page_table = &p->table,
                                   .kv_lens = &p->lens,
                                   .out = &p->out };
}

static folio_status open_context(folio_context **ctx)
{
    const folio_context_config cfg = { .struct_size = sizeof cfg, .backend = FOLIO_BACKEND_CUDA };
    *ctx = NULL;
    return folio_context_create(ctx, &cfg);
}

static void assert_says(const char *words)
{
    if (!strstr(folio_last_error(), words))
        fail_msg("\"%s\"; must say \"%s\"", folio_last_error(), words);
}

/* First: a driver that started stays. */
static void no_device_is_refused_and_asked_again(void **state)
{
    (void)state;
    folio_context *ctx;
    fake->init_result = 100;
    assert_int_equal(open_context(&ctx), FOLIO_ENOTSUP);
    assert_null(ctx);
    assert_says("finds no CUDA device");
    fake->init_result = 0;
    assert_int_equal(open_context(&ctx), FOLIO_OK);
    folio_context_destroy(&ctx);
    assert_int_equal(fake->n_retained, 0);
}

static void old_devices_are_refused(void **state)
{
    (void)state;
    static const i32 archs[] = { 35, 61, 70, 75, 80, 86, 90, 100 };
    for (size_t i = 0; i < COUNT_OF(archs); i++) {
        folio_context *ctx;
        char has[16];
        fake->arch = archs[i];
        snprintf(has, sizeof has, "%d.%d;", (int)archs[i] / 10, (int)archs[i] % 10);
        const folio_status status = open_context(&ctx);
        assert_int_equal(status, archs[i] < 80 ? FOLIO_ENOTSUP : FOLIO_OK);
        if (status != FOLIO_OK) {
            assert_says(has);
            assert_says("8.0 or newer");
            assert_null(ctx);
        }
        folio_context_destroy(&ctx);
        assert_int_equal(fake->n_retained, 0);
    }
    fake->arch = 90;
}

static void a_failed_compile_names_its_first_error(void **state)
{
    (void)state;
    struct problem p;
    folio_context *ctx;
    folio_plan *plan = NULL;
    make(&p);
    assert_int_equal(open_context(&ctx), FOLIO_OK);
    fake->compile_log = "kernel/cuda/device/work.h(7): warning #1: nothing\n"
                        "kernel/cuda/device/plan.cu(12): error: identifier \"x\" is undefined\n"
                        "kernel/cuda/device/plan.cu(99): error: another\n";
    const i32 live = fake->n_live;
    assert_int_equal(folio_plan_create(&plan, ctx, &p.args), FOLIO_ECOMPILE);
    assert_null(plan);
    assert_says("kernel/cuda/device/plan.cu(12): error: identifier \"x\" is undefined");
    assert_null(strstr(folio_last_error(), "warning"));
    assert_null(strstr(folio_last_error(), "another"));
    assert_int_equal(folio_attend(ctx, NULL, &p.args, NULL), FOLIO_ECOMPILE);
    assert_int_equal(fake->n_live, live);
    assert_int_equal(fake->n_launches, 0);
    fake->compile_log = NULL; /* what failed is tried again, and kept when it works */
    assert_int_equal(folio_plan_create(&plan, ctx, &p.args), FOLIO_OK);
    const i32 compiled = fake->n_compiled;
    folio_plan_destroy(&plan);
    assert_int_equal(folio_plan_create(&plan, ctx, &p.args), FOLIO_OK);
    assert_int_equal(fake->n_compiled, compiled);
    folio_plan_destroy(&plan);
    folio_context_destroy(&ctx);
    assert_int_equal(fake->n_live, 0);
}

/* More often than there are error records of plans: none is lost. */
static void no_memory_changes_nothing(void **state)
{
    (void)state;
    enum { TIMES = 3000 };
    struct problem p;
    folio_context *ctx;
    folio_plan *plan = NULL;
    make(&p);
    assert_int_equal(open_context(&ctx), FOLIO_OK);
    const i64 memory = fake->memory;
    fake->memory = 1000;
    for (i32 i = 0; i < TIMES; i++) {
        assert_int_equal(folio_plan_create(&plan, ctx, &p.args), FOLIO_ENOMEM);
        assert_null(plan);
        assert_says("bytes for a plan");
    }
    assert_int_equal(folio_attend(ctx, NULL, &p.args, NULL), FOLIO_ENOMEM);
    assert_int_equal(fake->n_live, 0);
    assert_int_equal(fake->n_launches, 0);
    fake->memory = memory;
    assert_int_equal(folio_plan_create(&plan, ctx, &p.args), FOLIO_OK);
    folio_plan_destroy(&plan);
    folio_context_destroy(&ctx);
    assert_int_equal(fake->memory, memory);
}

/* A problem, and a plan for it. */
static void open_plan(struct problem *p, folio_context **ctx, folio_plan **plan)
{
    make(p);
    *plan = NULL;
    assert_int_equal(open_context(ctx), FOLIO_OK);
    assert_int_equal(folio_plan_create(plan, *ctx, &p->args), FOLIO_OK);
}

static void streams_of_other_contexts_are_refused(void **state)
{
    (void)state;
    struct problem p;
    folio_context *ctx;
    folio_plan *plan;
    open_plan(&p, &ctx, &plan);
    assert_int_equal(folio_plan_update(plan, &p.args, NULL), FOLIO_OK);
    const i32 launched = fake->n_launches;
    assert_int_equal(folio_attend(ctx, plan, &p.args, FAKE_STREAM(1)), FOLIO_EINVAL);
    assert_says("another CUDA context");
    assert_int_equal(folio_plan_update(plan, &p.args, FAKE_STREAM(1)), FOLIO_EINVAL);
    assert_says("another CUDA context");
    assert_int_equal(folio_attend(ctx, NULL, &p.args, FAKE_STREAM(1)), FOLIO_EINVAL);
    assert_int_equal(fake->n_launches, launched);
    assert_int_equal(folio_plan_update(plan, &p.args, FAKE_STREAM(0)), FOLIO_OK);
    assert_int_equal(folio_attend(ctx, plan, &p.args, FAKE_STREAM(0)), FOLIO_OK);
    assert_int_equal(fake->n_launches, launched + 2);
    folio_plan_destroy(&plan);
    folio_context_destroy(&ctx);
}

static void an_attend_is_one_launch_and_nothing_else(void **state)
{
    (void)state;
    struct problem p;
    folio_context *ctx;
    folio_plan *plan;
    open_plan(&p, &ctx, &plan);
    assert_int_equal(folio_plan_update(plan, &p.args, FAKE_STREAM(0)), FOLIO_OK);
    const struct fake_cuda before = *fake;
    const i64 allocated = folio__alloc_count();
    void *const current = fake->current;
    for (i32 i = 0; i < 10; i++)
        assert_int_equal(folio_attend(ctx, plan, &p.args, FAKE_STREAM(0)), FOLIO_OK);
    assert_int_equal(fake->n_launches, before.n_launches + 10);
    assert_int_equal(fake->n_waits, before.n_waits);
    assert_int_equal(fake->n_allocs, before.n_allocs);
    assert_int_equal(folio__alloc_count(), allocated);
    assert_ptr_equal(fake->current, current);
    fake->launch_result = 719;
    assert_int_equal(folio_attend(ctx, plan, &p.args, FAKE_STREAM(0)), FOLIO_EDEVICE);
    assert_says("FAKE_ERROR (719): as told");
    assert_ptr_equal(fake->current, current);
    fake->launch_result = 0;
    folio_plan_destroy(&plan);
    folio_context_destroy(&ctx);
}

static void queries_of_four_dims_are_refused_where_they_are_no_view_of_three(void **state)
{
    (void)state;
    struct problem p;
    folio_context *ctx;
    folio_plan *plan = NULL;
    make(&p);
    assert_int_equal(open_context(&ctx), FOLIO_OK);
    i64 shape[] = { 1, BATCH, HEADS, DIM }, split[] = { BATCH, 2, HEADS, DIM };
    i64 strides[] = { 2 * HEADS * DIM, DIM, 2 * DIM, 1 };
    p.q.ndim = 4;
    p.q.shape = shape;
    assert_int_equal(folio_plan_create(&plan, ctx, &p.args), FOLIO_OK);
    folio_plan_destroy(&plan);
    p.q.shape = split;
    p.q.strides = strides;
    assert_int_equal(folio_plan_create(&plan, ctx, &p.args), FOLIO_ENOTSUP);
    assert_says("q: 4 dims");
    assert_null(plan);
    folio_context_destroy(&ctx);
}

static void quantised_pages_are_refused(void **state)
{
    (void)state;
    struct problem p;
    folio_context *ctx;
    folio_plan *plan = NULL;
    make(&p);
    i64 scale_shape[1] = { KV_HEADS };
    const DLTensor scale = tensor(0x70000000, 1, scale_shape, (DLDataType){ kDLFloat, 32, 1 });
    p.k.dtype = p.v.dtype = (DLDataType){ kDLInt, 8, 1 };
    p.args.k_scale = p.args.v_scale = &scale;
    assert_int_equal(open_context(&ctx), FOLIO_OK);
    assert_int_equal(folio_plan_create(&plan, ctx, &p.args), FOLIO_ENOTSUP);
    assert_null(plan);
    assert_says("not on the CUDA backend");
    assert_int_equal(folio_attend(ctx, NULL, &p.args, NULL), FOLIO_ENOTSUP);
    folio_context_destroy(&ctx);
}

static int start(void **state)
{
    (void)state;
    void *driver = dlopen(FAKE_CUDA_DIR "/libcuda.so.1", RTLD_NOW),
         *symbol = driver ? dlsym(driver, "fake_cuda") : NULL;
    fake_cuda_fn *get;
    if (!symbol || setenv("FOLIO_CUDA_LIB_DIR", FAKE_CUDA_DIR, 1) != 0 ||
        setenv("FOLIO_CACHE_DIR", "/dev/null/none", 1) != 0) /* code in memory only */
        return 1;
    memcpy(&get, &symbol, sizeof get);
    fake = get();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_device_is_refused_and_asked_again),
        cmocka_unit_test(old_devices_are_refused),
        cmocka_unit_test(a_failed_compile_names_its_first_error),
        cmocka_unit_test(no_memory_changes_nothing),
        cmocka_unit_test(streams_of_other_contexts_are_refused),
        cmocka_unit_test(an_attend_is_one_launch_and_nothing_else),
        cmocka_unit_test(queries_of_four_dims_are_refused_where_they_are_no_view_of_three),
        cmocka_unit_test(quantised_pages_are_refused),
    };
    return cmocka_run_group_tests(tests, start, NULL);
}
