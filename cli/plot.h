/* SPDX-License-Identifier: Apache-2.0
 * plot.h: pictures, through gnuplot. */
#ifndef CLI_PLOT_H
#define CLI_PLOT_H

#include <stdio.h>

#include "report.h"

/* A gnuplot process that draws into the SVG file `path`, `height` points high; write its language to the stream.
 * NULL when it can't be started. */
FILE *plot_open(const char *path, int height);
/* false: gnuplot failed or is not there; it said why on stderr. */
bool plot_close(FILE *plot);

/* Memory in use over time against contiguous reservation; under it, the latency of steps. */
bool plot_replay(const char *path, const struct report *report, const struct report_setup *setup);

#endif
