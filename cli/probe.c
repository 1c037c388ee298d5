/* SPDX-License-Identifier: Apache-2.0
 * probe.c: what this machine can do at most, right now. */
#include "probe.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "clock.h"
#include "machine.h"
#include "memory.h"
#include "report.h"

enum { READ_STEP = 1 << 20, MAX_PIECES = 8192 };

enum task { TASK_TOUCH, TASK_READ, TASK_FMA, TASK_DOT, TASK_QUIT };

struct worker {
    struct probe *probe;
    pthread_t thread;
    u8 *part;        /* [probe->part_bytes] */
    size_t at;       /* where in its part it goes on reading */
    double *piece_s; /* [n_pieces] of [MAX_PIECES]: the times of the last task's pieces */
    i64 n_pieces;
    double piece_units; /* bytes or flops of one */
    u64 sink;           /* keeps the loops alive */
};

struct probe {
    const struct probe_body *body;
    const struct probe_body *dot; /* pairs or tiles of bf16, or NULL */
    i32 n_threads, n_started;     /* wanted; made, the caller counted as one */
    struct worker *workers;       /* [n_threads]; 0 is the caller's own */
    u8 *buffer;                   /* [n_threads][part_bytes] */
    size_t part_bytes;
    struct read_style style;
    double seconds; /* how long a task lasts */

    pthread_mutex_t lock; /* for the four below */
    pthread_cond_t changed;
    i64 round; /* one more for each task */
    enum task task;
    i32 n_busy;
    atomic_int n_ready; /* workers that have begun this round */
};

static void touch(struct worker *worker)
{
    for (size_t at = 0; at < worker->probe->part_bytes; at += 64)
        worker->part[at] = (u8)(at >> 6);
}

static void read_piece(struct worker *worker)
{
    const struct probe *probe = worker->probe;
    worker->sink ^= probe->body->read(worker->part + worker->at, READ_STEP, probe->style);
    worker->at = (worker->at + READ_STEP) % probe->part_bytes;
    worker->piece_units = READ_STEP;
}

static void multiply(struct worker *worker, const struct probe_body *body)
{
    const i64 n_rounds = 10000;
    worker->sink ^= (u64)body->fma(n_rounds, 0.25);
    worker->piece_units = (double)n_rounds * body->flops_per_round;
}

static void multiply_piece(struct worker *worker)
{
    multiply(worker, worker->probe->body);
}

static void dot_piece(struct worker *worker)
{
    multiply(worker, worker->probe->dot);
}

static void work_for_a_while(struct worker *worker, void (*piece)(struct worker *))
{
    const double start = now_s();
    worker->n_pieces = 0;
    for (double before = start; before - start < worker->probe->seconds && worker->n_pieces < MAX_PIECES;) {
        piece(worker);
        const double after = now_s();
        worker->piece_s[worker->n_pieces++] = after - before;
        before = after;
    }
}

static void do_task(struct worker *worker)
{
    struct probe *probe = worker->probe;
    atomic_fetch_add(&probe->n_ready, 1);
    while (atomic_load(&probe->n_ready) < probe->n_started) /* all begin together */
        sched_yield();
    if (probe->task == TASK_TOUCH)
        touch(worker);
    if (probe->task == TASK_READ)
        work_for_a_while(worker, read_piece);
    if (probe->task == TASK_FMA)
        work_for_a_while(worker, multiply_piece);
    if (probe->task == TASK_DOT)
        work_for_a_while(worker, dot_piece);
}

static void *worker_main(void *arg)
{
    struct worker *worker = arg;
    struct probe *probe = worker->probe;
    for (i64 seen = 0;;) {
        pthread_mutex_lock(&probe->lock);
        while (probe->round == seen)
            pthread_cond_wait(&probe->changed, &probe->lock);
        seen = probe->round;
        const bool quits = probe->task == TASK_QUIT;
        pthread_mutex_unlock(&probe->lock);
        if (quits)
            return NULL;
        do_task(worker);
        pthread_mutex_lock(&probe->lock);
        if (--probe->n_busy == 0)
            pthread_cond_broadcast(&probe->changed);
        pthread_mutex_unlock(&probe->lock);
    }
}

static void begin_round(struct probe *probe, enum task task)
{
    pthread_mutex_lock(&probe->lock);
    probe->task = task;
    probe->round++;
    probe->n_busy = probe->n_started - 1;
    atomic_store(&probe->n_ready, 0);
    pthread_cond_broadcast(&probe->changed);
    pthread_mutex_unlock(&probe->lock);
}

/* Units a second of the median piece, summed over the threads. */
static double run_task(struct probe *probe, enum task task, double seconds)
{
    probe->seconds = seconds;
    begin_round(probe, task);
    do_task(&probe->workers[0]);
    pthread_mutex_lock(&probe->lock);
    while (probe->n_busy)
        pthread_cond_wait(&probe->changed, &probe->lock);
    pthread_mutex_unlock(&probe->lock);

    double rate = 0;
    for (i32 i = 0; task != TASK_TOUCH && i < probe->n_started; i++) {
        const struct worker *worker = &probe->workers[i];
        rate += worker->piece_units / quantile(worker->piece_s, worker->n_pieces, 0.5);
    }
    return rate;
}

