/* SPDX-License-Identifier: Apache-2.0
 * scheduler.c: who runs this step. */
#include "scheduler.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

bool scheduler_init(struct scheduler *s, const struct scheduler_config *cfg, i64 n_jobs)
{
    *s = (struct scheduler){ .cfg = *cfg, .n_jobs = n_jobs };
    const size_t n = (size_t)max_i64(n_jobs, 1);
    s->jobs = calloc(n, sizeof(*s->jobs));
    s->waiting = calloc(n, sizeof(*s->waiting));
    s->running = calloc((size_t)cfg->max_batch, sizeof(*s->running));
    if (s->jobs && s->waiting && s->running)
        return true;
    scheduler_free(s);
    return false;
}

void scheduler_free(struct scheduler *s)
{
    free(s->jobs);
    free(s->waiting);
    free(s->running);
    *s = (struct scheduler){ 0 };
}

void scheduler_arrive(struct scheduler *s, i64 job)
{
    assert(s->n_waiting < s->n_jobs);
    s->jobs[job].known = s->jobs[job].prompt_tokens;
    s->waiting[(s->head + s->n_waiting++) % s->n_jobs] = job;
}

static i64 pages_for(const struct scheduler *s, i64 n_tokens)
{
    return ceil_div(n_tokens, s->cfg.page_size);
}

/* A step being put together. */
struct pick {
    struct step_item *items;
    i64 n_items;
    i64 tokens_left; /* of the chunk */
};

static void pick_job(const struct scheduler *s, struct pick *pick, i64 number)
{
    const struct job *job = &s->jobs[number];
    const i64 n = min_i64(job->known - job->computed, pick->tokens_left);
    if (n == 0)
        return;
    pick->items[pick->n_items++] = (struct step_item){ number, n };
    pick->tokens_left -= n;
}

/* Pages that the running jobs were promised and don't hold yet: those of all their known tokens. */
static i64 pages_promised(const struct scheduler *s)
{
    i64 n = 0;
    for (i64 i = 0; i < s->n_running; i++) {
        const struct job *job = &s->jobs[s->running[i]];
        n += pages_for(s, job->known) - pages_for(s, job->computed);
    }
    return n;
}

static void admit(struct scheduler *s, struct pick *pick, i64 n_free_pages)
{
    i64 pages_left = n_free_pages - pages_promised(s);
    while (s->n_waiting && s->n_running < s->cfg.max_batch && pick->tokens_left) {
        const i64 number = s->waiting[s->head];
        const i64 need = pages_for(s, s->jobs[number].known), spare = s->n_running;
        if (need + spare > pages_left)
            return;
        pages_left -= need;
        s->head = (s->head + 1) % s->n_jobs;
        s->n_waiting--;
        s->running[s->n_running++] = number;
        pick_job(s, pick, number);
    }
}

i64 scheduler_pick(struct scheduler *s, i64 n_free_pages, struct step_item *items)
{
    struct pick pick = { items, 0, s->cfg.chunk };
    for (i64 pass = 0; pass < 2; pass++)
        for (i64 i = 0; i < s->n_running; i++) {
            const struct job *job = &s->jobs[s->running[i]];
            const bool decodes = job->known - job->computed == 1;
            if (decodes == (pass == 0))
                pick_job(s, &pick, s->running[i]);
        }
    admit(s, &pick, n_free_pages);
    return pick.n_items;
}

i64 scheduler_preempt(struct scheduler *s)
{
    if (s->n_running == 0)
        return -1;
    const i64 number = s->running[--s->n_running];
    s->jobs[number].computed = 0;
    s->jobs[number].n_preempted++;
    s->head = (s->head + s->n_jobs - 1) % s->n_jobs;
    s->waiting[s->head] = number;
    s->n_waiting++;
    return number;
}

static void remove_running(struct scheduler *s, i64 number)
{
    i64 i = 0;
    while (s->running[i] != number)
        i++;
    memmove(s->running + i, s->running + i + 1, (size_t)(s->n_running - i - 1) * sizeof(*s->running));
    s->n_running--;
    s->n_done++;
}

enum progress scheduler_advance(struct scheduler *s, const struct step_item *item)
{
    struct job *job = &s->jobs[item->job];
    job->computed += item->n_tokens;
    assert(job->computed <= job->known);
    if (job->computed < job->known)
        return PROGRESS_PREFILL;
    job->known++;
    if (job->known < job->prompt_tokens + job->output_tokens)
        return PROGRESS_TOKEN;
    /* known counts the token that just came out, whose K and V nobody will read. */
    remove_running(s, item->job);
    return PROGRESS_DONE;
}
