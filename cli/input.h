/* SPDX-License-Identifier: Apache-2.0
 * input.h: a whole file, or standard input, in memory. */
#ifndef CLI_INPUT_H
#define CLI_INPUT_H

#include <stddef.h>

/* path "-" = standard input. The text (caller frees) and its length; NULL with errno set on failure. */
char *input_read(const char *path, size_t *n);

#endif
