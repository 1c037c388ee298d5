/* SPDX-License-Identifier: Apache-2.0
 * bad_problem.c: the mistakes. Shapes and pointers are made wrong in copies of headers, values in place. */
#include "support/bad_problem.h"

#include <stdlib.h>
#include <string.h>

struct edit *edit_tensor(struct bad_problem *b, const DLTensor **slot)
{
    struct edit *edit = &b->edits[b->n_edits++];
    edit->dl = **slot;
    i64 compact = 1;
    for (i32 i = edit->dl.ndim - 1; i >= 0 && edit->dl.shape; i--) {
        edit->shape[i] = (*slot)->shape[i];
        edit->strides[i] = (*slot)->strides ? (*slot)->strides[i] : compact;
        compact = (i64)((u64)compact * (u64)edit->shape[i]); /* sizes that overflow are among the mistakes */
    }
    edit->dl.shape = edit->shape;
    edit->dl.strides = edit->strides;
    *slot = &edit->dl;
    return edit;
}

/* ---- by argument: MAKE(name, condition, what to do with `b` and `a`) */

#define MAKE(name, possible, ...)                      \
    static bool name(struct bad_problem *b)            \
    {                                                  \
        folio_attend_args *a = &b->p.args;             \
        (void)a;                                       \
        if (!(possible) || b->n_edits + 2 > MAX_EDITS) \
            return false;                              \
        __VA_ARGS__;                                   \
        return true;                                   \
    }
#define EDIT(field) edit_tensor(b, (const DLTensor **)(void *)&a->field)

static i64 longest(const struct bad_problem *b)
{
    i64 n = 0;
    for (i32 i = 0; i < b->p.c.batch; i++)
        n = b->p.c.kv_lens[i] > n ? b->p.c.kv_lens[i] : n;
    return n;
}

/* A sequence with keys, or -1. */
static i64 with_keys(const struct bad_problem *b)
{
    for (i32 i = b->p.c.batch - 1; i >= 0; i--)
        if (b->p.c.kv_lens[i] > 0)
            return i;
    return -1;
}

#define HAS_KEYS (longest(b) > 0 && a->k_pages && a->v_pages)
#define HAS_ROWS (a->q && a->q->shape && a->q->shape[0] > 0)
#define KV_HEADS (b->p.c.n_kv_heads)
#define Q_HEADS (b->p.c.n_kv_heads * b->p.c.group)

MAKE(no_q, HAS_ROWS, a->q = NULL)
MAKE(no_q_data, HAS_ROWS, EDIT(q)->dl.data = NULL)
MAKE(no_pages, HAS_KEYS, a->k_pages = a->v_pages = NULL)
MAKE(no_k_pages, a->v_pages, a->k_pages = NULL)
MAKE(no_v_pages, a->k_pages, a->v_pages = NULL)
MAKE(no_k_data, HAS_KEYS, EDIT(k_pages)->dl.data = NULL)
MAKE(no_v_data, HAS_KEYS, EDIT(v_pages)->dl.data = NULL)
MAKE(no_out, a->out, a->out = NULL)
MAKE(no_out_data, a->out &&HAS_ROWS, EDIT(out)->dl.data = NULL)
MAKE(no_table, a->page_table, a->page_table = NULL)
MAKE(no_table_data, a->page_table &&HAS_KEYS, EDIT(page_table)->dl.data = NULL)
MAKE(no_indices, a->kv_indices, a->kv_indices = NULL)
MAKE(no_lens, a->kv_lens, a->kv_lens = NULL)
MAKE(no_lens_data, a->kv_lens && b->p.c.batch > 0, EDIT(kv_lens)->dl.data = NULL)
MAKE(no_size, true, a->struct_size = 0)
MAKE(large_size, true, a->struct_size = sizeof *a + 8)
MAKE(bad_causal, true, a->causal = 3)
MAKE(bad_align, true, a->align = -1)
MAKE(contradiction, true, a->causal = FOLIO_CAUSAL_TOP_LEFT; a->align = FOLIO_ALIGN_BOTTOM_RIGHT)
MAKE(bad_flags, true, a->flags |= 1u << 30)

