/* SPDX-License-Identifier: Apache-2.0
 * tensor.c: DLTensor -> struct tensor, with every check that needs no knowledge of what the tensor is for. */
#include "base/tensor.h"

#include <string.h>

#include "base/bits.h"
#include "base/status.h"

static enum dtype dtype_of(DLDataType type)
{
    static const struct {
        u8 code, bits;
        enum dtype dtype;
    } known[] = {
        { kDLFloat, 32, DTYPE_F32 },         { kDLFloat, 16, DTYPE_F16 },       { kDLBfloat, 16, DTYPE_BF16 },
        { kDLFloat8_e4m3fn, 8, DTYPE_E4M3 }, { kDLFloat8_e5m2, 8, DTYPE_E5M2 }, { kDLInt, 8, DTYPE_I8 },
        { kDLInt, 32, DTYPE_I32 },           { kDLInt, 64, DTYPE_I64 },         { kDLBool, 8, DTYPE_BOOL },
    };
    for (size_t i = 0; i < COUNT_OF(known); i++)
        if (type.code == known[i].code && type.bits == known[i].bits && type.lanes == 1)
            return known[i].dtype;
    return DTYPE_NONE;
}

/* Fill shape and byte strides; compact row-major strides where src has none. */
static folio_status read_extents(struct tensor *dst, const char *name, const DLTensor *src)
{
    const i64 element = folio__dtype_bytes(dst->dtype);
    i64 compact = element; /* stride of the next dim outward, if compact */
    i64 last = 0;          /* byte offset of the last element */
    bool empty = false;
    for (i32 i = src->ndim - 1; i >= 0; i--) {
        const i64 extent = src->shape[i];
        FOLIO_REQUIRE(extent >= 0, FOLIO_EINVAL, "%s: dim %d has extent %lld; must be >= 0", name, (int)i,
                      (long long)extent);
        i64 stride = compact;
        if (src->strides)
            FOLIO_REQUIRE(extent <= 1 || mul_fits(src->strides[i], element, &stride), FOLIO_EINVAL,
                          "%s: stride of dim %d, %lld elements, overflows 63 bits", name, (int)i,
                          (long long)src->strides[i]);
        FOLIO_REQUIRE(extent <= 1 || stride >= 0, FOLIO_EINVAL, "%s: stride of dim %d is %lld; must be >= 0", name,
                      (int)i, (long long)src->strides[i]);
        i64 reach = 0;
        FOLIO_REQUIRE(mul_fits(max_i64(extent, 1), compact, &compact) &&
                          (extent <= 1 || (mul_fits(extent - 1, stride, &reach) && add_fits(last, reach, &last))),
                      FOLIO_EINVAL, "%s: its size overflows 63 bits at dim %d of extent %lld", name, (int)i,
                      (long long)extent);
        dst->shape[i] = extent;
        dst->stride[i] = extent > 1 ? stride : 0;
        empty |= extent == 0;
    }
    FOLIO_REQUIRE(last <= INT64_MAX - element, FOLIO_EINVAL, "%s: its size overflows 63 bits", name);
    if (empty)
        memset(dst->stride, 0, sizeof dst->stride);
    return FOLIO_OK;
}

folio_status folio__tensor_read(struct tensor *dst, const char *name, const DLTensor *src)
{
    *dst = (struct tensor){ 0 };
    if (!src)
        return FOLIO_OK;
    FOLIO_REQUIRE(src->ndim >= 0 && src->ndim <= TENSOR_MAX_DIM, FOLIO_EINVAL, "%s: %d dims; allowed 0 .. %d", name,
                  (int)src->ndim, TENSOR_MAX_DIM);
    FOLIO_REQUIRE(src->ndim == 0 || src->shape, FOLIO_EINVAL, "%s: shape is NULL with %d dims", name, (int)src->ndim);
    struct tensor t = { .ndim = src->ndim, .device = src->device, .dtype = dtype_of(src->dtype) };
    FOLIO_REQUIRE_TYPE(t.dtype != DTYPE_NONE,
                       "%s: dtype code %u, %u bits, %u lanes; allowed f32 f16 bf16 e4m3 e5m2 i8 i32 i64 bool", name,
                       (unsigned)src->dtype.code, (unsigned)src->dtype.bits, (unsigned)src->dtype.lanes);
    FOLIO_TRY(read_extents(&t, name, src));
    if (src->data)
        t.data = (u8 *)src->data + src->byte_offset;
    FOLIO_REQUIRE((uintptr_t)t.data % (uintptr_t)folio__dtype_bytes(t.dtype) == 0, FOLIO_EINVAL,
                  "%s: data is not aligned to its %d-byte elements", name, (int)folio__dtype_bytes(t.dtype));
    *dst = t;
    return FOLIO_OK;
}

i64 folio__tensor_count(const struct tensor *t)
{
    i64 n = 1;
    for (i32 i = 0; i < t->ndim; i++)
        n *= t->shape[i];
    return n;
}

i64 folio__tensor_span(const struct tensor *t)
{
    if (folio__tensor_count(t) == 0)
        return 0;
    i64 last = 0;
    for (i32 i = 0; i < t->ndim; i++)
        last += (t->shape[i] - 1) * t->stride[i];
    return last + folio__dtype_bytes(t->dtype);
}
