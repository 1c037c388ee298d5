/* SPDX-License-Identifier: Apache-2.0
 * help.h: help pages and the manual page, from the commands' own tables. */
#ifndef CLI_HELP_H
#define CLI_HELP_H

#include <stdio.h>

#include "command.h"

void help_print(FILE *to, const struct command *command);
/* All commands, one line each. */
void help_overview(FILE *to);
/* docs/folio.1: every help page as one manual page. */
void help_manual(FILE *to);

#endif
