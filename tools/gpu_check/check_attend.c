/* SPDX-License-Identifier: Apache-2.0
 * check_attend.c: attention on the device agrees with the CPU: edges first, then random cases. Twice from one call
 * each: planned and unplanned runs give the same bits. */
#include <stdlib.h>
#include <string.h>

#include "case.h"

/* Device memory as it is before a run, then run, then read back into got. */
static folio_status run_device(struct rig *rig, struct made_case *m, bool planned, u8 *got)
{
    folio_plan *plan = NULL;
    folio_status status = FOLIO_OK;
    if (planned)
        status = folio_plan_create(&plan, rig->gpu, &m->device_args);
    if (status == FOLIO_OK && planned)
        status = folio_plan_update(plan, &m->device_args, rig->stream);
    if (status == FOLIO_OK)
        status = folio_attend(rig->gpu, plan, &m->device_args, rig->stream);
    if (status == FOLIO_OK)
        twin_download(rig, &m->twin, got);
    if (status == FOLIO_OK && planned)
        status = folio_plan_status(plan);
    folio_plan_destroy(&plan);
    return status;
}

static void check_case(struct rig *rig, const struct problem_case *c)
{
    struct made_case m;
    case_make(rig, &m, c);
    u8 *got = malloc(m.twin.bytes), *again = malloc(m.twin.bytes);
    must(got && again, "host memory");
    const folio_status status = run_device(rig, &m, true, got);
    if (expect(rig, status == FOLIO_OK, "%s: %s", case_text(c), status ? folio_last_error() : "runs")) {
        twin_upload(rig, &m.twin);
        const folio_status second = run_device(rig, &m, false, again);
        expect(rig, second == FOLIO_OK && memcmp(got, again, m.twin.used) == 0, "%s: planned and unplanned: %s",
               case_text(c), second ? folio_last_error() : "the same bits");
        case_run_cpu(rig, &m);
        const char *difference = case_compare(rig, &m, got, NULL);
        expect(rig, !difference, "%s: %s", case_text(c), difference ? difference : "agrees with the CPU");
    }
    free(got);
    free(again);
    case_free(rig, &m);
}

/* One sequence around every boundary of pages, leaves, nodes. */
static void check_lengths(struct rig *rig)
{
    static const i32 lengths[] = { 0,   1,   15,  16,   17,   63,   64,   65,   127,  128,  129,  511,   512,  513,
                                   767, 768, 769, 1024, 2047, 2048, 2049, 4095, 4096, 4097, 8191, 12345, 20000 };
    for (size_t i = 0; i < COUNT_OF(lengths) - (rig->is_small ? 9 : 0); i++) {
        struct problem_case c = case_plain(1, 1);
        c.kv_lens[0] = lengths[i];
        check_case(rig, &c);
        c.q_lens[0] = 5, c.ragged = true, c.causal = FOLIO_CAUSAL_BOTTOM_RIGHT;
        check_case(rig, &c);
    }
}

/* Many sequences: ranges cut everywhere, empty ones among them. */
static void check_batches(struct rig *rig)
{
    u64 seed = 7;
    for (i32 round = 0; round < 6; round++) {
        struct problem_case c = case_plain(1, 1);
        c.batch = (i32)between(&seed, 100, MAX_BATCH);
        c.n_kv_heads = round % 2 ? 8 : 1;
        c.d_qk = c.d_v = round % 3 ? 64 : 128;
        for (i32 b = 0; b < c.batch; b++) {
            c.q_lens[b] = 1;
            c.kv_lens[b] = below(&seed, 4) ? (i32)below(&seed, 400) : b % 5 ? 0 : (i32)below(&seed, 6000);
        }
        check_case(rig, &c);
    }
}

static void check_prefill(struct rig *rig)
{
    static const i32 rows[] = { 17, 64, 65, 200, 333 };
    for (size_t i = 0; i < COUNT_OF(rows); i++)
        for (i32 causal = 0; causal < 3; causal++) {
            struct problem_case c = case_plain(1, 1);
            c.ragged = true, c.batch = 2, c.causal = causal;
            c.q_lens[0] = rows[i], c.kv_lens[0] = rows[i] + (i32)i * 100;
            c.q_lens[1] = 3, c.kv_lens[1] = 1000;
            c.has_window = i == 3, c.window_left = 100, c.window_right = -1;
            check_case(rig, &c);
        }
}

