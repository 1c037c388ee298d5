/* SPDX-License-Identifier: Apache-2.0
 * bench_time.c: repetitions, quantiles, and the probe before and after. */
#include <math.h>
#include <stdlib.h>

#include "bench.h"
#include "clock.h"
#include "report.h"

enum { MAX_REPS = 4096 };

static const double least_s = 0.1, most_s = 4.0; /* of all repetitions of a row */

/* What the probe says, as read bandwidth and as multiply-adds. */
struct probed {
    double gb_s, gflop_s;
};

static struct probed look(const struct bench *bench, const struct bench_row *row)
{
    const bool bf16 = row->c.element == ELEMENT_BF16;
    return (struct probed){ probe_read_gb_s(bench->probe, 0.015), probe_peak_gflop_s(bench->probe, bf16, 0.005) };
}

bool bench_time(const struct bench *bench, struct bench_row *row, bench_body *once, void *arg, double per)
{
    double *times = malloc(MAX_REPS * sizeof(*times));
    if (!times)
        return false;
    bool ok = once(arg, 0) && once(arg, 1); /* warm up: caches, page faults, first plans */
    const struct probed before = look(bench, row);
    const double start = now_s();
    i64 n = 0;
    for (double now = start; ok && n < MAX_REPS; n++) {
        const double spent = now - start;
        if (n >= bench->n_reps && (spent >= least_s || spent >= most_s))
            break;
        ok = once(arg, n + 2);
        const double end = now_s();
        times[n] = (end - now) / per;
        now = end;
    }
    const struct probed after = look(bench, row);
    row->n_reps = n;
    row->median_s = quantile(times, n, 0.5);
    row->p10_s = quantile(times, n, 0.1);
    row->p90_s = quantile(times, n, 0.9);
    row->probe_gb_s = (before.gb_s + after.gb_s) / 2;
    row->probe_gflop_s = (before.gflop_s + after.gflop_s) / 2;
    row->drift =
        row->c.kind == BENCH_PREFILL ? fabs(after.gflop_s / before.gflop_s - 1) : fabs(after.gb_s / before.gb_s - 1);
    free(times);
    return ok;
}
