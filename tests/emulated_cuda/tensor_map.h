/* SPDX-License-Identifier: Apache-2.0
 * tensor_map.h: what stands in the opaque words of an emulated tensor map. C and C++. */
#ifndef EMULATED_TENSOR_MAP_H
#define EMULATED_TENSOR_MAP_H

#include "base/types.h"

enum { MAP_RANK = 5 };

struct map_words {
    u8 *base;
    u32 dims[MAP_RANK], box[MAP_RANK];
    i64 strides[MAP_RANK - 1]; /* bytes, of all but the first */
};

#endif
