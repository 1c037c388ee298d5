/* SPDX-License-Identifier: Apache-2.0
 * dtype.h: element types, and the exact scalar conversions that every kernel must meet.
 * Narrowing rounds to nearest, ties to even; NaN stays NaN (quiet); f16 and bf16 overflow to infinity, the quantised
 * dtypes saturate. */
#ifndef FOLIO_BASE_DTYPE_H
#define FOLIO_BASE_DTYPE_H

#include "base/types.h"

enum dtype {                     /* values are shared with device code */
             DTYPE_INVALID = -1, /* nothing is: it makes the type signed, like the i32 fields that hold one */
             DTYPE_NONE = 0,
             DTYPE_F32 = 1,
             DTYPE_F16 = 2,
             DTYPE_BF16 = 3,
             DTYPE_E4M3 = 4,
             DTYPE_E5M2 = 5,
             DTYPE_I8 = 6,
             DTYPE_I32 = 7,
             DTYPE_I64 = 8,
             DTYPE_BOOL = 9,
};

#ifndef __CUDACC_RTC__
#include <stdbool.h>

i32 folio__dtype_bytes(enum dtype dtype);        /* 0 for NONE */
const char *folio__dtype_name(enum dtype dtype); /* "bf16" */

static inline bool dtype_is_float(enum dtype dtype) /* the three that q, k, v may have without scales */
{
    return dtype == DTYPE_F32 || dtype == DTYPE_F16 || dtype == DTYPE_BF16;
}

static inline bool dtype_is_quantised(enum dtype dtype) /* stored; times a scale it is a value */
{
    return dtype == DTYPE_E4M3 || dtype == DTYPE_E5M2 || dtype == DTYPE_I8;
}

static inline bool dtype_is_index(enum dtype dtype)
{
    return dtype == DTYPE_I32 || dtype == DTYPE_I64;
}

float folio__f16_to_f32(u16 x);
u16 folio__f32_to_f16(float x);
float folio__bf16_to_f32(u16 x);
u16 folio__f32_to_bf16(float x);

/* The finite range saturates, infinities too; NaN stays NaN. */
float folio__e4m3_to_f32(u8 x);
u8 folio__f32_to_e4m3(float x);
float folio__e5m2_to_f32(u8 x);
u8 folio__f32_to_e5m2(float x);
i8 folio__f32_to_i8(float x);             /* -127 .. 127; NaN gives 0 */
float folio__dtype_max(enum dtype dtype); /* of a quantised dtype: 448, 57344, 127 */

/* One element of a float or quantised tensor, unscaled, and back. */
float folio__load_float(enum dtype dtype, const void *p);
void folio__store_float(enum dtype dtype, void *p, float x);
/* The double is rounded once, not through f32. */
void folio__store_double(enum dtype dtype, void *p, double x);
/* One element of an i32 or i64 tensor. */
i64 folio__load_index(enum dtype dtype, const void *p);
#endif

#endif
