/* SPDX-License-Identifier: Apache-2.0
 * work.h: what the plan kernel hands to the attention kernels, and all kernels' parameter blocks. Host and device.
 *
 * Work is a line: sequences one after another, in each its row tiles, in each the leaves of its keys. (Where tiles are
 * many, the line is n_passes such lines, one behind the other: the first has tiles 0, n_passes, 2 n_passes ... of all
 * sequences, the next tiles 1, n_passes + 1 ... So the tiles of a sequence are at work at about the same time in
 * different groups, and what one reads the others find in the L2.) The line is cut
 * into n_groups ranges of about equal cost; a group is one thread block a kv head, so that the blocks of a group read
 * all heads of the same pages at about the same time.
 *
 *   sequence 0                    sequence 1             2
 *   tile 0        tile 1          tile 0                 tile 0
 *   |..|..|..|..  |..|..|..|..    |..|..|..|..|..|..|..  |..|..|        leaves
 *   '-- group 0 --''-- group 1 ------''---- group 2 ----------'         starts[g] .. starts[g + 1]
 *
 * Results of leaves are folded by a tree that is a function of the sequence's own length: leaf = leaf_tokens(n) keys,
 * node = 16 or 4 of them (node_shift) folded left to right, root = nodes folded left to right. So neither a batch mate
 * nor the place of a cut changes a bit. What a group can't fold alone it leaves in its slots (tree.cuh).
 *
 * Memory does not serve all blocks alike: of equal shares some are read in half the time. So where many sequences are
 * alike, groups have only the first of them, one each, and blocks claim the others one by one (claim.cuh). */
#ifndef FOLIO_KERNEL_CUDA_WORK_H
#define FOLIO_KERNEL_CUDA_WORK_H

#include "kernel/args.h"

/* How the decode kernel reads pages: by boxes of 8 to 64 tokens; by copies of 16 bytes; by boxes of any size. */
#define LOAD_BOXES 0
#define LOAD_GATHER 1
#define LOAD_FINE 2

#define SLOT_EMPTY 0xffffffffu /* a word of a slot that nobody has written */

enum {
    NODE_SHIFT = 4,       /* log2 of the leaves of a node */
    SHORT_NODE_SHIFT = 2, /* of one of a sequence of more than SHORT_UNIT keys and up to 64 leaves */
    NODE_LEAVES = 1 << NODE_SHIFT,
    SHORT_UNIT = 4096,
    LEAF_OVERHEAD = 16, /* keys' worth of work that a leaf costs beside its keys */
    MOST_ROUNDED = 24,  /* a group's share may grow by one of so many parts, so that less is cut */
    NARROW_ROWS = 16,   /* packed rows of a sequence: with more it is for the kernel of many rows */
    WIDE_ROWS = 128,    /* of a tile of that */
    MAX_CLASSES = 2,    /* kernels that share a batch: of few and of many rows */
    CLAIM_SEQS = 4,     /* sequences a group that make claims worthwhile */
    CLAIM_COST = 4096,  /* and their cost */
    PLAN_THREADS = 512,
    PLAN_GROUPS = 1023, /* most groups */
    PAGES_THREADS = 256,
    MERGE_THREADS = 128,
    GENERIC_THREADS = 256,
    GENERIC_LEAF = 256, /* keys of the longest leaf; of the decode kernel's */
    DECODE_LEAF = 512,
    FOLD_WARPS = 8, /* most warps of a block that fold */
    SLOT_EXTRA = 4, /* floats of a slot's row behind its columns, which are rounded up to a multiple of 4 */
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
    u16 is_poisoned;    /* bad length or indptr: every row NaN */
    u16 pass;           /* which of its tiles */
};

struct keys {
    i32 begin, end; /* may be empty: begin >= end */
};