static const struct probe_body *pick_body(folio_isa isa)
{
#if defined(__x86_64__)
    const folio_isa cap = isa == FOLIO_ISA_AUTO ? folio_isa_best() : isa;
    if (cap >= FOLIO_ISA_AVX512 && folio_isa_available(FOLIO_ISA_AVX512))
        return &probe_avx512;
    if (cap >= FOLIO_ISA_AVX2 && folio_isa_available(FOLIO_ISA_AVX2))
        return &probe_avx2;
#else
    (void)isa;
#endif
    return &probe_c;
}

static const struct probe_body *pick_dot(folio_isa isa)
{
#if defined(__x86_64__)
    const folio_isa cap = isa == FOLIO_ISA_AUTO ? folio_isa_best() : isa;
    if (cap == FOLIO_ISA_AMX && folio_isa_available(FOLIO_ISA_AMX))
        return &probe_amx;
    if (cap >= FOLIO_ISA_AVX512_BF16 && folio_isa_available(FOLIO_ISA_AVX512_BF16))
        return &probe_avx512_bf16;
#else
    (void)isa;
#endif
    return NULL;
}

/* The hardware's own prefetchers differ: try a few ways of reading, keep the fastest. */
static void pick_style(struct probe *probe)
{
    static const struct read_style styles[] = { { 1, 0 }, { 1, 24 }, { 4, 0 }, { 4, 24 }, { 8, 12 } };
    double best = 0;
    struct read_style best_style = styles[0];
    for (size_t i = 0; i < COUNT_OF(styles); i++) {
        probe->style = styles[i];
        const double rate = run_task(probe, TASK_READ, 0.01);
        if (rate > best) {
            best = rate;
            best_style = styles[i];
        }
    }
    probe->style = best_style;
}

/* Four times the last-level cache in all, so that nothing read is still there. */
static size_t part_bytes(i32 n_threads)
{
    struct machine machine;
    machine_read(&machine);
    const i64 all = min_i64(max_i64(4 * machine.l3, 128 << 20), 1 << 30);
    return (size_t)ceil_div(ceil_div(all, n_threads), READ_STEP) * READ_STEP;
}

static bool start_workers(struct probe *probe)
{
    for (i32 i = 0; i < probe->n_threads; i++) {
        struct worker *worker = &probe->workers[i];
        worker->probe = probe;
        worker->part = probe->buffer + (size_t)i * probe->part_bytes;
        worker->piece_s = malloc(MAX_PIECES * sizeof(*worker->piece_s));
        if (!worker->piece_s)
            return false;
        if (i > 0 && pthread_create(&worker->thread, NULL, worker_main, worker))
            return false;
        probe->n_started++;
    }
    return true;
}

struct probe *probe_open(i32 n_threads, folio_isa isa)
{
    struct probe *probe = calloc(1, sizeof(*probe));
    if (!probe)
        return NULL;
    probe->body = pick_body(isa);
    probe->dot = pick_dot(isa);
    probe->n_threads = n_threads;
    pthread_mutex_init(&probe->lock, NULL);
    pthread_cond_init(&probe->changed, NULL);
    probe->part_bytes = part_bytes(n_threads);
    probe->workers = calloc((size_t)n_threads, sizeof(*probe->workers));
    probe->buffer = memory_map(probe->part_bytes * (size_t)n_threads);
    if (!probe->workers || !probe->buffer || !start_workers(probe)) {
        probe_close(probe);
        return NULL;
    }
    run_task(probe, TASK_TOUCH, 0);
    pick_style(probe);
    return probe;
}

void probe_close(struct probe *probe)
{
    if (!probe)
        return;
    begin_round(probe, TASK_QUIT);
    for (i32 i = 1; i < probe->n_started; i++)
        pthread_join(probe->workers[i].thread, NULL);
    for (i32 i = 0; probe->workers && i < probe->n_threads; i++)
        free(probe->workers[i].piece_s);
    memory_unmap(probe->buffer, probe->part_bytes * (size_t)probe->n_threads);
    pthread_cond_destroy(&probe->changed);
    pthread_mutex_destroy(&probe->lock);
    free(probe->workers);
    free(probe);
}

double probe_read_gb_s(struct probe *probe, double seconds)
{
    return 1e-9 * run_task(probe, TASK_READ, seconds);
}

double probe_peak_gflop_s(struct probe *probe, bool bf16, double seconds)
{
    const double fma = run_task(probe, TASK_FMA, seconds);
    const double dot = bf16 && probe->dot ? run_task(probe, TASK_DOT, seconds) : 0;
    return 1e-9 * (dot > fma ? dot : fma);
}
