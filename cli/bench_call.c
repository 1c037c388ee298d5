/* SPDX-License-Identifier: Apache-2.0
 * bench_call.c: what a call costs beside its work: the smallest problem there is. */
#include <stdio.h>

#include "bench.h"
#include "tensor.h"

enum { CALLS = 200, DIM = 8 };

struct call_bench {
    folio_context *ctx;
    folio_plan *plan;
    struct tensor q, k_pages, v_pages, table, kv_lens, out, k, v, slots;
    folio_attend_args attend;
    folio_append_args append;
    float q_data[DIM], k_data[DIM], v_data[DIM], out_data[DIM], pages[2][DIM];
    i32 table_data[1];
    i64 lens_data[1], slot_data[1];
};

const char *const bench_call_operations[] = { "attend, plan reused", "attend without a plan", "plan update",
                                              "append a token", NULL };

static bool attend(void *arg, i64 repetition)
{
    struct call_bench *b = arg;
    (void)repetition;
    bool ok = true;
    for (i64 i = 0; ok && i < CALLS; i++)
        ok = !folio_attend(b->ctx, b->plan, &b->attend, NULL);
    return ok;
}

static bool attend_alone(void *arg, i64 repetition)
{
    struct call_bench *b = arg;
    (void)repetition;
    bool ok = true;
    for (i64 i = 0; ok && i < CALLS; i++)
        ok = !folio_attend(b->ctx, NULL, &b->attend, NULL);
    return ok;
}

static bool update(void *arg, i64 repetition)
{
    struct call_bench *b = arg;
    (void)repetition;
    bool ok = true;
    for (i64 i = 0; ok && i < CALLS; i++)
        ok = !folio_plan_update(b->plan, &b->attend, NULL);
    return ok;
}

static bool append(void *arg, i64 repetition)
{
    struct call_bench *b = arg;
    (void)repetition;
    bool ok = true;
    for (i64 i = 0; ok && i < CALLS; i++)
        ok = !folio_pages_append(b->ctx, &b->append, NULL);
    return ok;
}

static void make_args(struct call_bench *b)
{
    const DLDataType f32 = type_of_element(ELEMENT_F32);
    const i64 row[3] = { 1, 1, DIM }, pages[4] = { 1, 1, 1, DIM }, one[2] = { 1, 1 };
    tensor_init(&b->q, b->q_data, f32, 3, row);
    tensor_init(&b->k, b->k_data, f32, 3, row);
    tensor_init(&b->v, b->v_data, f32, 3, row);
    tensor_init(&b->out, b->out_data, f32, 3, row);
    tensor_init(&b->k_pages, b->pages[0], f32, 4, pages);
    tensor_init(&b->v_pages, b->pages[1], f32, 4, pages);
    tensor_init(&b->table, b->table_data, type_of_ints(32), 2, one);
    tensor_init(&b->kv_lens, b->lens_data, type_of_ints(64), 1, one);
    tensor_init(&b->slots, b->slot_data, type_of_ints(64), 1, one);
    b->lens_data[0] = 1;
    b->attend = (folio_attend_args){ .struct_size = sizeof(b->attend),
                                     .q = &b->q.dl,
                                     .k_pages = &b->k_pages.dl,
                                     .v_pages = &b->v_pages.dl,
                                     .page_table = &b->table.dl,
                                     .kv_lens = &b->kv_lens.dl,
                                     .out = &b->out.dl };
    b->append = (folio_append_args){ .struct_size = sizeof(b->append),
                                     .k = &b->k.dl,
                                     .v = &b->v.dl,
                                     .k_pages = &b->k_pages.dl,
                                     .v_pages = &b->v_pages.dl,
                                     .slots = &b->slots.dl };
}

bool bench_call(const struct bench *bench, struct bench_row *row, char *error, size_t n)
{
    static bench_body *const bodies[] = { attend, attend_alone, update, append };
    i64 which = 0;
    while (bench_call_operations[which] != row->c.what)
        which++;
    struct call_bench b = { .ctx = bench->ctx };
    make_args(&b);
    const bool ok = !folio_plan_create(&b.plan, b.ctx, &b.attend) && !folio_plan_update(b.plan, &b.attend, NULL) &&
                    bench_time(bench, row, bodies[which], &b, CALLS);
    if (!ok)
        snprintf(error, n, "%s", folio_last_error());
    folio_plan_destroy(&b.plan);
    return ok;
}
