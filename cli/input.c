/* SPDX-License-Identifier: Apache-2.0
 * input.c: a whole file, or standard input, in memory. */
#include "input.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char *read_stream(FILE *from, size_t *n)
{
    size_t room = 1 << 16, used = 0;
    char *text = malloc(room);
    while (text) {
        used += fread(text + used, 1, room - used, from);
        if (used < room)
            break;
        char *bigger = realloc(text, room *= 2);
        if (!bigger)
            free(text);
        text = bigger;
    }
    if (text && ferror(from)) {
        const int why = errno;
        free(text);
        errno = why;
        return NULL;
    }
    *n = used;
    return text;
}

char *input_read(const char *path, size_t *n)
{
    if (!strcmp(path, "-"))
        return read_stream(stdin, n);
    FILE *from = fopen(path, "rb");
    if (!from)
        return NULL;
    char *text = read_stream(from, n);
    const int why = errno;
    fclose(from);
    errno = why;
    return text;
}
