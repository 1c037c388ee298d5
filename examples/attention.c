/* SPDX-License-Identifier: Apache-2.0
 * attention.c: one sequence's life: reserve pages, write K and V into them, plan, attend, check a value. */
#include <folio/folio.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { PAGES = 16, PAGE = 16, TOKENS = 100, HEADS = 8, KV_HEADS = 2, DIM = 64 };

static const DLDataType f32 = { kDLFloat, 32, 1 }, i32 = { kDLInt, 32, 1 }, i64 = { kDLInt, 64, 1 };

/* A compact tensor on the CPU: data, type, number of dims, dims. */
#define TENSOR(data, type, ndim, ...) \
    (&(DLTensor){ data, { kDLCPU, 0 }, ndim, type, (int64_t[]){ __VA_ARGS__ }, NULL, 0 })

static void need(folio_status status)
{
    if (status != FOLIO_OK) {
        fprintf(stderr, "%s: %s\n", folio_status_name(status), folio_last_error());
        exit(1);
    }
}

static float k_pages[PAGES][PAGE][KV_HEADS][DIM], v_pages[PAGES][PAGE][KV_HEADS][DIM];
static float k[TOKENS][KV_HEADS][DIM], v[TOKENS][KV_HEADS][DIM], q[1][HEADS][DIM], out[1][HEADS][DIM];

int main(void)
{
    /* Which pages: a pool, one sequence of 100 tokens, its row of page ids. */
    folio_cache *cache;
    folio_seq seq;
    int64_t slots[TOKENS], kv_len;
    int32_t table[PAGES];
    const folio_cache_config config = { .struct_size = sizeof config, .n_pages = PAGES, .page_size = PAGE };
    need(folio_cache_create(&cache, &config));
    need(folio_seq_open(cache, &seq));
    need(folio_seq_append(cache, seq, TOKENS, slots));
    need(folio_cache_page_table(cache, &seq, 1, table, PAGES, &kv_len));

    /* Where the bytes go: token t has V = t everywhere, and K = 0, so that every token counts the same. */
    for (int t = 0; t < TOKENS; t++)
        for (int i = 0; i < KV_HEADS * DIM; i++)
            v[t][i / DIM][i % DIM] = (float)t;
    folio_context *context;
    need(folio_context_create(&context, NULL));
    const DLTensor *pages[] = { TENSOR(k_pages, f32, 4, PAGES, PAGE, KV_HEADS, DIM),
                                TENSOR(v_pages, f32, 4, PAGES, PAGE, KV_HEADS, DIM) };
    need(folio_pages_append(context,
                            &(folio_append_args){ .struct_size = sizeof(folio_append_args),
                                                  .k = TENSOR(k, f32, 3, TOKENS, KV_HEADS, DIM),
                                                  .v = TENSOR(v, f32, 3, TOKENS, KV_HEADS, DIM),
                                                  .k_pages = pages[0],
                                                  .v_pages = pages[1],
                                                  .slots = TENSOR(slots, i64, 1, TOKENS) },
                            NULL));

    /* Attention: one query token over all 100; the plan would serve every layer of this step. */
    const folio_attend_args args = { .struct_size = sizeof args,
                                     .q = TENSOR(q, f32, 3, 1, HEADS, DIM),
                                     .k_pages = pages[0],
                                     .v_pages = pages[1],
                                     .page_table = TENSOR(table, i32, 2, 1, PAGES),
                                     .kv_lens = TENSOR(&kv_len, i64, 1, 1),
                                     .out = TENSOR(out, f32, 3, 1, HEADS, DIM) };
    folio_plan *plan;
    need(folio_plan_create(&plan, context, &args));
    need(folio_plan_update(plan, &args, NULL));
    need(folio_attend(context, plan, &args, NULL));

    printf("mean of 0 .. 99 = %g\n", (double)out[0][HEADS - 1][DIM - 1]);
    folio_plan_destroy(&plan);
    folio_context_destroy(&context);
    folio_cache_destroy(&cache);
    return fabsf(out[0][HEADS - 1][DIM - 1] - 49.5f) > 1e-4f;
}
