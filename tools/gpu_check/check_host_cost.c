/* SPDX-License-Identifier: Apache-2.0
 * check_host_cost.c: what an attend costs the host: no allocation, no synchronisation (it can be captured); and how
 * long the first use of a kernel takes. Times are printed, not judged. */
#include <stdio.h>
#include <time.h>

#include "base/alloc.h"
#include "case.h"

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec * 1e-3;
}

static void run(struct rig *rig)
{
    struct problem_case c = { .batch = 8,
                              .group = 4,
                              .n_kv_heads = 8,
                              .d_qk = 128,
                              .d_v = 128,
                              .page_size = 16,
                              .q_dtype = DTYPE_BF16,
                              .page_dtype = DTYPE_BF16,
                              .lse = false,
                              .seed = 3 };
    for (i32 b = 0; b < c.batch; b++)
        c.q_lens[b] = 1, c.kv_lens[b] = 64;
    struct made_case m;
    folio_plan *plan = NULL;
    enum { CALLS = 2000 };
    case_make(rig, &m, &c);
    MUST(folio_plan_create(&plan, rig->gpu, &m.device_args));
    MUST(folio_plan_update(plan, &m.device_args, rig->stream));
    MUST(folio_attend(rig->gpu, plan, &m.device_args, rig->stream));
    MUST_CU(rig, stream_synchronize, (rig->stream));
    const i64 allocated = folio__alloc_count();
    double attend = 1e9, update = 1e9;
    for (i32 round = 0; round < 4; round++) { /* short of the launch queue's depth, so that launches never wait */
        double begin = now();
        for (i32 i = 0; i < CALLS / 8; i++)
            MUST(folio_attend(rig->gpu, plan, &m.device_args, rig->stream));
        const double each = (now() - begin) / (CALLS / 8);
        MUST_CU(rig, stream_synchronize, (rig->stream));
        begin = now();
        for (i32 i = 0; i < CALLS / 8; i++)
            MUST(folio_plan_update(plan, &m.device_args, rig->stream));
        const double each_update = (now() - begin) / (CALLS / 8);
        MUST_CU(rig, stream_synchronize, (rig->stream));
        attend = each < attend ? each : attend;
        update = each_update < update ? each_update : update;
    }
    cu_event begin, end;
    float ms = 0;
    MUST_CU(rig, event_create, (&begin, 0));
    MUST_CU(rig, event_create, (&end, 0));
    MUST_CU(rig, event_record, (begin, rig->stream));
    for (i32 i = 0; i < 200; i++)
        MUST(folio_plan_update(plan, &m.device_args, rig->stream));
    MUST_CU(rig, event_record, (end, rig->stream));
    MUST_CU(rig, stream_synchronize, (rig->stream));
    MUST_CU(rig, event_elapsed, (&ms, begin, end));
    printf("  device %.2f us a folio_plan_update, one after another\n", (double)ms * 1e3 / 200);
    rig->api->event_destroy(begin);
    rig->api->event_destroy(end);
    expect(rig, folio__alloc_count() == allocated, "attend and update allocate nothing on the host");
    printf("  host  %.2f us a folio_attend, %.2f us a folio_plan_update\n", attend, update);
    folio_plan_destroy(&plan);
    case_free(rig, &m);
}

const struct check check_host_cost = { "host_cost", "allocations and time of a call on the host", run };
