/* SPDX-License-Identifier: Apache-2.0
 * isa_avx512_bf16.c: the kernels at level avx512_bf16. */
#if defined(__x86_64__)
#include "kernel/cpu/vec_avx512_bf16.h"
#include "kernel/cpu/kernels_tmpl.h"
#else
typedef int folio_isa_avx512_bf16_is_not_for_this_machine;
#endif
