/* SPDX-License-Identifier: Apache-2.0
 * keep.h: which keys a block of rows must look at: where mask mods and block masks become skipped, partial and full
 * tiles. Built-in causal and window masks are one interval a row; the caller cuts [at, end) to it before asking. */
#ifndef FOLIO_MOD_KEEP_H
#define FOLIO_MOD_KEEP_H

#include "mod/block_mask.h"
#include "mod/range.h"

/* Rows of one sequence and query heads, all half open; and what masks them. */
struct keep {
    const struct mod_program *mask_mod;  /* or NULL */
    const struct block_mask *block_mask; /* or NULL */
    struct mod_range *ranges;            /* scratch [n_steps of mask_mod] */
    struct mod_range *block_ranges;      /* scratch [n_steps of the block mask's], for folio__keep_blocks */
    bool captures_are_fixed;             /* until the answer is used; else their values are not looked at */
    i64 b, q_len, kv_len, group;
    i64 pos_offset; /* pos - q */
    i64 row_begin, row_end;
    i64 head_begin, head_end;
};

struct keep_piece {
    i64 begin, end;
    enum mod_keep mod_state; /* of mask_mod here: SOME or ALL. Block masks are looked up by row */
};

/* What mask_mod does to these rows and heads and keys [begin, end). */
enum mod_keep folio__keep_mod(const struct keep *keep, i64 begin, i64 end);

/* What the block mask does to them, its own mask mod included. Looks at every block of every row of blocks. */
enum mod_keep folio__keep_blocks(const struct keep *keep, i64 begin, i64 end);

/* The first piece of [at, end) with a key that any row or head keeps: nothing in it is surely dropped for all, but in
 * steps of `quantum` keys (a power of two times 16) and of kv_block. false: there is none. */
bool folio__keep_next(const struct keep *keep, i64 at, i64 end, i64 quantum, struct keep_piece *piece);

/* Cuts from both ends of a piece what surely no row or head keeps, in steps of `quantum` keys; false: all. Then
 * mod_state and *blocks say what mask_mod and the block mask do to what is left; ALL, if that is known. */
bool folio__keep_trim(const struct keep *keep, i64 quantum, struct keep_piece *piece, enum mod_keep *blocks);

/* [*first, *last) holds every key of [begin, end) that any row or head keeps; false: there is none. Not exact inside of
 * `quantum` keys. */
bool folio__keep_hull(const struct keep *keep, i64 begin, i64 end, i64 quantum, i64 *first, i64 *last);

#endif