MAKE(q_f64, a->q, EDIT(q)->dl.dtype = (DLDataType){ kDLFloat, 64, 1 })
MAKE(q_complex, a->q, EDIT(q)->dl.dtype = (DLDataType){ kDLComplex, 64, 1 })
MAKE(q_lanes, a->q, EDIT(q)->dl.dtype.lanes = 2)
MAKE(q_f16_pages_f32, a->q && a->k_pages && b->p.c.kv_dtype == DTYPE_F32, EDIT(q)->dl.dtype = dl_type(DTYPE_F16))
MAKE(k_f16_v_bf16, a->k_pages && b->p.c.kv_dtype == DTYPE_BF16, EDIT(k_pages)->dl.dtype = dl_type(DTYPE_F16))
MAKE(k_i8, a->k_pages, EDIT(k_pages)->dl.dtype = dl_type(DTYPE_I8))
MAKE(table_f32, a->page_table, EDIT(page_table)->dl.dtype = dl_type(DTYPE_F32))
MAKE(table_u32, a->page_table, EDIT(page_table)->dl.dtype = (DLDataType){ kDLUInt, 32, 1 })
MAKE(table_i16, a->page_table, EDIT(page_table)->dl.dtype = (DLDataType){ kDLInt, 16, 1 })
MAKE(indices_f32, a->kv_indices, EDIT(kv_indices)->dl.dtype = dl_type(DTYPE_F32))
MAKE(lens_f32, a->kv_lens, EDIT(kv_lens)->dl.dtype = dl_type(DTYPE_F32))
MAKE(q_indptr_f32, a->q_indptr, EDIT(q_indptr)->dl.dtype = dl_type(DTYPE_F32))
MAKE(out_i32, a->out && b->p.c.q_dtype == DTYPE_F32, EDIT(out)->dl.dtype = dl_type(DTYPE_I32))
MAKE(out_f16, a->out && b->p.c.q_dtype == DTYPE_BF16, EDIT(out)->dl.dtype = dl_type(DTYPE_F16))
MAKE(lse_i32, a->lse, EDIT(lse)->dl.dtype = dl_type(DTYPE_I32))
MAKE(sinks_i32, a->sinks, EDIT(sinks)->dl.dtype = dl_type(DTYPE_I32))
MAKE(slopes_i32, a->alibi_slopes, EDIT(alibi_slopes)->dl.dtype = dl_type(DTYPE_I32))
MAKE(bias_bool, a->bias, EDIT(bias)->dl.dtype = dl_type(DTYPE_BOOL))
MAKE(mask_i8, a->mask, EDIT(mask)->dl.dtype = dl_type(DTYPE_I8))

MAKE(q_on_gpu, a->q, EDIT(q)->dl.device = (DLDevice){ kDLCUDA, 0 })
MAKE(k_on_gpu, a->k_pages, EDIT(k_pages)->dl.device = (DLDevice){ kDLCUDA, 3 })
MAKE(table_on_gpu, a->page_table, EDIT(page_table)->dl.device.device_type = kDLCUDA)
MAKE(lens_on_gpu, a->kv_lens, EDIT(kv_lens)->dl.device.device_type = kDLCUDA)
MAKE(out_on_gpu, a->out, EDIT(out)->dl.device.device_type = kDLCUDA)
MAKE(bias_on_gpu, a->bias, EDIT(bias)->dl.device.device_type = kDLCUDA)
MAKE(q_unaligned, a->q &&HAS_ROWS, EDIT(q)->dl.byte_offset |= 1)
MAKE(table_unaligned, a->page_table, EDIT(page_table)->dl.byte_offset |= 1)

MAKE(q_2d, a->q, EDIT(q)->dl.ndim = 2)
MAKE(q_5d, a->q, struct edit *e = EDIT(q); e->dl.ndim = 5; e->shape[3] = e->shape[4] = 1)
MAKE(q_dims_negative, a->q, EDIT(q)->dl.ndim = -1)
MAKE(q_shape_null, a->q, EDIT(q)->dl.shape = NULL)
MAKE(q_extent_negative, a->q, EDIT(q)->shape[0] = -5)
MAKE(q_dim_less, a->q && a->k_pages && b->p.c.head_dim_qk > 1, EDIT(q)->shape[2]--)
MAKE(heads_no_multiple, a->q && a->k_pages && KV_HEADS > 1, EDIT(q)->shape[1]--)
MAKE(v_heads_differ, a->k_pages && a->v_pages && KV_HEADS > 1, EDIT(v_pages)->shape[2]--)
MAKE(v_pages_differ, a->k_pages && a->v_pages && !a->v_page_table && a->v_pages->shape[0] > 1,
     EDIT(v_pages)->shape[0]--)
