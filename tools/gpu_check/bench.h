/* SPDX-License-Identifier: Apache-2.0
 * bench.h: problems over pools that exceed the L2, captured into CUDA graphs, timed by replay. */
#ifndef GPU_CHECK_BENCH_H
#define GPU_CHECK_BENCH_H

#include <stdio.h>

#include "rig.h"

struct row {
    const char *name;
    i32 batch, kv_len, q_len, n_q_heads, n_kv_heads, dim;
    enum dtype dtype;
    i32 page_size;
    bool zipf, causal, hnd, flat, v_table, sinks, q_is_f32; /* f32 queries of 16-bit pages: the generic kernel */
    i64 window;                                             /* keys; 0 = none */
    double softcap;
};

struct setup {
    cu_ptr memory;
    DLTensor q, k, v, table, v_table, kv_lens, q_indptr, out, sinks;
    i64 shapes[8][4], pages_strides[4];
    i64 n_tokens, n_pages, pool_bytes, kv_tokens;
    double pairs;
    i32 n_copies;
    i64 copy_bytes;
};

enum { MAX_REPLAYS = 64 };

void set_up(struct rig *rig, struct setup *s, const struct row *r);
folio_attend_args attend_args_of(struct setup *s, const struct row *r);

/* What `record` calls, n times with i = 0 .. n - 1, as a graph. */
typedef void record_fn(struct rig *rig, void *user, i32 i);
cu_graph_exec capture_calls(struct rig *rig, record_fn *record, void *user, i32 n);

/* repeats attends, each of the next copy of the pool. */
cu_graph_exec capture_attends(struct rig *rig, struct setup *s, folio_plan *plan, folio_attend_args *args, i32 repeats);

/* Median us of a replay of each of the n graphs, replayed in turn. */
void replay_in_turn(struct rig *rig, double *us, const cu_graph_exec *execs, i32 n, i32 n_replays);

/* What bench_options and bench_moves measure, as a table, and as lines of JSON where json is not NULL. */
void bench_options(struct rig *rig, FILE *json);
void bench_moves(struct rig *rig, FILE *json);

/* Plan, update and attend once in a process that has only a context: prints the ms. */
void bench_first_use(struct rig *rig);

#endif
