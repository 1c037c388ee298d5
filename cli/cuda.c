/* SPDX-License-Identifier: Apache-2.0
 * cuda.c: `folio cuda list|compile`: the closed table of GPU kernels, without a GPU. */
#include <stdio.h>
#include <string.h>

#include "command.h"
#include "folio/folio.h"
#include "json.h"
#include "options.h"

enum { REPORT_BYTES = 1 << 15 };

struct cuda_options {
    struct number_list archs;
    int json, verbose;
};

static const struct option_spec options[] = {
    { "arch", "N,...", "Architectures to compile for, as 80 or 90. Default: 80,90.", OPTION_NUMBERS,
      offsetof(struct cuda_options, archs), 80, 200, NULL },
    { "verbose", NULL, "compile: ptxas' report of every kernel too.", OPTION_FLAG,
      offsetof(struct cuda_options, verbose), 0, 0, NULL },
    { "json", NULL, "JSON: one object a line, the summary last.", OPTION_FLAG, offsetof(struct cuda_options, json), 0,
      0, NULL },
    { 0 },
};

static void list(bool json)
{
    const i32 n = folio_cuda_n_kernels();
    for (i32 row = 0; row < n; row++)
        if (json)
            json_line(json_pack("{s:i, s:s}", "row", row, "name", folio_cuda_kernel_name(row)));
        else
            printf("%4d  %s\n", row, folio_cuda_kernel_name(row));
    if (json)
        json_line(json_pack("{s:s, s:i}", "name", "summary", "kernels", n));
}

/* The largest "Used N registers" of a report. */
static i32 registers_of(const char *report)
{
    i32 most = 0, n;
    for (const char *at = strstr(report, "Used "); at; at = strstr(at + 1, "Used "))
        if (sscanf(at, "Used %d registers", &n) == 1 && n > most)
            most = n;
    return most;
}

/* One row for one architecture. */
static folio_status compile_one(i32 row, i32 arch, const struct cuda_options *o)
{
    static char report[REPORT_BYTES];
    const folio_status status = folio_cuda_compile(row, arch, NULL, 0, report, sizeof(report));
    const char *name = folio_cuda_kernel_name(row), *error = status ? folio_last_error() : "";
    if (o->json)
        json_line(json_pack("{s:i, s:s, s:i, s:s, s:i, s:s}", "row", row, "name", name, "arch", arch, "status",
                            folio_status_name(status), "registers", registers_of(report), "error", error));
    else
        printf("%4d  %-40s sm_%d  %3d registers  %s%s\n", row, name, arch, registers_of(report),
               !status                   ? "ok"
               : status == FOLIO_ENOTSUP ? "left out: "
                                         : "FAILS: ",
               error);
    if (o->verbose && !o->json)
        fputs(report, stdout);
    return status;
}

static int compile_all(const struct cuda_options *o)
{
    i32 n_good = 0, n_bad = 0, n_skipped = 0;
    for (i32 row = 0; row < folio_cuda_n_kernels(); row++)
        for (i32 a = 0; a < o->archs.n; a++) {
            const folio_status status = compile_one(row, (i32)o->archs.values[a], o);
            if (status == FOLIO_ENOTSUP && strstr(folio_last_error(), "no libnvrtc"))
                return run_error(&command_cuda, "%s", folio_last_error());
            n_good += status == FOLIO_OK;
            n_skipped += status == FOLIO_ENOTSUP; /* a row that exists for other architectures only */
            n_bad += status != FOLIO_OK && status != FOLIO_ENOTSUP;
        }
    if (o->json)
        json_line(json_pack("{s:s, s:i, s:i, s:i}", "name", "summary", "compiled", n_good, "failed", n_bad, "skipped",
                            n_skipped));
    else
        printf("%d compiled, %d failed, %d not for that architecture\n", n_good, n_bad, n_skipped);
    return n_bad ? EXIT_WRONG : EXIT_DONE;
}

static int run(int argc, char **argv)
{
    struct cuda_options values = { 0 };
    char **operands;
    i32 n_operands;
    const int parsed = options_parse(&command_cuda, argc, argv, &values, &operands, &n_operands);
    if (parsed != OPTIONS_GO)
        return parsed;
    if (values.archs.n == 0)
        values.archs = (struct number_list){ .values = { 80, 90 }, .n = 2 };
    if (n_operands == 1 && !strcmp(operands[0], "compile"))
        return compile_all(&values);
    if (n_operands != 1 || strcmp(operands[0], "list") != 0)
        return usage_error(&command_cuda, "got %d operands%s%s, allowed: list, compile", n_operands,
                           n_operands ? ", the first " : "", n_operands ? operands[0] : "");
    list(values.json);
    return EXIT_DONE;
}

const struct command command_cuda = {
    .name = "cuda",
    .summary = "list the GPU kernels, compile them all without a GPU",
    .operands = "list|compile",
    .about =
        "The CUDA backend compiles its kernels at first use, from a closed table of configurations. list prints the\n"
        "table. compile compiles every row with NVRTC (no GPU needed) and fails when one does not compile, spills\n"
        "registers, uses a stack, or makes the assembler warn.",
    .examples = "  folio cuda list\n"
                "  folio cuda compile --arch 90   # for Hopper only\n",
    .options = options,
    .run = run,
};
