/* SPDX-License-Identifier: Apache-2.0
 * vec_amx.h: the vectors of vec_avx512_bf16.h, and tiles: where q, k and v are bf16 both products run in AMX. */
#ifndef FOLIO_KERNEL_CPU_VEC_AMX_H
#define FOLIO_KERNEL_CPU_VEC_AMX_H

#define VEC_NAME "amx"
#define VEC_ISA FOLIO_ISA_AMX
#define VEC_KERNELS folio__kernels_amx
#define VEC_PAIRS 0
#define VEC_TILES 1
#include "kernel/cpu/vec_avx512_bf16.h"
#include "kernel/cpu/tile_regs_amx.h"

#endif
