/* SPDX-License-Identifier: Apache-2.0
 * problem.h: random attention problems: a seed says everything. What may not be read is NaN, what may not be written is
 * fenced, table entries that do not count are 2147480000.
 *
 *   struct random_problem p;
 *   problem_make(&p, seed, NULL);
 *   bool good = problem_agrees(&p, ctx, ref, 2e-6);      prints seed and shape when not
 *   problem_free(&p); */
#ifndef FOLIO_TESTS_PROBLEM_H
#define FOLIO_TESTS_PROBLEM_H

#include "folio/attend.h"
#include "support/random.h"
#include "support/tensors.h"

enum { MAX_BATCH = 8 };

enum problem_tensor {
    T_Q,
    T_K,
    T_V,
    T_TABLE,
    T_V_TABLE,
    T_KV_INDPTR,
    T_KV_INDICES,
    T_KV_LENS,
    T_Q_INDPTR,
    T_ALIBI,
    T_SINKS,
    T_BIAS,
    T_MASK,
    T_OUT,
    T_LSE,
    N_PROBLEM_TENSORS
};

enum problem_layout { NHD, HND, FLAT, INTERLEAVED, GAPPED, N_LAYOUTS };

/* Everything that is decided before memory exists; fields may be changed between problem_choose and problem_build. */
struct problem_choice {
    u64 seed;
    i32 batch;
    i64 q_lens[MAX_BATCH], kv_lens[MAX_BATCH];
    i64 page_size, spare_pages; /* spare: nobody's */
    i32 n_kv_heads, group, head_dim_qk, head_dim_v;
    enum dtype q_dtype, kv_dtype;
    enum problem_layout layout;
    bool decode;                                       /* no q_indptr: every q_len is 1 */
    bool csr, ids_i64, lens_i64, v_table, share_pages; /* share: sequence 1 begins with sequence 0's full pages */
    bool q_gaps, out_gaps, compact_null_strides;
    bool alibi, sinks, bias, mask, lse;
    bool mask_everything; /* in one sequence */
    enum dtype bias_dtype;
    double amplitude; /* of q and k: 1, or so large that logits reach 1e30 (f16: 1e9) */
    double scale, softcap;
    i64 window_left, window_right;
    i32 causal, align, num_splits;
    u32 flags;
};

/* What problem_choose may choose; NULL = everything. */
struct problem_limits {
    double max_work;   /* sum of q_len * kv_len * heads * head_dim; 0 = 3e6 */
    i64 max_kv_len;    /* 0 = 700 */
    i64 max_q_len;     /* 0 = 70 */
    i32 max_head_dim;  /* 0 = 1024 */
    bool plain_dtypes; /* f32 only */
};

struct random_problem {
    struct problem_choice c;
    struct test_tensor t[N_PROBLEM_TENSORS];
    folio_attend_args args; /* points into t */
    i64 n_tokens;
    double max_value,
        max_score; /* of |v|; of |scale| |q| |k| + |slope| distance + |bias|: what errors are relative to */
};

void problem_choose(struct problem_choice *c, u64 seed, const struct problem_limits *limits);
void problem_build(struct random_problem *p, const struct problem_choice *c);
void problem_make(struct random_problem *p, u64 seed, const struct problem_limits *limits); /* both */
void problem_free(struct random_problem *p);

/* Outputs as new: filled with OUTPUT_FILL. */
void problem_reset_outputs(struct random_problem *p);
/* Over everything that is not an output. */
u64 problem_hash_inputs(const struct random_problem *p);
/* Over out and lse. */
u64 problem_hash_outputs(const struct random_problem *p);
void problem_print(const struct random_problem *p); /* one line, to stderr */

/* Attend through ctx: fences hold, inputs are unchanged. plan NULL: none. */
bool problem_run(struct random_problem *p, folio_context *ctx, const folio_plan *plan);
/* ctx's results against ref's, within `base` of the size of values and scores, and one rounding of out's dtype. */
bool problem_agrees(struct random_problem *p, folio_context *ctx, folio_context *ref, double base);

#endif
