/* SPDX-License-Identifier: Apache-2.0
 * check_moves.c: the kernels that move rows and that fold partial results, against ref. */
#include "check_moves.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pagepool.h"

enum { N_TOKENS = 70, N_PAGES = 12, PAGE_SIZE = 7, N_PARTS = 3 };

double check_tolerance(enum element element, double want)
{
    static const double ulp[] = { [ELEMENT_F32] = 0x1p-22, [ELEMENT_F16] = 0x1p-10, [ELEMENT_BF16] = 0x1p-7 };
    return ulp[element] * fabs(want) + 3e-5;
}

static u64 random_bits(u64 *state)
{
    *state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return *state >> 33;
}

/* Floats of every size, ties and specials among them: rounding is what is checked. */
static void fill_floats(float *x, i64 n, u64 *state)
{
    static const float specials[] = { 0.0f, -0.0f, INFINITY, -INFINITY, 65519.0f, 65520.0f, 1e-8f, 3e38f, 1.00390625f };
    for (i64 i = 0; i < n; i++) {
        const u64 bits = random_bits(state);
        x[i] = bits % 16 == 0 ? specials[bits / 16 % COUNT_OF(specials)]
                              : ldexpf((float)(bits % 65536) - 32768.0f, (int)(bits >> 16) % 30 - 25);
    }
}

struct moves {
    folio_context *ctx, *ref;
    struct moves_result result;
    const char *level;
    u64 state;
};

static void judge(struct moves *m, bool right, const char *what, const char *types)
{
    m->result.n_run++;
    m->result.n_wrong += !right;
    if (!right)
        fprintf(stderr, "folio check: %s: %s of %s differs from ref\n", m->level, what, types);
}

/* The same append on two pools; then both read back by both contexts. */
struct append_problem {
    struct pagepool pools[2]; /* of ctx, of ref */
    struct tensor k, v, slots;
    float *rows; /* [2][N_TOKENS][heads][dim] */
    i64 slot_ids[N_TOKENS];
};

static void make_slots(struct append_problem *p, u64 *state)
{
    i64 at = PAGE_SIZE;
    for (i64 i = 0; i < N_TOKENS; i++) {
        p->slot_ids[i] = random_bits(state) % 5 == 0 ? -1 : at;
        at++;
    }
    for (i64 i = N_TOKENS - 1; i > 0; i--) {
        const i64 j = (i64)(random_bits(state) % (u64)(i + 1)), other = p->slot_ids[j];
        p->slot_ids[j] = p->slot_ids[i];
        p->slot_ids[i] = other;
    }
}

static folio_status append_to(struct append_problem *p, folio_context *ctx, const struct pagepool *pool)
{
    const folio_append_args args = { .struct_size = sizeof(args),
                                     .k = &p->k.dl,
                                     .v = &p->v.dl,
                                     .k_pages = &pool->layers[0].k.dl,
                                     .v_pages = &pool->layers[0].v.dl,
                                     .slots = &p->slots.dl };
    return folio_pages_append(ctx, &args, NULL);
}

/* Pages 1 .. 9 of a pool into k and v [kv_len][heads][dim] of `element`. */
static folio_status gather_from(folio_context *ctx, const struct pagepool *pool, enum element element, void *rows)
{
    static const i32 page_ids[] = { 9, 1, 4, 4, 2, 7, 11 };
    const i64 kv_len = PAGE_SIZE * 6 + 3, n_ids = COUNT_OF(page_ids);
    const struct pagepool_config *cfg = &pool->cfg;
    const i64 shape[3] = { kv_len, cfg->n_kv_heads, cfg->dim_qk };
    struct tensor row, k, v;
    i32 ids[COUNT_OF(page_ids)];
    memcpy(ids, page_ids, sizeof(ids));
    tensor_init(&row, ids, type_of_ints(32), 1, &n_ids);
    tensor_init(&k, rows, type_of_element(element), 3, shape);
    tensor_init(&v, (char *)rows + shape[0] * shape[1] * shape[2] * element_bytes(element), type_of_element(element), 3,
                shape);
    const folio_gather_args args = { .struct_size = sizeof(args),
                                     .k_pages = &pool->layers[0].k.dl,
                                     .v_pages = &pool->layers[0].v.dl,
                                     .page_row = &row.dl,
                                     .kv_len = kv_len,
                                     .k = &k.dl,
                                     .v = &v.dl };
    return folio_pages_gather(ctx, &args, NULL);
}

static void check_gather(struct moves *m, const struct pagepool *pool, const char *types)
{
    const i64 n = 2 * N_PAGES * PAGE_SIZE * pool->cfg.n_kv_heads * pool->cfg.dim_qk;
    for (enum element to = ELEMENT_F32; to <= ELEMENT_BF16; to++) {
        if (to != pool->cfg.element && to != ELEMENT_F32)
            continue;
        char *a = calloc((size_t)n, 4), *b = calloc((size_t)n, 4);
        const bool ran = a && b && !gather_from(m->ctx, pool, to, a) && !gather_from(m->ref, pool, to, b);
        judge(m, ran && !memcmp(a, b, (size_t)n * 4), "gather", types);
        free(a);
        free(b);
    }
}

