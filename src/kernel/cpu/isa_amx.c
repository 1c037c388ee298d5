/* SPDX-License-Identifier: Apache-2.0
 * isa_amx.c: the kernels at level amx. */
#if defined(__x86_64__)
#include "kernel/cpu/vec_amx.h"
#include "kernel/cpu/kernels_tmpl.h"
#else
typedef int folio_isa_amx_is_not_for_this_machine;
#endif
