/* SPDX-License-Identifier: Apache-2.0
 * probe_avx2.c: the probe's loops for AVX2 and FMA. */
#define VECTOR_BYTES 32
#if defined(__x86_64__)
#include "probe_tmpl.h"

const struct probe_body probe_avx2 = PROBE_BODY;
#else
typedef int no_other_machine_has_it;
#endif
