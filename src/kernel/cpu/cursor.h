/* SPDX-License-Identifier: Apache-2.0
 * cursor.h: the keys of a split, block by block and in order; pieces that masks remove for everyone are left out. */
#ifndef FOLIO_KERNEL_CPU_CURSOR_H
#define FOLIO_KERNEL_CPU_CURSOR_H

#include "kernel/cpu/block.h"
#include "kernel/cpu/keys.h"
#include "kernel/cpu/mod_run.h"

struct cursor_block {
    struct block block;
    enum mod_keep state; /* what mask_mod does to it, for all rows and heads at work */
};

struct cursor {
    const struct attend_args *args;
    const struct attend_item *item;
    const struct mod_runner *mods; /* NULL = none */
    struct keep_piece piece;       /* of which keys up to `at` are done */
    i64 at, end;
    i32 quantum; /* pieces begin at multiples of it */
    i32 most;    /* keys a block */
};

/* From `first` on, which stands for keys.begin, rounded down. */
static inline void cursor_start(struct cursor *cursor, i64 first, i64 end)
{
    cursor->piece = (struct keep_piece){ first, cursor->mods ? first : end, KEEP_ALL };
    cursor->at = first;
    cursor->end = end;
}

/* The next block; its n is 0 behind the last. */
static inline void cursor_next(struct cursor *cursor, struct cursor_block *next)
{
    if (cursor->at >= cursor->piece.end) {
        if (!cursor->mods || !folio__mod_next(cursor->mods, cursor->at, cursor->end, cursor->quantum, &cursor->piece))
            cursor->piece = (struct keep_piece){ cursor->end, cursor->end, KEEP_NONE };
        cursor->at = cursor->piece.begin;
    }
    block_find(&next->block, cursor->args, cursor->item->seq, cursor->at, cursor->piece.end, cursor->most);
    next->state = cursor->piece.mod_state;
    cursor->at += next->block.n;
}

#endif
