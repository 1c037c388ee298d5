/* SPDX-License-Identifier: Apache-2.0
 * mask_window.h: block masks that keep exactly a window's keys, as causal ones and sliding windows do: kernels have
 * those built in, and need no mod for them.
 *
 *   kv - q in [lo, hi]       keys        q = row within the sequence; causal from the top left is hi = 0, no lo
 *   row 0                    # # .
 *   row 1                    # # # .
 *   row 2                    . # # # .     lo = -1, hi = 1 */
#ifndef FOLIO_MOD_MASK_WINDOW_H
#define FOLIO_MOD_MASK_WINDOW_H

#include "mod/block_mask.h"

/* The keys [row - left, row + right] of each row, -1 = no limit. false: the mask, its own mask mod and its lists of
 * blocks taken together, keeps anything else for some row and key, or that can't be told. */
bool folio__mask_window(const struct block_mask *mask, i64 *left, i64 *right);

#endif
