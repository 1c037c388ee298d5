/* SPDX-License-Identifier: Apache-2.0
 * check_bad_input.c: what a device finds wrong never faults: the sequence is NaN, the others are exact, the plan
 * says so once. What the host can see is refused at once. */
#include <stdlib.h>
#include <string.h>

#include "case.h"

enum { BAD = 1 }; /* the sequence that goes wrong */

static const struct problem_case base = {
    .batch = 4,
    .group = 4,
    .n_kv_heads = 2,
    .d_qk = 128,
    .d_v = 128,
    .page_size = 16,
    .q_dtype = DTYPE_BF16,
    .page_dtype = DTYPE_BF16,
    .lse = true,
    .ids_are_i64 = true,
    .lens_are_i64 = true,
    .seed = 5,
    .q_lens = { 1, 1, 1, 1 },
    .kv_lens = { 700, 500, 0, 4100 },
};

static void put(struct made_case *m, const struct tensor_spec *t, i64 at, i64 value)
{
    memcpy(m->twin.host + t->offset + (size_t)at * 8, &value, 8);
}

/* Run with one i64 of an index tensor replaced; everybody else must be right and the status must name the place. */
static void check_found(struct rig *rig, const struct problem_case *c, bool in_lens, i64 at, i64 value,
                        const char *names)
{
    struct made_case m;
    bool poisoned[MAX_BATCH] = { [BAD] = true };
    case_make(rig, &m, c);
    case_run_cpu(rig, &m);
    const struct tensor_spec *t = in_lens ? &m.kv_lens : &m.table;
    put(&m, t, at, value);
    folio_plan *plan = NULL;
    u8 *got = malloc(m.twin.bytes);
    MUST(folio_plan_create(&plan, rig->gpu, &m.device_args));
    memset(m.twin.host + m.out.offset, 0xff, m.twin.used - m.out.offset);
    twin_upload(rig, &m.twin);
    MUST(folio_plan_update(plan, &m.device_args, rig->stream));
    MUST(folio_attend(rig->gpu, plan, &m.device_args, rig->stream));
    twin_download(rig, &m.twin, got);
    const folio_status found = folio_plan_status(plan), again = folio_plan_status(plan);
    const struct made_case keep = m; /* the CPU's results came before: make them again, without the damage */
    (void)keep;
    put(&m, t, at, in_lens ? c->kv_lens[BAD] : 0);
    expect(rig, found == FOLIO_ERANGE && strstr(folio_last_error(), names), "%s = %lld: %s", names, (long long)value,
           folio_last_error());
    expect(rig, again == FOLIO_OK, "%s = %lld: reported once", names, (long long)value);
    folio_plan_destroy(&plan);
    /* fresh, good case for the expected values */
    struct made_case good;
    case_make(rig, &good, c);
    case_run_cpu(rig, &good);
    put(&good, in_lens ? &good.kv_lens : &good.table, at, value);
    const char *difference = case_compare(rig, &good, got, poisoned);
    expect(rig, !difference, "%s = %lld: %s", names, (long long)value,
           difference ? difference : "that sequence is NaN, the others exact");
    free(got);
    case_free(rig, &good);
    case_free(rig, &m);
}

static void check_refused(struct rig *rig)
{
    struct made_case m;
    case_make(rig, &m, &base);
    folio_attend_args args = m.device_args;
    args.q = m.host_args.q;
    expect(rig, folio_attend(rig->gpu, NULL, &args, rig->stream) == FOLIO_EINVAL && strstr(folio_last_error(), "q:"),
           "q on the host is refused: %s", folio_last_error());
    args = m.host_args;
    args.k_pages = m.device_args.k_pages;
    expect(rig, folio_attend(rig->cpu, NULL, &args, NULL) == FOLIO_EINVAL,
           "pages on the device are refused by a CPU: %s", folio_last_error());
    DLTensor elsewhere = *m.device_args.v_pages;
    elsewhere.device.device_id = 5;
    args = m.device_args;
    args.v_pages = &elsewhere;
    expect(rig, folio_attend(rig->gpu, NULL, &args, rig->stream) == FOLIO_EINVAL, "another GPU is refused: %s",
           folio_last_error());
    /* lengths on the host are checked at once */
    args = m.device_args;
    args.kv_lens = m.host_args.kv_lens;
    put(&m, &m.kv_lens, 0, -1);
    expect(rig, folio_attend(rig->gpu, NULL, &args, rig->stream) == FOLIO_EINVAL, "kv_len -1 on the host: %s",
           folio_last_error());
    put(&m, &m.kv_lens, 0, 1 << 20);
    expect(rig, folio_attend(rig->gpu, NULL, &args, rig->stream) == FOLIO_ERANGE,
           "kv_len past the table, on the host: %s", folio_last_error());
    case_free(rig, &m);
}

