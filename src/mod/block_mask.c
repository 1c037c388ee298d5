/* SPDX-License-Identifier: Apache-2.0
 * block_mask.c: four arrays -> the map, every index checked. */
#include "mod/block_mask.h"

#include <string.h>

#include "base/alloc.h"
#include "base/bits.h"
#include "base/status.h"
#include "base/tensor.h"
#include "mod/mask_window.h"

#define BLOCK_MASK_MAGIC UINT64_C(0x666f6c626c6f636b)

/* The lists of one kind, as given. */
struct lists {
    const char *counts_name, *indices_name;
    struct tensor counts;  /* [batch | 1, heads | 1, rows] */
    struct tensor indices; /* [batch | 1, heads | 1, rows, cols] */
};

static folio_status read_array(struct tensor *dst, const char *name, const DLTensor *src, i32 ndim)
{
    FOLIO_REQUIRE(src, FOLIO_EINVAL, "%s: NULL", name);
    FOLIO_TRY(folio__tensor_read(dst, name, src));
    FOLIO_REQUIRE_TYPE(dtype_is_index(dst->dtype), "%s: dtype %s; must be i32 or i64", name,
                       folio__dtype_name(dst->dtype));
    FOLIO_REQUIRE(dst->ndim == ndim, FOLIO_EINVAL, "%s: %d dims; must have %d", name, (int)dst->ndim, (int)ndim);
    FOLIO_REQUIRE(dst->device.device_type == kDLCPU || dst->device.device_type == kDLCUDAHost ||
                      dst->device.device_type == kDLCUDAManaged,
                  FOLIO_EINVAL, "%s: device type %d; must be host memory", name, (int)dst->device.device_type);
    FOLIO_REQUIRE(dst->data || folio__tensor_count(dst) == 0, FOLIO_EINVAL, "%s: data is NULL", name);
    return FOLIO_OK;
}

static folio_status read_lists(struct lists *lists, const DLTensor *counts, const DLTensor *indices)
{
    FOLIO_TRY(read_array(&lists->counts, lists->counts_name, counts, 3));
    FOLIO_TRY(read_array(&lists->indices, lists->indices_name, indices, 4));
    for (i32 dim = 0; dim < 3; dim++)
        FOLIO_REQUIRE(lists->counts.shape[dim] == lists->indices.shape[dim], FOLIO_EINVAL,
                      "%s: dim %d is %lld; %s has %lld", lists->indices_name, (int)dim,
                      (long long)lists->indices.shape[dim], lists->counts_name, (long long)lists->counts.shape[dim]);
    return FOLIO_OK;
}

static folio_status read_sizes(struct block_mask *mask, const folio_block_mask_args *args, const struct tensor *indices)
{
    FOLIO_REQUIRE(args->q_block >= 1 && args->kv_block >= 1, FOLIO_EINVAL, "q_block %lld, kv_block %lld: must be >= 1",
                  (long long)args->q_block, (long long)args->kv_block);
    i64 rows_reach = 0, cols_reach = 0;
    FOLIO_REQUIRE(mul_fits(indices->shape[2], args->q_block, &rows_reach) &&
                      mul_fits(indices->shape[3], args->kv_block, &cols_reach),
                  FOLIO_EINVAL, "q_block %lld, kv_block %lld: the mask's size overflows 63 bits",
                  (long long)args->q_block, (long long)args->kv_block);
    FOLIO_REQUIRE(args->q_len >= 0 && args->q_len <= rows_reach, FOLIO_EINVAL,
                  "q_len %lld: must be 0 .. %lld, %lld rows of q_block", (long long)args->q_len, (long long)rows_reach,
                  (long long)indices->shape[2]);
    FOLIO_REQUIRE(args->kv_len >= 0, FOLIO_EINVAL, "kv_len %lld: must be >= 0", (long long)args->kv_len);
    *mask = (struct block_mask){ .n_batch = indices->shape[0],
                                 .n_heads = indices->shape[1],
                                 .n_rows = indices->shape[2],
                                 .q_block = args->q_block,
                                 .kv_block = args->kv_block,
                                 .q_len = args->q_len ? args->q_len : rows_reach,
                                 .kv_len = args->kv_len ? args->kv_len : cols_reach };
    mask->n_cols = ceil_div(mask->kv_len, mask->kv_block);
    mask->row_bytes = ceil_div(mask->n_cols, 4);
    return FOLIO_OK;
}

