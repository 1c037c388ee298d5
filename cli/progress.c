/* SPDX-License-Identifier: Apache-2.0
 * progress.c: a bar on stderr, only when that is a terminal. */
#include "progress.h"

#include <stdio.h>
#include <unistd.h>

#include "clock.h"

enum { BAR = 30 };

void progress_begin(struct progress_bar *bar)
{
    *bar = (struct progress_bar){ .shown = isatty(STDERR_FILENO) };
}

void progress_update(struct progress_bar *bar, i64 done, i64 total, const char *note)
{
    const double now = now_s();
    if (!bar->shown || now - bar->last_s < 0.1)
        return;
    bar->last_s = now;
    const int filled = total > 0 ? (int)(BAR * done / total) : 0;
    fprintf(stderr, "\r[%.*s%*s] %3lld %% %.60s\033[K", filled, "##############################", BAR - filled, "",
            (long long)(total > 0 ? 100 * done / total : 0), note);
}

void progress_end(struct progress_bar *bar)
{
    if (bar->shown)
        fputs("\r\033[K", stderr);
}
