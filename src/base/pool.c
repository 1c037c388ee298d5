/* SPDX-License-Identifier: Apache-2.0
 * pool.c: threads that spin for a while, then sleep; or the host's.
 *
 *   job     n | next          one atomic word. Whoever adds 1 and gets next < n owns index `next`. The caller owns
 *                             index 0 and then takes what is left, so a worker that sleeps or lost its CPU delays
 *   nobody. pending                   indices not finished; the caller waits for 0, spinning first
 *
 *   worker: spin on `job` ──► take an index ──► body ──► pending - 1 ──┐
 *              │  ▲                                                    │
 *              ▼  └────────────────────────────────────────────────────┘
 *            sleep (n_sleeping > 0 tells the caller to wake)
 *
 * How long to spin: calls that come sooner than a thread falls asleep and wakes find all awake; a pause that is
 * longer says that others want the cores.
 *
 * An index can be taken only while its job is unfinished, so body and arg are stable for whoever owns one: a late
 * worker sees either next >= n or the next job. */
#include "base/pool.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <time.h>

#include "base/alloc.h"
#include "base/apart.h"
#include "base/bits.h"
#include "base/status.h"

enum { MAX_THREADS = 1024, SPIN_NS = 50000, LONG_SPIN_NS = 200000, PAUSES_A_LOOK = 32 };

struct pool {
    _Alignas(64) atomic_ullong job; /* n << 32 | next */
    void (*body)(void *arg, i32 i);
    void *arg;
    _Alignas(64) atomic_int pending;
    atomic_bool caller_sleeps;
    atomic_int n_sleeping; /* workers */
    atomic_int caller_cpu; /* when it last woke workers; -1 = unknown */
    atomic_bool stop;
    atomic_int spin_ns;                /* SPIN_NS, or LONG_SPIN_NS after a pause that was shorter than that */
    _Alignas(64) pthread_mutex_t turn; /* held for one run */
    pthread_mutex_t sleep_lock;
    pthread_cond_t wake_workers, wake_caller;
    _Atomic u64 forks; /* 2 * n_forks when the threads below are of this process; + 1 while being renewed */
    i32 n_threads, n_started;
    i64 last_end_ns; /* of a run; by whoever has the turn */
    folio_parallel_for host;
    void *host_user;
    pthread_t *threads; /* [n_threads - 1] */
};

/* A child of fork() has the pool's memory and none of its threads. */
static pthread_once_t fork_once = PTHREAD_ONCE_INIT;
static atomic_ullong n_forks;

static void count_fork(void)
{
    atomic_fetch_add(&n_forks, 1);
}

static void watch_forks(void)
{
    (void)pthread_atfork(NULL, NULL, count_fork);
}

static void pause_cpu(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static i64 now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (i64)t.tv_sec * 1000000000 + t.tv_nsec;
}

static bool has_index(u64 job)
{
    return (u32)job < (u32)(job >> 32);
}

/* Take one index and run it; false = none was left. */
static bool run_one(struct pool *pool)
{
    if (!has_index(atomic_load_explicit(&pool->job, memory_order_relaxed)))
        return false;
    const u64 job = atomic_fetch_add(&pool->job, 1);
    if (!has_index(job))
        return false;
    pool->body(pool->arg, (i32)(u32)job);
    if (atomic_fetch_sub(&pool->pending, 1) == 1 && atomic_load(&pool->caller_sleeps)) {
        pthread_mutex_lock(&pool->sleep_lock);
        pthread_cond_signal(&pool->wake_caller);
        pthread_mutex_unlock(&pool->sleep_lock);
    }
    return true;
}

static bool worker_may_go_on(struct pool *pool)
{
    return has_index(atomic_load(&pool->job)) || atomic_load(&pool->stop);
}

static void worker_wait(struct pool *pool, struct apart *apart)
{
    const i64 deadline = now_ns() + atomic_load_explicit(&pool->spin_ns, memory_order_relaxed);
    do {
        for (i32 i = 0; i < PAUSES_A_LOOK; i++) {
            if (worker_may_go_on(pool))
                return;
            pause_cpu();
        }
    } while (now_ns() < deadline);

    folio__apart_keep(apart, atomic_load(&pool->caller_cpu));
    pthread_mutex_lock(&pool->sleep_lock);
    atomic_fetch_add(&pool->n_sleeping, 1); /* before the look below: the caller looks in the opposite order */
    while (!worker_may_go_on(pool))
        pthread_cond_wait(&pool->wake_workers, &pool->sleep_lock);
    atomic_fetch_sub(&pool->n_sleeping, 1);
    pthread_mutex_unlock(&pool->sleep_lock);
}

static void *worker_main(void *arg)
{
    struct pool *pool = arg;
    struct apart apart;
    folio__apart_begin(&apart, pool->n_threads);
    while (!atomic_load(&pool->stop)) {
        if (!run_one(pool))
            worker_wait(pool, &apart);
    }
    return NULL;
}

