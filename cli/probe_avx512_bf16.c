/* SPDX-License-Identifier: Apache-2.0
 * probe_avx512_bf16.c: the probe's arithmetic for AVX512_BF16: products of pairs of bf16, summed in f32. */
#if defined(__x86_64__)
#include <immintrin.h>

#include "probe.h"

enum { N_ACCUMULATORS = 12, PAIRS = 32 }; /* as in probe_tmpl.h; multiply-adds of one instruction */

static double dot_pairs(i64 n_rounds, double x)
{
    const __m512 ones = _mm512_set1_ps((float)x);
    const __m512bh factor = _mm512_cvtne2ps_pbh(ones, ones);
    __m512 sums[N_ACCUMULATORS];
    for (size_t i = 0; i < N_ACCUMULATORS; i++)
        sums[i] = _mm512_set1_ps((float)i);
    for (i64 round = 0; round < n_rounds; round++)
        for (size_t i = 0; i < N_ACCUMULATORS; i++)
            sums[i] = _mm512_dpbf16_ps(sums[i], factor, factor);
    double total = 0;
    for (size_t i = 0; i < N_ACCUMULATORS; i++)
        total += (double)_mm512_reduce_add_ps(sums[i]);
    return total;
}

const struct probe_body probe_avx512_bf16 = { .fma = dot_pairs, .flops_per_round = 2.0 * N_ACCUMULATORS * PAIRS };
#else
typedef int no_other_machine_has_it;
#endif
