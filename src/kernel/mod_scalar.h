/* SPDX-License-Identifier: Apache-2.0
 * mod_scalar.h: mods at one place, through the scalar evaluator: for ref, and beside callbacks. */
#ifndef FOLIO_KERNEL_MOD_SCALAR_H
#define FOLIO_KERNEL_MOD_SCALAR_H

#include "kernel/args.h"
#include "mod/block_mask.h"
#include "mod/failure.h"

/* Row `row` of the item's sequence, query head `head`, key `key`. */
struct mod_env folio__mod_place(const struct attend_args *args, const struct attend_item *item, i32 head, i64 row,
                                i64 key);

/* Do mask_mod and the block mask keep the key? Callbacks count as "yes" here. An index out of range fails the call, so
 * ask only about keys that all other masks keep. */
bool folio__mod_keeps(const struct attend_args *args, const struct mod_env *at);

/* The score that score_mod makes of one; callbacks change nothing here. */
double folio__mod_score(const struct attend_args *args, const struct mod_env *at, double score);

static inline bool mod_is_used(const struct attend_args *args)
{
    return args->score_mod || args->mask_mod || args->block_mask;
}

static inline bool mod_uses_callback(const struct attend_args *args)
{
    const struct mod_program *block = args->block_mask ? args->block_mask->mask_mod : NULL;
    return (args->score_mod && args->score_mod->tile) || (args->mask_mod && args->mask_mod->tile) ||
           (block && block->tile);
}

#endif
