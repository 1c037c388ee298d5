/* SPDX-License-Identifier: Apache-2.0
 * report.c: what a replay measured: storage, quantiles, derived numbers. */
#include "report.h"

#include <stdlib.h>
#include <string.h>

bool report_init(struct report *report, i64 n_requests)
{
    *report = (struct report){ 0 };
    report->first_token_s = calloc((size_t)max_i64(n_requests, 1), sizeof(*report->first_token_s));
    return report->first_token_s;
}

void report_free(struct report *report)
{
    free(report->steps);
    free(report->first_token_s);
    *report = (struct report){ 0 };
}

bool report_step(struct report *report, const struct step_record *step)
{
    if (report->n_steps == report->room) {
        const i64 room = max_i64(1024, report->room * 2);
        void *bigger = realloc(report->steps, (size_t)room * sizeof(*report->steps));
        if (!bigger)
            return false;
        report->steps = bigger;
        report->room = room;
    }
    report->steps[report->n_steps++] = *step;
    return true;
}

static int compare_doubles(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double quantile(double *values, i64 n, double q)
{
    if (n == 0)
        return 0;
    qsort(values, (size_t)n, sizeof(*values), compare_doubles);
    return values[(i64)(q * (double)(n - 1) + 0.5)];
}

bool report_totals(const struct report *report, i64 page_size, struct report_totals *totals)
{
    *totals = (struct report_totals){ 0 };
    double *ms = malloc((size_t)max_i64(report->n_steps, 1) * sizeof(*ms));
    if (!ms)
        return false;
    double unused = 0, seconds = 0;
    for (i64 i = 0; i < report->n_steps; i++) {
        const struct step_record *step = &report->steps[i];
        ms[i] = step->ms;
        seconds += 1e-3 * step->ms;
        totals->peak_pages = max_i64(totals->peak_pages, step->pages_held);
        totals->peak_running = max_i64(totals->peak_running, step->n_running);
        totals->contiguous_pages = max_i64(totals->contiguous_pages, step->pages_contiguous);
        if (step->pages_held)
            unused += (double)step->slots_unused / (double)(step->pages_held * page_size);
    }
    totals->fragmentation = report->n_steps ? unused / (double)report->n_steps : 0;
    totals->step_seconds = seconds;
    if (totals->contiguous_pages)
        totals->saved_fraction = 1 - (double)totals->peak_pages / (double)totals->contiguous_pages;
    if (seconds > 0)
        totals->tokens_per_s = (double)(report->prompt_tokens + report->generated_tokens) / seconds;
    totals->step_ms_p50 = quantile(ms, report->n_steps, 0.5);
    totals->step_ms_p90 = quantile(ms, report->n_steps, 0.9);
    totals->step_ms_p99 = quantile(ms, report->n_steps, 0.99);
    free(ms);
    return true;
}

double work_gb_s(const struct work *work)
{
    return work->attend_s > 0 ? 1e-9 * work->kv_bytes / work->attend_s : 0;
}

double work_gflop_s(const struct work *work)
{
    return work->attend_s > 0 ? 1e-9 * work->flops / work->attend_s : 0;
}
