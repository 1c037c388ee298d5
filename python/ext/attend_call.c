/* SPDX-License-Identifier: Apache-2.0
 * attend_call.c: one table says which parameter is which array of folio_attend_args. */
#include "attend_call.h"

#include <math.h>
#include <stddef.h>

#include "layout.h"
#include "result.h"

enum { NO_LIST = -2, NUMBERS = -3 };

static const struct {
    const char *name;
    int param;
    enum ext_access access;
    int width;     /* of lists of ints: EXT_ONE_DIM, 0 for tables; NO_LIST; NUMBERS: of floats */
    size_t offset; /* of the DLTensor pointer in folio_attend_args */
} fields[N_FIELDS] = {
#define FIELD(name, access, width)                                        \
    {                                                                     \
#name, P_##name, access, width, offsetof(folio_attend_args, name) \
    }
    [F_Q] = FIELD(q, EXT_READ, NO_LIST),
    [F_K_PAGES] = FIELD(k_pages, EXT_READ, NO_LIST),
    [F_V_PAGES] = FIELD(v_pages, EXT_READ, NO_LIST),
    [F_KV_LENS] = FIELD(kv_lens, EXT_READ, EXT_ONE_DIM),
    [F_PAGE_TABLE] = FIELD(page_table, EXT_READ, 0),
    [F_V_PAGE_TABLE] = FIELD(v_page_table, EXT_READ, 0),
    [F_KV_INDPTR] = FIELD(kv_indptr, EXT_READ, EXT_ONE_DIM),
    [F_KV_INDICES] = FIELD(kv_indices, EXT_READ, EXT_ONE_DIM),
    [F_Q_INDPTR] = FIELD(q_indptr, EXT_READ, EXT_ONE_DIM),
    [F_ALIBI_SLOPES] = FIELD(alibi_slopes, EXT_READ, NO_LIST),
    [F_SINKS] = FIELD(sinks, EXT_READ, NO_LIST),
    [F_MASK] = FIELD(mask, EXT_READ, NO_LIST),
    [F_BIAS] = FIELD(bias, EXT_READ, NO_LIST),
    [F_K_SCALE] = FIELD(k_scale, EXT_READ, NUMBERS),
    [F_V_SCALE] = FIELD(v_scale, EXT_READ, NUMBERS),
    [F_OUT] = FIELD(out, EXT_WRITE, NO_LIST),
    [F_LSE] = FIELD(lse, EXT_WRITE, NO_LIST),
#undef FIELD
};

static void point(struct ext_call *call, int field)
{
    DLTensor **slot = (DLTensor **)(void *)((char *)&call->args + fields[field].offset);
    *slot = ext_tensor(&call->arrays[field]);
}

int ext_objects_read(struct ext_state *state, PyObject *const *values, PyObject **objects)
{
    for (int i = 0; i < N_OBJECTS; i++)
        objects[i] = NULL;
    for (int i = 0; i < N_FIELDS; i++) {
        PyObject *value = values[fields[i].param];
        if (!value || value == Py_None)
            continue;
        objects[i] = fields[i].width == NO_LIST   ? Py_NewRef(value)
                     : fields[i].width == NUMBERS ? ext_numbers(state, fields[i].name, value)
                                                  : ext_indices(state, fields[i].name, value, fields[i].width);
        if (!objects[i])
            return -1;
    }
    return ext_mods_read(objects[F_Q], values, objects + F_MODS);
}

static void fill_args(folio_attend_args *args, const struct ext_options *o)
{
    *args = (folio_attend_args){
        .struct_size = sizeof *args,
        .scale = o->scale,
        .softcap = o->softcap,
        .window_left = o->window_left,
        .window_right = o->window_right,
        .max_q_len = o->max_q_len,
        .max_kv_len = o->max_kv_len,
        .causal = o->causal,
        .align = o->align,
        .flags = o->flags,
        .num_splits = o->num_splits,
    };
}

void ext_array_keep_shape(struct ext_array *like, const struct ext_array *from)
{
    *like = *from;
    like->holds = HOLDS_NOTHING;
    like->tensor.data = NULL;
    like->tensor.byte_offset = 0;
    like->tensor.shape = like->shape;
    like->tensor.strides = like->strides;
}

