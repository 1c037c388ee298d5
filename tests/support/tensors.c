/* SPDX-License-Identifier: Apache-2.0
 * tensors.c: test tensors: strided, offset, poisoned, fenced. */
#include "support/tensors.h"

#include <stdlib.h>
#include <string.h>

DLDataType dl_type(enum dtype dtype)
{
    static const DLDataType types[] = {
        [DTYPE_F32] = { kDLFloat, 32, 1 },       [DTYPE_F16] = { kDLFloat, 16, 1 },
        [DTYPE_BF16] = { kDLBfloat, 16, 1 },     [DTYPE_E4M3] = { kDLFloat8_e4m3fn, 8, 1 },
        [DTYPE_E5M2] = { kDLFloat8_e5m2, 8, 1 }, [DTYPE_I8] = { kDLInt, 8, 1 },
        [DTYPE_I32] = { kDLInt, 32, 1 },         [DTYPE_I64] = { kDLInt, 64, 1 },
        [DTYPE_BOOL] = { kDLBool, 8, 1 },
    };
    return types[dtype];
}

static enum dtype dtype_of(const struct test_tensor *t)
{
    for (i32 dtype = DTYPE_F32; dtype <= DTYPE_BOOL; dtype++) {
        const DLDataType type = dl_type((enum dtype)dtype);
        if (type.code == t->dl.dtype.code && type.bits == t->dl.dtype.bits)
            return (enum dtype)dtype;
    }
    abort();
}

static void fill_header(struct test_tensor *t, enum dtype dtype, i32 ndim, const i64 *shape, const i64 *strides)
{
    *t = (struct test_tensor){ 0 };
    i64 compact = 1;
    for (i32 i = ndim - 1; i >= 0; i--) {
        t->shape[i] = shape[i];
        t->strides[i] = strides ? strides[i] : compact;
        compact *= shape[i];
    }
    t->dl = (DLTensor){ .device = { kDLCPU, 0 },
                        .ndim = ndim,
                        .dtype = dl_type(dtype),
                        .shape = t->shape,
                        .strides = strides ? t->strides : NULL };
}

/* Elements from the first to behind the last. */
static i64 span_of(const struct test_tensor *t)
{
    i64 last = 0;
    for (i32 i = 0; i < t->dl.ndim; i++) {
        if (t->shape[i] == 0)
            return 0;
        last += (t->shape[i] - 1) * t->strides[i];
    }
    return last + 1;
}

void tensor_make(struct test_tensor *t, enum dtype dtype, i32 ndim, const i64 *shape, const i64 *strides, i64 offset,
                 bool is_output)
{
    fill_header(t, dtype, ndim, shape, strides);
    const size_t element = (size_t)folio__dtype_bytes(dtype), fence = is_output ? RED_ZONE_BYTES : 0;
    t->is_output = is_output;
    t->dl.byte_offset = fence + (size_t)offset * element;
    t->block_bytes = (size_t)t->dl.byte_offset + (size_t)span_of(t) * element + fence;
    t->block = malloc(t->block_bytes + (t->block_bytes == 0));
    if (!t->block)
        abort();
    memset(t->block, is_output ? OUTPUT_FILL : POISON, t->block_bytes);
    t->dl.data = t->block;
}

void tensor_view(struct test_tensor *t, const struct test_tensor *of, enum dtype dtype, i32 ndim, const i64 *shape,
                 const i64 *strides, i64 offset)
{
    fill_header(t, dtype, ndim, shape, strides);
    t->block = of->block;
    t->block_bytes = of->block_bytes;
    t->is_view = true;
    t->dl.data = of->block;
    t->dl.byte_offset = (size_t)offset * (size_t)folio__dtype_bytes(dtype);
}

void tensor_free(struct test_tensor *t)
{
    if (!t->is_view)
        free(t->block);
    *t = (struct test_tensor){ 0 };
}

u8 *tensor_at(const struct test_tensor *t, const i64 *index)
{
    i64 offset = 0;
    for (i32 i = 0; i < t->dl.ndim; i++)
        offset += index[i] * t->strides[i];
    return t->block + t->dl.byte_offset + offset * (t->dl.dtype.bits / 8);
}

double tensor_get(const struct test_tensor *t, const i64 *index)
{
    const enum dtype dtype = dtype_of(t);
    if (dtype == DTYPE_BOOL)
        return *tensor_at(t, index);
    if (dtype_is_index(dtype))
        return (double)folio__load_index(dtype, tensor_at(t, index));
    return (double)folio__load_float(dtype, tensor_at(t, index));
}

void tensor_set(const struct test_tensor *t, const i64 *index, double x)
{
    if (dtype_of(t) == DTYPE_BOOL)
        *tensor_at(t, index) = x != 0;
    else
        folio__store_double(dtype_of(t), tensor_at(t, index), x);
}

void tensor_set_vector(const struct test_tensor *t, const i64 *index, const double *x)
{
    const i32 last = t->dl.ndim - 1;
    const enum dtype dtype = dtype_of(t);
    const i64 step = t->strides[last] * folio__dtype_bytes(dtype);
    u8 *at = tensor_at(t, index);
    for (i64 i = 0; i < t->shape[last]; i++)
        folio__store_double(dtype, at + i * step, x[i]);
}

void tensor_set_index(const struct test_tensor *t, const i64 *index, i64 x)
{
    const i32 narrow = (i32)x;
    if (dtype_of(t) == DTYPE_I64)
        memcpy(tensor_at(t, index), &x, sizeof x);
    else
        memcpy(tensor_at(t, index), &narrow, sizeof narrow);
}

static bool next_index(const struct test_tensor *t, i64 *index)
{
    for (i32 i = t->dl.ndim - 1; i >= 0; i--) {
        if (++index[i] < t->shape[i])
            return true;
        index[i] = 0;
    }
    return false;
}

/* Bytes of the tensor's elements become 1; whole rows at once where they are dense: sanitizers look at every access. */
static void mark_elements(const struct test_tensor *t, u8 *belongs)
{
    i64 index[4] = { 0 };
    const size_t element = t->dl.dtype.bits / 8;
    const i32 last = t->dl.ndim - 1;
    const bool is_dense = last >= 0 && t->strides[last] == 1;
    if (span_of(t) <= 0)
        return;
    do {
        memset(belongs + (tensor_at(t, index) - t->block), 1, is_dense ? element * (size_t)t->shape[last] : element);
        if (is_dense)
            index[last] = t->shape[last] - 1;
    } while (next_index(t, index));
}

bool tensor_gaps_intact(const struct test_tensor *t)
{
    u8 *belongs = calloc(t->block_bytes, 1);
    if (!belongs)
        abort();
    mark_elements(t, belongs);
    bool intact = true;
    for (size_t i = 0; i < t->block_bytes; i++)
        intact &= belongs[i] || t->block[i] == OUTPUT_FILL;
    free(belongs);
    return intact;
}

/* By eight bytes: one access where a sanitizer would see eight. */
u64 tensor_hash(const struct test_tensor *t)
{
    u64 hash = UINT64_C(0xcbf29ce484222325);
    for (size_t i = 0; i < t->block_bytes; i += sizeof(u64)) {
        u64 word = 0;
        const size_t left = t->block_bytes - i;
        if (left >= sizeof word)
            memcpy(&word, t->block + i, sizeof word);
        else
            memcpy(&word, t->block + i, left);
        hash = (hash ^ word) * UINT64_C(0x100000001b3);
        hash ^= hash >> 29;
    }
    return hash;
}