/* One row's list into its states. at: batch, head, row. */
static folio_status add_row(struct block_mask *mask, const struct lists *lists, const i64 at[3], enum mod_keep state)
{
    const struct tensor *counts = &lists->counts, *indices = &lists->indices;
    i64 count_at = 0, list_at = 0;
    for (i32 dim = 0; dim < 3; dim++) {
        count_at += at[dim] * counts->stride[dim];
        list_at += at[dim] * indices->stride[dim];
    }
    const i64 n = folio__load_index(counts->dtype, counts->data + count_at);
    FOLIO_REQUIRE(n >= 0 && n <= indices->shape[3], FOLIO_ERANGE, "%s[%lld, %lld, %lld] is %lld; must be 0 .. %lld",
                  lists->counts_name, (long long)at[0], (long long)at[1], (long long)at[2], (long long)n,
                  (long long)indices->shape[3]);
    u8 *states = mask->states + ((at[0] * mask->n_heads + at[1]) * mask->n_rows + at[2]) * mask->row_bytes;
    for (i64 i = 0; i < n; i++) {
        const i64 col = folio__load_index(indices->dtype, indices->data + list_at + i * indices->stride[3]);
        FOLIO_REQUIRE(col >= 0 && col < mask->n_cols, FOLIO_ERANGE,
                      "%s: batch %lld, head %lld, row %lld: entry %lld is block %lld; the mask has %lld",
                      lists->indices_name, (long long)at[0], (long long)at[1], (long long)at[2], (long long)i,
                      (long long)col, (long long)mask->n_cols);
        u8 *byte = &states[col / 4];
        const i32 shift = (i32)(col % 4 * 2);
        if ((*byte >> shift & 3) < (i32)state) /* full beats partial */
            *byte = (u8)((*byte & ~(3 << shift)) | (i32)state << shift);
    }
    return FOLIO_OK;
}

static folio_status add_lists(struct block_mask *mask, const struct lists *lists, enum mod_keep state)
{
    for (i64 b = 0; b < mask->n_batch; b++)
        for (i64 h = 0; h < mask->n_heads; h++)
            for (i64 row = 0; row < mask->n_rows; row++)
                FOLIO_TRY(add_row(mask, lists, (const i64[]){ b, h, row }, state));
    return FOLIO_OK;
}

static folio_status check_full_lists(const struct lists *full, const struct tensor *partial)
{
    for (i32 dim = 0; dim < 4; dim++)
        FOLIO_REQUIRE(full->indices.shape[dim] == partial->shape[dim], FOLIO_EINVAL,
                      "%s: dim %d is %lld; kv_indices has %lld", full->indices_name, (int)dim,
                      (long long)full->indices.shape[dim], (long long)partial->shape[dim]);
    return FOLIO_OK;
}

static folio_status allocate(folio_block_mask **out, const struct block_mask *mask)
{
    i64 n_bytes = mask->row_bytes;
    FOLIO_REQUIRE(mul_fits(n_bytes, mask->n_rows, &n_bytes) && mul_fits(n_bytes, mask->n_heads, &n_bytes) &&
                      mul_fits(n_bytes, mask->n_batch, &n_bytes),
                  FOLIO_EINVAL, "the mask's size overflows 63 bits");
    folio_block_mask *block_mask = folio__alloc(sizeof *block_mask);
    u8 *states = folio__alloc_zero((size_t)n_bytes);
    if (!block_mask || !states) {
        folio__free(block_mask);
        folio__free(states);
        return folio__fail(FOLIO_ENOMEM, "no memory for a block mask of %lld bytes", (long long)n_bytes);
    }
    *block_mask = (folio_block_mask){ .magic = BLOCK_MASK_MAGIC, .mask = *mask };
    block_mask->mask.states = states;
    *out = block_mask;
    return FOLIO_OK;
}

folio_status folio_block_mask_create(folio_block_mask **out, const folio_block_mask_args *from)
{
    folio_block_mask_args args;
    struct block_mask mask;
    struct lists partial = { .counts_name = "kv_num_blocks", .indices_name = "kv_indices" };
    struct lists full = { .counts_name = "full_kv_num_blocks", .indices_name = "full_kv_indices" };
    FOLIO_REQUIRE(out, FOLIO_EINVAL, "out: NULL");
    FOLIO_TRY(folio__read_struct("args", &args, sizeof args, from));
    FOLIO_TRY(read_lists(&partial, args.kv_num_blocks, args.kv_indices));
    const bool has_full = args.full_kv_num_blocks || args.full_kv_indices;
    if (has_full) {
        FOLIO_TRY(read_lists(&full, args.full_kv_num_blocks, args.full_kv_indices));
        FOLIO_TRY(check_full_lists(&full, &partial.indices));
    }
    FOLIO_TRY(read_sizes(&mask, &args, &partial.indices));
    FOLIO_TRY(folio__mod_require(&mask.mask_mod, "mask_mod", args.mask_mod, FOLIO_MOD_MASK));
    folio_block_mask *made;
    FOLIO_TRY(allocate(&made, &mask));
    folio_status status = add_lists(&made->mask, &partial, KEEP_SOME);
    if (status == FOLIO_OK && has_full)
        status = add_lists(&made->mask, &full, KEEP_ALL);
    if (status != FOLIO_OK) {
        folio_block_mask_destroy(&made);
        return status;
    }
    made->mask.is_window = folio__mask_window(&made->mask, &made->mask.window_left, &made->mask.window_right);
    *out = made;
    return FOLIO_OK;
}

void folio_block_mask_destroy(folio_block_mask **mask)
{
    if (!mask || !*mask)
        return;
    (*mask)->magic = 0;
    folio__free((*mask)->mask.states);
    folio__free(*mask);
    *mask = NULL;
}

folio_status folio__block_mask_require(const struct block_mask **mask, const folio_block_mask *from)
{
    *mask = NULL;
    if (!from)
        return FOLIO_OK;
    FOLIO_REQUIRE(from->magic == BLOCK_MASK_MAGIC, FOLIO_EHANDLE, "block_mask: not a block mask, or destroyed");
    *mask = &from->mask;
    return FOLIO_OK;
}
