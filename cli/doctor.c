/* SPDX-License-Identifier: Apache-2.0
 * doctor.c: `folio doctor`: what this machine has, and why not more. */
#include <dlfcn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "command.h"
#include "folio/folio.h"
#include "json.h"
#include "machine.h"
#include "options.h"
#include "version.h"

struct doctor_options {
    int json;
};

static const struct option_spec options[] = {
    { "json", NULL, "JSON: one object a line, the summary last.", OPTION_FLAG, offsetof(struct doctor_options, json), 0,
      0, NULL },
    { 0 },
};

static const folio_isa levels[] = {
    FOLIO_ISA_C,   FOLIO_ISA_AVX2, FOLIO_ISA_AVX512,       FOLIO_ISA_AVX512_BF16,
    FOLIO_ISA_AMX, FOLIO_ISA_NEON, FOLIO_ISA_AMX_EMULATED,
};

/* A fact: printed as "name   text", or as {"name": ..., "text": ...}. */
static void say(bool json, const char *name, const char *format, ...) __attribute__((format(printf, 3, 4)));

static void say(bool json, const char *name, const char *format, ...)
{
    char text[640];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    if (json)
        json_line(json_pack("{s:s, s:s}", "name", name, "text", text));
    else
        printf("%-16s %s\n", name, text);
}

static double mega(i64 bytes)
{
    return (double)bytes / (1 << 20);
}

static void say_cpu(bool json, const struct machine *m)
{
    say(json, "CPU", "%s; %d online, %d usable by this process", m->cpu, m->n_online, m->n_affinity);
    if (m->cpu_quota > 0)
        say(json, "CPU quota", "%.2f CPUs of time (cgroup)", m->cpu_quota);
    else
        say(json, "CPU quota", "none seen");
    say(json, "caches", "L1d %.0f KB, L2 %.1f MB (for %d CPUs), L3 %.0f MB (for %d CPUs)", mega(m->l1d) * 1024,
        mega(m->l2), m->l2_cpus, mega(m->l3), m->l3_cpus);
    say(json, "memory", "%.1f GB, %.1f GB available, %d NUMA nodes", mega(m->memory) / 1024,
        mega(m->memory_available) / 1024, m->n_nodes);
    const char *why = !strcmp(m->huge_pages, "never") ? ": page walks will cost up to a third of decode bandwidth" : "";
    say(json, "huge pages", "transparent: %s, %.0f MB each%s", m->huge_pages, mega(m->huge_page_bytes), why);
}

/* Tiles need the CPU, the system and the process to agree: which one does not. */
static void say_amx(bool json, const char *cap)
{
    const char *missing = folio_isa_missing(FOLIO_ISA_AMX);
    bool is_capped = false;
    for (size_t i = 0; cap && i < COUNT_OF(levels); i++)
        is_capped = is_capped || (levels[i] != FOLIO_ISA_AMX && !strcmp(cap, folio_isa_name(levels[i])));
    if (missing)
        say(json, "AMX", "missing: %s", missing);
    else if (is_capped)
        say(json, "AMX", "the machine has it, but FOLIO_ISA %s keeps folio from it", cap);
    else
        say(json, "AMX", "used where q, K and V are bf16, and for decode on int8 pages");
}

static void say_isa(bool json)
{
    char text[200] = "";
    size_t at = 0;
    for (size_t i = 0; i < COUNT_OF(levels); i++)
        if (folio_isa_available(levels[i]))
            at += (size_t)snprintf(text + at, sizeof(text) - at, "%s%s", at ? ", " : "", folio_isa_name(levels[i]));
    const char *cap = getenv("FOLIO_ISA");
    say(json, "ISA levels", "%s; best %s; FOLIO_ISA %s", text, folio_isa_name(folio_isa_best()),
        cap ? cap : "not set: no cap");
    say_amx(json, cap);
}

/* The context that every default call gets. false: not even that works. */
static bool say_context(bool json)
{
    folio_context *ctx = NULL;
    if (folio_context_create(&ctx, NULL)) {
        say(json, "context", "FAILS: %s", folio_last_error());
        return false;
    }
    const char *env = getenv("FOLIO_NUM_THREADS");
    say(json, "context", "CPU backend, %s kernels, %d threads; FOLIO_NUM_THREADS %s",
        folio_isa_name(folio_context_isa(ctx)), folio_context_n_threads(ctx), env ? env : "not set");
    folio_context_destroy(&ctx);
    return true;
}

static void say_library(bool json, const char *name, const char *file)
{
    void *handle = dlopen(file, RTLD_LAZY | RTLD_LOCAL);
    if (!handle) {
        say(json, name, "not found: %s", dlerror());
        return;
    }
    say(json, name, "found: %s", file);
    dlclose(handle);
}

static void say_cuda(bool json)
{
    const folio_context_config cfg = { .struct_size = sizeof(cfg), .backend = FOLIO_BACKEND_CUDA };
    folio_context *ctx = NULL;
    if (folio_context_create(&ctx, &cfg))
        say(json, "CUDA", "no context: %s", folio_last_error());
    else
        say(json, "CUDA", "a context on device 0 works");
    folio_context_destroy(&ctx);
    static char text[8192];
    folio_cuda_describe(text, sizeof(text));
    for (char *line = text; *line; line += strlen(line) + 1) {
        char *colon = strstr(line, ": "), *end = line + strcspn(line, "\n");
        char name[40];
        if (!colon || !*end)
            break;
        *end = '\0';
        snprintf(name, sizeof(name), "CUDA %.*s", (int)(colon - line), line);
        say(json, name, "%s", colon + 2);
    }
    say_library(json, "NCCL", "libnccl.so.2");
}

static int run(int argc, char **argv)
{
    struct doctor_options values = { 0 };
    char **operands;
    i32 n_operands;
    const int parsed = options_parse(&command_doctor, argc, argv, &values, &operands, &n_operands);
    if (parsed != OPTIONS_GO)
        return parsed;
    if (n_operands)
        return usage_error(&command_doctor, "got operand \"%s\", allowed: none", operands[0]);

    const bool json = values.json;
    struct machine machine;
    machine_read(&machine);
    say(json, "folio", "%s, commit %s, %s build, %s", folio_version(), build_commit(), build_type(), build_compiler());
    say_cpu(json, &machine);
    say_isa(json);
    const bool ok = say_context(json);
    say_cuda(json);
    if (json)
        json_line(json_pack("{s:s, s:s, s:i, s:b}", "name", "summary", "isa", folio_isa_name(folio_isa_best()), "cpus",
                            machine.n_affinity, "ok", ok));
    else
        printf("\n%s\n", ok ? "Ready: folio runs on this CPU." : "folio cannot run here: see the context line above.");
    return ok ? EXIT_DONE : EXIT_WRONG;
}

const struct command command_doctor = {
    .name = "doctor",
    .summary = "what this machine has, and why not more",
    .operands = "",
    .about = "Prints what folio sees of this machine: instruction sets and their cap, threads (CPU affinity, cgroup\n"
             "quota), caches, huge pages, and whether CUDA, NVRTC and NCCL can be found, with the reason when not.\n"
             "A CPU is enough: everything about CUDA may be missing.",
    .examples = "  folio doctor\n"
                "  FOLIO_ISA=avx2 folio doctor   # what a cap changes\n"
                "  folio doctor --json\n",
    .options = options,
    .run = run,
};
