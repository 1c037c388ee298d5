/* SPDX-License-Identifier: Apache-2.0
 * kernel_case.h: one attention problem at the kernels' own level: memory with poison and red zones, random page tables,
 * and the items a plan could make of it.
 *
 * Everything a kernel must not read holds NaN (slots past kv_len, unused pages, gaps) or an absurd page id; everything
 * it must not write is a red zone that is checked. */
#ifndef FOLIO_TESTS_SUPPORT_KERNEL_CASE_H
#define FOLIO_TESTS_SUPPORT_KERNEL_CASE_H

#include <stdbool.h>

#include "kernel/kernels.h"

struct kernel_case { /* 0 is a plain default wherever that makes sense */
    i32 q_len, kv_len, group, n_kv_heads, d, dv, page_size;
    enum dtype q_dtype, kv_dtype;
    bool hnd, gaps, interleaved, csr, ids_are_i64, v_table; /* where things lie */
    bool scale_is_set;
    double scale, softcap;
    i32 causal, align; /* align 0: causal's, else bottom-right */
    bool window_is_set;
    i64 window_left, window_right;
    bool alibi, sinks;
    enum dtype bias_dtype; /* NONE = no bias */
    bool bias_strided, bias_per_key, mask, mask_per_token;
    bool empty_mask; /* the mask removes everything for some rows */
    bool no_lse;
    float magnitude; /* of q; 0 = 1 */
    bool ones;       /* every value of V is 1: then so is every out, to the last bit */
    u64 seed;
};

struct kernel_memory; /* a case made real */

struct kernel_memory *kernel_memory_create(const struct kernel_case *c);
void kernel_memory_destroy(struct kernel_memory *memory);
const struct attend_args *kernel_memory_args(const struct kernel_memory *memory);

/* How a plan might cut the work. */
struct kernel_cut {
    i64 split_tokens;    /* 0 = one split */
    i32 n_kv_heads_once; /* kv heads an item; 0 = all */
    i64 rows_once;       /* query rows an item, at most the tiling's; 0 = the tiling's */
    bool through_memory; /* every split an item of its own, then fold; else one item holds all */
    i32 family;          /* -1 = the tiling's choice */
};

/* Runs the case on poisoned outputs; out and lse are then read with kernel_memory_out() and _lse(). Red zones are
 * checked: false when one was touched. */
bool kernel_memory_run(struct kernel_memory *memory, const struct kernels *kernels, const struct kernel_cut *cut);

/* Results of the last run, as they lie in memory: compact [q_len][n_q_heads][dv] elements, [q_len][n_q_heads] f32. */
size_t kernel_memory_out(const struct kernel_memory *memory, void *dst); /* bytes; dst may be NULL */
size_t kernel_memory_lse(const struct kernel_memory *memory, void *dst);

/* "q_len 1 kv_len 17 ..." into a static buffer, ready to paste. */
const char *kernel_case_text(const struct kernel_case *c);

#endif
