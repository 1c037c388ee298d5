/* SPDX-License-Identifier: Apache-2.0
 * work.h: what the plan kernel hands to the attention kernels, and all kernels' parameter blocks. Host and device.
 *
 * Work is a line: sequences one after another, in each its row tiles, in each the leaves of its keys. The line is cut
 * into n_groups ranges of about equal cost; a group is one thread block a kv head, so that the blocks of a group read
 * all heads of the same pages at about the same time.
 *
 *   sequence 0                    sequence 1             2
 *   tile 0        tile 1          tile 0                 tile 0
 *   |..|..|..|..  |..|..|..|..    |..|..|..|..|..|..|..  |..|..|        leaves
 *   '-- group 0 --''-- group 1 ------''---- group 2 ----------'         starts[g] .. starts[g + 1]
 *
 * Results of leaves are folded by a tree that is a function of the sequence's own length: leaf = leaf_tokens(n) keys,
 * node = NODE_LEAVES leaves folded left to right, root = nodes folded left to right. So neither a batch mate nor the
 * place of a cut changes a bit. What a group can't fold alone it leaves in its slots (tree.cuh). */
#ifndef FOLIO_KERNEL_CUDA_WORK_H
#define FOLIO_KERNEL_CUDA_WORK_H

#include "kernel/args.h"

enum {
    NODE_LEAVES = 16,
    LEAF_OVERHEAD = 16, /* keys' worth of work that a leaf costs beside its keys */
    PLAN_THREADS = 1024,
    PAGES_THREADS = 256,
    MERGE_THREADS = 128,
    GENERIC_THREADS = 256,
    MAX_LEAF = 256,            /* keys of the longest leaf */
    SLOT_PREFIX = NODE_LEAVES, /* slots of a group: 16 leaves, a prefix of a node, whole nodes */
    SLOT_NODES = NODE_LEAVES + 1,
};

/* Errors found on the device. */
enum cuda_error_code {
    CUDA_ERROR_NONE = 0,
    CUDA_ERROR_PAGE = 1,        /* page_table[row, column] */
    CUDA_ERROR_V_PAGE = 2,      /* v_page_table[row, column] */
    CUDA_ERROR_KV_LEN = 3,      /* kv_lens[row] */
    CUDA_ERROR_Q_INDPTR = 4,    /* q_indptr[row] */
    CUDA_ERROR_KV_INDPTR = 5,   /* kv_indptr[row] */
    CUDA_ERROR_SLOT = 6,        /* slots[row] */
    CUDA_ERROR_GATHER_PAGE = 7, /* page_row[row] */
    CUDA_ERROR_COPY = 8,        /* copies[row, column] */
};

struct cuda_error { /* written by one 16-byte store, so that it is always one whole error */
    u32 code_row;   /* enum cuda_error_code << 28 | row */
    i32 column;
    i64 value;
};

struct cuda_seq {
    i32 q_begin, q_len; /* rows of q and out */
    i32 kv_len;         /* n; 0 when poisoned */
    i32 is_poisoned;    /* bad length or indptr: every row NaN */
};

struct cuda_start { /* where a group's range begins */
    i32 seq;        /* == batch behind the last */
    i32 node_first; /* the group that holds the first leaf of the node cut here; this group when none is */
    i32 unit_first; /* the same for the unit (sequence, tile) */
    i32 unused;
    i64 pos;               /* tile * leaves + leaf within the sequence */
    struct cuda_seq first; /* the sequence: one read less before the first page is asked for */
};

/* What the plan kernel makes, in device memory. */
struct cuda_work {
    struct cuda_seq *seqs;     /* [batch] */
    i64 *cost;                 /* [batch + 1] cost of all sequences before */
    i64 *rows;                 /* [batch + 1] CSR: where a sequence's row of kv_indices begins */
    struct cuda_start *starts; /* [n_groups + 1] */
    u32 *counters;             /* [n_groups][n_kv_heads][2]: leaves done of a cut node, of a cut unit */
    float *slots;              /* [n_groups][n_kv_heads][n_slots][slot_floats] */
    struct cuda_error *error;  /* host memory */
    i64 slot_floats;           /* tile_rows * (head_dim_v + 2) */
    i32 batch, n_groups;
    i32 tile_rows; /* packed rows of a tile */
    i32 n_slots;   /* SLOT_NODES + 2 * n_nodes, see tree.cuh */
    i32 n_nodes;   /* whole nodes of one unit that a group may hold */
    i32 unused;
};

/* The shape of masks that decides which leaves a row tile sees. */
struct cuda_span {
    i64 window_left, window_right; /* -1 = none */
    i32 causal, align;
    i32 group;
    i32 tile_rows;
    i32 min_leaf; /* keys of the shortest leaf: a tile of the kernel */
    i32 unused;
};

/* How the decode kernel is set up for a problem. */
struct cuda_decode {
    i32 n_slots;   /* of each ring */
    i32 box_shift; /* log2 of the tokens of a box: 3 .. 6, a divisor of the page size; gather: of a tile's tokens */
    i32 n_parts;   /* buffers between consumers and mergers: 1 or 2 */
    i32 unused;
};

struct cuda_plan_args {
    struct cuda_work work;
    struct cuda_span span;
    const void *kv_lens;   /* [batch] */
    const void *q_indptr;  /* [batch + 1] or NULL */
    const void *kv_indptr; /* [batch + 1] or NULL */
    i64 capacity;          /* keys a sequence may have: table width, or all of kv_indices */
    i64 page_size;
    i64 n_tokens;
    i64 max_q_len, max_kv_len;
    i32 kv_lens_are_i64, q_indptr_is_i64, kv_indptr_is_i64;
    i32 n_kv_heads;
};

struct cuda_append_args {
    struct append_args args;
    i64 n_tokens, n_slots; /* slots the pages have */
    struct cuda_error *error;
};

struct cuda_gather_args {
    struct gather_args args;
    i64 kv_len;
    struct cuda_error *error;
};

struct cuda_copy_args {
    struct pages_view views[2]; /* K and, when there is one, V */
    const u8 *copies;           /* [n_copies][2] i64 (from, to), by the strides in bytes */
    i64 pair_stride, side_stride;
    i64 n_copies, page_size;
    i32 n_views, n_heads;
    struct cuda_error *error;
};

struct cuda_lay_args {
    struct pages_view pages; /* written */
    struct rows_view x;      /* of sequence 0: [n_tokens][n_heads][dim] */
    u8 *table;               /* [batch][pages_per_seq] i32 or i64, written */
    i64 x_seq_stride;        /* bytes */
    i64 table_seq_stride, table_column_stride;
    i64 batch, n_tokens, page_size, pages_per_seq;
    i32 n_heads, table_is_i64;
};

struct cuda_merge_args {
    struct merge_args args;
    i64 n_tokens;
};

#endif
