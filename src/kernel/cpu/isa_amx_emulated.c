/* SPDX-License-Identifier: Apache-2.0
 * isa_amx_emulated.c: the kernels of level amx with its tiles in plain C. */
#include "kernel/cpu/vec_amx_emulated.h"
#include "kernel/cpu/kernels_tmpl.h"
