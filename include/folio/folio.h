/* SPDX-License-Identifier: Apache-2.0
 * folio.h: paged attention in C. Includes the whole public surface, in the order of a page's life. */
#ifndef FOLIO_FOLIO_H
#define FOLIO_FOLIO_H

#include "folio/base.h"   /* status, errors */
#include "folio/cache.h"  /* which pages belong to whom: metadata only */
#include "folio/dlpack.h" /* how tensors come in */
#include "folio/device.h" /* where work runs: backend, ISA, threads */
#include "folio/pages.h"  /* where bytes land: append, gather, copy */
#include "folio/mod.h"    /* a user's own score and mask functions */
#include "folio/plan.h"   /* the work of one step, reused by every layer */
#include "folio/attend.h" /* attention over pages */

#endif
