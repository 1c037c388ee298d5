/* SPDX-License-Identifier: Apache-2.0
 * apart.c: keeps a worker off the CPU that its caller is on.
 *
 * A virtual machine's idle CPU may look taken to the scheduler, which then wakes a worker on its caller's CPU: both
 * take turns there for milliseconds, longer than a step lasts. A worker that may run anywhere but there can't be woken
 * there. Where others set a worker's CPUs (taskset, a cpuset, the host), theirs hold from then on. */
#include "base/apart.h"

#ifdef __linux__
i32 folio__this_cpu(void)
{
    return sched_getcpu();
}

void folio__apart_begin(struct apart *apart, i32 n_threads)
{
    *apart = (struct apart){ .avoided = -1 };
    /* More CPUs than a cpu_set_t holds: an error, and so many that a worker finds one. */
    apart->is_off = sched_getaffinity(0, sizeof apart->own, &apart->own) != 0 || CPU_COUNT(&apart->own) < n_threads;
    apart->set = apart->own;
}

void folio__apart_keep(struct apart *apart, i32 cpu)
{
    if (apart->is_off || cpu < 0 || cpu >= CPU_SETSIZE || cpu == apart->avoided)
        return;
    cpu_set_t now;
    apart->is_off = sched_getaffinity(0, sizeof now, &now) != 0 || !CPU_EQUAL(&now, &apart->set);
    if (apart->is_off)
        return;
    apart->set = apart->own;
    CPU_CLR((size_t)cpu, &apart->set);
    apart->avoided = cpu;
    apart->is_off = CPU_COUNT(&apart->set) == 0 || sched_setaffinity(0, sizeof apart->set, &apart->set) != 0;
}
#else
i32 folio__this_cpu(void)
{
    return -1;
}

void folio__apart_begin(struct apart *apart, i32 n_threads)
{
    (void)n_threads;
    *apart = (struct apart){ .is_off = true, .avoided = -1 };
}

void folio__apart_keep(struct apart *apart, i32 cpu)
{
    (void)apart, (void)cpu;
}
#endif
