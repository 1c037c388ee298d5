/* SPDX-License-Identifier: Apache-2.0
 * plan.h: the work of one step. Make a plan once for a shape, update it once a step, attend with it in every layer.
 *
 *   folio_plan_create   shapes, dtypes, strides, maxima: validates, picks kernels, allocates
 *   folio_plan_update   lengths and indptrs -> work items; no allocation; once a step
 *   folio_attend        (attend.h) the work itself; no allocation; once a layer
 *
 * Which keys a work item covers is a function of its sequence's own length only, so the bits of a result depend neither
 * on the number of threads nor on the batch's other members (save with FOLIO_CASCADE).
 * An updated plan may be attended by many threads at once when each brings its own workspace. */
#ifndef FOLIO_PLAN_H
#define FOLIO_PLAN_H

#include "folio/base.h"
#include "folio/device.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct folio_plan folio_plan;
struct folio_attend_args;

/* args: the full arguments of the attend calls to come; data pointers of q, k_pages, v_pages, out and lse may be NULL
 * or change later, shapes, strides and dtypes may not. EINVAL, ERANGE, ENOMEM, ENOTSUP.
 * EBUSY while the thread's stream captures (CUDA). The context must outlive the plan. */
FOLIO_API FOLIO_NODISCARD folio_status folio_plan_create(folio_plan **out, folio_context *ctx,
                                                         const struct folio_attend_args *args);
/* Reads kv_lens, q_indptr, kv_indptr and makes the work items. Same shapes as at create, else EINVAL; a failing update
 * leaves the plan as it was. */
FOLIO_API FOLIO_NODISCARD folio_status folio_plan_update(folio_plan *plan, const struct folio_attend_args *args,
                                                         void *stream);
FOLIO_API void folio_plan_destroy(folio_plan **plan);

/* The workspace one attend in flight needs. Plans own one; bring others to attend in parallel. */
FOLIO_API FOLIO_NODISCARD folio_status folio_plan_workspace(const folio_plan *plan, size_t *bytes, size_t *align);

/* Errors that a device found so far, without waiting for it: ERANGE with sequence, column and value, once. Always OK on
 * a CPU, where errors are found at once. */
FOLIO_API FOLIO_NODISCARD folio_status folio_plan_status(folio_plan *plan);
/* The same after waiting for all that the plan's device was asked to do. Not inside a capture: EDEVICE. */
FOLIO_API FOLIO_NODISCARD folio_status folio_plan_wait(folio_plan *plan);

#ifdef __cplusplus
}
#endif
#endif