static void check_append(struct moves *m, enum layout layout, enum element from, enum element to)
{
    const struct pagepool_config cfg = { layout, to, N_PAGES, PAGE_SIZE, 1, 3, 24, 24, NULL };
    const i64 shape[3] = { N_TOKENS, cfg.n_kv_heads, cfg.dim_qk }, n = shape[0] * shape[1] * shape[2];
    struct append_problem p = { .rows = calloc((size_t)n * 2, sizeof(float)) };
    char types[64];
    snprintf(types, sizeof(types), "%s rows, %s %s pages", element_names[from], layout_names[layout],
             element_names[to]);
    bool ok = p.rows && pagepool_init(&p.pools[0], &cfg) && pagepool_init(&p.pools[1], &cfg);
    if (ok) {
        if (from == ELEMENT_F32)
            fill_floats(p.rows, 2 * n, &m->state);
        else
            row_fill(m->state, 0, ROW_V, 1, (i32)min_i64(n, MODEL_MAX_HEAD_DIM), from, p.rows);
        make_slots(&p, &m->state);
        tensor_init(&p.k, p.rows, type_of_element(from), 3, shape);
        tensor_init(&p.v, (char *)p.rows + n * element_bytes(from), type_of_element(from), 3, shape);
        tensor_init(&p.slots, p.slot_ids, type_of_ints(64), 1, shape);
        ok = !append_to(&p, m->ctx, &p.pools[0]) && !append_to(&p, m->ref, &p.pools[1]) &&
             !memcmp(p.pools[0].memory, p.pools[1].memory, p.pools[0].bytes);
    }
    judge(m, ok, "append", types);
    if (ok)
        check_gather(m, &p.pools[0], types);
    pagepool_free(&p.pools[0]);
    pagepool_free(&p.pools[1]);
    free(p.rows);
}

static folio_status merge_into(folio_context *ctx, struct tensor *outs, struct tensor *lses, float *out, float *lse)
{
    struct tensor to, to_lse;
    tensor_init(&to, out, outs->dl.dtype, 3, outs->shape + 1);
    tensor_init(&to_lse, lse, lses->dl.dtype, 2, lses->shape + 1);
    const folio_merge_args args = {
        .struct_size = sizeof(args), .outs = &outs->dl, .lses = &lses->dl, .out = &to.dl, .lse = &to_lse.dl
    };
    return folio_merge(ctx, &args, NULL);
}

static void check_merge(struct moves *m)
{
    enum { ROWS = 20, HEADS = 3, DIM = 40, N = ROWS * HEADS * DIM };
    const DLDataType f32 = type_of_element(ELEMENT_F32);
    float *outs_data = calloc(N_PARTS * N, 4), *got = calloc(N, 4), *want = calloc(N, 4);
    float lses_data[N_PARTS * ROWS * HEADS], got_lse[ROWS * HEADS], want_lse[ROWS * HEADS];
    struct tensor outs, lses;
    tensor_init(&outs, outs_data, f32, 4, (const i64[]){ N_PARTS, ROWS, HEADS, DIM });
    tensor_init(&lses, lses_data, f32, 3, (const i64[]){ N_PARTS, ROWS, HEADS });
    bool ok = outs_data && got && want;
    for (i64 i = 0; ok && i < N_PARTS * N; i++)
        outs_data[i] = (float)(random_bits(&m->state) % 1024) / 512 - 1;
    for (i64 i = 0; i < N_PARTS * ROWS * HEADS; i++)
        lses_data[i] = random_bits(&m->state) % 4 ? (float)(random_bits(&m->state) % 512) / 16 - 16 : -INFINITY;
    ok = ok && !merge_into(m->ctx, &outs, &lses, got, got_lse) && !merge_into(m->ref, &outs, &lses, want, want_lse);
    for (i64 i = 0; ok && i < N; i++) {
        const double share = fabs((double)(got[i] - want[i])) / check_tolerance(ELEMENT_F32, (double)want[i]);
        m->result.worst_share = fmax(m->result.worst_share, share);
        ok = share <= 1;
    }
    judge(m, ok, "merge", "f32 partial results");
    free(outs_data);
    free(got);
    free(want);
}

struct moves_result check_moves(folio_context *ctx, folio_context *ref, u64 seed, const char *level)
{
    struct moves m = { .ctx = ctx, .ref = ref, .level = level, .state = seed };
    for (enum layout layout = LAYOUT_HND; layout <= LAYOUT_SPLIT; layout++)
        for (enum element to = ELEMENT_F32; to <= ELEMENT_BF16; to++) {
            check_append(&m, layout, ELEMENT_F32, to);
            if (to != ELEMENT_F32)
                check_append(&m, layout, to, to);
        }
    check_merge(&m);
    return m.result;
}
