/* SPDX-License-Identifier: Apache-2.0
 * replay_loop.c: a trace through scheduler, cache and attention, step by step. */
#include "replay_loop.h"

#include <stdio.h>
#include <stdlib.h>

#include "clock.h"

static bool give_up(struct replay *r, const char *what)
{
    snprintf(r->error, sizeof(r->error), "step %lld: %s: %s", (long long)r->report->n_steps, what, folio_last_error());
    return false;
}

static bool no_memory(struct replay *r)
{
    snprintf(r->error, sizeof(r->error), "out of memory");
    return false;
}

static bool begin_loop(struct replay *r)
{
    const struct engine_config *cfg = &r->engine->cfg;
    const struct scheduler_config policy = { cfg->max_batch, cfg->chunk, cfg->pages.page_size };
    const size_t n = (size_t)r->trace->n_requests, batch = (size_t)cfg->max_batch;
    if (!scheduler_init(&r->scheduler, &policy, r->trace->n_requests))
        return no_memory(r);
    for (i64 i = 0; i < r->trace->n_requests; i++) {
        r->scheduler.jobs[i].prompt_tokens = r->trace->requests[i].prompt_tokens;
        r->scheduler.jobs[i].output_tokens = r->trace->requests[i].output_tokens;
        r->tokens_asked += r->trace->requests[i].prompt_tokens + r->trace->requests[i].output_tokens - 1;
    }
    r->seqs = calloc(n, sizeof(*r->seqs));
    r->items = calloc(batch, sizeof(*r->items));
    r->step_seqs = calloc(batch, sizeof(*r->step_seqs));
    r->step_new = calloc(batch, sizeof(*r->step_new));
    r->step_requests = calloc(batch, sizeof(*r->step_requests));
    r->checks = calloc(batch, sizeof(*r->checks));
    r->identities = calloc((size_t)cfg->chunk, sizeof(*r->identities));
    progress_begin(&r->bar);
    return r->seqs && r->items && r->step_seqs && r->step_new && r->step_requests && r->checks && r->identities
               ? true
               : no_memory(r);
}

static void end_loop(struct replay *r)
{
    progress_end(&r->bar);
    void *const blocks[] = { r->seqs, r->items, r->step_seqs, r->step_new, r->step_requests, r->checks, r->identities };
    for (size_t i = 0; i < COUNT_OF(blocks); i++)
        free(blocks[i]);
    scheduler_free(&r->scheduler);
}

static void let_arrive(struct replay *r)
{
    const struct scheduler *s = &r->scheduler;
    const bool idle = s->n_waiting + s->n_running == 0;
    if (idle && r->by_clock && r->n_arrived < s->n_jobs && r->trace->requests[r->n_arrived].arrival_s > r->clock_s)
        r->clock_s = r->trace->requests[r->n_arrived].arrival_s;
    while (r->n_arrived < s->n_jobs && (!r->by_clock || r->trace->requests[r->n_arrived].arrival_s <= r->clock_s))
        scheduler_arrive(&r->scheduler, r->n_arrived++);
}

/* The items as the arrays that the engine takes; sequences that are new are opened. */
static bool gather_items(struct replay *r)
{
    for (i64 i = 0; i < r->n_items; i++) {
        const struct step_item *item = &r->items[i];
        if (!r->seqs[item->job] && folio_seq_open(r->engine->cache, &r->seqs[item->job]))
            return give_up(r, "open a sequence");
        r->step_seqs[i] = r->seqs[item->job];
        r->step_new[i] = item->n_tokens;
        r->step_requests[i] = item->job;
    }
    return true;
}

static void drop_item(struct replay *r, i64 job)
{
    i64 kept = 0;
    for (i64 i = 0; i < r->n_items; i++)
        if (r->items[i].job != job)
            r->items[kept++] = r->items[i];
    r->n_items = kept;
}

static bool close_sequence(struct replay *r, i64 job)
{
    const folio_seq seq = r->seqs[job];
    r->seqs[job] = 0;
    return !seq || !folio_seq_close(r->engine->cache, seq) || give_up(r, "close a sequence");
}

