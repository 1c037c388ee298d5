/* SPDX-License-Identifier: Apache-2.0
 * bits.h: small integer arithmetic. The checked forms say whether the exact result fits. */
#ifndef FOLIO_BASE_BITS_H
#define FOLIO_BASE_BITS_H

#include <stdbool.h>

#include "base/types.h"

static inline i64 min_i64(i64 a, i64 b)
{
    return a < b ? a : b;
}

static inline i64 max_i64(i64 a, i64 b)
{
    return a > b ? a : b;
}

static inline i64 clamp_i64(i64 x, i64 lo, i64 hi)
{
    return x < lo ? lo : x > hi ? hi : x;
}

/* a >= 0, b > 0; no overflow for any such pair. */
static inline i64 ceil_div(i64 a, i64 b)
{
    return a / b + (a % b != 0);
}

static inline size_t round_up(size_t n, size_t multiple)
{
    return (n + multiple - 1) / multiple * multiple;
}

static inline bool add_fits(i64 a, i64 b, i64 *sum)
{
    return !__builtin_add_overflow(a, b, sum);
}

static inline bool mul_fits(i64 a, i64 b, i64 *product)
{
    return !__builtin_mul_overflow(a, b, product);
}

#endif
