/* SPDX-License-Identifier: Apache-2.0
 * mod_run.h: runs mod programs over rows of scores that lie in cache.
 *
 *   bind     once an item     ranges of every step ─► narrow or wide integers, indices that need no check; CALL steps
 *   heads    once a kv head   HEAD and ROW steps of its packed rows: scalars [n_heads][n_rows][n_scalar_slots]
 *   tile     once a tile      TILE steps: vectors [n_vector_slots][n_lanes]
 *   row      once a row       TILE_HEAD steps if the query head is another one; KEY steps
 *
 * A step becomes a struct mod_code: a function of the level's table and pointers to slots, so running a step is one
 * indirect call over all keys of the row. Narrow: every i64 is proved to fit 32 bits, and vectors of i64 are i32
 * lanes. */
#ifndef FOLIO_KERNEL_CPU_MOD_RUN_H
#define FOLIO_KERNEL_CPU_MOD_RUN_H

#include "kernel/args.h"
#include "mod/failure.h"
#include "mod/keep.h"

struct mod_code;
typedef void (*mod_run_fn)(const struct mod_code *code, i32 begin, i32 end);

/* One level's functions. begin is a multiple of 16; lanes up to the next multiple of 16 behind end are written too. */
struct mod_table {
    mod_run_fn run[MOD_N_OPS];
    mod_run_fn wide[MOD_N_OPS]; /* where wide integers need another; else NULL */
    mod_run_fn poison, poison_select, poison_logic;
    void (*mask)(float *s, const i32 *keep, i32 begin, i32 end); /* exactly [begin, end): dropped keys become -inf */
};

extern const struct mod_table folio__mod_table_c, folio__mod_table_avx2, folio__mod_table_avx512;

/* from: vectors [n_lanes] of float, i32 (narrow i64; bool as 0 or -1) or i64, or one struct mod_result. */
struct mod_code {
    mod_run_fn run;
    void *to;
    const void *from[3];
    i32 *poison_to;            /* [n_lanes] 0 or -1; NULL: can't be */
    const i32 *poison_from[3]; /* vectors only; NULL = clean */
    const struct mod_step *step;
    const struct mod_part *part;
    u8 is_vector; /* bit k: from[k] is a vector */
    bool is_wide;
};

/* A code that reads the row's scores (arg 0 .. 2), or writes them (arg -1). */
struct mod_use {
    i32 code, arg;
};

/* One program bound to an item. */
struct mod_part {
    const struct mod_program *program; /* NULL = none */
    const struct mod_table *table;
    bool is_wide;
    bool may_be_poison; /* the result */
    i32 n_lanes;
    const struct mod_range *ranges; /* [n_steps] */
    struct mod_result *steps;       /* [n_steps]: CALL steps stay, the others are scratch */
    struct mod_result *scalars;     /* [n_heads][n_rows][n_scalar_slots] */
    struct mod_result *now;         /* [n_scalar_slots] of the row at work */
    u8 *vectors;                    /* [n_vector_slots][n_lanes] of 8 bytes */
    i32 *poison;                    /* [n_vector_slots][n_lanes] */
    struct mod_code *codes;         /* [code_begin[3]] */
    i32 code_begin[4];              /* of TILE, TILE_HEAD, KEY steps, and their end */
    struct mod_use *uses;           /* [n_uses] */
    i32 n_uses;
    i64 tile_key;  /* of lane 0 */
    i32 tile_n;    /* keys of the tile; 0 = its TILE steps have not run */
    i32 tile_head; /* query head of the TILE_HEAD vectors; -1 = none */
};

/* What has to be asked for every key, because it neither keeps nor drops all. */
struct mod_needs {
    bool mask, block; /* mask_mod; the block mask */
};

struct mod_runner {
    const struct attend_args *args;
    const struct attend_item *item;
    struct mod_part score, mask, block; /* block: the block mask's own mask mod */
    struct keep keep;                   /* of mask_mod and the block mask, for these rows and heads */
    i32 *row_poison;                    /* [n_lanes] of the row at work */
    i32 head_begin;                     /* kv head */
    i32 n_rows, n_lanes;                /* packed rows a kv head; keys of the largest tile */
    i64 tile_key;
    i32 tile_n;
    struct mod_needs needs; /* by the rows that come next */
};

/* Bytes of scratch for heads of n_rows packed rows each and tiles of n_lanes keys (a multiple of 16). */
size_t folio__mod_scratch_bytes(const struct attend_args *args, i64 n_heads, i64 n_rows, i64 n_lanes);

/* Rows item->row_begin ... of the item. memory [folio__mod_scratch_bytes] lives as long as the runner. */
void folio__mod_bind(struct mod_runner *runner, const struct mod_table *table, const struct attend_args *args,
                     const struct attend_item *item, i64 max_heads, i64 n_lanes, void *memory);
/* The kv heads at work: all that follows is about these. */
void folio__mod_heads(struct mod_runner *runner, i32 head_begin, i32 n_heads);

/* Pieces of [at, end) to look at, for all rows and heads at work; everything is one piece when nothing masks. */
bool folio__mod_next(const struct mod_runner *runner, i64 at, i64 end, i64 quantum, struct keep_piece *piece);

/* Keys [key, key + n) come next. state: what mask_mod does there, to all rows and heads at work. Sets needs. */
void folio__mod_tile(struct mod_runner *runner, i64 key, i32 n, enum mod_keep state);
/* Pieces of keys [at, end) of the tile for packed rows [begin, end_row) of kv head `head`, cut to what they keep in
 * steps of 32 keys. Sets needs to theirs. */
bool folio__mod_next_of_rows(struct mod_runner *runner, i32 head, i32 begin, i32 end_row, i64 at, i64 end,
                             struct keep_piece *piece);

/* Scores s[lo .. hi) of packed row `row` of kv head `head`: score_mod, then masks (-inf). s[0] is lane `lane` of the
 * tile, a multiple of 16; s reaches to a multiple of 16 behind hi. */
void folio__mod_row(struct mod_runner *runner, i32 head, i32 row, i32 lane, i32 lo, i32 hi, float *s);

#endif
