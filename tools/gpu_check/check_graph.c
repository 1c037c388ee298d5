/* SPDX-License-Identifier: Apache-2.0
 * check_graph.c: 200 steps of decoding from one captured graph (append, update, attend), with new tokens, lengths and
 * tables in the same buffers, against the CPU step by step. */
#include <stdlib.h>
#include <string.h>

#include "case.h"

enum { BATCH = 5, HEADS = 2, GROUP = 4, DIM = 64, PAGE = 16, WIDTH = 24, POOL = BATCH * WIDTH };

struct steps {
    struct twin twin;
    struct tensor_spec q, k, v, k_pages, v_pages, table, kv_lens, slots, out, lse;
    DLTensor host[10], device[10];
    folio_attend_args attend[2];
    folio_append_args append[2];
};

static void make(struct rig *rig, struct steps *s)
{
    s->twin = twin_create(rig, 8u << 20);
    const i64 pool[] = { POOL, PAGE, HEADS, DIM }, rows[] = { BATCH, HEADS, DIM };
    const i64 q_rows[] = { BATCH, HEADS * GROUP, DIM }, table[] = { BATCH, WIDTH }, batch = BATCH;
    const enum dtype dtype = DTYPE_BF16;
    s->q = compact(&s->twin, dtype, 3, q_rows);
    s->k = compact(&s->twin, dtype, 3, rows);
    s->v = compact(&s->twin, dtype, 3, rows);
    s->k_pages = compact(&s->twin, dtype, 4, pool);
    s->v_pages = compact(&s->twin, dtype, 4, pool);
    s->table = compact(&s->twin, DTYPE_I32, 2, table);
    s->kv_lens = compact(&s->twin, DTYPE_I32, 1, &batch);
    s->slots = compact(&s->twin, DTYPE_I64, 1, &batch);
    s->out = compact(&s->twin, dtype, 3, q_rows);
    s->lse = compact(&s->twin, DTYPE_F32, 2, q_rows);
    const struct tensor_spec *const specs[] = { &s->q,     &s->k,       &s->v,     &s->k_pages, &s->v_pages,
                                                &s->table, &s->kv_lens, &s->slots, &s->out,     &s->lse };
    for (i32 side = 0; side < 2; side++) {
        DLTensor *t = side ? s->device : s->host;
        for (i32 i = 0; i < 10; i++)
            t[i] = side ? on_device(specs[i], &s->twin) : on_host(specs[i], &s->twin);
        s->attend[side] = (folio_attend_args){ .struct_size = sizeof(folio_attend_args),
                                               .q = &t[0],
                                               .k_pages = &t[3],
                                               .v_pages = &t[4],
                                               .page_table = &t[5],
                                               .kv_lens = &t[6],
                                               .out = &t[8],
                                               .lse = &t[9] };
        s->append[side] = (folio_append_args){ .struct_size = sizeof(folio_append_args),
                                               .k = &t[1],
                                               .v = &t[2],
                                               .k_pages = &t[3],
                                               .v_pages = &t[4],
                                               .slots = &t[7] };
    }
}

/* The inputs of a step, on the host; some sequences pause, one starts over. */
static void next_step(struct steps *s, i32 step, i32 *lens, const i32 *deck, u64 *seed)
{
    u8 *base = s->twin.host;
    for (i32 b = 0; b < BATCH; b++) {
        i64 slot = -1;
        if (b == 3 && step % 50 == 49)
            lens[b] = 0;
        if (b != 2 || step % 3) {
            const i32 at = lens[b]++;
            slot = (i64)deck[b * WIDTH + at / PAGE] * PAGE + at % PAGE;
        }
        memcpy(base + s->slots.offset + (size_t)b * 8, &slot, 8);
        memcpy(base + s->kv_lens.offset + (size_t)b * 4, &lens[b], 4);
        for (i32 i = 0; i < WIDTH; i++) {
            const i32 id = i < (lens[b] + PAGE - 1) / PAGE ? deck[b * WIDTH + i] : 2147480000;
            memcpy(base + s->table.offset + (size_t)(b * WIDTH + i) * 4, &id, 4);
        }
    }
    for (i64 i = 0; i < BATCH * HEADS * GROUP * DIM; i++)
        folio__store_float(DTYPE_BF16, base + s->q.offset + (size_t)i * 2, normal(seed));
    for (i64 i = 0; i < BATCH * HEADS * DIM; i++) {
        folio__store_float(DTYPE_BF16, base + s->k.offset + (size_t)i * 2, normal(seed));
        folio__store_float(DTYPE_BF16, base + s->v.offset + (size_t)i * 2, normal(seed));
    }
}