MAKE(v_page_size_differs, a->v_pages && b->p.c.page_size > 1, EDIT(v_pages)->shape[1]--)
MAKE(lens_short, a->kv_lens && b->p.c.batch > 0, EDIT(kv_lens)->shape[0]--)
MAKE(lens_2d, a->kv_lens, struct edit *e = EDIT(kv_lens); e->dl.ndim = 2; e->shape[1] = e->strides[1] = 1)
MAKE(table_short, a->page_table && b->p.c.batch > 0, EDIT(page_table)->shape[0]--)
MAKE(table_1d, a->page_table, EDIT(page_table)->dl.ndim = 1)
MAKE(table_columns_strided, a->page_table && a->page_table->shape[1] > 1, EDIT(page_table)->strides[1] = 2)
MAKE(v_table_short, a->v_page_table && b->p.c.batch > 0, EDIT(v_page_table)->shape[0]--)
MAKE(both_tables, a->page_table, a->kv_indptr = a->kv_lens; a->kv_indices = a->kv_lens)
MAKE(out_short, a->out &&HAS_ROWS, EDIT(out)->shape[0]--)
MAKE(out_dim_less, a->out && a->v_pages && b->p.c.head_dim_v > 1, EDIT(out)->shape[2]--)
MAKE(lse_short, a->lse &&HAS_ROWS, EDIT(lse)->shape[0]--)
MAKE(lse_1d, a->lse, EDIT(lse)->dl.ndim = 1)
MAKE(mask_heads_differ, a->mask &&Q_HEADS > 2, struct edit *e = EDIT(mask); e->shape[1] = 2; e->strides[1] = 0)
MAKE(bias_tokens_differ, a->bias &&HAS_ROWS, struct edit *e = EDIT(bias); e->shape[0] = a->q->shape[0] + 1;
     e->strides[0] = 0)
MAKE(mask_keys_short, a->mask &&longest(b) > 2, EDIT(mask)->shape[2] = 2)
MAKE(bias_keys_short, a->bias &&longest(b) > 2, EDIT(bias)->shape[2] = 2)
MAKE(slopes_of_kv_heads, a->alibi_slopes && b->p.c.group > 1, EDIT(alibi_slopes)->shape[0] = KV_HEADS)
MAKE(sinks_short, a->sinks, EDIT(sinks)->shape[0]--)
MAKE(head_dim_0, a->q, EDIT(q)->shape[2] = 0)
MAKE(heads_0, a->k_pages, EDIT(k_pages)->shape[2] = 0)
MAKE(page_size_0, a->k_pages, EDIT(k_pages)->shape[1] = 0)
MAKE(head_dim_1025, a->q, EDIT(q)->shape[2] = 1025)

/* ---- values */

static void set_len(struct bad_problem *b, enum problem_tensor which, i64 i, i64 value)
{
    tensor_set_index(&b->p.t[which], &i, value);
}

/* The entry for the last used page of sequence seq, in whichever table K has. */
static void set_page(struct bad_problem *b, i64 seq, i64 value)
{
    const i64 column = (b->p.c.kv_lens[seq] - 1) / b->p.c.page_size;
    if (!b->p.c.csr) {
        tensor_set_index(&b->p.t[T_TABLE], (i64[]){ seq, column }, value);
        return;
    }
    const i64 at = (i64)tensor_get(&b->p.t[T_KV_INDPTR], &seq) + column;
    tensor_set_index(&b->p.t[T_KV_INDICES], &at, value);
}

static i64 capacity(const struct bad_problem *b, i64 seq)
{
    if (!b->p.c.csr)
        return b->p.t[T_TABLE].shape[1] * b->p.c.page_size;
    const i64 next = seq + 1;
    return ((i64)tensor_get(&b->p.t[T_KV_INDPTR], &next) - (i64)tensor_get(&b->p.t[T_KV_INDPTR], &seq)) *
           b->p.c.page_size;
}

