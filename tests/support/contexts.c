/* SPDX-License-Identifier: Apache-2.0
 * contexts.c: see contexts.h. */
#include "support/contexts.h"

#include <stdio.h>
#include <stdlib.h>

static void add(struct contexts *contexts, folio_backend backend, folio_isa isa, i32 n_threads)
{
    const folio_context_config cfg = {
        .struct_size = sizeof cfg, .backend = (i32)backend, .isa = (i32)isa, .n_threads = n_threads
    };
    folio_context *ctx = NULL;
    if (folio_context_create(&ctx, &cfg) != FOLIO_OK) {
        fprintf(stderr, "test support: no context for backend %d, isa %s: %s\n", (int)backend, folio_isa_name(isa),
                folio_last_error());
        abort();
    }
    contexts->at[contexts->n] = ctx;
    contexts->name[contexts->n++] = backend == FOLIO_BACKEND_REF ? "ref" : folio_isa_name(isa);
}

static struct contexts create(i32 n_threads, size_t n_isas)
{
    static const folio_isa isas[] = { FOLIO_ISA_C,           FOLIO_ISA_AVX2, FOLIO_ISA_AVX512,
                                      FOLIO_ISA_AVX512_BF16, FOLIO_ISA_AMX,  FOLIO_ISA_AMX_EMULATED };
    struct contexts contexts = { .n = 0 };
    add(&contexts, FOLIO_BACKEND_REF, FOLIO_ISA_AUTO, n_threads);
    for (size_t i = 0; i < n_isas; i++)
        if (folio_isa_available(isas[i]))
            add(&contexts, FOLIO_BACKEND_CPU, isas[i], n_threads);
    return contexts;
}

struct contexts contexts_create(i32 n_threads)
{
    return create(n_threads, 3);
}

struct contexts contexts_create_all(i32 n_threads)
{
    return create(n_threads, 6);
}

void contexts_destroy(struct contexts *contexts)
{
    for (i32 i = 0; i < contexts->n; i++)
        folio_context_destroy(&contexts->at[i]);
    contexts->n = 0;
}
