/* SPDX-License-Identifier: Apache-2.0
 * check_contexts.c: two CUDA contexts on one device, streams of the wrong one, FOLIO_CHECK=1, no memory for a plan,
 * quantised pages: refused with a reason, and nothing has changed. */
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

#include "case.h"

/* What only this check needs of the driver. */
struct more {
    cu_result (*context_create)(cu_context *context, u32 flags, cu_device device);
    cu_result (*context_destroy)(cu_context context);
    cu_result (*memory_info)(size_t *unused, size_t *all);
};

static bool find_more(struct more *more)
{
    static const char *const names[] = { "cuCtxCreate_v2", "cuCtxDestroy_v2", "cuMemGetInfo_v2" };
    void *addresses[3], *driver = dlopen("libcuda.so.1", RTLD_NOW);
    for (i32 i = 0; i < 3; i++)
        if (!driver || !(addresses[i] = dlsym(driver, names[i])))
            return false;
    memcpy(more, addresses, sizeof addresses);
    return true;
}

static const struct problem_case plain = {
    .batch = 3,
    .group = 4,
    .n_kv_heads = 2,
    .d_qk = 128,
    .d_v = 128,
    .page_size = 16,
    .q_dtype = DTYPE_BF16,
    .page_dtype = DTYPE_BF16,
    .lse = true,
    .seed = 21,
    .q_lens = { 1, 1, 1 },
    .kv_lens = { 300, 70, 1000 },
};

static void check_agrees(struct rig *rig, const char *what)
{
    struct made_case m;
    case_make(rig, &m, &plain);
    u8 *got = malloc(m.twin.bytes);
    const folio_status status = folio_attend(rig->gpu, NULL, &m.device_args, rig->stream);
    if (expect(rig, status == FOLIO_OK, "%s: %s", what, status ? folio_last_error() : "runs")) {
        twin_download(rig, &m.twin, got);
        case_run_cpu(rig, &m);
        const char *difference = case_compare(rig, &m, got, NULL);
        expect(rig, !difference, "%s: %s", what, difference ? difference : "agrees with the CPU");
    }
    free(got);
    case_free(rig, &m);
}

/* Every door that takes a stream. */
static void check_streams(struct rig *rig, cu_stream other)
{
    struct made_case m;
    folio_plan *plan = NULL;
    case_make(rig, &m, &plain);
    u8 *before = malloc(m.twin.bytes), *after = malloc(m.twin.bytes);
    twin_download(rig, &m.twin, before);
    MUST(folio_plan_create(&plan, rig->gpu, &m.device_args));
    expect(rig,
           folio_attend(rig->gpu, NULL, &m.device_args, other) == FOLIO_EINVAL && strstr(folio_last_error(), "stream"),
           "attend on a stream of another context: %s", folio_last_error());
    expect(rig, folio_attend(rig->gpu, plan, &m.device_args, other) == FOLIO_EINVAL, "attend with a plan, likewise: %s",
           folio_last_error());
    expect(rig, folio_plan_update(plan, &m.device_args, other) == FOLIO_EINVAL, "plan_update, likewise: %s",
           folio_last_error());
    twin_download(rig, &m.twin, after);
    expect(rig, memcmp(before, after, m.twin.used) == 0, "refused streams: nothing was written");
    folio_plan_destroy(&plan);
    free(before);
    free(after);
    case_free(rig, &m);
}

/* FOLIO_CHECK=1: the call itself says what its kernels found. */
static void check_at_once(struct rig *rig)
{
    struct made_case m;
    case_make(rig, &m, &plain);
    const i32 bad = -5;
    memcpy(m.twin.host + m.table.offset, &bad, sizeof bad);
    twin_upload(rig, &m.twin);
    const folio_status first = folio_attend(rig->gpu, NULL, &m.device_args, rig->stream);
    expect(rig, first == FOLIO_ERANGE && strstr(folio_last_error(), "page_table[0, 0]"),
           "FOLIO_CHECK=1, a bad page id: the same call says: %s", folio_last_error());
    case_free(rig, &m);
    check_agrees(rig, "FOLIO_CHECK=1, the next call");
}

/* A plan whose slots would need more than any device has: the table alone says so, nobody reads it. */
static void check_no_memory(struct rig *rig, const struct more *more)
{
    struct made_case m;
    enum { BATCH = 64 };
    struct problem_case c = plain;
    c.batch = BATCH;
    c.n_kv_heads = 8, c.group = 16;
    for (i32 b = 0; b < BATCH; b++)
        c.q_lens[b] = 1, c.kv_lens[b] = 1;
    case_make(rig, &m, &c);
    const i64 shape[2] = { BATCH, ((i64)1 << 27) - 8192 }, strides[2] = { 0, 1 };
    DLTensor table = *m.device_args.page_table;
    table.shape = (i64 *)(uintptr_t)shape, table.strides = (i64 *)(uintptr_t)strides;
    folio_attend_args args = m.device_args;
    args.page_table = &table;
    folio_plan *plan = NULL, *good = NULL;
    MUST(folio_plan_create(&good, rig->gpu, &m.device_args)); /* kernels are loaded, given up memory is back */
    size_t before = 0, after = 0, all = 0;
    more->memory_info(&before, &all);
    const folio_status status = folio_plan_create(&plan, rig->gpu, &args);
    more->memory_info(&after, &all);
    expect(rig, status == FOLIO_ENOMEM && !plan && strstr(folio_last_error(), "bytes for a plan"),
           "a plan beyond the device's memory: status %d: %s", (int)status, folio_last_error());
    /* more: what earlier plans gave up may come back only now */
    expect(rig, after >= before, "no memory for a plan: %zu bytes are unused before and %zu after", before, after);
    folio_plan_destroy(&plan);
    folio_plan_destroy(&good);
    case_free(rig, &m);
    check_agrees(rig, "after a plan without memory");
}

