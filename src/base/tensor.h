/* SPDX-License-Identifier: Apache-2.0
 * tensor.h: a DLTensor read once into what the library works with: our dtype, byte strides, a checked extent. */
#ifndef FOLIO_BASE_TENSOR_H
#define FOLIO_BASE_TENSOR_H

#include <stdbool.h>

#include "base/dtype.h"
#include "folio/base.h"
#include "folio/dlpack.h"

enum { TENSOR_MAX_DIM = 5 };

struct tensor {
    u8 *data;                   /* first element, byte_offset added; NULL = absent or empty */
    i64 shape[TENSOR_MAX_DIM];  /* elements */
    i64 stride[TENSOR_MAX_DIM]; /* bytes; 0 for extents of 1 */
    i32 ndim;                   /* 0 in a zeroed tensor: absent */
    enum dtype dtype;
    DLDevice device;
};

/* Read and check *src: known dtype, 1 lane, ndim <= TENSOR_MAX_DIM, no negative extent, no negative stride, sizes and
 * offsets that fit in 63 bits, data aligned to the element. `name` is the argument's name in messages.
 * src NULL gives a zeroed tensor (ndim 0, data NULL). */
folio_status folio__tensor_read(struct tensor *dst, const char *name, const DLTensor *src);

/* The bytes from the first element to behind the last: [data, data + span). 0 when empty. */
i64 folio__tensor_span(const struct tensor *t);
i64 folio__tensor_count(const struct tensor *t); /* elements */

static inline bool tensor_is_absent(const struct tensor *t)
{
    return t->dtype == DTYPE_NONE;
}

#endif
