/* SPDX-License-Identifier: Apache-2.0
 * isa_c.c: the kernels at level c. */
#include "kernel/cpu/vec_c.h"
#include "kernel/cpu/kernels_tmpl.h"
