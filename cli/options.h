/* SPDX-License-Identifier: Apache-2.0
 * options.h: argv into a struct of values, by a command's table. Wrong usage is one line on stderr that names the
 * option, what was got and what is allowed. */
#ifndef CLI_OPTIONS_H
#define CLI_OPTIONS_H

#include "command.h"

enum { OPTIONS_GO = -1 }; /* parsed: run the command; other results of options_parse are exit codes */

/* values: the command's struct, holding the defaults. *operands, *n_operands: what is left in argv. */
int options_parse(const struct command *command, int argc, char **argv, void *values, char ***operands,
                  i32 *n_operands);

/* "folio NAME: <message>; try folio NAME --help" on stderr. Returns EXIT_USAGE. */
int usage_error(const struct command *command, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The same without the hint, for what is not about usage. Returns EXIT_WRONG. */
int run_error(const struct command *command, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Every character of text a digit, value in [min, max]. */
bool parse_i64(const char *text, i64 min, i64 max, i64 *out);
/* The same with an optional K, M or G. */
bool parse_bytes(const char *text, i64 min, i64 max, i64 *out);

#endif
