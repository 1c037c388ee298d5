/* SPDX-License-Identifier: Apache-2.0
 * plan_cuda.h: a plan on a device, from inside. */
#ifndef FOLIO_RUN_PLAN_CUDA_H
#define FOLIO_RUN_PLAN_CUDA_H

#include "kernel/cuda/device.h"
#include "kernel/cuda/memory.h"
#include "run/run_cuda.h"

enum { CUDA_KV_LENS, CUDA_Q_INDPTR, CUDA_KV_INDPTR, CUDA_K_IDS, CUDA_V_IDS, CUDA_N_INDICES };

/* The sequences of one kernel: which it is depends on a sequence's own rows, so that mates change no bit. */
struct cuda_class {
    i32 config; /* of the kernel */
    i32 block;  /* threads */
    cu_function function;
    struct cuda_decode decode;
    size_t shared_bytes;
    struct cuda_span span;
    struct cuda_work work;                    /* pointers into the plan's memory */
    i64 seqs_at, cost_at, rows_at, starts_at; /* bytes from there */
    i64 counters_at, n_counters;              /* words from the workspace's beginning */
    i64 leaf_slots_at, node_slots_at;         /* bytes from there */
    i64 slots_bytes;                          /* of both, side by side */
};

struct cuda_plan {
    struct cuda_device *device;
    cu_function plan_function;
    struct cuda_class classes[MAX_CLASSES];
    i32 n_classes;
    i32 error_index; /* of its record; 0: the one of calls without a plan */
    i32 n_kv_heads;
    i64 max_kv_len;
    char kernels[2 * 64]; /* their names */

    cu_ptr memory;
    i64 copy_at[CUDA_N_INDICES], copy_bytes[CUDA_N_INDICES]; /* at: bytes from memory */
    i64 workspace_at, n_counters, total_bytes;
    bool has_empty_slots; /* an update emptied the plan's own */
};

/* Everything but memory and the error record. The device is entered for all of these. */
folio_status folio__cuda_plan_prepare(struct cuda_plan *plan, folio_context *ctx, const struct cuda_problem *problem);
void folio__cuda_plan_place(struct cuda_plan *plan, cu_ptr memory);
/* Point work, of a class, at a workspace: the plan's own, or a caller's. */
void folio__cuda_workspace_place(struct cuda_work *work, const struct cuda_class *class, u8 *workspace);
folio_status folio__cuda_empty_slots(const struct cuda_plan *plan, u8 *workspace, cu_stream stream);
folio_status folio__cuda_plan_launch(const struct cuda_plan *plan, const struct cuda_problem *problem,
                                     cu_stream stream);
folio_status folio__cuda_plan_indices(const void **device, const struct cuda_plan *plan, i32 which,
                                      const struct cuda_indices *indices, cu_stream stream);

/* Set up the classes of a problem; none: it is for the generic kernel. */
void folio__cuda_choose_decode(struct cuda_plan *plan, const struct cuda_problem *problem);
/* Threads of a block of the kernel. */
i32 folio__cuda_decode_threads(const struct cuda_decode_key *key);
/* Maps of K and V, of boxes and of single tokens, for one call. EINVAL when data is not where the copy engine can
 * read. */
folio_status folio__cuda_decode_maps(struct cu_tensor_map k[2], struct cu_tensor_map v[2], const struct cuda_plan *plan,
                                     const struct cuda_class *class, const struct attend_args *args);

#endif
