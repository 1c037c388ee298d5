/* SPDX-License-Identifier: Apache-2.0
 * select.c: the best kernels that this build and machine have, at or below a cap. */
#include "kernel/cpu/isa.h"
#include "kernel/kernels.h"

/* Tables that are not written yet are absent, and ref stands in. */
#pragma weak folio__kernels_ref
#pragma weak folio__kernels_c
#pragma weak folio__kernels_avx2
#pragma weak folio__kernels_avx512

static const struct kernels *best_up_to(folio_isa cap)
{
    const struct kernels *const tables[] = { &folio__kernels_c, &folio__kernels_avx2, &folio__kernels_avx512 };
    const struct kernels *best = &folio__kernels_ref;
    for (size_t i = 0; i < COUNT_OF(tables); i++)
        if (tables[i] && tables[i]->isa <= cap && folio__isa_machine_has(tables[i]->isa))
            best = tables[i];
    return best;
}

const struct kernels *folio__select_cpu(folio_isa cap)
{
    const char *text;
    if (cap == FOLIO_ISA_AUTO)
        cap = folio__isa_cap(&text);
    return best_up_to(cap == FOLIO_ISA_AUTO ? FOLIO_ISA_NEON : cap);
}

folio_isa folio_isa_best(void)
{
    const struct kernels *best = best_up_to(FOLIO_ISA_NEON);
    return best ? best->isa : FOLIO_ISA_C;
}

int32_t folio_isa_available(folio_isa isa)
{
    return isa >= FOLIO_ISA_C && isa <= folio_isa_best() && folio__isa_machine_has(isa);
}