int ext_call_read(struct ext_state *state, struct ext_call *call, PyObject *const *objects,
                  const struct ext_array *like, const struct ext_options *options, PyObject *stream)
{
    fill_args(&call->args, options);
    ext_mods_point(&call->args, objects + F_MODS);
    for (int i = 0; i < N_FIELDS; i++) {
        call->arrays[i].holds = HOLDS_NOTHING;
        call->arrays[i].is_present = false;
    }
    if (!objects[F_Q] && !like) {
        PyErr_SetString(PyExc_TypeError, "q: None; must be an array [n_tokens, n_q_heads, head_dim]");
        return -1;
    }
    if (ext_stream_announce(state, stream) < 0)
        return -1;
    for (int i = 0; i < N_FIELDS; i++) {
        if (!objects[i] && like && like[i].is_present) {
            ext_array_keep_shape(&call->arrays[i], &like[i]);
            point(call, i);
        }
        if (!objects[i])
            continue;
        if (ext_array_read(state, &call->arrays[i], fields[i].name, objects[i], fields[i].access) < 0)
            return -1;
        if ((i == F_K_PAGES || i == F_V_PAGES) &&
            ext_layout_apply(&call->arrays[i], fields[i].name, options->layout, options->page_size) < 0)
            return -1;
        point(call, i);
    }
    return ext_stream_get(state, &call->arrays[F_Q], &call->stream);
}

void ext_call_release(struct ext_call *call)
{
    for (int i = 0; i < N_FIELDS; i++)
        ext_array_release(&call->arrays[i]);
}

folio_context *ext_call_context(struct ext_state *state, const struct ext_call *call, PyObject *const *objects,
                                const struct ext_options *options)
{
    const DLDevice device = call->arrays[F_Q].tensor.device;
    if (!ext_mods_call_back(objects + F_MODS))
        return ext_context(state, options->backend, options->num_threads, device);
    return ext_context_calling_back(state, options->backend, ext_mod_is_inside() ? 1 : options->num_threads, device);
}

/* Of out, in q's number of dims, and of lse. That number, or -1 with an exception. */
static int result_shapes(const struct ext_call *call, int64_t out[4], int64_t lse[2])
{
    const struct ext_array *q = &call->arrays[F_Q], *v = &call->arrays[F_V_PAGES];
    const int ndim = (int)q->tensor.ndim;
    if (ndim != 3 && ndim != 4) {
        PyErr_Format(PyExc_ValueError,
                     "q: %d dims; must have 3: [n_tokens, n_q_heads, head_dim], or 4: [runs, run, n_q_heads, head_dim]",
                     ndim);
        return -1;
    }
    for (int i = 0; i < ndim; i++)
        out[i] = q->shape[i];
    out[ndim - 1] = v->is_present ? v->shape[3] : q->shape[ndim - 1];
    lse[0] = q->shape[0];
    lse[1] = q->shape[ndim - 2];
    if (ndim == 4 && __builtin_mul_overflow(lse[0], q->shape[1], &lse[0]))
        lse[0] = 0; /* the library refuses such a q */
    return ndim;
}

static int make_result(struct ext_state *state, struct ext_call *call, PyObject **objects, int field,
                       enum ext_dtype dtype, int ndim, const int64_t *shape)
{
    objects[field] = ext_result_new(state, &call->arrays[F_Q], objects[F_Q], dtype, ndim, shape);
    if (!objects[field] ||
        ext_array_read(state, &call->arrays[field], fields[field].name, objects[field], EXT_WRITE) < 0)
        return -1;
    point(call, field);
    return 0;
}

int ext_call_make_results(struct ext_state *state, struct ext_call *call, PyObject **objects, bool with_lse)
{
    int64_t out[4], lse[2];
    const int ndim = result_shapes(call, out, lse);
    if (ndim < 0)
        return -1;
    const enum ext_dtype dtype = (enum ext_dtype)ext_dtype_of(call->arrays[F_Q].tensor.dtype);
    if (!objects[F_OUT] && make_result(state, call, objects, F_OUT, dtype, ndim, out) < 0)
        return -1;
    return with_lse && !objects[F_LSE] ? make_result(state, call, objects, F_LSE, EXT_F32, 2, lse) : 0;
}

