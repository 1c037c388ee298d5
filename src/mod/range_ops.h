/* SPDX-License-Identifier: Apache-2.0
 * range_ops.h: the two halves of range.c: arithmetic on intervals of i64 and of f32. */
#ifndef FOLIO_MOD_RANGE_OPS_H
#define FOLIO_MOD_RANGE_OPS_H

#include "mod/range.h"

/* Ops whose result is i64 and whose arguments are. */
struct mod_range folio__range_i64(enum mod_op op, const struct mod_range *const *args);
/* Ops whose result is f32 and whose arguments are. */
struct mod_range folio__range_f32(enum mod_op op, const struct mod_range *const *args);

struct mod_range folio__range_f32_unknown(void);
struct mod_range folio__range_i64_unknown(void);

#endif
