/* SPDX-License-Identifier: Apache-2.0
 * tensor.h: a DLTensor with its shape and strides beside it. Not to be copied: it points into itself. */
#ifndef CLI_TENSOR_H
#define CLI_TENSOR_H

#include "folio/dlpack.h"
#include "model.h"
#include "types.h"

struct tensor {
    DLTensor dl;
    i64 shape[4], strides[4]; /* [dl.ndim]; strides in elements */
};

DLDataType type_of_element(enum element element);
DLDataType type_of_ints(i32 bits); /* i32, i64 */

/* Compact, row-major, on the CPU. shape [ndim], at most 4. */
void tensor_init(struct tensor *t, void *data, DLDataType type, i32 ndim, const i64 *shape);
/* The same with strides [ndim]. */
void tensor_init_strided(struct tensor *t, void *data, DLDataType type, i32 ndim, const i64 *shape, const i64 *strides);

#endif
