/* SPDX-License-Identifier: Apache-2.0
 * context.c: one library context for each (backend, threads, device), made at first use and kept. */
#include "ext.h"

static int32_t backend_for(int32_t backend, DLDevice device)
{
    if (backend != FOLIO_BACKEND_AUTO)
        return backend;
    return device.device_type == kDLCUDA ? FOLIO_BACKEND_CUDA : FOLIO_BACKEND_CPU;
}

static folio_context *find_or_make(struct ext_state *state, int32_t backend, int32_t n_threads, DLDevice device,
                                   bool calls_back)
{
    const int32_t resolved = backend_for(backend, device);
    const int32_t ordinal = resolved == FOLIO_BACKEND_CUDA && device.device_type == kDLCUDA ? device.device_id : 0;
    for (const struct ext_context *c = state->contexts; c; c = c->next)
        if (c->backend == resolved && c->n_threads == n_threads && c->device == ordinal && c->calls_back == calls_back)
            return c->context;

    struct ext_context *made = PyMem_Malloc(sizeof *made);
    if (!made) {
        PyErr_NoMemory();
        return NULL;
    }
    *made = (struct ext_context){ .next = state->contexts,
                                  .backend = resolved,
                                  .n_threads = n_threads,
                                  .device = ordinal,
                                  .calls_back = calls_back };
    const folio_context_config config = {
        .struct_size = sizeof config, .backend = resolved, .n_threads = n_threads, .device = ordinal
    };
    const folio_status status = folio_context_create(&made->context, &config);
    if (status != FOLIO_OK) {
        PyMem_Free(made);
        ext_raise(state, status);
        return NULL;
    }
    state->contexts = made;
    return made->context;
}

folio_context *ext_context(struct ext_state *state, int32_t backend, int32_t n_threads, DLDevice device)
{
    return find_or_make(state, backend, n_threads, device, false);
}

folio_context *ext_context_calling_back(struct ext_state *state, int32_t backend, int32_t n_threads, DLDevice device)
{
    return find_or_make(state, backend, n_threads, device, true);
}

void ext_contexts_free(struct ext_state *state)
{
    while (state->contexts) {
        struct ext_context *c = state->contexts;
        state->contexts = c->next;
        folio_context_destroy(&c->context);
        PyMem_Free(c);
    }
}
