/* SPDX-License-Identifier: Apache-2.0
 * ffi_context.c: the contexts of the handlers. XLA hands a handler nothing but the call, so what is kept from call to
 * call is the process's: the one exception to "no globals", made at first use, never freed. */
#include <pthread.h>

#include "ffi.h"

enum { MAX_CONTEXTS = 16 };

static struct {
    pthread_mutex_t lock;
    int n;
    struct {
        folio_context *context;
        int32_t backend, n_threads;
    } made[MAX_CONTEXTS]; /* [n] */
} known = { .lock = PTHREAD_MUTEX_INITIALIZER };

/* Under the lock. */
static folio_status find_or_make(int32_t backend, int32_t n_threads, folio_context **out)
{
    for (int i = 0; i < known.n; i++)
        if (known.made[i].backend == backend && known.made[i].n_threads == n_threads) {
            *out = known.made[i].context;
            return FOLIO_OK;
        }
    if (known.n == MAX_CONTEXTS)
        return FOLIO_ENOMEM;
    const folio_context_config config = { .struct_size = sizeof config, .backend = backend, .n_threads = n_threads };
    const folio_status status = folio_context_create(out, &config);
    if (status != FOLIO_OK)
        return status;
    known.made[known.n].context = *out;
    known.made[known.n].backend = backend;
    known.made[known.n++].n_threads = n_threads;
    return FOLIO_OK;
}

struct ffi_error *ffi_context(const struct ffi_frame *frame, folio_context **out)
{
    const int32_t backend = (int32_t)ffi_i64(frame, "backend", FOLIO_BACKEND_CPU);
    const int32_t n_threads = (int32_t)ffi_i64(frame, "num_threads", 0);
    *out = NULL;
    (void)pthread_mutex_lock(&known.lock);
    const bool is_full = known.n == MAX_CONTEXTS;
    const folio_status status = find_or_make(backend, n_threads, out);
    (void)pthread_mutex_unlock(&known.lock);
    if (status == FOLIO_ENOMEM && is_full)
        return ffi_fail(frame, FFI_RESOURCE_EXHAUSTED,
                        "num_threads: %d; %d other numbers of threads are in use already", (int)n_threads,
                        (int)MAX_CONTEXTS);
    return ffi_end(frame, status);
}
