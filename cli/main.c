/* SPDX-License-Identifier: Apache-2.0
 * main.c: the folio command: picks a command and runs it. */
#include <stdio.h>
#include <string.h>

#include "command.h"
#include "help.h"

static int dispatch(int argc, char **argv)
{
    const char *name = argc > 1 ? argv[1] : "";
    if (!strcmp(name, "--help") || !strcmp(name, "-h")) {
        help_overview(stdout);
        return EXIT_DONE;
    }
    if (!strcmp(name, "--version"))
        name = command_version.name;
    for (int i = 0; commands[i]; i++)
        if (!strcmp(commands[i]->name, name))
            return commands[i]->run(argc - 1, argv + 1);
    fprintf(stderr, "folio: got %s%s%s, allowed:", argc > 1 ? "\"" : "no command", name, argc > 1 ? "\"" : "");
    for (int i = 0; commands[i]; i++)
        fprintf(stderr, " %s", commands[i]->name);
    fputs("; try folio --help\n", stderr);
    return EXIT_USAGE;
}

int main(int argc, char **argv)
{
    const int code = dispatch(argc, argv);
    if (fflush(stdout) || ferror(stdout)) {
        perror("folio: standard output");
        return code ? code : EXIT_WRONG;
    }
    return code;
}
