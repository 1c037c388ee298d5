/* SPDX-License-Identifier: Apache-2.0
 * cpus.c: how many CPUs this process may use: the affinity mask, at most the cgroup's quota, or FOLIO_NUM_THREADS. */
#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/bits.h"
#include "base/pool.h"

enum { MAX_THREADS = 1024, PATH_BYTES = 1024 };

static pthread_once_t environment_once = PTHREAD_ONCE_INIT;
static i32 environment_threads; /* FOLIO_NUM_THREADS; 0 = unset, or no number in 1 .. MAX_THREADS */

static void read_environment(void)
{
    const char *text = getenv("FOLIO_NUM_THREADS");
    if (!text || !*text)
        return;
    char *end;
    const long n = strtol(text, &end, 10);
    if (*end == '\0' && n >= 1 && n <= MAX_THREADS)
        environment_threads = (i32)n;
}

#ifdef __linux__
/* CPUs of the affinity mask; 0 = unknown. Masks of big machines are longer than cpu_set_t, so grow until it fits. */
static i32 affinity_cpus(void)
{
    for (i32 n_cpus = CPU_SETSIZE; n_cpus <= 1 << 16; n_cpus *= 4) {
        cpu_set_t *mask = CPU_ALLOC((size_t)n_cpus);
        if (!mask)
            return 0;
        const size_t bytes = CPU_ALLOC_SIZE((size_t)n_cpus);
        const bool fits = sched_getaffinity(0, bytes, mask) == 0;
        const i32 count = fits ? CPU_COUNT_S(bytes, mask) : 0;
        CPU_FREE(mask);
        if (fits)
            return count;
    }
    return 0;
}

/* One line of a small file: "200000 100000". */
static bool read_line(const char *folder, const char *path, const char *name, char *line, size_t n)
{
    char file_path[2 * PATH_BYTES];
    snprintf(file_path, sizeof file_path, "%s%s/%s", folder, path, name);
    FILE *file = fopen(file_path, "re");
    if (!file)
        return false;
    const bool ok = fgets(line, (int)n, file) != NULL;
    fclose(file);
    return ok;
}

/* Whole CPUs of the quota set at one cgroup; 0 = none set there. */
static i64 quota_at(const char *path, bool v2)
{
    long long quota = 0, period = 0;
    char line[128];
    if (v2) {
        if (!read_line("/sys/fs/cgroup", path, "cpu.max", line, sizeof line) ||
            sscanf(line, "%lld %lld", &quota, &period) != 2)
            return 0;
    } else {
        if (!read_line("/sys/fs/cgroup/cpu", path, "cpu.cfs_quota_us", line, sizeof line) ||
            sscanf(line, "%lld", &quota) != 1 ||
            !read_line("/sys/fs/cgroup/cpu", path, "cpu.cfs_period_us", line, sizeof line) ||
            sscanf(line, "%lld", &period) != 1)
            return 0;
    }
    return quota > 0 && period > 0 ? max_i64(quota / period, 1) : 0;
}

/* The tightest quota from a cgroup up to the root of the mount; 0 = none. */
static i64 quota_above(char *path, bool v2)
{
    i64 tightest = 0;
    for (;;) {
        const i64 quota = quota_at(path, v2);
        if (quota && (!tightest || quota < tightest))
            tightest = quota;
        char *slash = strrchr(path, '/');
        if (!slash)
            return tightest;
        *slash = '\0';
    }
}

/* A line of /proc/self/cgroup is "id:controllers:/path"; v2 has id 0 and no controllers. */
static i64 cgroup_cpus(void)
{
    FILE *file = fopen("/proc/self/cgroup", "re");
    if (!file)
        return 0;
    char line[PATH_BYTES];
    i64 tightest = 0;
    while (fgets(line, sizeof line, file)) {
        line[strcspn(line, "\n")] = '\0';
        char *controllers = strchr(line, ':');
        char *path = controllers ? strchr(controllers + 1, ':') : NULL;
        if (!path)
            continue;
        *controllers++ = '\0';
        *path++ = '\0';
        const bool v2 = *controllers == '\0';
        if (!v2 && strcmp(controllers, "cpu") != 0 && strncmp(controllers, "cpu,", 4) != 0)
            continue;
        const i64 quota = quota_above(path, v2);
        if (quota && (!tightest || quota < tightest))
            tightest = quota;
    }
    fclose(file);
    return tightest;
}
#else
static i32 affinity_cpus(void)
{
    return 0;
}

static i64 cgroup_cpus(void)
{
    return 0;
}
#endif

i32 folio__pool_default_threads(void)
{
    pthread_once(&environment_once, read_environment);
    if (environment_threads)
        return environment_threads;
    i64 n = affinity_cpus();
    if (n < 1)
        n = sysconf(_SC_NPROCESSORS_ONLN);
    const i64 quota = cgroup_cpus();
    if (quota)
        n = min_i64(n, quota);
    return (i32)clamp_i64(n, 1, MAX_THREADS);
}