/* One tile of one sequence. */
struct unit {
    i32 seq, tile;
    i32 m, n, q_begin, is_poisoned;
    i32 row_begin, n_rows;    /* packed rows: row_begin + r is query row (row_begin + r) / group, member % group */
    struct keys keys;         /* that its rows see */
    i32 leaf;                 /* keys of a leaf */
    i32 leaf_begin, leaf_end; /* its leaves, at least one */
    i32 node_shift;           /* log2 of the leaves of a node */
    i64 place;                /* of leaf 0 on the sequence's line: leaf x lies at place + x */
};

/* A unit, and the leaves begin .. end - 1 of it that a group has; none: there are no more. */
struct share {
    struct unit unit;
    i32 begin, end;
};

/* What is left of a group's range. */
struct walk {
    struct cuda_seq at; /* of seq */
    i32 seq, end_seq;   /* pass * batch + sequence */
    i64 pos, end_pos;   /* tile of the pass * leaves + leaf within the sequence */
};

/* What is cut where a group begins. */
struct cut {
    i32 unit_first; /* the group where the unit begins */
    i32 node_first; /* the group that holds the first leaf of the node */
    i32 node_leaf;  /* where that node is cut first */
};

struct cuda_start { /* of a group, all that its block needs to ask for its first page */
    i32 seq;        /* where its range begins: pass * batch + sequence; == n_passes * batch behind the last */
    struct cut cut;
    i64 pos;            /* tile * leaves + leaf within the sequence */
    struct share first; /* its first */
    struct walk walk;   /* what comes behind that */
    i32 n_claims;       /* (sequence, kv head)s to be claimed in all; the same for all groups */
    i32 unused;
};

/* What the plan kernel makes, in device memory. */
struct cuda_work {
    struct cuda_seq *seqs;     /* [span.n_passes][batch] */
    i64 *cost;                 /* [n_passes * batch + 1] cost of all before */
    i64 *rows;                 /* [batch + 1] CSR: where a sequence's row of kv_indices begins */
    struct cuda_start *starts; /* [n_groups + 1] */
    u32 *counters;             /* [n_groups][n_kv_heads][2][FOLD_WARPS]: leaves done of a cut node, of a cut unit */
    u32 *claims;               /* how many so far */
    float *leaf_slots;         /* [n_groups][n_kv_heads][NODE_LEAVES][slot_floats] */
    float *node_slots;         /* [n_regions][n_kv_heads][n_nodes][slot_floats] */
    struct cuda_error *error;  /* host memory */
    i64 slot_floats;           /* tile_rows * (head_dim_v up to a multiple of 4, + SLOT_EXTRA) */
    i32 batch, n_groups;
    i32 tile_rows;   /* packed rows of a tile */
    i32 n_nodes;     /* most nodes of a unit */
    i32 unit_stride; /* most units of a sequence: where few units can be, each has its own region of node slots; 0:
                          * a region is that of the group where the unit begins */
    i32 can_claim;   /* whether the kernel does */
};

/* The shape of masks that decides which leaves a row tile sees. */
struct cuda_span {
    i64 window_left, window_right; /* -1 = none */
    i32 causal, align;
    i32 group;
    i32 tile_rows;
    i32 min_leaf, max_leaf; /* keys of the shortest and the longest leaf of the kernel */
    i32 n_passes;
    i32 is_wide;               /* the kernel of many rows: leaves are longer, and a node has them all */
    i32 least_rows, most_rows; /* packed rows of a sequence that the kernel is for; others have none on its line */
    i32 unused;
};

/* How the decode kernel is set up for a problem. */
struct cuda_decode {
    i32 n_slots;   /* of each ring */
    i32 box_shift; /* boxes: log2 of the tokens of a box, 3 .. 6, a divisor of the page size; gather: of a tile's */
    i32 n_parts;   /* buffers between consumers and mergers: 1 or 2 */
    i32 box_rows;  /* fine: tokens of a box, a divisor of the page size */
    i32 n_windows; /* fine: times 32 pieces of a tile for each producer; else 1 */
    i32 unused;
    i64 n_k_ids, n_v_ids; /* in all of the tables */
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

/* A block of the plan kernel each. */
struct cuda_plan_classes {
    struct cuda_plan_args of[MAX_CLASSES];
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
