/* SPDX-License-Identifier: Apache-2.0
 * fork.c: two continuations of one prompt share its pages; only the page they both write to is copied. */
#include <folio/folio.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { PAGES = 16, PAGE = 16, PROMPT = 40, DIM = 8 };

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

static float k_pages[PAGES][PAGE][DIM], v_pages[PAGES][PAGE][DIM]; /* one kv head */

/* n tokens with K = 0 and V = value, behind what the sequence has. */
static void append(folio_context *context, folio_cache *cache, folio_seq seq, int64_t n, float value)
{
    static float k[PROMPT][DIM], v[PROMPT][DIM];
    int64_t slots[PROMPT], copies[PAGES][2], n_copies;
    for (int i = 0; i < PROMPT * DIM; i++)
        v[i / DIM][i % DIM] = value;
    need(folio_seq_append(cache, seq, n, slots));
    need(folio_cache_take_copies(cache, &copies[0][0], PAGES, &n_copies));
    const DLTensor *pages[] = { TENSOR(k_pages, f32, 4, PAGES, PAGE, 1, DIM),
                                TENSOR(v_pages, f32, 4, PAGES, PAGE, 1, DIM) };
    need(folio_pages_copy(context, pages[0], pages[1], TENSOR(copies, i64, 2, n_copies, 2), NULL)); /* then: */
    const folio_append_args args = { .struct_size = sizeof args,
                                     .k = TENSOR(k, f32, 3, n, 1, DIM),
                                     .v = TENSOR(v, f32, 3, n, 1, DIM),
                                     .k_pages = pages[0],
                                     .v_pages = pages[1],
                                     .slots = TENSOR(slots, i64, 1, n) };
    need(folio_pages_append(context, &args, NULL));
}

int main(void)
{
    folio_context *context;
    folio_cache *cache;
    folio_seq seqs[2];
    const folio_cache_config config = { .struct_size = sizeof config, .n_pages = PAGES, .page_size = PAGE };
    need(folio_context_create(&context, NULL));
    need(folio_cache_create(&cache, &config));
    need(folio_seq_open(cache, &seqs[0]));
    append(context, cache, seqs[0], PROMPT, 1.0f);
    need(folio_seq_fork(cache, seqs[0], &seqs[1]));
    append(context, cache, seqs[0], 1, 42.0f);
    append(context, cache, seqs[1], 1, 83.0f);

    folio_cache_stats stats = { .struct_size = sizeof stats };
    need(folio_cache_get_stats(cache, &stats));
    printf("%d pages held, %d of them by both\n", (int)stats.n_held, (int)stats.n_shared);

    int32_t table[2][PAGES];
    int64_t kv_lens[2];
    float q[2][DIM] = { { 0 } }, out[2][DIM];
    need(folio_cache_page_table(cache, seqs, 2, &table[0][0], PAGES, kv_lens));
    const folio_attend_args args = { .struct_size = sizeof args,
                                     .q = TENSOR(q, f32, 3, 2, 1, DIM),
                                     .k_pages = TENSOR(k_pages, f32, 4, PAGES, PAGE, 1, DIM),
                                     .v_pages = TENSOR(v_pages, f32, 4, PAGES, PAGE, 1, DIM),
                                     .page_table = TENSOR(table, i32, 2, 2, PAGES),
                                     .kv_lens = TENSOR(kv_lens, i64, 1, 2),
                                     .out = TENSOR(out, f32, 3, 2, 1, DIM) };
    need(folio_attend(context, NULL, &args, NULL));
    printf("(40 + 42) / 41 = %g, (40 + 83) / 41 = %g\n", (double)out[0][0], (double)out[1][0]);
    folio_cache_destroy(&cache);
    folio_context_destroy(&context);
    return fabsf(out[0][0] - 2) > 1e-6f || fabsf(out[1][0] - 3) > 1e-6f;
}
