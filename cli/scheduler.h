/* SPDX-License-Identifier: Apache-2.0
 * scheduler.h: who runs this step. Pure policy: it sees lengths, page counts and arrivals, never a page or a clock.
 *
 *   not arrived ──arrive──► waiting (FIFO) ──pick──► running (oldest first, at most max_batch)
 *                              ▲                         │ advance: its last token came out ► done
 *                              └────front── preempt ◄────┘ pages ran out: the youngest goes back, and is recomputed
 *
 * Continuous batching with chunked prefill. A job knows `known` tokens (its prompt and what it generated so far), of
 * which `computed` are in the cache. A step computes some more; when computed reaches known, one token comes out and
 * known grows by one. The last token's K and V are never needed. */
#ifndef CLI_SCHEDULER_H
#define CLI_SCHEDULER_H

#include "types.h"

struct job {
    i64 prompt_tokens, output_tokens;
    i64 known, computed;
    i64 n_preempted; /* times it was sent back */
};

struct step_item {
    i64 job;      /* its number: the request's */
    i64 n_tokens; /* to compute: positions computed .. computed + n_tokens - 1 */
};

struct scheduler_config {
    i64 max_batch; /* running jobs */
    i64 chunk;     /* tokens a step */
    i64 page_size;
};

struct scheduler {
    struct scheduler_config cfg;
    struct job *jobs; /* [n_jobs] */
    i64 n_jobs;
    i64 *running; /* [n_running] of [max_batch], oldest admission first */
    i64 n_running;
    i64 *waiting; /* ring of [n_jobs]: n_waiting from `head` */
    i64 head, n_waiting;
    i64 n_done;
};

/* n_jobs jobs of unknown lengths: the caller fills jobs[i].prompt_tokens and output_tokens (>= 1) before they arrive.
 * false: out of memory. */
bool scheduler_init(struct scheduler *s, const struct scheduler_config *cfg, i64 n_jobs);
void scheduler_free(struct scheduler *s);

/* Jobs arrive in any order, each once. */
void scheduler_arrive(struct scheduler *s, i64 job);

/* This step's work: items [max_batch]; returns how many. Decodes first, so that no answer waits for another's prompt;
 * then chunks of prompts, oldest first; then new jobs, as long as all their known tokens fit beside what the running
 * jobs were promised and one spare page for each of them (else they would only be sent back). */
i64 scheduler_pick(struct scheduler *s, i64 n_free_pages, struct step_item *items);

/* The youngest running job loses its pages: it waits at the front and starts over. Returns it; -1 when none runs. */
i64 scheduler_preempt(struct scheduler *s);

/* What became of a job's step. */
enum progress {
    PROGRESS_PREFILL, /* more of the prompt (or of a recomputation) to do */
    PROGRESS_TOKEN,   /* one token came out */
    PROGRESS_DONE,    /* the last token came out: it runs no more */
};
enum progress scheduler_advance(struct scheduler *s, const struct step_item *item);

#endif
