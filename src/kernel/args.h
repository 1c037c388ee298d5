/* SPDX-License-Identifier: Apache-2.0
 * args.h: the contract between the library and its kernels: a shape beside every pointer.
 * Includes nothing but base/types.h and base/dtype.h: device code compiles it under NVRTC.
 * All strides are bytes. All element offsets are 64-bit. Arguments are valid: run/ has checked them.
 *
 *   m = q_len, n = kv_len of one sequence; row i of m; key j of n; group = n_q_heads / n_kv_heads
 *   packed row = (kv head, row, member of the group): the query vectors that share one kv head's K and V */
#ifndef FOLIO_KERNEL_ARGS_H
#define FOLIO_KERNEL_ARGS_H

#include "base/dtype.h"
#include "base/types.h"

/* Pages of K or of V: logical [n_pages][page_size][n_kv_heads][head_dim], dim contiguous. */
struct pages_view {
    u8 *data;
    i64 page_stride, slot_stride, head_stride;
    i64 n_pages;
    i32 head_dim;
    i32 dtype;    /* enum dtype */
    float *scale; /* quantised: value = stored * scale[page, slot, head]; NULL = 1. Only append may write it */
    i64 scale_page_stride, scale_slot_stride, scale_head_stride;
};

/* Vectors by token and head: q, out, k and v to append: [n_tokens][n_heads][dim], dim contiguous. */
struct rows_view {
    u8 *data;
    i64 token_stride, head_stride;
    i32 dtype; /* enum dtype */
    i32 dim;
};

/* Tokens of q or out may lie in runs of n, each with its token_stride: token t is number t % n of run t / n. */
struct token_runs {
    i64 n, stride; /* n 0: all in one */
};

/* Page ids by sequence and logical page. Padded: ids[seq * row_stride + column]; CSR: ids[indptr[seq] + column]. */
struct table_view {
    const void *ids;    /* i32 or i64 */
    const void *indptr; /* [batch + 1] i32 or i64, or NULL = padded */
    i64 row_stride;     /* elements */
    i32 ids_are_i64, indptr_is_i64;
};

/* bias or mask at (query token, query head, key); stride 0 = broadcast. data NULL = none. */
struct score_view {
    const u8 *data; /* [n_tokens][n_q_heads][>= kv_len] */
    i64 token_stride, head_stride, key_stride;
    i32 dtype; /* f32 f16 bf16 | bool */
    i32 unused;
};

enum { ALIGN_TOP_LEFT = 1, ALIGN_BOTTOM_RIGHT = 2 }; /* where row i stands: p = i | i + n - m */
enum { CAUSAL_NONE = 0, CAUSAL_TOP_LEFT = 1, CAUSAL_BOTTOM_RIGHT = 2 };

/* Partial results of splits, unnormalised, in f32: packed row r of a split is row (item.partial + ... + r). */
struct partials {
    float *o; /* [n][head_dim_v] sum of exp2(s - m) * v */
    float *m; /* [n] running maximum of the scores, in the units of the kernels that wrote it; -inf = no key yet */
    float *l; /* [n] sum of exp2(s - m) */
};

/* A query row of an item that works for several sequences with equal leading pages (FOLIO_CASCADE). */
struct shared_row {
    i64 token, position; /* in q; p among the keys of its own sequence */
    i64 partial;         /* packed row in args.part of its split 0, kv head 0 */
    i64 head_rows;       /* packed rows of its sequence a kv head */
    i32 unit;            /* its sequence's */
    i32 unused;
};

struct attend_args {
    struct rows_view q; /* [n_tokens][n_q_heads][head_dim_qk] */
    struct pages_view k, v;
    struct table_view k_table, v_table;
    struct rows_view out; /* [n_tokens][n_q_heads][head_dim_v] */
    float *lse;           /* [n_tokens][n_q_heads] or NULL */
    i64 lse_token_stride, lse_head_stride;
    const float *alibi_slopes; /* [n_q_heads] or NULL */
    const float *sinks;        /* [n_q_heads] or NULL, natural log */
    struct score_view bias, mask;
    const struct mod_program *score_mod, *mask_mod; /* NULL = none */
    const struct block_mask *block_mask;            /* NULL = none */
    struct mod_failure *mod_failure;                /* where a failing mod says so; host only */
    struct partials part;
    double scale, softcap;         /* softcap 0 = off */
    i64 window_left, window_right; /* -1 = none */
    i64 page_size;
    i32 n_q_heads, n_kv_heads, group;
    i32 causal, align; /* align is resolved: never AUTO */
    i32 unused;
    const struct shared_row *shared_rows; /* of the plan; host only */
    struct token_runs q_runs, out_runs;   /* host only */
};