/* Pages for every item; whoever is youngest goes as long as there are too few. */
static bool reserve_pages(struct replay *r)
{
    for (;;) {
        if (!gather_items(r))
            return false;
        const folio_status status = engine_reserve(r->engine, r->step_seqs, r->step_new, r->n_items);
        if (status == FOLIO_OK)
            return true;
        /* ETOOBIG: these sequences never fit together; any one of them does. */
        if ((status != FOLIO_ENOPAGES && status != FOLIO_ETOOBIG) || r->n_items <= 1)
            return give_up(r, "reserve pages");
        const i64 victim = scheduler_preempt(&r->scheduler);
        r->step_preempted++;
        r->report->preemptions++;
        inject_leave(r->inject, victim, -1, false);
        drop_item(r, victim);
        if (!close_sequence(r, victim))
            return false;
    }
}

static i64 done_tokens(const struct replay *r)
{
    return r->report->computed_tokens;
}

/* What is checked, who the tokens are, and the fault if one is asked for. */
static void prepare_step(struct replay *r)
{
    i64 token = 0;
    for (i64 i = 0; i < r->n_items; i++) {
        const struct step_item *item = &r->items[i];
        const struct job *job = &r->scheduler.jobs[item->job];
        const i64 end = job->computed + item->n_tokens;
        const bool emits = end == job->known;
        const bool first = job->known == job->prompt_tokens;
        const bool last = job->known + 1 == job->prompt_tokens + job->output_tokens;
        r->checks[i] = (struct verify_item){ item->job, job->computed, item->n_tokens, emits && (first || last) };
        for (i64 position = job->computed; position < end; position++)
            r->identities[token++] = token_identity(r->trace, item->job, position, r->seed);
    }
    verify_choose(r->verify, r->checks, r->n_items);
    const struct inject_step step = { r->step_requests, r->engine->kv_lens,     r->engine->table,
                                      r->n_items,       r->engine->table_width, done_tokens(r) * 2 >= r->tokens_asked };
    inject_apply(r->inject, &step);
}

/* q, k and v of this step's tokens in one layer: what a model would compute. */
static void make_rows(struct replay *r, i32 layer)
{
    struct engine *e = r->engine;
    const struct shape *shape = &r->shape;
    const enum element element = e->cfg.pages.element;
    const i64 bytes = element_bytes(element), q_row = shape->n_q_heads * shape->dim_qk * bytes;
    const i64 k_row = shape->n_kv_heads * shape->dim_qk * bytes, v_row = shape->n_kv_heads * shape->dim_v * bytes;
    for (i64 t = 0; t < e->n_tokens; t++) {
        const u64 who = r->identities[t];
        row_fill(who, layer, ROW_Q, shape->n_q_heads, shape->dim_qk, element, (char *)e->q + t * q_row);
        row_fill(who, layer, ROW_K, shape->n_kv_heads, shape->dim_qk, element, (char *)e->k + t * k_row);
        row_fill(who, layer, ROW_V, shape->n_kv_heads, shape->dim_v, element, (char *)e->v + t * v_row);
    }
}

static bool run_layers(struct replay *r)
{
    for (i32 layer = 0; layer < r->engine->cfg.pages.n_layers; layer++) {
        const double start = now_s();
        make_rows(r, layer);
        r->report->model_s += now_s() - start;
        if (engine_attend(r->engine, layer))
            return give_up(r, "append and attend");
        const double attended = now_s();
        verify_layer(r->verify, r->engine, layer);
        r->report->check_s += now_s() - attended;
    }
    return true;
}

static bool decodes(const struct job *job, const struct step_item *item)
{
    return item->n_tokens == 1 && job->computed >= job->prompt_tokens && job->computed + 1 == job->known;
}

static double total_time(const struct engine_times *t)
{
    return t->cache + t->plan + t->append + t->attend;
}

static void add_work(struct work *work, double kv_bytes, double flops, double attend_s)
{
    work->kv_bytes += kv_bytes;
    work->flops += flops;
    work->attend_s += attend_s;
}

