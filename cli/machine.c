/* SPDX-License-Identifier: Apache-2.0
 * machine.c: what the operating system says about this machine. */
#include "machine.h"

#include <dirent.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The first line of a file into text [n], without its end; false when there is none. */
static bool read_line(const char *path, char *text, size_t n)
{
    FILE *from = fopen(path, "r");
    if (!from)
        return false;
    const bool ok = fgets(text, (int)n, from);
    fclose(from);
    if (ok)
        text[strcspn(text, "\n")] = '\0';
    return ok;
}

/* The text behind "name : " in a file of such lines. */
static bool read_field(const char *path, const char *name, char *text, size_t n)
{
    FILE *from = fopen(path, "r");
    if (!from)
        return false;
    char line[512];
    bool found = false;
    while (!found && fgets(line, sizeof(line), from)) {
        const char *colon = strchr(line, ':');
        if (!colon || strncmp(line, name, strlen(name)))
            continue;
        colon += 1 + strspn(colon + 1, " \t");
        snprintf(text, n, "%.*s", (int)strcspn(colon, "\n"), colon);
        found = true;
    }
    fclose(from);
    return found;
}

static i64 read_kilobytes(const char *path, const char *name)
{
    char text[64];
    return read_field(path, name, text, sizeof(text)) ? atoll(text) * 1024 : 0;
}

static void read_cpu_name(struct machine *m)
{
    static const char *const names[] = { "model name", "Model", "Hardware", "CPU implementer" };
    snprintf(m->cpu, sizeof(m->cpu), "unknown");
    for (size_t i = 0; i < COUNT_OF(names); i++)
        if (read_field("/proc/cpuinfo", names[i], m->cpu, sizeof(m->cpu)))
            return;
}

/* CPUs in a list such as "0-3,8". */
static i32 count_cpus(const char *list)
{
    i32 n = 0;
    for (const char *p = list; *p;) {
        char *end;
        const long first = strtol(p, &end, 10);
        const long last = *end == '-' ? strtol(end + 1, &end, 10) : first;
        n += (i32)(last - first + 1);
        p = end + (*end == ',');
        if (p == end)
            break;
    }
    return n;
}

static void read_cache(struct machine *m, i32 index)
{
    char path[96], level[8], type[16], size[16], cpus[256];
    const char *const format = "/sys/devices/system/cpu/cpu0/cache/index%d/%s";
    const struct {
        const char *name;
        char *text;
        size_t n;
    } files[] = {
        { "level", level, sizeof(level) },
        { "type", type, sizeof(type) },
        { "size", size, sizeof(size) },
        { "shared_cpu_list", cpus, sizeof(cpus) },
    };
    for (size_t i = 0; i < COUNT_OF(files); i++) {
        snprintf(path, sizeof(path), format, index, files[i].name);
        if (!read_line(path, files[i].text, files[i].n))
            return;
    }
    const i64 bytes = atoll(size) << (strchr(size, 'M') ? 20 : 10);
    if (!strcmp(level, "1") && strcmp(type, "Instruction"))
        m->l1d = bytes;
    if (!strcmp(level, "2")) {
        m->l2 = bytes;
        m->l2_cpus = count_cpus(cpus);
    }
    if (!strcmp(level, "3")) {
        m->l3 = bytes;
        m->l3_cpus = count_cpus(cpus);
    }
}

static i32 count_nodes(void)
{
    i32 n = 0;
    DIR *dir = opendir("/sys/devices/system/node");
    for (struct dirent *entry; dir && (entry = readdir(dir));)
        n += !strncmp(entry->d_name, "node", 4);
    if (dir)
        closedir(dir);
    return n;
}

static double read_quota(void)
{
    char text[64];
    double quota = 0, period = 0;
    if (read_line("/sys/fs/cgroup/cpu.max", text, sizeof(text))) /* cgroup v2: "max 100000" or "200000 100000" */
        return sscanf(text, "%lf %lf", &quota, &period) == 2 && period > 0 ? quota / period : 0;
    if (read_line("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", text, sizeof(text)))
        quota = atof(text);
    if (read_line("/sys/fs/cgroup/cpu/cpu.cfs_period_us", text, sizeof(text)))
        period = atof(text);
    return quota > 0 && period > 0 ? quota / period : 0;
}

static void read_huge_pages(struct machine *m)
{
    char text[128];
    snprintf(m->huge_pages, sizeof(m->huge_pages), "unknown");
    if (read_line("/sys/kernel/mm/transparent_hugepage/enabled", text, sizeof(text))) {
        const char *open = strchr(text, '['); /* "always [madvise] never": the one in brackets counts */
        if (open)
            snprintf(m->huge_pages, sizeof(m->huge_pages), "%.*s", (int)strcspn(open + 1, "]"), open + 1);
    }
    m->huge_page_bytes = read_kilobytes("/proc/meminfo", "Hugepagesize");
}

void machine_read(struct machine *m)
{
    *m = (struct machine){ 0 };
    read_cpu_name(m);
    m->n_online = (i32)sysconf(_SC_NPROCESSORS_ONLN);
    cpu_set_t set;
    m->n_affinity = sched_getaffinity(0, sizeof(set), &set) ? m->n_online : CPU_COUNT(&set);
    m->cpu_quota = read_quota();
    for (i32 index = 0; index < 8; index++)
        read_cache(m, index);
    m->n_nodes = count_nodes();
    m->memory = read_kilobytes("/proc/meminfo", "MemTotal");
    m->memory_available = read_kilobytes("/proc/meminfo", "MemAvailable");
    read_huge_pages(m);
}
