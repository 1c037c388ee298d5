/* SPDX-License-Identifier: Apache-2.0
 * probe_tmpl.h: the two loops of the probe, over vectors of VECTOR_BYTES. Included by probe_<isa>.c, which says how
 * wide its registers are. */
#include "probe.h"

typedef u64 words __attribute__((vector_size(VECTOR_BYTES), may_alias));
typedef float floats __attribute__((vector_size(VECTOR_BYTES)));

enum {
    LINE = 64,
    BURST = 4 * LINE,
    PER_LINE = LINE / VECTOR_BYTES,
    N_ACCUMULATORS = 12, /* two pipes times four cycles of latency, and some; with 16 registers more would spill */
};

static inline words read_line(const u8 *line)
{
    words sum = *(const words *)line;
    for (size_t i = 1; i < PER_LINE; i++)
        sum ^= ((const words *)line)[i];
    return sum;
}

static u64 read_part(const u8 *part, size_t bytes, struct read_style style)
{
    words a = { 0 }, b = { 0 }, c = { 0 }, d = { 0 };
    const size_t n_streams = (size_t)style.n_streams, stream_bytes = bytes / n_streams;
    const size_t ahead = (size_t)style.prefetch_lines * LINE;
    for (size_t at = 0; at < stream_bytes; at += BURST)
        for (size_t stream = 0; stream < n_streams; stream++) {
            const u8 *p = part + stream * stream_bytes + at;
            if (ahead) {
                __builtin_prefetch(p + ahead);
                __builtin_prefetch(p + ahead + LINE);
                __builtin_prefetch(p + ahead + 2 * LINE);
                __builtin_prefetch(p + ahead + 3 * LINE);
            }
            a ^= read_line(p);
            b ^= read_line(p + LINE);
            c ^= read_line(p + 2 * LINE);
            d ^= read_line(p + 3 * LINE);
        }
    a ^= b ^ c ^ d;
    u64 sum = 0;
    for (size_t i = 0; i < VECTOR_BYTES / 8; i++)
        sum ^= a[i];
    return sum;
}

/* Each accumulator goes to a fixed point, x * a + x with |x| < 1: no overflow, no denormals, nothing to fold away. */
static double multiply_add(i64 n_rounds, double x)
{
    floats sums[N_ACCUMULATORS] = { 0 }, factor = { 0 }, term = { 0 };
    factor += (float)x;
    term += (float)(1 - x);
    for (size_t i = 0; i < N_ACCUMULATORS; i++)
        sums[i] += (float)i;
    for (i64 round = 0; round < n_rounds; round++)
        for (size_t i = 0; i < N_ACCUMULATORS; i++)
            sums[i] = sums[i] * factor + term;
    double total = 0;
    for (size_t i = 0; i < N_ACCUMULATORS; i++)
        for (size_t lane = 0; lane < VECTOR_BYTES / 4; lane++)
            total += (double)sums[i][lane];
    return total;
}

#define PROBE_BODY                                                      \
    {                                                                   \
        read_part, multiply_add, 2.0 * N_ACCUMULATORS *VECTOR_BYTES / 4 \
    }