/* Bytes with scales: a host backend's; here a clear no, from attend, plans and append. */
static void check_quantised(struct rig *rig)
{
    struct made_case m;
    case_make(rig, &m, &plain);
    const i64 scale_shape[3] = { m.n_pages, 1, plain.n_kv_heads };
    struct tensor_spec scales = { .ndim = 3, .dtype = DTYPE_F32, .offset = m.out.offset };
    memcpy(scales.shape, scale_shape, sizeof scale_shape);
    scales.strides[0] = plain.n_kv_heads, scales.strides[1] = plain.n_kv_heads, scales.strides[2] = 1;
    const DLTensor scale = on_device(&scales, &m.twin);
    static const DLDataType types[] = { { kDLInt, 8, 1 }, { kDLFloat8_e4m3fn, 8, 1 }, { kDLFloat8_e5m2, 8, 1 } };
    for (size_t i = 0; i < COUNT_OF(types); i++) {
        DLTensor k = *m.device_args.k_pages, v = *m.device_args.v_pages;
        k.dtype = v.dtype = types[i];
        folio_attend_args args = m.device_args;
        args.k_pages = &k, args.v_pages = &v;
        for (i32 scaled = 0; scaled < 2; scaled++) {
            folio_plan *plan = NULL;
            args.k_scale = args.v_scale = scaled ? &scale : NULL;
            const folio_status attended = folio_attend(rig->gpu, NULL, &args, rig->stream);
            const folio_status planned = folio_plan_create(&plan, rig->gpu, &args);
            const bool may_be_einval = !scaled; /* int8 without scales is wrong anywhere */
            expect(rig,
                   (attended == FOLIO_ENOTSUP || (may_be_einval && attended == FOLIO_EINVAL)) && planned == attended &&
                       !plan,
                   "pages of one byte, type %d%s: status %d, %d: %s", (int)types[i].code, scaled ? ", scales" : "",
                   (int)attended, (int)planned, folio_last_error());
            folio_plan_destroy(&plan);
        }
    }
    case_free(rig, &m);
}

static void run(struct rig *rig)
{
    struct more more;
    struct rig second = { .api = rig->api, .cpu = rig->cpu, .seed = rig->seed, .is_verbose = rig->is_verbose };
    cu_context here, other, now, popped;
    cu_device device;
    check_quantised(rig);
    if (!find_more(&more)) {
        expect(rig, false, "libcuda.so.1 has no cuCtxCreate_v2, cuCtxDestroy_v2, cuMemGetInfo_v2");
        return;
    }
    check_no_memory(rig, &more);
    MUST_CU(rig, device_get, (&device, 0));
    MUST_CU(rig, context_current, (&here));
    must(more.context_create(&other, 0, device) == CU_SUCCESS, "a second context"); /* and current from here on */
    MUST_CU(rig, stream_create, (&second.stream, 1));
    setenv("FOLIO_CHECK", "1", 1);
    const folio_context_config cfg = { .struct_size = sizeof cfg,
                                       .backend = FOLIO_BACKEND_CUDA,
                                       .cuda_context = other };
    MUST(folio_context_create(&second.gpu, &cfg));
    unsetenv("FOLIO_CHECK");
    check_agrees(&second, "a second context on the device");
    check_at_once(&second);
    MUST_CU(rig, context_pop, (&popped));
    MUST_CU(rig, context_current, (&now));
    expect(rig, now == here, "the first context is current again");
    check_streams(rig, second.stream);
    check_agrees(rig, "the first context beside the second");
    MUST_CU(rig, context_push, (other));
    struct made_case m;
    case_make(&second, &m, &plain);
    MUST_CU(rig, context_pop, (&popped));
    expect(rig, folio_attend(second.gpu, NULL, &m.device_args, second.stream) == FOLIO_OK,
           "the second while the first is current: %s", folio_last_error());
    MUST_CU(rig, context_current, (&now));
    expect(rig, now == here, "the caller's context is current after a call on another");
    MUST_CU(rig, context_push, (other));
    case_free(&second, &m);
    rig->api->stream_destroy(second.stream);
    folio_context_destroy(&second.gpu);
    MUST_CU(rig, context_pop, (&popped));
    more.context_destroy(other);
    rig->n_passed += second.n_passed;
    rig->n_failed += second.n_failed;
    check_agrees(rig, "the first context after the second has gone");
}

const struct check check_contexts = { "contexts", "contexts, streams, memory and pages that are refused", run };
