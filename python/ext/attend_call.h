/* SPDX-License-Identifier: Apache-2.0
 * attend_call.h: the arguments of attention(), plan() and explain(): Python values -> folio_attend_args. */
#ifndef FOLIO_EXT_ATTEND_CALL_H
#define FOLIO_EXT_ATTEND_CALL_H

#include "array.h"
#include "mod.h"
#include "params.h"

/* The arrays of a call. The first three and the last two change from layer to layer; a plan keeps the others. */
enum ext_field {
    F_Q,
    F_K_PAGES,
    F_V_PAGES,
    F_KV_LENS,
    F_PAGE_TABLE,
    F_V_PAGE_TABLE,
    F_KV_INDPTR,
    F_KV_INDICES,
    F_Q_INDPTR,
    F_ALIBI_SLOPES,
    F_SINKS,
    F_MASK,
    F_BIAS,
    F_K_SCALE,
    F_V_SCALE,
    F_OUT,
    F_LSE,
    N_FIELDS,
    F_MODS = N_FIELDS, /* only objects: score_mod, mask_mod, block_mask, compiled */
    N_OBJECTS = F_MODS + EXT_N_MODS
};

static inline bool ext_field_is_kept(int field)
{
    return (field >= F_KV_LENS && field <= F_V_SCALE) || field >= F_MODS;
}

/* Everything that is no array. */
struct ext_options {
    double scale, softcap;
    int64_t page_size, max_q_len, max_kv_len; /* 0 = not given */
    int64_t window_left, window_right;
    int32_t layout, causal, align, num_splits, num_threads, backend;
    uint32_t flags;
    bool return_lse;
};

struct ext_call {
    struct ext_array arrays[N_FIELDS];
    folio_attend_args args;
    void *stream; /* a CUstream; NULL on a CPU */
};

/* 0, or -1 with TypeError, ValueError or NotImplementedError. */
int ext_options_read(PyObject *const *values /* [N_ATTEND_PARAMS] */, struct ext_options *options);

/* The arrays among the values, lists of ints made arrays, and the mods: new references into objects [N_OBJECTS], NULL
 * where absent. */
int ext_objects_read(struct ext_state *state, PyObject *const *values, PyObject **objects);

/* Look at all objects and fill call->args; like [N_FIELDS] or NULL stands in where there is no object. stream: what the
 * caller gave, or NULL. Release the call in either case. */
int ext_call_read(struct ext_state *state, struct ext_call *call, PyObject *const *objects,
                  const struct ext_array *like, const struct ext_options *options, PyObject *stream);
/* Remember shape, strides and dtype of an array, not its memory. */
void ext_array_keep_shape(struct ext_array *like, const struct ext_array *from);
void ext_call_release(struct ext_call *call);

/* Make what is missing of out [n_tokens, n_q_heads, head_dim_v], of 4 dims where q has 4, and, if wanted, of lse
 * [n_tokens, n_q_heads]: in objects and in the call. -1 with an exception. */
int ext_call_make_results(struct ext_state *state, struct ext_call *call, PyObject **objects, bool with_lse);
/* The same without memory: shapes and dtypes alone, for a plan. */
int ext_call_describe_results(struct ext_call *call);

/* The context of such a call; borrowed, NULL with an exception. */
folio_context *ext_call_context(struct ext_state *state, const struct ext_call *call, PyObject *const *objects,
                                const struct ext_options *options);

/* About how many multiplications the lengths in host memory ask for; HUGE_VAL when they are elsewhere. */
double ext_call_work(const struct ext_call *call);
/* On a GPU a call only launches: other threads have nothing to wait for. */
static inline bool ext_is_on_gpu(const struct ext_array *array)
{
    return array->tensor.device.device_type == kDLCUDA;
}
/* Is that worth letting other Python threads in? */
bool ext_is_long(double work, int32_t backend);

/* out, or (out, lse). Borrows objects; NULL with an exception. */
PyObject *ext_call_give(const struct ext_call *call, PyObject *const *objects, bool return_lse);

#endif
