/* SPDX-License-Identifier: Apache-2.0
 * failure.h: how a mod that fails while kernels run on many threads stops the call: the first failure is kept, the
 * rest of the work is skipped. */
#ifndef FOLIO_MOD_FAILURE_H
#define FOLIO_MOD_FAILURE_H

#include <stdatomic.h>

#include "mod/eval.h"

struct mod_failure {
    atomic_int taken;                  /* 1 = somebody fills or has filled the rest */
    folio_status status;               /* ERANGE of an index, or what a callback returned */
    const struct mod_program *program; /* whose; NULL = no memory for a callback's tiles */
    struct mod_env where;              /* b h hk q kv of the place or of the tile's first */
};

static inline bool mod_has_failed(struct mod_failure *failure)
{
    return failure && atomic_load_explicit(&failure->taken, memory_order_relaxed) != 0;
}

void folio__mod_fail(struct mod_failure *failure, const struct mod_program *program, folio_status status,
                     const struct mod_env *where);

/* After the threads are done: OK, or the failure as the thread's last error. */
folio_status folio__mod_failure_report(struct mod_failure *failure);

#endif
