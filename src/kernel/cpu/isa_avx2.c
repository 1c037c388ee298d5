/* SPDX-License-Identifier: Apache-2.0
 * isa_avx2.c: the kernels at level avx2. */
#if defined(__x86_64__)
#include "kernel/cpu/vec_avx2.h"
#include "kernel/cpu/kernels_tmpl.h"
#else
typedef int folio_isa_avx2_is_not_for_this_machine;
#endif
