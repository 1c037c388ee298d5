/* SPDX-License-Identifier: Apache-2.0
 * block_mask.h: block masks as a map of two bits a block.
 *
 *   states [n_batch][n_heads][n_rows][row_bytes], four blocks a byte, the first in the lowest bits
 *
 *              block 0   1   2   3  ...          row 2 of 4, kv_block 128:
 *   row 0        F                                keys   0 .. 127   mask_mod decides
 *   row 1        F   P                            keys 128 .. 255   dropped, not read
 *   row 2        P   .   P                        keys 256 .. 383   mask_mod decides */
#ifndef FOLIO_MOD_BLOCK_MASK_H
#define FOLIO_MOD_BLOCK_MASK_H

#include "mod/program.h"

/* What becomes of the keys of a tile; in this order, so that a minimum combines two masks. */
enum mod_keep { KEEP_NONE = 0, KEEP_SOME = 1, KEEP_ALL = 2 };

struct block_mask {
    i64 n_batch, n_heads; /* 1 = the same for all */
    i64 n_rows, n_cols;   /* blocks */
    i64 row_bytes;
    i64 q_block, kv_block;
    i64 q_len, kv_len;                  /* the longest sequence it covers */
    const struct mod_program *mask_mod; /* of KEEP_SOME blocks; NULL = keeps all */
    bool is_window;                /* the whole mask is: a row keeps keys row - window_left .. row + window_right */
    i64 window_left, window_right; /* -1 = no limit */
    u8 *states;
};

struct folio_block_mask {
    u64 magic; /* while alive */
    struct block_mask mask;
};

/* One block; those past n_cols are KEEP_NONE. */
static inline enum mod_keep block_mask_state(const struct block_mask *mask, i64 b, i64 h, i64 row, i64 col)
{
    if (col >= mask->n_cols)
        return KEEP_NONE;
    const i64 batch = mask->n_batch == 1 ? 0 : b, head = mask->n_heads == 1 ? 0 : h;
    const u8 *states = mask->states + ((batch * mask->n_heads + head) * mask->n_rows + row) * mask->row_bytes;
    return (enum mod_keep)(states[col / 4] >> (col % 4 * 2) & 3);
}

/* NULL is fine and gives NULL; destroyed is EHANDLE. */
folio_status folio__block_mask_require(const struct block_mask **mask, const folio_block_mask *from);

#endif
