/* SPDX-License-Identifier: Apache-2.0
 * pool.h: the threads of a context: its own (spin, then park) or the host's parallel_for. */
#ifndef FOLIO_BASE_POOL_H
#define FOLIO_BASE_POOL_H

#include "base/types.h"
#include "folio/device.h"

struct pool;

/* n_threads >= 1 counts the caller: n_threads - 1 threads are started at the first run that needs them, and again in a
 * child after fork(). They keep off the CPU that the caller was last on (apart.h). host != NULL: no threads of our
 * own. */
folio_status folio__pool_create(struct pool **out, i32 n_threads, folio_parallel_for host, void *host_user);
void folio__pool_destroy(struct pool **pool);

i32 folio__pool_n_threads(const struct pool *pool);

/* Call body(arg, i) once for each i in 0 .. n-1, n <= n_threads, and return when all are done. n == 1 runs on the
 * calling thread without touching the pool. Calls from several threads take turns. Allocates nothing once started. */
void folio__pool_run(struct pool *pool, void (*body)(void *arg, i32 i), void *arg, i32 n);

/* CPUs this process may use: the affinity mask, at most the cgroup's quota; >= 1. FOLIO_NUM_THREADS replaces it. */
i32 folio__pool_default_threads(void);

#endif
