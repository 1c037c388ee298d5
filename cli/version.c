/* SPDX-License-Identifier: Apache-2.0
 * version.c: `folio version`: library version, commit, build type. */
#include "version.h"

#include <stdio.h>

#include "command.h"
#include "folio/folio.h"
#include "json.h"
#include "options.h"

struct version_options {
    int json;
};

static const struct option_spec options[] = {
    { "json", NULL, "One JSON object instead of text.", OPTION_FLAG, offsetof(struct version_options, json), 0, 0,
      NULL },
    { 0 },
};

static int run(int argc, char **argv)
{
    struct version_options values = { 0 };
    char **operands;
    i32 n_operands;
    const int parsed = options_parse(&command_version, argc, argv, &values, &operands, &n_operands);
    if (parsed != OPTIONS_GO)
        return parsed;
    if (n_operands)
        return usage_error(&command_version, "got operand \"%s\", allowed: none", operands[0]);
    if (values.json)
        json_line(json_pack("{s:s, s:s, s:s, s:s}", "version", folio_version(), "commit", build_commit(), "build_type",
                            build_type(), "compiler", build_compiler()));
    else
        printf("folio %s, commit %s, %s build, %s\n", folio_version(), build_commit(), build_type(), build_compiler());
    return EXIT_DONE;
}

const struct command command_version = {
    .name = "version",
    .summary = "the library's version, the commit, the build type",
    .operands = "",
    .about = "Prints the version of the library that runs and where this build comes from.",
    .examples = "  folio version\n"
                "  folio version --json\n",
    .options = options,
    .run = run,
};