#define BATCH (b->p.c.batch)
MAKE(q_indptr_end, a->q_indptr, set_len(b, T_Q_INDPTR, BATCH, b->p.n_tokens + 1))
MAKE(q_indptr_begin, a->q_indptr && b->p.n_tokens > 0, set_len(b, T_Q_INDPTR, 0, 1))
MAKE(q_indptr_falls, a->q_indptr &&BATCH > 1, set_len(b, T_Q_INDPTR, 1, -3))
MAKE(kv_indptr_end, a->kv_indptr &&BATCH > 0, set_len(b, T_KV_INDPTR, BATCH, 1 << 20))
MAKE(kv_indptr_begin, a->kv_indptr, set_len(b, T_KV_INDPTR, 0, -1))
MAKE(len_negative, BATCH > 0, set_len(b, T_KV_LENS, BATCH - 1, -1))
MAKE(len_over_capacity, HAS_KEYS, set_len(b, T_KV_LENS, with_keys(b), capacity(b, with_keys(b)) + 1))
MAKE(len_huge, HAS_KEYS && b->p.c.lens_i64, set_len(b, T_KV_LENS, with_keys(b), INT64_MAX))
MAKE(page_negative, HAS_KEYS, set_page(b, with_keys(b), -1))
MAKE(page_over, HAS_KEYS, set_page(b, with_keys(b), a->k_pages->shape[0]))
MAKE(page_2_31, HAS_KEYS, set_page(b, with_keys(b), INT32_MAX))
MAKE(page_2_40, HAS_KEYS && b->p.c.ids_i64, set_page(b, with_keys(b), INT64_C(1) << 40))
MAKE(max_kv_len_low, longest(b) > 1, a->max_kv_len = longest(b) - 1)
MAKE(max_kv_len_negative, true, a->max_kv_len = -1)
MAKE(max_q_len_negative, true, a->max_q_len = -7)
MAKE(window_left, true, a->flags |= FOLIO_WINDOW_IS_SET; a->window_left = -5; a->window_right = 0)
MAKE(window_right, true, a->flags |= FOLIO_WINDOW_IS_SET; a->window_left = 0; a->window_right = -2)
MAKE(softcap_negative, true, a->softcap = -1)
MAKE(softcap_nan, true, a->softcap = NAN)
MAKE(softcap_inf, true, a->softcap = INFINITY)
MAKE(scale_nan, true, a->flags |= FOLIO_SCALE_IS_SET; a->scale = NAN)
MAKE(scale_inf, true, a->flags |= FOLIO_SCALE_IS_SET; a->scale = -INFINITY)
MAKE(scales_given, true, a->k_scale = a->kv_lens)
MAKE(v_scales_given, true, a->v_scale = a->kv_lens)
MAKE(splits_negative, true, a->num_splits = -1)
MAKE(splits_many, true, a->num_splits = 1000000000)
MAKE(not_a_score_mod, true, a->score_mod = (const folio_mod *)(const void *)b)
MAKE(not_a_mask_mod, true, a->mask_mod = (const folio_mod *)(const void *)b)
MAKE(not_a_block_mask, true, a->block_mask = (const folio_block_mask *)(const void *)b)

/* ---- strides and memory */

MAKE(q_dim_strided, HAS_ROWS && a->q->shape[2] > 1, EDIT(q)->strides[2] = 2)
MAKE(k_dim_stride_0, a->k_pages && b->p.c.head_dim_qk > 1 && a->k_pages->shape[0] > 0, EDIT(k_pages)->strides[3] = 0)
MAKE(page_stride_negative, a->k_pages && a->k_pages->shape[0] > 1, struct edit *e = EDIT(k_pages);
     e->strides[0] = -llabs(e->strides[0]))
MAKE(page_stride_0, a->v_pages && a->v_pages->shape[0] > 1, EDIT(v_pages)->strides[0] = 0)
MAKE(out_is_q, a->out &&HAS_ROWS && b->p.c.head_dim_qk == b->p.c.head_dim_v, EDIT(out)->dl = *a->q)
MAKE(out_in_v, a->out &&HAS_ROWS && a->v_pages && a->v_pages->shape[0] > 0, struct edit *e = EDIT(out);
     e->dl.data = a->v_pages->data; e->dl.byte_offset = a->v_pages->byte_offset)
MAKE(lse_in_out, a->lse && a->out && HAS_ROWS && b->p.c.q_dtype == DTYPE_F32, struct edit *e = EDIT(lse);
     e->dl.data = a->out->data; e->dl.byte_offset = a->out->byte_offset)
MAKE(out_on_itself, a->out && a->out->shape[0] > 1, EDIT(out)->strides[0] = 0)
MAKE(pages_2_63, a->k_pages, struct edit *e = EDIT(k_pages); e->shape[0] = e->strides[0] = INT64_C(1) << 40)
MAKE(tokens_2_63, a->q, struct edit *e = EDIT(q); e->shape[0] = INT64_MAX / 2; e->strides[0] = 8)
MAKE(workspace_small, true, a->workspace = b->workspace; a->workspace_bytes = 1)

