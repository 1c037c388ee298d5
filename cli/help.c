/* SPDX-License-Identifier: Apache-2.0
 * help.c: help pages and the manual page, from the commands' own tables. */
#include "help.h"

#include <string.h>

#include "folio/folio.h"
#include "options.h"

static const char what[] = "Paged attention: which pages of a KV cache belong to whom, where the bytes are, and exact\n"
                           "attention over them.";

static const char exit_codes[] = "0 done, every check passed; 1 a check failed or the machine could not do it; 2 wrong "
                                 "usage or unreadable input.";

enum { HELP_COLUMN = 30, WIDTH = 100 };

/* Words of text behind `column`, broken at WIDTH. */
static void print_wrapped(FILE *to, const char *text, int column)
{
    int at = column;
    for (const char *p = text; *p;) {
        const int n = (int)strcspn(p, " ");
        if (at > column && at + 1 + n > WIDTH) {
            fprintf(to, "\n%*s", column, "");
            at = column;
        }
        at += fprintf(to, "%s%.*s", at > column ? " " : "", n, p);
        p += n;
        p += *p == ' ';
    }
    fputc('\n', to);
}

static void print_option(FILE *to, const char *name, const char *arg, const char *help)
{
    const int n = fprintf(to, "  --%s%s%s", name, arg ? " " : "", arg ? arg : "");
    if (n >= HELP_COLUMN)
        fprintf(to, "\n%*s", HELP_COLUMN, "");
    else
        fprintf(to, "%*s", HELP_COLUMN - n, "");
    print_wrapped(to, help, HELP_COLUMN);
}

void help_print(FILE *to, const struct command *command)
{
    fprintf(to, "folio %s%s%s%s: %s\n\n%s\n", command->name, command->options->name ? " [options]" : "",
            command->operands[0] ? " " : "", command->operands, command->summary, command->about);
    fprintf(to, "\nOptions:\n");
    for (const struct option_spec *spec = command->options; spec->name; spec++)
        print_option(to, spec->name, spec->arg, spec->help);
    print_option(to, "help", NULL, "This page.");
    fprintf(to, "\nExamples:\n%s", command->examples);
    fprintf(to, "\nExit status: %s\n", exit_codes);
}

void help_overview(FILE *to)
{
    fprintf(to, "folio COMMAND [options]\n\n%s\n\nCommands:\n", what);
    for (i32 i = 0; commands[i]; i++)
        fprintf(to, "  %-9s %s\n", commands[i]->name, commands[i]->summary);
    fprintf(to,
            "\nStart with:\n"
            "  folio doctor            # what this machine has\n"
            "  folio help replay       # how to replay real serving traffic\n"
            "\nEvery command takes --json: one JSON object a line, the summary last.\n"
            "Exit status: %s\n",
            exit_codes);
}

/* Text for roff: backslashes and leading dots are its own, hyphens must stay hyphens. */
static void roff_text(FILE *to, const char *text)
{
    bool line_start = true;
    for (const char *p = text; *p; p++) {
        if (line_start && (*p == '.' || *p == '\''))
            fputs("\\&", to);
        if (*p == '\\')
            fputs("\\e", to);
        else if (*p == '-')
            fputs("\\-", to);
        else
            fputc(*p, to);
        line_start = *p == '\n';
    }
}

static void roff_block(FILE *to, const char *text) /* as it stands, line by line */
{
    fputs(".nf\n", to);
    roff_text(to, text);
    fputs(text[0] && text[strlen(text) - 1] == '\n' ? ".fi\n" : "\n.fi\n", to);
}

static void roff_command(FILE *to, const struct command *command)
{
    fprintf(to, ".SS folio %s%s%s%s\n", command->name, command->options->name ? " [options]" : "",
            command->operands[0] ? " " : "", command->operands);
    roff_text(to, command->summary);
    fputs(".\n.PP\n", to);
    roff_block(to, command->about);
    for (const struct option_spec *spec = command->options; spec->name; spec++) {
        fputs(".TP\n.B ", to);
        roff_text(to, "--");
        roff_text(to, spec->name);
        if (spec->arg) {
            fputc(' ', to);
            roff_text(to, spec->arg);
        }
        fputc('\n', to);
        roff_text(to, spec->help);
        fputc('\n', to);
    }
    fputs(".PP\nExamples:\n", to);
    roff_block(to, command->examples);
}

void help_manual(FILE *to)
{
    fprintf(to,
            ".\\\" SPDX-License-Identifier: Apache-2.0\n"
            ".\\\" Written by: folio help --man. Change the command's tables, then run it again.\n"
            ".TH FOLIO 1 \"\" \"folio %d.%d.%d\" \"User Commands\"\n"
            ".SH NAME\nfolio \\- paged attention: replay traffic, check kernels, measure\n"
            ".SH SYNOPSIS\n.B folio\nCOMMAND [options]\n.SH DESCRIPTION\n",
            FOLIO_VERSION_MAJOR, FOLIO_VERSION_MINOR, FOLIO_VERSION_PATCH);
    roff_text(to, what);
    fputs("\n.SH COMMANDS\n", to);
    for (i32 i = 0; commands[i]; i++)
        roff_command(to, commands[i]);
    fputs(".SH EXIT STATUS\n", to);
    roff_text(to, exit_codes);
    fputs("\n.SH ENVIRONMENT\n.TP\n.B FOLIO_ISA\nCaps the instruction set: c, avx2, avx512.\n"
          ".TP\n.B FOLIO_NUM_THREADS\nThe default number of threads.\n",
          to);
}

struct help_options {
    int man;
};

static const struct option_spec options[] = {
    { "man", NULL, "Print the manual page (roff) instead.", OPTION_FLAG, offsetof(struct help_options, man), 0, 0,
      NULL },
    { 0 },
};

static int run(int argc, char **argv)
{
    struct help_options values = { 0 };
    char **operands;
    i32 n_operands;
    const int parsed = options_parse(&command_help, argc, argv, &values, &operands, &n_operands);
    if (parsed != OPTIONS_GO)
        return parsed;
    if (n_operands > 1)
        return usage_error(&command_help, "got %d operands, allowed: one command's name", n_operands);
    if (values.man) {
        help_manual(stdout);
        return EXIT_DONE;
    }
    if (n_operands == 0) {
        help_overview(stdout);
        return EXIT_DONE;
    }
    for (i32 i = 0; commands[i]; i++)
        if (!strcmp(commands[i]->name, operands[0])) {
            help_print(stdout, commands[i]);
            return EXIT_DONE;
        }
    return usage_error(&command_help, "got \"%s\", which is no command", operands[0]);
}

const struct command command_help = {
    .name = "help",
    .summary = "what a command does, with examples",
    .operands = "[COMMAND]",
    .about = "Prints the commands, or one command's page.",
    .examples = "  folio help\n"
                "  folio help replay\n"
                "  folio help --man | man -l -   # everything, as a manual page\n",
    .options = options,
    .run = run,
};
