/* SPDX-License-Identifier: Apache-2.0
 * machine.h: what the operating system says about this machine. */
#ifndef CLI_MACHINE_H
#define CLI_MACHINE_H

#include "types.h"

struct machine {
    char cpu[96];                 /* "AMD EPYC"; "unknown" when nothing says */
    i32 n_online, n_affinity;     /* CPUs that are on; those this process may use */
    double cpu_quota;             /* CPUs' worth of time a cgroup allows; 0 = no limit seen */
    i64 l1d, l2, l3;              /* bytes of one cache of each level, 0 = unknown */
    i32 l2_cpus, l3_cpus;         /* CPUs that share it */
    i32 n_nodes;                  /* NUMA nodes */
    i64 memory, memory_available; /* bytes */
    char huge_pages[48];          /* transparent huge pages: "always", "madvise", "never"; "unknown" */
    i64 huge_page_bytes;
};

void machine_read(struct machine *machine);

#endif
