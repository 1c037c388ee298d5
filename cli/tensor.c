/* SPDX-License-Identifier: Apache-2.0
 * tensor.c: a DLTensor with its shape and strides beside it. */
#include "tensor.h"

#include <assert.h>
#include <string.h>

DLDataType type_of_element(enum element element)
{
    static const DLDataType types[] = { { kDLFloat, 32, 1 }, { kDLFloat, 16, 1 },        { kDLBfloat, 16, 1 },
                                        { kDLInt, 8, 1 },    { kDLFloat8_e4m3fn, 8, 1 }, { kDLFloat8_e5m2, 8, 1 } };
    return types[element];
}

DLDataType type_of_ints(i32 bits)
{
    return (DLDataType){ kDLInt, (u8)bits, 1 };
}

void tensor_init_strided(struct tensor *t, void *data, DLDataType type, i32 ndim, const i64 *shape, const i64 *strides)
{
    assert(ndim <= 4);
    memcpy(t->shape, shape, (size_t)ndim * sizeof(*shape));
    memcpy(t->strides, strides, (size_t)ndim * sizeof(*strides));
    t->dl = (DLTensor){
        .data = data, .device = { kDLCPU, 0 }, .ndim = ndim, .dtype = type, .shape = t->shape, .strides = t->strides
    };
}

void tensor_init(struct tensor *t, void *data, DLDataType type, i32 ndim, const i64 *shape)
{
    i64 strides[4], next = 1;
    for (i32 i = ndim - 1; i >= 0; i--) {
        strides[i] = next;
        next *= shape[i];
    }
    tensor_init_strided(t, data, type, ndim, shape, strides);
}
