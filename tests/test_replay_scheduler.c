/* SPDX-License-Identifier: Apache-2.0
 * test_replay_scheduler.c: the policy keeps its promises on random loads: budgets, order, progress. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include "scheduler.h"

static u64 next_random(u64 *state)
{
    *state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return *state >> 33;
}

static i64 random_in(u64 *state, i64 min, i64 max)
{
    return min + (i64)(next_random(state) % (u64)(max - min + 1));
}

/* A pool that only counts, playing the cache's part. */
struct load {
    struct scheduler s;
    struct step_item *items; /* [max_batch] */
    i64 n_pages, n_used;
    i64 *held;  /* [n_jobs] pages */
    i64 *ended; /* [n_jobs] the step it ended in, -1 */
    i64 steps, tokens;
    u64 seed;
};

static i64 job_pages(const struct load *load, i64 n_tokens)
{
    return ceil_div(n_tokens, load->s.cfg.page_size);
}

static void make_load(struct load *load, u64 seed)
{
    *load = (struct load){ .seed = seed };
    const struct scheduler_config cfg = { random_in(&seed, 1, 8), random_in(&seed, 1, 40), random_in(&seed, 1, 5) };
    const i64 n_jobs = random_in(&seed, 1, 30);
    assert_true(scheduler_init(&load->s, &cfg, n_jobs));
    load->items = calloc((size_t)cfg.max_batch, sizeof(*load->items));
    load->held = calloc((size_t)n_jobs, sizeof(*load->held));
    load->ended = calloc((size_t)n_jobs, sizeof(*load->ended));
    assert_true(load->items && load->held && load->ended);
    for (i64 i = 0; i < n_jobs; i++) {
        struct job *job = &load->s.jobs[i];
        job->prompt_tokens = random_in(&seed, 1, 60);
        job->output_tokens = random_in(&seed, 1, 20);
        load->ended[i] = -1;
        /* At least as large as the largest job, so that each can run alone. */
        load->n_pages = max_i64(load->n_pages, job_pages(load, job->prompt_tokens + job->output_tokens));
    }
    load->n_pages += random_in(&seed, 0, 2 * load->n_pages);
}

static void free_load(struct load *load)
{
    scheduler_free(&load->s);
    free(load->items);
    free(load->held);
    free(load->ended);
}

static void give_back(struct load *load, i64 job)
{
    load->n_used -= load->held[job];
    load->held[job] = 0;
}

static i64 pages_short(const struct load *load, i64 n_items)
{
    i64 need = 0;
    for (i64 i = 0; i < n_items; i++) {
        const struct step_item *item = &load->items[i];
        need += job_pages(load, load->s.jobs[item->job].computed + item->n_tokens) - load->held[item->job];
    }
    return need - (load->n_pages - load->n_used);
}

static i64 drop_item(struct load *load, i64 n_items, i64 job)
{
    i64 kept = 0;
    for (i64 i = 0; i < n_items; i++)
        if (load->items[i].job != job)
            load->items[kept++] = load->items[i];
    return kept;
}

static void check_items(const struct load *load, i64 n_items)
{
    i64 sum = 0;
    assert_in_range(load->s.n_running, 0, load->s.cfg.max_batch);
    for (i64 i = 0; i < n_items; i++) {
        const struct step_item *item = &load->items[i];
        const struct job *job = &load->s.jobs[item->job];
        assert_in_range(item->n_tokens, 1, job->known - job->computed);
        assert_int_equal(load->ended[item->job], -1);
        sum += item->n_tokens;
        for (i64 j = 0; j < i; j++)
            assert_int_not_equal(load->items[j].job, item->job);
        /* Decodes never stand behind a prompt's chunk. */
        const struct job *before = i ? &load->s.jobs[load->items[i - 1].job] : job;
        if (before->known - before->computed > 1 && load->held[item->job])
            assert_true(job->known - job->computed > 1);
    }
    assert_in_range(sum, 1, load->s.cfg.chunk);
}

