/* SPDX-License-Identifier: Apache-2.0
 * bench_attend.h: the problem of a decode or prefill row: a pool of K and V, shuffled tables, and the arguments. */
#ifndef CLI_BENCH_ATTEND_H
#define CLI_BENCH_ATTEND_H

#include "bench.h"
#include "tensor.h"

/* Not to be copied: args points into it. */
struct attend_bench {
    folio_context *ctx;
    folio_plan *plan;
    struct pagepool pool;
    i32 n_layers;
    i64 layer_bytes; /* of K and V */
    struct tensor q, out, sinks, table, kv_lens, q_indptr, scale;
    folio_attend_args args;
    void *q_data, *out_data;
    float *sink_data;              /* [n_q_heads] */
    float *scale_data;             /* [n_pages][page_size][n_kv_heads] of K and of V */
    i32 *table_data, *indptr_data; /* [batch][width], [batch + 1] */
    i32 *page_ids;                 /* [n_pages], shuffled */
    i64 *lens_data;                /* [batch] */
};

/* false: K and V do not fit. To be closed in both cases. */
bool attend_bench_open(struct attend_bench *a, const struct bench *bench, const struct bench_case *c);
void attend_bench_why_not(const struct attend_bench *a, const struct bench *bench, char *error, size_t n);
bool attend_bench_once(void *a, i64 repetition); /* a bench_body: one layer of attention */
void attend_bench_close(struct attend_bench *a);

#endif