/* Numbers of the step that just ran; the jobs have not advanced yet. */
static bool record_step(struct replay *r, const struct engine_times *before)
{
    const struct engine *e = r->engine;
    folio_cache_stats stats = { .struct_size = sizeof(stats) };
    if (folio_cache_get_stats(e->cache, &stats))
        return give_up(r, "cache statistics");
    struct step_record step = {
        .at_s = r->clock_s,
        .ms = 1e3 * (total_time(&e->times) - total_time(before)),
        .n_running = r->scheduler.n_running,
        .pages_held = stats.n_held,
        .pages_contiguous = r->scheduler.n_running * e->table_width,
        .slots_unused = stats.n_slots_unused,
        .n_preempted = r->step_preempted,
    };
    for (i64 i = 0; i < r->n_items; i++) {
        const bool answers = decodes(&r->scheduler.jobs[r->items[i].job], &r->items[i]);
        *(answers ? &step.answer_tokens : &step.prompt_tokens) += r->items[i].n_tokens;
    }
    const double layers = e->cfg.pages.n_layers, attend_s = e->times.attend - before->attend;
    const double kv_bytes = layers * engine_kv_bytes(e), flops = layers * engine_flops(e);
    add_work(&r->report->all, kv_bytes, flops, attend_s);
    add_work(step.prompt_tokens ? &r->report->prefill : &r->report->decode, kv_bytes, flops, attend_s);
    r->report->computed_tokens += e->n_tokens;
    r->clock_s += 1e-3 * step.ms;
    if (r->json)
        report_step_json(&step, r->report->n_steps);
    return report_step(r->report, &step) || no_memory(r);
}

static i32 last_full_page(const struct engine *e, i64 row)
{
    const i64 column = e->kv_lens[row] / e->cfg.pages.page_size - 1;
    return column < 0 ? -1 : e->table[row * e->table_width + column];
}

static bool finish_step(struct replay *r)
{
    struct report *report = r->report;
    for (i64 i = 0; i < r->n_items; i++) {
        const i64 number = r->items[i].job;
        const struct job *job = &r->scheduler.jobs[number];
        const enum progress progress = scheduler_advance(&r->scheduler, &r->items[i]);
        if (progress != PROGRESS_PREFILL && job->known == job->prompt_tokens + 1)
            report->first_token_s[report->n_first_tokens++] =
                r->clock_s - (r->by_clock ? r->trace->requests[number].arrival_s : 0);
        if (progress != PROGRESS_DONE)
            continue;
        report->n_requests_done++;
        report->prompt_tokens += job->prompt_tokens;
        report->generated_tokens += job->output_tokens;
        inject_leave(r->inject, number, last_full_page(r->engine, i), true);
        if (!close_sequence(r, number))
            return false;
    }
    return true;
}

static void show_progress(struct replay *r)
{
    char note[80];
    snprintf(note, sizeof(note), "%lld of %lld requests, %lld running, step %lld", (long long)r->scheduler.n_done,
             (long long)r->scheduler.n_jobs, (long long)r->scheduler.n_running, (long long)r->report->n_steps);
    progress_update(&r->bar, min_i64(r->report->computed_tokens, r->tokens_asked), r->tokens_asked, note);
}

static bool run_step(struct replay *r)
{
    const struct engine_times before = r->engine->times;
    r->step_preempted = 0;
    r->n_items = scheduler_pick(&r->scheduler, engine_free_pages(r->engine), r->items);
    if (r->n_items == 0) {
        snprintf(r->error, sizeof(r->error), "step %lld: nothing can run: too few pages for one request",
                 (long long)r->report->n_steps);
        return false;
    }
    if (!reserve_pages(r))
        return false;
    if (engine_begin(r->engine, r->step_seqs, r->step_new, r->n_items))
        return give_up(r, "append to sequences");
    prepare_step(r);
    if (engine_plan(r->engine))
        return give_up(r, "plan");
    return run_layers(r) && record_step(r, &before) && finish_step(r);
}

bool replay_run(struct replay *r)
{
    const double start = now_s();
    bool ok = begin_loop(r);
    while (ok && r->scheduler.n_done < r->scheduler.n_jobs) {
        let_arrive(r);
        ok = run_step(r);
        show_progress(r);
    }
    if (ok && folio_cache_check(r->engine->cache))
        ok = give_up(r, "cache check at the end");
    r->report->times = r->engine->times;
    r->report->wall_s = now_s() - start;
    end_loop(r);
    return ok;
}