static void run_step(struct load *load)
{
    i64 n_items = scheduler_pick(&load->s, load->n_pages - load->n_used, load->items);
    if (n_items == 0)
        fail_msg("seed %llu: step %lld has no work, %lld waiting, %lld running", (unsigned long long)load->seed,
                 (long long)load->steps, (long long)load->s.n_waiting, (long long)load->s.n_running);
    check_items(load, n_items);
    while (pages_short(load, n_items) > 0) {
        const i64 victim = scheduler_preempt(&load->s);
        assert_true(victim >= 0);
        give_back(load, victim);
        n_items = drop_item(load, n_items, victim);
    }
    for (i64 i = 0; i < n_items; i++) {
        const struct step_item item = load->items[i];
        const i64 pages = job_pages(load, load->s.jobs[item.job].computed + item.n_tokens);
        load->n_used += pages - load->held[item.job];
        load->held[item.job] = pages;
        load->tokens += item.n_tokens;
        if (scheduler_advance(&load->s, &item) == PROGRESS_DONE) {
            give_back(load, item.job);
            load->ended[item.job] = load->steps;
        }
    }
    load->steps++;
}

static void every_job_ends_within_budgets(void **state)
{
    (void)state;
    i64 n_preempted = 0;
    for (u64 seed = 1; seed <= 400; seed++) {
        struct load load;
        make_load(&load, seed);
        i64 arrived = 0;
        while (load.s.n_done < load.s.n_jobs) {
            /* At least one when idle, else a few at random. */
            const bool idle = load.s.n_waiting + load.s.n_running == 0;
            for (i64 n = random_in(&load.seed, idle, 3); n > 0 && arrived < load.s.n_jobs; n--)
                scheduler_arrive(&load.s, arrived++);
            if (load.s.n_waiting + load.s.n_running)
                run_step(&load);
            if (load.steps > 100000)
                fail_msg("seed %llu: no end", (unsigned long long)seed);
        }
        i64 tokens = 0, preempted = 0;
        for (i64 i = 0; i < load.s.n_jobs; i++) {
            const struct job *job = &load.s.jobs[i];
            assert_int_equal(job->known, job->prompt_tokens + job->output_tokens);
            assert_int_equal(job->computed, job->known - 1);
            tokens += job->computed;
            preempted += job->n_preempted;
        }
        assert_int_equal(load.n_used, 0);
        assert_true(preempted ? load.tokens >= tokens : load.tokens == tokens);
        n_preempted += preempted;
        free_load(&load);
    }
    assert_true(n_preempted > 0); /* else the loads above were too easy to show anything */
}

/* The oldest job is never sent back while a younger one runs; the one sent back is first in line. */
static void preemption_takes_the_youngest(void **state)
{
    (void)state;
    struct scheduler s;
    const struct scheduler_config cfg = { 3, 100, 4 };
    assert_true(scheduler_init(&s, &cfg, 4));
    for (i64 i = 0; i < 4; i++) {
        s.jobs[i].prompt_tokens = 5;
        s.jobs[i].output_tokens = 5;
        scheduler_arrive(&s, i);
    }
    struct step_item items[3];
    assert_int_equal(scheduler_pick(&s, 100, items), 3);
    assert_int_equal(scheduler_preempt(&s), 2);
    assert_int_equal(s.waiting[s.head], 2);
    assert_int_equal(scheduler_preempt(&s), 1);
    assert_int_equal(scheduler_preempt(&s), 0);
    assert_int_equal(scheduler_preempt(&s), -1);
    assert_int_equal(s.n_waiting, 4);
    for (i64 i = 0; i < 4; i++)
        assert_int_equal(s.waiting[(s.head + i) % 4], i);
    scheduler_free(&s);
}

/* A prompt that would not fit beside what is already promised waits, even when its first chunk would fit. */
static void admission_needs_room_for_the_whole_prompt(void **state)
{
    (void)state;
    struct scheduler s;
    const struct scheduler_config cfg = { 4, 8, 4 };
    assert_true(scheduler_init(&s, &cfg, 2));
    for (i64 i = 0; i < 2; i++) {
        s.jobs[i].prompt_tokens = 40;
        s.jobs[i].output_tokens = 1;
        scheduler_arrive(&s, i);
    }
    struct step_item items[4];
    assert_int_equal(scheduler_pick(&s, 20, items), 1); /* 10 pages each and one spare: 20 are not enough for both */
    assert_int_equal(items[0].n_tokens, 8);
    assert_int_equal(s.n_waiting, 1);
    scheduler_free(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_job_ends_within_budgets),
        cmocka_unit_test(preemption_takes_the_youngest),
        cmocka_unit_test(admission_needs_room_for_the_whole_prompt),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
