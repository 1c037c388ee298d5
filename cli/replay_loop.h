/* SPDX-License-Identifier: Apache-2.0
 * replay_loop.h: a trace through scheduler, cache and attention, step by step.
 *
 *   arrivals ► scheduler_pick ► engine_reserve ──ENOPAGES──► preempt the youngest, try again
 *                                     │
 *                               engine_begin ► [inject] ► engine_plan
 *                                     │
 *                      each layer: model rows ► engine_attend ► verify
 *                                     │
 *                               scheduler_advance ► close what is done */
#ifndef CLI_REPLAY_LOOP_H
#define CLI_REPLAY_LOOP_H

#include "engine.h"
#include "inject.h"
#include "progress.h"
#include "report.h"
#include "scheduler.h"
#include "trace.h"
#include "verify.h"

struct replay {
    /* Set by the caller, all ready to use. */
    const struct trace *trace;
    struct shape shape;
    u64 seed;
    bool by_clock; /* arrivals by the trace's clock; else all at once */
    bool json;     /* a line a step */
    struct engine *engine;
    struct verify *verify;
    struct inject *inject;
    struct report *report;

    /* The loop's own. */
    struct scheduler scheduler;
    struct progress_bar bar;
    double clock_s;             /* the trace's clock */
    i64 n_arrived;              /* requests */
    i64 tokens_asked;           /* through attention, if nothing is preempted */
    folio_seq *seqs;            /* [n_requests], 0 = none open */
    i64 n_items;                /* this step: */
    struct step_item *items;    /* [n_items] of [max_batch] */
    folio_seq *step_seqs;       /* [n_items] */
    i64 *step_new;              /* [n_items] tokens */
    i64 *step_requests;         /* [n_items] */
    struct verify_item *checks; /* [n_items] */
    u64 *identities;            /* [chunk] of this step's tokens */
    i64 step_preempted;
    char error[320]; /* why replay_run gave up */
};

/* Everything through. false: r->error says why; the report holds what was done until then. */
bool replay_run(struct replay *r);

#endif
