/* SPDX-License-Identifier: Apache-2.0
 * command.h: what a command is. Its options, its help page and its part of the manual all come from one table, so they
 * cannot disagree.
 *
 *   struct command ── options[] ──► options.c   argv → a struct of values
 *                 └── about, examples ──► help.c   --help, the manual page */
#ifndef CLI_COMMAND_H
#define CLI_COMMAND_H

#include "types.h"

enum exit_code {
    EXIT_DONE = 0,  /* what was asked was done, and every check passed */
    EXIT_WRONG = 1, /* a check failed, or the machine could not do it */
    EXIT_USAGE = 2, /* what was asked makes no sense: an option, an operand, an unreadable trace */
};

enum option_kind {
    OPTION_FLAG,    /* int: 1 when given */
    OPTION_I64,     /* i64 in [min, max] */
    OPTION_BYTES,   /* i64 in [min, max]; K, M, G suffixes are powers of 1024 */
    OPTION_TEXT,    /* const char * */
    OPTION_CHOICE,  /* int: index into choices */
    OPTION_NUMBERS, /* struct number_list of i64 in [min, max] */
    OPTION_CHOICES, /* struct number_list of indices into choices */
};

enum { MAX_NUMBERS = 16 };

struct number_list {
    i64 values[MAX_NUMBERS]; /* [n] */
    i32 n;                   /* 0 = the option was not given */
};

struct option_spec {
    const char *name; /* "page-size"; NULL ends a table */
    const char *arg;  /* "N", shown in help; NULL for flags */
    const char *help; /* one or two sentences */
    enum option_kind kind;
    size_t offset;              /* of the field in the command's struct of values */
    i64 min, max;               /* I64, BYTES, NUMBERS */
    const char *const *choices; /* CHOICE, CHOICES: [..., NULL] */
};

struct command {
    const char *name;                  /* "replay" */
    const char *summary;               /* one line */
    const char *operands;              /* "TRACE"; "" = none */
    const char *about;                 /* what it does, in paragraphs; lines of at most 100 columns */
    const char *examples;              /* one a line: command, two spaces, # what it shows */
    const struct option_spec *options; /* ends with name NULL */
    int (*run)(int argc, char **argv); /* argv[0] is the command's name; returns an exit_code */
};

extern const struct command command_replay, command_bench, command_check, command_doctor, command_cuda;
extern const struct command command_version, command_help;

/* All of them, in the order of the help page; ends with NULL. */
extern const struct command *const commands[];

#endif