#define V FOLIO_EINVAL, FOLIO_ERROR_VALUE
#define T FOLIO_EINVAL, FOLIO_ERROR_TYPE
#define I FOLIO_ERANGE, FOLIO_ERROR_VALUE
#define U FOLIO_ENOTSUP, FOLIO_ERROR_VALUE
#define S FOLIO_EHANDLE, FOLIO_ERROR_VALUE
#define M(row, name, class, ...) \
    {                            \
        row, #name, name, class, \
        {                        \
            __VA_ARGS__          \
        }                        \
    }

const struct mistake mistakes[] = {
    M(1, no_q, V, "q: NULL"),
    M(1, no_q_data, V, "q: data is NULL"),
    M(2, no_pages, V, "k_pages", "NULL"),
    M(2, no_k_pages, V, "k_pages: NULL"),
    M(2, no_v_pages, V, "v_pages: NULL"),
    M(2, no_k_data, V, "k_pages: data is NULL"),
    M(2, no_v_data, V, "v_pages: data is NULL"),
    M(3, no_out, V, "out: NULL"),
    M(3, no_out_data, V, "out: data is NULL"),
    M(4, no_table, V, "page_table: NULL"),
    M(4, no_table_data, V, "page_table: data is NULL"),
    M(4, no_indices, V, "kv_indices: NULL"),
    M(5, no_lens, V, "kv_lens: NULL"),
    M(5, no_lens_data, V, "kv_lens: data is NULL"),
    M(6, no_size, V, "struct_size 0"),
    M(6, large_size, V, "struct_size"),
    M(10, bad_causal, V, "causal 3"),
    M(10, bad_align, V, "align -1"),
    M(10, contradiction, V, "align 2", "causal 1"),
    M(10, bad_flags, V, "flags", "0x40000000"),
    M(11, q_f64, T, "q: dtype", "64 bits"),
    M(13, q_complex, T, "q: dtype", "code 5"),
    M(13, q_lanes, T, "q: dtype", "2 lanes"),
    M(12, q_f16_pages_f32, T, "q: dtype f16", "f32"),
    M(12, k_f16_v_bf16, T, "f16", "bf16"),
    M(12, k_i8, T, "v_pages", "i8"),
    M(14, table_f32, T, "page_table: dtype f32", "i32 i64"),
    M(15, table_u32, T, "page_table: dtype"),
    M(15, table_i16, T, "page_table: dtype", "16 bits"),
    M(14, indices_f32, T, "kv_indices: dtype f32"),
    M(16, lens_f32, T, "kv_lens: dtype f32"),
    M(16, q_indptr_f32, T, "q_indptr: dtype f32"),
    M(36, out_i32, T, "out: dtype i32"),
    M(36, out_f16, T, "out: dtype f16", "bf16"),
    M(37, lse_i32, T, "lse: dtype i32"),
    M(40, sinks_i32, T, "sinks: dtype i32"),
    M(39, slopes_i32, T, "alibi_slopes: dtype i32"),
    M(38, bias_bool, T, "bias: dtype bool"),
    M(38, mask_i8, T, "mask: dtype i8"),
    M(18, q_on_gpu, V, "q: on device type 2"),
    M(19, k_on_gpu, V, "k_pages: on device type 2, id 3"),
    M(18, table_on_gpu, V, "page_table: on device type 2"),
    M(18, lens_on_gpu, V, "kv_lens: on device type 2"),
    M(18, out_on_gpu, V, "out: on device type 2"),
    M(18, bias_on_gpu, V, "bias: on device type 2"),
    M(21, q_unaligned, V, "q: data is not aligned"),
    M(21, table_unaligned, V, "page_table: data is not aligned"),
    M(25, q_2d, V, "q: 2 dims"),
    M(25, q_5d, V, "q: 5 dims"),
    M(25, q_dims_negative, V, "q: -1 dims"),
    M(25, q_shape_null, V, "q: shape is NULL"),
    M(25, q_extent_negative, V, "q: dim 0", "-5"),
    M(26, q_dim_less, V, "k_pages: head_dim", "q's"),
    M(27, heads_no_multiple, V, "q: ", "multiple"),
    M(28, v_heads_differ, U, "v_pages", "kv heads"),
    M(29, v_pages_differ, V, "v_pages", "pages"),
    M(30, v_page_size_differs, V, "v_pages: page_size"),
    M(31, lens_short, V, "kv_lens: ", "batch is"),
    M(31, lens_2d, V, "kv_lens: 2 dims"),
    M(32, table_short, V, "page_table: ", "rows", "batch is"),
    M(32, table_1d, V, "page_table: 1 dims"),
    M(32, table_columns_strided, V, "page_table: stride", "2 elements"),
    M(32, v_table_short, V, "v_page_table: ", "batch is"),
    M(32, both_tables, V, "page_table: given beside kv_indptr"),
    M(33, q_indptr_end, V, "q_indptr[", "n_tokens"),
    M(34, q_indptr_begin, V, "q_indptr[0] = 1", "must be 0"),
    M(35, q_indptr_falls, V, "q_indptr[1] = -3"),
    M(35, kv_indptr_end, V, "kv_indptr[", "1048576"),
    M(34, kv_indptr_begin, V, "kv_indptr[0] = -1", "must be 0"),
    M(36, out_short, V, "out: ["),
    M(36, out_dim_less, V, "out: head_dim"),
    M(37, lse_short, V, "lse: ["),
    M(37, lse_1d, V, "lse: 1 dims"),
    M(38, mask_heads_differ, V, "mask: [", "query heads"),
    M(38, bias_tokens_differ, V, "bias: [", "tokens"),
    M(38, mask_keys_short, V, "mask: covers 2 keys"),
    M(38, bias_keys_short, V, "bias: covers 2 keys"),
    M(39, slopes_of_kv_heads, V, "alibi_slopes: ", "query head"),
    M(40, sinks_short, V, "sinks: ", "query head"),
    M(41, head_dim_0, V, "q: dim 0"),
    M(41, heads_0, V, "k_pages: 0 heads"),
    M(41, page_size_0, V, "k_pages: page_size 0"),
    M(42, head_dim_1025, U, "q: head_dim 1025", "1024"),
    M(43, len_negative, V, "kv_lens[", "-1"),
    M(44, len_over_capacity, I, "kv_lens[", "page table"),
    M(44, len_huge, I, "kv_lens[", "9223372036854775807", "page table"),
    M(45, page_negative, I, "row ", "column ", "page -1;"),
    M(46, page_over, I, "row ", "column ", "there are"),
    M(47, page_2_31, I, "row ", "page 2147483647;"),
    M(47, page_2_40, I, "row ", "page 1099511627776;"),
    M(44, max_kv_len_low, V, "kv_lens[", "max_kv_len is"),
    M(44, max_kv_len_negative, V, "max_kv_len -1"),
    M(33, max_q_len_negative, V, "max_q_len -7"),
    M(50, window_left, V, "window_left -5", ">= -1"),
    M(50, window_right, V, "window_right -2", ">= -1"),
    M(51, softcap_negative, V, "softcap -1"),
    M(51, softcap_nan, V, "softcap", "nan"),
    M(51, softcap_inf, V, "softcap inf"),
    M(52, scale_nan, V, "scale", "nan"),
    M(52, scale_inf, V, "scale -inf"),
    M(53, scales_given, V, "k_scale"),
    M(53, v_scales_given, V, "v_scale"),
    M(54, splits_negative, V, "num_splits -1"),
    M(54, splits_many, V, "num_splits 1000000000", "65536"),
    M(7, not_a_score_mod, S, "score_mod: not a mod"),
    M(7, not_a_mask_mod, S, "mask_mod: not a mod"),
    M(7, not_a_block_mask, S, "block_mask: not a block mask"),
    M(55, q_dim_strided, V, "q: stride of the last dim is 2"),
    M(55, k_dim_stride_0, V, "k_pages: stride of the last dim is 0"),
    M(56, page_stride_negative, V, "k_pages: stride of dim 0 is -"),
    M(56, page_stride_0, V, "v_pages: page stride 0"),
    M(57, out_is_q, V, "out: shares memory with q"),
    M(57, out_in_v, V, "out: shares memory with"),
    M(57, lse_in_out, V, "lse: shares memory with out"),
    M(57, out_on_itself, V, "out: elements share memory"),
    M(58, pages_2_63, V, "k_pages: ", "63 bits"),
    M(58, tokens_2_63, V, "q: ", "63 bits"),
    M(59, workspace_small, V, "workspace_bytes 1; this plan needs"),
};
const i32 n_mistakes = COUNT_OF(mistakes);
