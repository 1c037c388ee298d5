/* SPDX-License-Identifier: Apache-2.0
 * apart.h: keeps a worker off the CPU that its caller is on. */
#ifndef FOLIO_BASE_APART_H
#define FOLIO_BASE_APART_H

#include <sched.h>
#include <stdbool.h>

#include "base/types.h"

/* Of one worker, used by it alone. */
struct apart {
    bool is_off; /* too few CPUs, or somebody else says where this thread runs */
    i32 avoided; /* CPU; -1 = none yet */
#ifdef __linux__
    cpu_set_t own, set; /* CPUs as it was started; and as we set them last */
#endif
};

/* The CPU of the calling thread; -1 = unknown. */
i32 folio__this_cpu(void);

/* For the calling thread, one of n_threads. */
void folio__apart_begin(struct apart *apart, i32 n_threads);
/* Moves the calling thread off cpu and keeps it off until called with another one. -1 = leave it. */
void folio__apart_keep(struct apart *apart, i32 cpu);

#endif
