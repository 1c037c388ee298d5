/* SPDX-License-Identifier: Apache-2.0
 * select.c: the best kernels that this build and machine have, at or below a cap. */
#include "kernel/cpu/isa.h"
#include "kernel/kernels.h"

/* Ascending; the first runs anywhere. */
static const struct kernels *const tables[] = {
    &folio__kernels_c,
#if defined(__x86_64__)
    &folio__kernels_avx2, &folio__kernels_avx512, &folio__kernels_avx512_bf16, &folio__kernels_amx,
#endif
};

static const struct kernels *best_up_to(folio_isa cap)
{
    if (cap == FOLIO_ISA_AMX_EMULATED)
        return &folio__kernels_amx_emulated;
    const struct kernels *best = tables[0];
    for (size_t i = 1; i < COUNT_OF(tables); i++) {
        const folio_isa isa = tables[i]->isa;
        const bool is_asked_for = isa == cap;
        if (isa <= cap && folio__isa_machine_has(isa) && (is_asked_for || folio__isa_pays(isa)))
            best = tables[i];
    }
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
    return best_up_to(FOLIO_ISA_NEON)->isa;
}

const char *folio_isa_missing(folio_isa isa)
{
    if (isa == FOLIO_ISA_AMX_EMULATED)
        return NULL;
    for (size_t i = 0; i < COUNT_OF(tables); i++)
        if (tables[i]->isa == isa)
            return folio__isa_missing(isa);
    return "this build has no kernels for it";
}

int32_t folio_isa_available(folio_isa isa)
{
    return !folio_isa_missing(isa);
}
