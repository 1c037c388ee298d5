/* SPDX-License-Identifier: Apache-2.0
 * isa.h: what the machine's instruction set is, and FOLIO_ISA's cap on it. */
#ifndef FOLIO_KERNEL_CPU_ISA_H
#define FOLIO_KERNEL_CPU_ISA_H

#include <stdbool.h>

#include "folio/device.h"

/* Can the CPU and the operating system run this level? Says nothing about whether kernels for it are built. */
bool folio__isa_machine_has(folio_isa isa);

/* Why not: the first thing that is missing, in words. NULL = the machine has it. */
const char *folio__isa_missing(folio_isa isa);

/* The same for tiles, from what was found: the core's bits, the state that the system saves, errno of its refusal. */
const char *folio__tiles_missing(bool core_has, bool system_saves, int refusal);

/* Is this level faster than the one below, where the machine has both? Told by the core, not timed: every run on a
 * machine chooses the same. */
bool folio__isa_pays(folio_isa isa);

/* FOLIO_ISA, read once: AUTO when unset. *text is the variable when it names no level, else NULL. */
folio_isa folio__isa_cap(const char **text);

#endif