static void describe(struct ext_call *call, int field, DLDataType dtype, int ndim, const int64_t *shape)
{
    struct ext_array *a = &call->arrays[field];
    if (a->is_present)
        return;
    a->is_present = true;
    a->tensor = (DLTensor){ .device = call->arrays[F_Q].tensor.device,
                            .ndim = ndim,
                            .dtype = dtype,
                            .shape = a->shape,
                            .strides = a->strides };
    int64_t stride = 1;
    for (int i = ndim - 1; i >= 0; i--) {
        a->shape[i] = shape[i];
        a->strides[i] = stride;
        if (__builtin_mul_overflow(stride, shape[i], &stride))
            stride = 0; /* the library refuses such a q */
    }
    point(call, field);
}

int ext_call_describe_results(struct ext_call *call)
{
    int64_t out[4], lse[2];
    const int ndim = result_shapes(call, out, lse);
    if (ndim < 0)
        return -1;
    describe(call, F_OUT, call->arrays[F_Q].tensor.dtype, ndim, out);
    describe(call, F_LSE, ext_dtype_dlpack(EXT_F32), 2, lse);
    return 0;
}

/* Element i of an index array, 0 where that can't be said. */
static int64_t index_at(const struct ext_array *a, int64_t i)
{
    if (!a->is_present || a->tensor.ndim != 1 || i >= a->shape[0] || !a->tensor.data)
        return 0;
    const char *data = (const char *)a->tensor.data + a->tensor.byte_offset;
    const int64_t at = i * a->strides[0];
    switch (ext_dtype_of(a->tensor.dtype)) {
    case EXT_I32:
        return ((const int32_t *)(const void *)data)[at];
    case EXT_I64:
        return ((const int64_t *)(const void *)data)[at];
    default:
        return 0;
    }
}

double ext_call_work(const struct ext_call *call)
{
    const struct ext_array *q = &call->arrays[F_Q], *lens = &call->arrays[F_KV_LENS];
    const struct ext_array *indptr = &call->arrays[F_Q_INDPTR];
    if (q->tensor.ndim < 3 || lens->tensor.ndim != 1 || !lens->is_present)
        return 0;
    if (ext_is_on_gpu(q))
        return 0;
    if (lens->tensor.device.device_type != kDLCPU ||
        (indptr->is_present && indptr->tensor.device.device_type != kDLCPU))
        return HUGE_VAL;
    double pairs = 0; /* of query row and key */
    for (int64_t b = 0; b < lens->shape[0]; b++) {
        const int64_t rows = indptr->is_present ? index_at(indptr, b + 1) - index_at(indptr, b) : 1;
        pairs += (double)rows * (double)index_at(lens, b);
    }
    return pairs * (double)q->shape[q->tensor.ndim - 2] * (double)q->shape[q->tensor.ndim - 1];
}

/* Letting go of the interpreter costs little alone, but with another thread busy in Python it costs a switch interval
 * to get it back: only calls that last longer than some tens of microseconds do. */
bool ext_is_long(double work, int32_t backend)
{
    enum { LONG = 200000, LONG_REF = 5000 };
    return work > (backend == FOLIO_BACKEND_REF ? LONG_REF : LONG);
}

PyObject *ext_call_give(const struct ext_call *call, PyObject *const *objects, bool return_lse)
{
    const enum ext_kind kind = call->arrays[F_Q].kind;
    PyObject *out = ext_result_finish(kind, Py_NewRef(objects[F_OUT]));
    if (!return_lse || !out)
        return out;
    PyObject *lse = ext_result_finish(kind, Py_NewRef(objects[F_LSE]));
    PyObject *both = lse ? PyTuple_Pack(2, out, lse) : NULL;
    Py_XDECREF(lse);
    Py_DECREF(out);
    return both;
}
