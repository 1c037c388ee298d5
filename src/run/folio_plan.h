/* SPDX-License-Identifier: Apache-2.0
 * folio_plan.h: what a folio_plan is, and how this call's pointers get into what it has checked already.
 *
 *   create    args ─► problem (views)      ┐
 *             args ─► seen (as given)      │
 *   update    lengths ─► work              ├─► attend: args look as `seen`? then only pointers are new
 *                                          ┘           else check everything again and compare with `problem` */
#ifndef FOLIO_RUN_FOLIO_PLAN_H
#define FOLIO_RUN_FOLIO_PLAN_H

#include <stdatomic.h>

#include "plan/plan.h"
#include "run/problem.h"

enum { WORKSPACE_ALIGN = 64, N_BOUND = 14 };

/* A DLTensor as it was given at create, without its data. */
struct seen_tensor {
    DLDevice device;
    DLDataType dtype;
    i32 ndim; /* -1 = NULL was given */
    bool has_strides;
    i64 shape[TENSOR_MAX_DIM], strides[TENSOR_MAX_DIM];
    i64 span; /* bytes from the first element to behind the last */
};

struct folio_plan {
    u64 magic; /* FOLIO__PLAN_MAGIC while alive */
    folio_context *ctx;
    struct problem problem;           /* of create; its pointers are not used */
    folio_attend_args given;          /* of create; only numbers, and whether a pointer was NULL */
    struct seen_tensor seen[N_BOUND]; /* by bind.c's table */
    bool is_updated;
    size_t workspace_bytes;
    void *workspace;                /* [workspace_room] the plan's own */
    size_t workspace_room;          /* >= workspace_bytes */
    atomic_flag *workspace_is_busy; /* two attends at once without workspaces of their own: refused */
    void *backend_data;             /* of a backend that needs more */

    /* host backend */
    struct plan_shape shape;
    struct plan_work work;
    i64 *q_begin, *kv_begin;       /* [batch + 1] of the last update */
    i64 *kv_lens;                  /* [batch] */
    i64 max_kv_len;                /* of the last update */
    size_t scratch_bytes;          /* a worker */
    struct mod_range *mask_ranges; /* [steps of mask_mod] scratch of update */
};

folio_status folio__plan_require(const folio_plan *plan);

/* A plan for these checked arguments; is_updated is false. */
folio_status folio__plan_new(folio_plan **out, folio_context *ctx, const struct problem *p,
                             const folio_attend_args *args);

/* Record how the tensors of args look. */
void folio__plan_see(folio_plan *plan, const folio_attend_args *args);

/* EINVAL, naming what differs, unless a has b's shapes, strides, dtypes and options. */
folio_status folio__same_problem(const struct problem *a, const struct problem *b);

/* This call's views. EINVAL when anything but pointers, out, lse, scale and softcap differs from the plan, when a
 * pointer is missing, or when out or lse share memory with what is read. */
folio_status folio__plan_bind(const folio_plan *plan, const folio_attend_args *args, struct attend_args *bound);

#endif
