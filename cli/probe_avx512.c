/* SPDX-License-Identifier: Apache-2.0
 * probe_avx512.c: the probe's loops for AVX-512. */
#define VECTOR_BYTES 64
#if defined(__x86_64__)
#include "probe_tmpl.h"

const struct probe_body probe_avx512 = PROBE_BODY;
#else
typedef int no_other_machine_has_it;
#endif
