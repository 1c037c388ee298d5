/* SPDX-License-Identifier: Apache-2.0
 * types.h: short integer names. The command sees only folio's public headers, so it has its own. */
#ifndef CLI_TYPES_H
#define CLI_TYPES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef int8_t i8;
typedef uint8_t u8;
typedef uint16_t u16;
typedef int32_t i32;
typedef uint32_t u32;
typedef int64_t i64;
typedef uint64_t u64;

#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))

static inline i64 min_i64(i64 a, i64 b)
{
    return a < b ? a : b;
}

static inline i64 max_i64(i64 a, i64 b)
{
    return a > b ? a : b;
}

static inline i64 ceil_div(i64 a, i64 b) /* a >= 0, b > 0, a + b fits */
{
    return (a + b - 1) / b;
}

#endif
