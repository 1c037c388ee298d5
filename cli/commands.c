/* SPDX-License-Identifier: Apache-2.0
 * commands.c: the list of commands, in the order of the help page. */
#include "command.h"

const struct command *const commands[] = {
    &command_replay, &command_doctor,  &command_check, &command_bench,
    &command_cuda,   &command_version, &command_help,  NULL,
};
