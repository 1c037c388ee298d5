/* SPDX-License-Identifier: Apache-2.0
 * progress.h: a bar on stderr, only when that is a terminal. */
#ifndef CLI_PROGRESS_H
#define CLI_PROGRESS_H

#include "types.h"

struct progress_bar {
    bool shown;
    double last_s; /* when it was drawn */
};

void progress_begin(struct progress_bar *bar);
/* Redraws at most ten times a second. note: what is going on, one short line. */
void progress_update(struct progress_bar *bar, i64 done, i64 total, const char *note);
void progress_end(struct progress_bar *bar); /* wipes it */

#endif