/* Packed rows around every number of tiles of 32 that are at work at the same time, with mates of half as many queries,
 * of one and of none. */
static void check_packed(struct rig *rig)
{
    static const i32 groups[] = { 8, 31, 4, 3, 8, 9, 8, 5, 4, 8, 16, 43 },
                     rows[] = { 2, 1, 8, 11, 6, 7, 8, 13, 25, 16, 9, 3 };
    for (size_t i = 0; i < COUNT_OF(groups); i += rig->is_small ? 3 : 1) {
        struct problem_case c = case_plain(1, 1);
        c.group = groups[i], c.ragged = true, c.batch = 6, c.seed = i;
        c.page_size = i % 3 == 1 ? 9 : 16;
        c.causal = i % 4 == 3 ? FOLIO_CAUSAL_NONE : FOLIO_CAUSAL_BOTTOM_RIGHT;
        c.softcap = i % 5 == 4 ? 20 : 0;
        for (i32 b = 0; b < c.batch; b++) {
            static const i32 lengths[] = { 400, 2100, 0, 129, 5000, 600 };
            c.q_lens[b] = b == 2 ? 0 : b % 2 ? rows[i] : b == 4 ? (rows[i] + 1) / 2 : 1;
            c.kv_lens[b] = rig->is_small ? lengths[b] % 700 : lengths[b];
        }
        check_case(rig, &c);
    }
}

/* Scales of any sign, and 0, with rows enough for every kernel. */
static void check_scales(struct rig *rig)
{
    static const double scales[] = { -0.2, 0.0 };
    static const i32 groups[] = { 4, 40 };
    for (i32 i = 0; i < 4; i++) {
        struct problem_case c = case_plain(3, 700 + (u64)i);
        c.group = groups[i / 2];
        c.has_scale = true;
        c.scale = scales[i % 2];
        c.causal = FOLIO_CAUSAL_BOTTOM_RIGHT;
        for (i32 b = 0; b < c.batch; b++)
            c.kv_lens[b] = 70 + 90 * b;
        check_case(rig, &c);
    }
}

static void run(struct rig *rig)
{
    check_lengths(rig);
    check_scales(rig);
    check_packed(rig);
    if (!rig->is_small) {
        check_batches(rig);
        check_prefill(rig);
    }
    const i32 n = rig->is_small ? 40 : rig->n_cases;
    for (i32 i = 0; i < n; i++) {
        const struct problem_case c = case_random(rig->seed + (u64)i, rig->is_small ? 0 : i % 8 == 0 ? 2 : i % 2);
        check_case(rig, &c);
    }
}

const struct check check_attend = { "attend", "attention against the CPU, edges and random cases", run };

/* Three sequences of few keys and many cuts; i varies pages and inputs. */
static void check_few(struct rig *rig, i32 i, i32 page_size, i32 group, i32 dim, double softcap)
{
    struct problem_case c = case_plain(1, 1);
    c.seed = (u64)i;
    c.group = group;
    c.page_size = page_size;
    c.batch = 3;
    c.causal = FOLIO_CAUSAL_BOTTOM_RIGHT;
    c.d_qk = c.d_v = dim;
    c.softcap = softcap;
    for (i32 b = 0; b < c.batch; b++)
        c.q_lens[b] = 1, c.kv_lens[b] = 90 + 700 * b;
    check_case(rig, &c);
}

/* Through the loader that a checker of shared memory understands: what fine boxes do not pay for. */
static void run_gather(struct rig *rig)
{
    for (i32 i = 0; i < (rig->is_small ? 1 : 4); i++) {
        const double softcap = i % 2 ? 20 : 0;
        check_few(rig, i, 1, i / 2 ? 16 : 4, 64, softcap);
        check_few(rig, i, 1, 32, i / 2 ? 64 : 128, softcap);
        check_few(rig, i, 1 + i % 5, i / 2 ? 16 : 4, 256, softcap);
    }
}

const struct check check_by_copies = { "gather", "attention through 16-byte copies, small", run_gather };

/* By the kernel whose threads meet at __syncthreads alone. */
static void run_generic(struct rig *rig)
{
    static const i32 groups[] = { 1, 5, 16 };
    for (i32 i = 0; i < (rig->is_small ? 6 : 12); i++)
        check_few(rig, i, 1 + i % 5, groups[i % 3], i / 3 % 2 ? 33 : 80, 0);
}

const struct check check_generic = { "generic", "attention by the generic kernel, small", run_generic };