static void check_captured(struct rig *rig)
{
    struct made_case m;
    cu_graph graph = NULL;
    case_make(rig, &m, &base);
    MUST_CU(rig, capture_begin, (rig->stream, CU_CAPTURE_THREAD_LOCAL));
    const folio_status status = folio_attend(rig->gpu, NULL, &m.device_args, rig->stream);
    const char *error = folio_last_error();
    rig->api->capture_end(rig->stream, &graph);
    expect(rig, status == FOLIO_EBUSY && graph, "attend without a plan, while capturing: %s", error);
    if (graph)
        rig->api->graph_destroy(graph);
    case_free(rig, &m);
}

/* The workspace: a caller's own works, too small or crooked is refused. */
static void check_workspace(struct rig *rig)
{
    struct made_case m;
    folio_plan *plan = NULL;
    size_t bytes, align;
    cu_ptr memory;
    case_make(rig, &m, &base);
    u8 *got = malloc(m.twin.bytes);
    MUST(folio_plan_create(&plan, rig->gpu, &m.device_args));
    MUST(folio_plan_update(plan, &m.device_args, rig->stream));
    MUST(folio_plan_workspace(plan, &bytes, &align));
    MUST_CU(rig, mem_alloc, (&memory, bytes + align));
    MUST_CU(rig, set_u32, (memory, 0x7fffffff, bytes / 4, rig->stream));
    folio_attend_args args = m.device_args;
    args.workspace = (void *)(uintptr_t)memory;
    args.workspace_bytes = bytes;
    MUST(folio_attend(rig->gpu, plan, &args, rig->stream));
    twin_download(rig, &m.twin, got);
    case_run_cpu(rig, &m);
    const char *difference = case_compare(rig, &m, got, NULL);
    expect(rig, !difference, "a caller's workspace of %zu bytes: %s", bytes, difference ? difference : "works");
    args.workspace_bytes = bytes - 1;
    expect(rig, folio_attend(rig->gpu, plan, &args, rig->stream) == FOLIO_EINVAL, "one byte less: %s",
           folio_last_error());
    args.workspace = (void *)(uintptr_t)(memory + 1);
    args.workspace_bytes = bytes;
    expect(rig, folio_attend(rig->gpu, plan, &args, rig->stream) == FOLIO_EINVAL, "off by one: %s", folio_last_error());
    folio_plan_destroy(&plan);
    rig->api->mem_free(memory);
    free(got);
    case_free(rig, &m);
}

static void run(struct rig *rig)
{
    const i64 width = (4100 + 15) / 16 + 3, row = BAD * width;
    static const i64 bad_ids[] = { -1, INT64_C(1) << 40, 2147483647, (INT64_C(1) << 32) + 1 };
    for (size_t i = 0; i < COUNT_OF(bad_ids); i++)
        check_found(rig, &base, false, row + 20, bad_ids[i], "page_table[1, 20]");
    struct problem_case window = base;
    window.has_window = true, window.window_left = 40, window.window_right = -1;
    check_found(rig, &window, false, row + 30, -7, "page_table[1, 30]");
    check_found(rig, &base, true, BAD, -1, "kv_lens[1]");
    check_found(rig, &base, true, BAD, 1 << 20, "kv_lens[1]");
    check_found(rig, &base, true, BAD, INT64_C(1) << 32, "kv_lens[1]");
    check_refused(rig);
    check_captured(rig);
    check_workspace(rig);
}

const struct check check_bad_input = { "bad_input", "errors found on the device, refusals on the host", run };
