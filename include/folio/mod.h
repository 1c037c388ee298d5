/* SPDX-License-Identifier: Apache-2.0
 * mod.h: a user's own score and mask functions, and block masks (docs/mods.md).
 * The types are declared so that attend.h is complete; attend refuses them with ENOTSUP until they work. */
#ifndef FOLIO_MOD_H
#define FOLIO_MOD_H

#include "folio/base.h"
#include "folio/dlpack.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct folio_mod folio_mod;
typedef struct folio_block_mask folio_block_mask;

#ifdef __cplusplus
}
#endif
#endif
