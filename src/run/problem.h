/* SPDX-License-Identifier: Apache-2.0
 * problem.h: the arguments of one attend, checked and turned into what plan and kernels take.
 *
 *   folio_attend_args ─ folio__problem_read ──► shapes, dtypes, strides, options   (reads no data: it may be NULL)
 *                     ─ folio__problem_lengths ► kv_lens, q_indptr, kv_indptr      (host memory)
 *                     ─ folio__check_pages ────► page ids within the used part     (host memory) */
#ifndef FOLIO_RUN_PROBLEM_H
#define FOLIO_RUN_PROBLEM_H

#include "folio/attend.h"
#include "pages/view.h"

/* Index arrays, as bits. */
enum problem_part {
    PROBLEM_KV_LENS = 1,
    PROBLEM_Q_INDPTR = 2,
    PROBLEM_KV_INDPTR = 4,
    PROBLEM_K_TABLE = 8,
    PROBLEM_V_TABLE = 16,
};

struct problem {
    struct attend_args kernel; /* views, options; data pointers as given, NULL = absent or not yet known */
    i64 batch, n_tokens;
    i64 max_q_len, max_kv_len;           /* the caller's, else what the shapes allow */
    i64 k_columns, v_columns;            /* pages a row of the table; CSR: all indices */
    i64 bias_keys, mask_keys;            /* keys that they cover; INT64_MAX = any */
    const struct block_mask *block_mask; /* as given, or NULL; kernel has it too, or the window that it is */
    struct index_view kv_lens;           /* [batch] */
    struct index_view q_indptr;          /* [batch + 1]; data NULL with has_q_indptr false = one row a sequence */
    struct index_view kv_indptr, kv_indices;
    bool has_pages; /* false: k_pages and v_pages are NULL, every kv_len must be 0 */
    bool has_q_indptr, is_csr, has_v_table, has_alibi_slopes, has_sinks, has_max_kv_len, cascade;
    bool is_for_one_call; /* the maxima are its lengths; its plan dies with it */
    i32 num_splits;
    u32 on_host; /* enum problem_part: index arrays that a CUDA context was given in host memory */

    /* what the relations between tensors are checked with */
    i64 out_tokens, lse_shape[2], v_page_size;
    i64 table_rows, v_table_rows;
    i32 n_out_heads, n_v_heads;
};

/* args is a full copy (folio__read_struct). Fails with the first reason. */
folio_status folio__problem_read(struct problem *p, const folio_context *ctx, const folio_attend_args *args);

/* One check and what it depends on, so that explain can collect every reason. Checks of a stage are independent of each
 * other; those of a later stage need that the earlier ones pass. */
struct problem_check {
    i32 stage;
    folio_status (*run)(struct problem *p, const folio_context *ctx, const folio_attend_args *args);
};
extern const struct problem_check folio__problem_checks[];
extern const i32 folio__n_problem_checks;

/* Options alone: enums, flags, scale, window, splits, what is not supported. Part of problem_read. */
folio_status folio__check_options(struct problem *p, const folio_context *ctx, const folio_attend_args *args);

/* Lengths in host memory: valid, within capacity and maxima. q_begin [batch + 1], kv_lens [batch] and kv_begin
 * [batch + 1] (CSR, else NULL) are written only when everything is. Any may be NULL: only check. */
struct lengths {
    i64 *q_begin, *kv_lens, *kv_begin;
    i64 max_q_len, max_kv_len; /* that occur */
};
folio_status folio__problem_lengths(const struct problem *p, struct lengths *lengths);

/* Every page id that kv_lens reach. ERANGE with row, column, value. */
folio_status folio__check_pages(const struct attend_args *args, i64 batch, const i64 *kv_lens);

#endif