enum attend_family {
    ATTEND_ROWS = 0, /* few packed rows a kv head (decode, speculative): straight from pages */
    ATTEND_TILE = 1, /* many (prefill, chunks): pack a tile of K and V, use it for many rows */
};

/* One piece of work: rows of one sequence x kv heads x consecutive splits of its keys.
 * Splits are [s * split_tokens, min((s + 1) * split_tokens, n)). Results of splits are folded left to right, so which
 * item holds which splits never changes a bit. */
struct attend_item {
    i64 q_token;               /* token index in q and out of the sequence's row 0 */
    i64 q_len, kv_len;         /* m and n of the whole sequence */
    i64 row_begin, n_rows;     /* rows of this item, within the sequence */
    i64 split_begin, n_splits; /* splits of this item */
    i64 split_tokens;
    i64 key_begin;           /* keys before it belong to an item that works for several sequences; else 0 */
    i64 partial;             /* -1: the item holds every split, and writes out and lse; else the first packed row of its
                                first split in args.part; each split takes n_heads * n_rows * group rows, ordered
                                [head][row][member] */
    i32 seq;                 /* row of the page tables */
    i32 head_begin, n_heads; /* kv heads */
    i32 family;              /* enum attend_family, a function of m and group alone */
    i32 unit;                /* which (sequence, rows, heads) it belongs to; index of its arrival counter */
    i32 rows; /* 0, or 1 + where args.shared_rows has the item's rows: of any sequence, seeing all keys */
};

/* How the plan may cut; a function of shapes and dtypes, not of lengths, threads or ISA within one exactness class. */
struct tiling {
    i32 max_packed_rows;                      /* family ROWS when group * q_len <= this */
    i32 tile_rows;                            /* query rows (tokens) of one TILE item; >= 1 */
    i64 rows_split_tokens, tile_split_tokens; /* split length by family; > 0 */
};

struct append_args {
    struct rows_view k, v; /* [n_tokens][n_kv_heads][dim] */
    struct pages_view k_pages, v_pages;
    const void *slots; /* [n_tokens] i32 or i64; < 0 = skip */
    i64 page_size;
    i32 slots_are_i64;
    i32 n_kv_heads;
    i32 makes_scales; /* quantised pages: scales are computed, and written; else they are read */
    i32 unused;
};

struct gather_args {
    struct pages_view k_pages, v_pages;
    const void *page_row;  /* [>= ceil(kv_len / page_size)] i32 or i64 */
    struct rows_view k, v; /* [kv_len][n_kv_heads][dim], written */
    i64 page_size;
    i32 ids_are_i64;
    i32 n_kv_heads;
};

struct merge_args {
    struct rows_view outs; /* part p, token t, head h: outs + p * part_stride */
    i64 outs_part_stride;
    const float *lses; /* [n_parts][n_tokens][n_heads], natural log */
    i64 lses_part_stride, lses_token_stride, lses_head_stride;
    struct rows_view out; /* [n_tokens][n_heads][dim] */
    float *lse;           /* [n_tokens][n_heads] or NULL */
    i64 lse_token_stride, lse_head_stride;
    i32 n_parts, n_heads;
};

FOLIO_STATIC_ASSERT(sizeof(struct pages_view) == 80, "host and device agree");
FOLIO_STATIC_ASSERT(sizeof(struct rows_view) == 32, "host and device agree");
FOLIO_STATIC_ASSERT(sizeof(struct table_view) == 32, "host and device agree");
FOLIO_STATIC_ASSERT(sizeof(struct score_view) == 40, "host and device agree");
FOLIO_STATIC_ASSERT(sizeof(struct attend_item) == 104, "host and device agree");

#endif