static cu_graph_exec capture(struct rig *rig, struct steps *s, folio_plan *plan)
{
    cu_graph graph;
    cu_graph_exec exec;
    MUST_CU(rig, capture_begin, (rig->stream, CU_CAPTURE_THREAD_LOCAL));
    MUST(folio_pages_append(rig->gpu, &s->append[1], rig->stream));
    MUST(folio_plan_update(plan, &s->attend[1], rig->stream));
    MUST(folio_attend(rig->gpu, plan, &s->attend[1], rig->stream));
    MUST_CU(rig, capture_end, (rig->stream, &graph));
    MUST_CU(rig, graph_instantiate, (&exec, graph, 0));
    MUST_CU(rig, graph_destroy, (graph));
    return exec;
}

static void run(struct rig *rig)
{
    struct steps s;
    u64 seed = 11;
    i32 lens[BATCH] = { 0, 17, 100, 3, 160 }, deck[POOL];
    make(rig, &s);
    for (i32 i = 0; i < POOL; i++)
        deck[i] = (i * 37) % POOL; /* 37 and 120 share no factor: a permutation */
    u8 *pages[] = { s.twin.host + s.k_pages.offset, s.twin.host + s.v_pages.offset };
    for (i32 side = 0; side < 2; side++)
        for (i32 b = 0; b < BATCH; b++)
            for (i64 i = 0; i < lens[b] * HEADS * DIM; i++)
                folio__store_float(DTYPE_BF16,
                                   pages[side] + ((i64)deck[b * WIDTH + i / (PAGE * HEADS * DIM)] * PAGE * HEADS * DIM +
                                                  i % (PAGE * HEADS * DIM)) *
                                                     2,
                                   normal(&seed));
    next_step(&s, 0, lens, deck, &seed);
    twin_upload(rig, &s.twin);
    folio_plan *plan = NULL;
    MUST(folio_plan_create(&plan, rig->gpu, &s.attend[1]));
    MUST(folio_pages_append(rig->gpu, &s.append[1], rig->stream)); /* loads what append needs, before the capture */
    cu_graph_exec exec = capture(rig, &s, plan);
    u8 *got = malloc(s.twin.bytes);
    i32 n_good = 0, n_steps = rig->is_small ? 20 : 200;
    double worst = 0;
    for (i32 step = 0; step < n_steps; step++) {
        if (step > 0)
            next_step(&s, step, lens, deck, &seed);
        twin_upload(rig, &s.twin);
        MUST_CU(rig, graph_launch, (exec, rig->stream));
        twin_download(rig, &s.twin, got);
        MUST(folio_pages_append(rig->cpu, &s.append[0], NULL));
        MUST(folio_attend(rig->cpu, NULL, &s.attend[0], NULL));
        double error = 0, norm = 0;
        for (i64 i = 0; i < BATCH * HEADS * GROUP * DIM; i++) {
            const double want = folio__load_float(DTYPE_BF16, s.twin.host + s.out.offset + (size_t)i * 2);
            const double have = folio__load_float(DTYPE_BF16, got + s.out.offset + (size_t)i * 2);
            error += (want - have) * (want - have);
            norm += want * want;
        }
        const bool same_pages =
            memcmp(got + s.k_pages.offset, s.twin.host + s.k_pages.offset, s.table.offset - s.k_pages.offset) == 0;
        n_good += error <= 1e-4 * norm && same_pages;
        worst = error > worst * norm ? error / norm : worst;
    }
    expect(rig, n_good == n_steps, "%d of %d steps of a captured graph agree with the CPU (largest error^2 %g)", n_good,
           n_steps, worst);
    expect(rig, folio_plan_status(plan) == FOLIO_OK, "the plan found no errors: %s", folio_last_error());
    rig->api->graph_exec_destroy(exec);
    folio_plan_destroy(&plan);
    free(got);
    twin_destroy(rig, &s.twin);
}

const struct check check_graph = { "graph", "200 decode steps from one captured graph against the CPU", run };
