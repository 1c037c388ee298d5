/* SPDX-License-Identifier: Apache-2.0
 * check_stress.c: kernels compiled with random delays before their waits and arrivals (stress.cuh) give the bits of the
 * plain ones: no result depends on who comes first. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "case.h"
#include "kernel/cuda/cubins.h"
#include "run/folio_plan.h"
#include "run/plan_cuda.h"

static struct {
    cu_library library;
    cu_function function;
} stressed[CUDA_N_CONFIGS];

/* A class's kernel with delays; compiled at its first use. */
static cu_function stressed_function(struct rig *rig, const struct cuda_device *d, i32 config)
{
    const char *options[CUDA_MAX_OPTIONS];
    char arch[32];
    struct nvrtc_job job = { .file = folio__cuda_configs[config].file,
                             .options = options,
                             .max_major = rig->api->version / 1000 };
    struct nvrtc_result result;
    cu_kernel kernel;
    i32 fixed = 0;
    if (stressed[config].function)
        return stressed[config].function;
    folio__cubin_options(options, &job.n_options, arch, config, d->arch, false);
    must(job.n_options < CUDA_MAX_OPTIONS, "room for an option");
    options[job.n_options++] = "-DCONFIG_STRESS=1";
    MUST(folio__nvrtc_compile(&result, &job, NULL));
    MUST_CU(rig, library_load, (&stressed[config].library, result.cubin, NULL, NULL, 0, NULL, NULL, 0));
    folio__nvrtc_free(&result);
    MUST_CU(rig, library_kernel, (&kernel, stressed[config].library, folio__cuda_configs[config].symbols[0]));
    MUST_CU(rig, kernel_function, (&stressed[config].function, kernel));
    MUST_CU(rig, function_get, (&fixed, CU_FUNCTION_STATIC_SHARED, stressed[config].function));
    MUST_CU(rig, function_set, (stressed[config].function, CU_FUNCTION_DYNAMIC_SHARED, d->shared_optin - fixed));
    return stressed[config].function;
}

static void check_case(struct rig *rig, const struct problem_case *c, const char *kernel)
{
    enum { ROUNDS = 4 };
    struct made_case m;
    folio_plan *plan = NULL;
    case_make(rig, &m, c);
    u8 *plain = malloc(m.twin.bytes), *got = malloc(m.twin.bytes);
    must(plain && got, "host memory");
    MUST(folio_plan_create(&plan, rig->gpu, &m.device_args));
    MUST(folio_plan_update(plan, &m.device_args, rig->stream));
    MUST(folio_attend(rig->gpu, plan, &m.device_args, rig->stream));
    twin_download(rig, &m.twin, plain);
    struct cuda_plan *inner = plan->backend_data;
    const char *name = folio__cuda_plan_kernel(inner);
    i32 n_same = 0;
    for (i32 i = 0; i < inner->n_classes; i++)
        inner->classes[i].function = stressed_function(rig, inner->device, inner->classes[i].config);
    for (i32 round = 0; round < ROUNDS; round++) {
        twin_upload(rig, &m.twin);
        MUST(folio_attend(rig->gpu, plan, &m.device_args, rig->stream));
        twin_download(rig, &m.twin, got);
        n_same += memcmp(plain, got, m.twin.used) == 0;
    }
    expect(rig, strstr(name, kernel) != NULL, "%s: runs %s, wanted %s", case_text(c), name, kernel);
    expect(rig, n_same == ROUNDS, "%s: %s: %d of %d runs with delays give the plain bits", case_text(c), name, n_same,
           ROUNDS);
    folio_plan_destroy(&plan);
    free(plain);
    free(got);
    case_free(rig, &m);
}

/* Batches that are cut everywhere, so that all kinds of arrivals happen. */
static struct problem_case cut_batch(u64 seed, i32 batch, i32 most)
{
    struct problem_case c = case_plain(batch, seed);
    c.causal = FOLIO_CAUSAL_BOTTOM_RIGHT;
    for (i32 b = 0; b < batch; b++)
        c.kv_lens[b] = below(&seed, 4) ? (i32)below(&seed, most) : (i32)below(&seed, 9 * most);
    return c;
}

static void run(struct rig *rig)
{
    for (u64 i = 0; i < (rig->is_small ? 1 : 2); i++) {
        const i32 batch = i % 2 ? 9 : 40, most = i % 2 ? 6000 : 1000;
        struct problem_case c = cut_batch(i, batch, most);
        check_case(rig, &c, "rows=8 boxes");
        c.group = 16;
        check_case(rig, &c, "rows=16 boxes");
        c.ragged = true;
        for (i32 b = 0; b < batch; b++)
            c.q_lens[b] = 1 + b % 3;
        check_case(rig, &c, "rows=16 boxes, wide bf16 d=128/128 boxes");
        c.page_size = 9, c.softcap = 20;
        check_case(rig, &c, "rows=16 fine full, wide bf16 d=128/128 gather full");
        c.page_size = 16, c.softcap = 0;
        c.d_qk = 192;
        check_case(rig, &c, "rows=32 boxes");
        c = cut_batch(i + 10, batch, most);
        c.page_size = 9;
        check_case(rig, &c, "rows=8 fine");
        c.softcap = 20, c.alibi = true;
        check_case(rig, &c, "rows=8 fine full");
        c = cut_batch(i + 20, batch, most);
        c.d_qk = c.d_v = 256, c.q_dtype = c.page_dtype = DTYPE_F16;
        check_case(rig, &c, "f16 d=256/256 rows=8 boxes");
        c.page_size = 1;
        check_case(rig, &c, "f16 d=256/256 rows=8 gather");
        c.page_size = 16;
        c.d_qk = c.d_v = 80;
        check_case(rig, &c, "generic");
    }
    for (i32 i = 0; i < CUDA_N_CONFIGS; i++)
        if (stressed[i].library) {
            rig->api->library_unload(stressed[i].library);
            stressed[i].function = NULL;
            stressed[i].library = NULL;
        }
}

const struct check check_stress = { "stress", "kernels with random delays give the same bits", run };
