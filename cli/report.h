/* SPDX-License-Identifier: Apache-2.0
 * report.h: what a replay measured: one record a step, and sums. */
#ifndef CLI_REPORT_H
#define CLI_REPORT_H

#include "engine.h"
#include "trace.h"
#include "verify.h"

struct step_record {
    double at_s;                      /* on the replay's clock, when it began */
    double ms;                        /* folio's work: cache, plan, append, attend */
    i64 n_running;                    /* sequences */
    i64 prompt_tokens, answer_tokens; /* computed in it */
    i64 pages_held;
    i64 pages_contiguous; /* what reserving the longest length for each running sequence would hold */
    i64 slots_unused;     /* of held pages */
    i64 n_preempted;
};

struct work {
    double kv_bytes, flops, attend_s;
};

struct report {
    struct step_record *steps; /* [n_steps] of [room] */
    i64 n_steps, room;
    double *first_token_s; /* [n_requests] from arrival to the first token */
    i64 n_first_tokens, n_requests_done;
    i64 prompt_tokens, generated_tokens; /* of the requests that are done */
    i64 computed_tokens;                 /* through attention, recomputed ones each time */
    i64 preemptions;
    struct work all, decode, prefill; /* decode: steps without prompt tokens; prefill: all others */
    double wall_s, model_s, check_s;  /* outside the steps: making q, k, v; checking */
    double probe_gb_s, probe_gflop_s; /* at the start */
    double probe_drift;               /* how much the bandwidth probe moved until the end, as a share */
    struct engine_times times;
};

/* How the run was set up, for the heading. */
struct report_setup {
    const char *trace_name;
    const struct trace *trace;
    const struct shape *shape;
    const struct engine_config *engine;
    i32 n_model_layers; /* 0 = the shape has no number of its own */
    i32 n_threads;
    const char *isa, *machine;
    bool by_clock; /* arrivals by the trace's clock */
};

bool report_init(struct report *report, i64 n_requests);
void report_free(struct report *report);
bool report_step(struct report *report, const struct step_record *step); /* false: no memory */

/* The q-th quantile, 0 .. 1, of values [n]; sorts them. 0 when n is 0. */
double quantile(double *values, i64 n, double q);

/* Numbers that follow from the steps. */
struct report_totals {
    i64 peak_pages, contiguous_pages;
    i64 peak_running; /* sequences */
    double saved_fraction;
    double fragmentation; /* share of held slots without a token, mean over steps */
    double step_seconds, step_ms_p50, step_ms_p90, step_ms_p99;
    double tokens_per_s; /* prompt and generated tokens over step_seconds */
};
bool report_totals(const struct report *report, i64 page_size, struct report_totals *totals); /* false: no memory */
double work_gb_s(const struct work *work);
double work_gflop_s(const struct work *work);

/* report_print.c */
void report_step_json(const struct step_record *step, i64 number);
void report_error(const struct verify_error *error, bool json);
void report_heading(const struct report_setup *setup, bool json);
/* The end: text, or the last JSON line. false: no memory for the quantiles. */
bool report_summary(const struct report *report, const struct verify *verify, const struct report_setup *setup,
                    bool json, bool ok);

#endif
