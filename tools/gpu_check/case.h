/* SPDX-License-Identifier: Apache-2.0
 * case.h: one attention problem with several sequences, in a twin: everything that must not be read is poison,
 * everything that must not be written is compared afterwards. */
#ifndef GPU_CHECK_CASE_H
#define GPU_CHECK_CASE_H

#include "rig.h"

enum { MAX_BATCH = 300 };

enum layout { LAYOUT_NHD, LAYOUT_HND, LAYOUT_FLAT, LAYOUT_INTERLEAVED, LAYOUT_GAPS, LAYOUT_ODD, N_LAYOUTS };

struct problem_case {
    i32 batch, group, n_kv_heads, d_qk, d_v, page_size;
    enum dtype q_dtype, page_dtype;
    enum layout layout;
    bool csr, ids_are_i64, lens_are_i64, v_table, ragged; /* ragged: q_indptr is given */
    i32 q_lens[MAX_BATCH], kv_lens[MAX_BATCH];
    i32 causal, align;
    bool has_window, has_scale, alibi, sinks, lse;
    i64 window_left, window_right;
    double softcap, scale;
    enum dtype bias; /* NONE = none */
    bool bias_by_head, mask, host_tables;
    i64 max_kv_len; /* 0 = from shapes */
    float magnitude;
    u64 seed;
};

struct made_case {
    struct problem_case c;
    struct twin twin;
    i64 n_tokens, n_pages;
    struct tensor_spec q, k, v, table, v_table, kv_indptr, kv_lens, q_indptr, out, lse, slopes, sinks, bias, mask;
    DLTensor host[14], device[14];
    folio_attend_args host_args, device_args;
};

void case_make(struct rig *rig, struct made_case *m, const struct problem_case *c);
void case_free(struct rig *rig, struct made_case *m);
const char *case_text(const struct problem_case *c);

/* Plain decode: a row a sequence, bf16, 8 query heads on 2, head_dim 128, pages of 16, lse; the rest 0. */
struct problem_case case_plain(i32 batch, u64 seed);

/* Random, but legal; what it may ask for grows with size 0 .. 2. */
struct problem_case case_random(u64 seed, i32 size);

/* Run on the CPU into the twin's host outputs. */
void case_run_cpu(struct rig *rig, struct made_case *m);
/* Compare device memory `got` [twin.used] with host: outputs within tolerance, all else the same bytes. A sentence
 * about the first difference, or NULL. poisoned [batch]: sequences whose rows must be NaN; NULL = none. */
const char *case_compare(struct rig *rig, const struct made_case *m, const u8 *got, const bool *poisoned);

#endif