/* Start workers until there are n or the system refuses: the caller then does their share. */
static void start_workers(struct pool *pool, i32 n)
{
    if (pool->n_started >= n)
        return;
    sigset_t all, before; /* the host's signals are not for our threads */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    while (pool->n_started < n && pthread_create(&pool->threads[pool->n_started], NULL, worker_main, pool) == 0)
        pool->n_started++;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

static void init_shared(struct pool *pool)
{
    pthread_mutex_init(&pool->turn, NULL);
    pthread_mutex_init(&pool->sleep_lock, NULL);
    pthread_cond_init(&pool->wake_workers, NULL);
    pthread_cond_init(&pool->wake_caller, NULL);
    atomic_store(&pool->job, 0);
    atomic_store(&pool->pending, 0);
    atomic_store(&pool->caller_sleeps, false);
    atomic_store(&pool->n_sleeping, 0);
    atomic_store(&pool->caller_cpu, -1);
    atomic_store(&pool->stop, false);
    atomic_store(&pool->spin_ns, SPIN_NS);
    pool->n_started = 0;
}

/* In a child, locks may be held by threads that do not exist: make everything anew, once. */
static void renew_after_fork(struct pool *pool)
{
    const u64 current = 2 * atomic_load(&n_forks);
    u64 seen = atomic_load(&pool->forks);
    while (seen != current) {
        if (seen != current + 1 && atomic_compare_exchange_strong(&pool->forks, &seen, current + 1)) {
            init_shared(pool);
            atomic_store(&pool->forks, current);
        }
        pause_cpu();
        seen = atomic_load(&pool->forks);
    }
}

folio_status folio__pool_create(struct pool **out, i32 n_threads, folio_parallel_for host, void *host_user)
{
    FOLIO_REQUIRE(n_threads >= 1 && n_threads <= MAX_THREADS, FOLIO_EINVAL, "n_threads %d: allowed 1 .. %d",
                  (int)n_threads, MAX_THREADS);
    pthread_once(&fork_once, watch_forks);
    struct pool *pool = folio__alloc_zero(sizeof *pool);
    pthread_t *threads = folio__alloc_zero(sizeof *threads * (size_t)n_threads);
    if (!pool || !threads) {
        folio__free(pool);
        folio__free(threads);
        return folio__fail(FOLIO_ENOMEM, "no memory for a pool of %d threads", (int)n_threads);
    }
    init_shared(pool);
    atomic_store(&pool->forks, 2 * atomic_load(&n_forks));
    pool->threads = threads;
    pool->n_threads = n_threads;
    pool->host = host;
    pool->host_user = host_user;
    *out = pool;
    return FOLIO_OK;
}

void folio__pool_destroy(struct pool **pool)
{
    struct pool *p = *pool;
    if (!p)
        return;
    renew_after_fork(p);
    pthread_mutex_lock(&p->sleep_lock);
    atomic_store(&p->stop, true);
    pthread_cond_broadcast(&p->wake_workers);
    pthread_mutex_unlock(&p->sleep_lock);
    for (i32 i = 0; i < p->n_started; i++)
        pthread_join(p->threads[i], NULL);
    pthread_cond_destroy(&p->wake_caller);
    pthread_cond_destroy(&p->wake_workers);
    pthread_mutex_destroy(&p->sleep_lock);
    pthread_mutex_destroy(&p->turn);
    folio__free(p->threads);
    folio__free(p);
    *pool = NULL;
}

i32 folio__pool_n_threads(const struct pool *pool)
{
    return pool->n_threads;
}

static void wake(struct pool *pool, i32 n)
{
    if (atomic_load(&pool->n_sleeping) == 0)
        return;
    atomic_store(&pool->caller_cpu, folio__this_cpu());
    pthread_mutex_lock(&pool->sleep_lock);
    const i32 n_sleeping = atomic_load(&pool->n_sleeping);
    for (i32 i = 0; i < n && i < n_sleeping; i++)
        pthread_cond_signal(&pool->wake_workers);
    pthread_mutex_unlock(&pool->sleep_lock);
}

static void wait_for_workers(struct pool *pool)
{
    const i64 deadline = now_ns() + atomic_load_explicit(&pool->spin_ns, memory_order_relaxed);
    do {
        for (i32 i = 0; i < PAUSES_A_LOOK; i++) {
            if (atomic_load(&pool->pending) == 0)
                return;
            pause_cpu();
        }
    } while (now_ns() < deadline);

    pthread_mutex_lock(&pool->sleep_lock);
    atomic_store(&pool->caller_sleeps, true);
    while (atomic_load(&pool->pending) != 0)
        pthread_cond_wait(&pool->wake_caller, &pool->sleep_lock);
    atomic_store(&pool->caller_sleeps, false);
    pthread_mutex_unlock(&pool->sleep_lock);
}

void folio__pool_run(struct pool *pool, void (*body)(void *arg, i32 i), void *arg, i32 n)
{
    assert(n <= pool->n_threads);
    if (n <= 1) {
        if (n == 1)
            body(arg, 0);
        return;
    }
    if (pool->host) {
        pool->host(pool->host_user, body, arg, n);
        return;
    }
    renew_after_fork(pool);
    pthread_mutex_lock(&pool->turn);
    start_workers(pool, n - 1);
    const bool was_short = now_ns() - pool->last_end_ns < LONG_SPIN_NS;
    atomic_store_explicit(&pool->spin_ns, was_short ? LONG_SPIN_NS : SPIN_NS, memory_order_relaxed);
    pool->body = body;
    pool->arg = arg;
    atomic_store(&pool->pending, n - 1);
    atomic_store(&pool->job, (u64)n << 32 | 1);
    wake(pool, n - 1);
    body(arg, 0);
    while (run_one(pool))
        ;
    wait_for_workers(pool);
    pool->last_end_ns = now_ns();
    pthread_mutex_unlock(&pool->turn);
}
