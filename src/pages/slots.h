/* SPDX-License-Identifier: Apache-2.0
 * slots.h: the slots of an append, checked. */
#ifndef FOLIO_PAGES_SLOTS_H
#define FOLIO_PAGES_SLOTS_H

#include "pages/view.h"

/* Each of slots is -1 or 0 .. n_slots - 1 (ERANGE), and none but -1 is named twice (EINVAL). O(slots->n) time; memory
 * only for more than 512 slots that do not ascend (ENOMEM). */
folio_status folio__slots_require(const struct index_view *slots, i64 n_slots);

#endif
