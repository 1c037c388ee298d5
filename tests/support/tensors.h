/* SPDX-License-Identifier: Apache-2.0
 * tensors.h: DLTensors over memory of their own.
 *
 *   block   [red zone | offset | elements with gaps ............ | red zone]
 *   Written tensors have red zones; inputs end with their last element, so that a sanitizer sees one byte too far. */
#ifndef FOLIO_TESTS_TENSORS_H
#define FOLIO_TESTS_TENSORS_H

#include <stdbool.h>

#include "base/tensor.h"

enum { RED_ZONE_BYTES = 256, OUTPUT_FILL = 0xa5, POISON = 0xff /* NaN in every float type; -1 */ };

struct test_tensor {
    DLTensor dl; /* dl.data = block, dl.byte_offset = where the elements begin; ndim 0 and block NULL = absent */
    i64 shape[4], strides[4];
    u8 *block; /* [block_bytes] */
    size_t block_bytes;
    bool is_output, is_view; /* a view lives in another tensor's block */
};

DLDataType dl_type(enum dtype dtype);

/* strides in elements; NULL = compact (and dl.strides NULL). offset: elements in front. */
void tensor_make(struct test_tensor *t, enum dtype dtype, i32 ndim, const i64 *shape, const i64 *strides, i64 offset,
                 bool is_output);
/* Another view of `of`'s block. */
void tensor_view(struct test_tensor *t, const struct test_tensor *of, enum dtype dtype, i32 ndim, const i64 *shape,
                 const i64 *strides, i64 offset);
void tensor_free(struct test_tensor *t);

static inline bool tensor_there(const struct test_tensor *t)
{
    return t->block != NULL;
}

/* Element address; index [ndim]. */
u8 *tensor_at(const struct test_tensor *t, const i64 *index);
double tensor_get(const struct test_tensor *t, const i64 *index);
void tensor_set(const struct test_tensor *t, const i64 *index, double x);
void tensor_set_vector(const struct test_tensor *t, const i64 *index,
                       const double *x); /* [last axis], index[last] = 0 */
void tensor_set_index(const struct test_tensor *t, const i64 *index, i64 x);

/* Every byte of an output that belongs to no element is as tensor_make left it. */
bool tensor_gaps_intact(const struct test_tensor *t);
/* Of the whole block. */
u64 tensor_hash(const struct test_tensor *t);

#endif
