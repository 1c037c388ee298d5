/* SPDX-License-Identifier: Apache-2.0
 * callback.h: attention with tile callbacks: one plain body for all levels and for ref, right before fast.
 *
 *   for each query head of the item
 *     for each block of keys (or all of them: FOLIO_TILE_WHOLE)
 *       s [rows][keys] = scores ─► score callback ─► masks, the mask callback's [rows][keys] among them ─► o += w V */
#ifndef FOLIO_KERNEL_CPU_CALLBACK_H
#define FOLIO_KERNEL_CPU_CALLBACK_H

#include "kernel/mod_scalar.h"

/* The item must hold every split. Takes its memory from the heap; a failure goes to args->mod_failure. */
void folio__attend_callback(const struct attend_args *args, const struct attend_item *item);

/* How the plan must cut for it: never in splits, in whole sequences where a callback wants that. */
struct tiling folio__callback_tiling(const struct attend_args *args);

#endif
