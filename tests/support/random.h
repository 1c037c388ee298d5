/* SPDX-License-Identifier: Apache-2.0
 * random.h: small, seeded random numbers: the same seed, the same problem, on every machine. */
#ifndef FOLIO_TESTS_RANDOM_H
#define FOLIO_TESTS_RANDOM_H

#include <math.h>
#include <stdbool.h>

#include "base/types.h"

struct rng {
    u64 state;
};

static inline u64 rng_next(struct rng *rng)
{
    u64 x = rng->state += UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
    return x ^ x >> 31;
}

/* lo .. hi, both included. */
static inline i64 rng_range(struct rng *rng, i64 lo, i64 hi)
{
    return lo + (i64)(rng_next(rng) % (u64)(hi - lo + 1));
}

static inline bool rng_one_in(struct rng *rng, i64 n)
{
    return rng_range(rng, 1, n) == 1;
}

static inline double rng_uniform(struct rng *rng) /* [0, 1) */
{
    return (double)(rng_next(rng) >> 11) * 0x1p-53;
}

static inline double rng_normal(struct rng *rng)
{
    const double radius = sqrt(-2 * log(1 - rng_uniform(rng)));
    return radius * cos(6.283185307179586 * rng_uniform(rng));
}

#define RNG_PICK(rng, list) ((list)[rng_range((rng), 0, (i64)COUNT_OF(list) - 1)])

#endif
