/* SPDX-License-Identifier: Apache-2.0
 * types.h: short integer names, valid for the host and under NVRTC (which has no <stdint.h>). */
#ifndef FOLIO_BASE_TYPES_H
#define FOLIO_BASE_TYPES_H

#ifdef __CUDACC_RTC__
typedef signed char i8;
typedef unsigned char u8;
typedef short i16;
typedef unsigned short u16;
typedef int i32;
typedef unsigned int u32;
typedef long long i64;
typedef unsigned long long u64;
#define FOLIO_STATIC_ASSERT(cond, text) static_assert(cond, text)
#else
#include <assert.h>
#include <stddef.h>
#include <stdint.h>
typedef int8_t i8;
typedef uint8_t u8;
typedef int16_t i16;
typedef uint16_t u16;
typedef int32_t i32;
typedef uint32_t u32;
typedef int64_t i64;
typedef uint64_t u64;
#define FOLIO_STATIC_ASSERT(cond, text) _Static_assert(cond, text)
#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))
#endif

#endif
