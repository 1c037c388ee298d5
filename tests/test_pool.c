/* SPDX-License-Identifier: Apache-2.0
 * test_pool.c: every index runs exactly once, whoever calls, asleep or awake, before and after fork(). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/pool.h"

enum { MAX_N = 8 };

#if defined(__SANITIZE_THREAD__)
#define HAS_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define HAS_TSAN 1
#endif
#endif
#ifndef HAS_TSAN
#define HAS_TSAN 0
#endif

static void skip_where_threads_and_fork_do_not_mix(void)
{
    const int is_emulated = getenv("FOLIO_EMULATED") != NULL;
    if (!HAS_TSAN && !is_emulated)
        return;
    print_message(is_emulated ? "qemu-user 7.2 loses its own thread after the fork of a process with threads\n"
                              : "thread sanitizer can't follow threads that vanish in a forked child\n");
    skip();
}

struct tally {
    atomic_int counts[MAX_N];
};

static void count_index(void *arg, i32 i)
{
    atomic_fetch_add(&((struct tally *)arg)->counts[i], 1);
}

/* 1 when the indices 0 .. n-1 ran `times` times each and no other did. */
static int tally_is(struct tally *tally, i32 n, i32 times)
{
    for (i32 i = 0; i < MAX_N; i++)
        if (atomic_load(&tally->counts[i]) != (i < n ? times : 0))
            return 0;
    return 1;
}

static void sleep_us(long us)
{
    nanosleep(&(struct timespec){ .tv_nsec = us * 1000 }, NULL);
}

static void each_index_runs_once(void **state)
{
    (void)state;
    for (i32 n_threads = 1; n_threads <= MAX_N; n_threads += n_threads < 3 ? 1 : 5) {
        struct pool *pool = NULL;
        assert_int_equal(folio__pool_create(&pool, n_threads, NULL, NULL), FOLIO_OK);
        assert_int_equal(folio__pool_n_threads(pool), n_threads);
        for (i32 n = 0; n <= n_threads; n++) {
            struct tally tally = { 0 };
            enum { REPEATS = 200 };
            for (i32 repeat = 0; repeat < REPEATS; repeat++)
                folio__pool_run(pool, count_index, &tally, n);
            assert_true(tally_is(&tally, n, REPEATS));
        }
        folio__pool_destroy(&pool);
        assert_null(pool);
        folio__pool_destroy(&pool);
    }
}

/* Pauses longer than the spin put workers to sleep in all the ways that timing allows. */
static void sleeping_workers_wake(void **state)
{
    (void)state;
    struct pool *pool = NULL;
    assert_int_equal(folio__pool_create(&pool, 3, NULL, NULL), FOLIO_OK);
    struct tally tally = { 0 };
    enum { REPEATS = 120 };
    for (i32 repeat = 0; repeat < REPEATS; repeat++) {
        folio__pool_run(pool, count_index, &tally, 3);
        sleep_us(repeat % 12 * 24); /* around both lengths of a spin */
    }
    assert_true(tally_is(&tally, 3, REPEATS));
    folio__pool_destroy(&pool);
}

static void slow_index(void *arg, i32 i)
{
    if (i != 0)
        sleep_us(400); /* the caller runs out of spin and sleeps */
    count_index(arg, i);
}

static void a_sleeping_caller_wakes(void **state)
{
    (void)state;
    struct pool *pool = NULL;
    assert_int_equal(folio__pool_create(&pool, 2, NULL, NULL), FOLIO_OK);
    struct tally tally = { 0 };
    for (i32 repeat = 0; repeat < 20; repeat++)
        folio__pool_run(pool, slow_index, &tally, 2);
    assert_true(tally_is(&tally, 2, 20));
    folio__pool_destroy(&pool);
}

static void remember_thread(void *arg, i32 i)
{
    assert_int_equal(i, 0);
    *(pthread_t *)arg = pthread_self();
}

static void one_index_runs_on_the_caller(void **state)
{
    (void)state;
    struct pool *pool = NULL;
    assert_int_equal(folio__pool_create(&pool, 4, NULL, NULL), FOLIO_OK);
    pthread_t ran_on = { 0 };
    folio__pool_run(pool, remember_thread, &ran_on, 1);
    assert_true(pthread_equal(ran_on, pthread_self()));
    folio__pool_destroy(&pool);
}

struct caller {
    struct pool *pool;
    struct tally tally;
};

static void *call_many_times(void *arg)
{
    struct caller *caller = arg;
    for (i32 repeat = 0; repeat < 300; repeat++)
        folio__pool_run(caller->pool, count_index, &caller->tally, 3);
    return NULL;
}

static void callers_take_turns(void **state)
{
    (void)state;
    struct pool *pool = NULL;
    assert_int_equal(folio__pool_create(&pool, 3, NULL, NULL), FOLIO_OK);
    struct caller callers[4] = { 0 };
    pthread_t threads[4];
    for (size_t i = 0; i < 4; i++) {
        callers[i].pool = pool;
        assert_int_equal(pthread_create(&threads[i], NULL, call_many_times, &callers[i]), 0);
    }
    for (size_t i = 0; i < 4; i++) {
        pthread_join(threads[i], NULL);
        assert_true(tally_is(&callers[i].tally, 3, 300));
    }
    folio__pool_destroy(&pool);
}

static void backwards(void *user, void (*body)(void *arg, int32_t i), void *arg, int32_t n)
{
    *(int *)user += 1;
    for (int32_t i = n; i-- > 0;)
        body(arg, i);
}

static void host_threads_run_it_all(void **state)
{
    (void)state;
    struct pool *pool = NULL;
    int n_calls = 0;
    assert_int_equal(folio__pool_create(&pool, 5, backwards, &n_calls), FOLIO_OK);
    struct tally tally = { 0 };
    folio__pool_run(pool, count_index, &tally, 5);
    assert_true(tally_is(&tally, 5, 1));
    assert_int_equal(n_calls, 1);
    folio__pool_destroy(&pool);
}

static void a_run_allocates_nothing(void **state)
{
    (void)state;
    struct pool *pool = NULL;
    assert_int_equal(folio__pool_create(&pool, 2, NULL, NULL), FOLIO_OK);
    struct tally tally = { 0 };
    folio__pool_run(pool, count_index, &tally, 2);
    const i64 before = folio__alloc_count();
    for (i32 repeat = 0; repeat < 50; repeat++)
        folio__pool_run(pool, count_index, &tally, 2);
    assert_int_equal(folio__alloc_count(), before);
    folio__pool_destroy(&pool);
}

static void a_failing_create_leaves_nothing(void **state)
{
    (void)state;
    static const i32 bad[] = { INT32_MIN, -1, 0, 1025 };
    struct pool *pool = NULL;
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        assert_int_equal(folio__pool_create(&pool, bad[i], NULL, NULL), FOLIO_EINVAL);
        assert_null(pool);
    }
    for (i64 fail_at = 1; fail_at <= 2; fail_at++) {
        folio__alloc_fail_at(fail_at);
        assert_int_equal(folio__pool_create(&pool, 2, NULL, NULL), FOLIO_ENOMEM);
        assert_null(pool);
    }
    folio__alloc_fail_at(0);
}

/* Wait for a child; a child that hangs is killed by its own alarm. */
static int child_result(pid_t child)
{
    int status = -1;
    assert_int_equal(waitpid(child, &status, 0), child);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

static void a_forked_child_gets_its_own_threads(void **state)
{
    (void)state;
    skip_where_threads_and_fork_do_not_mix();
    struct pool *pool = NULL;
    assert_int_equal(folio__pool_create(&pool, 3, NULL, NULL), FOLIO_OK);
    struct tally tally = { 0 };
    folio__pool_run(pool, count_index, &tally, 3);
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        alarm(20);
        folio__pool_run(pool, count_index, &tally, 3);
        const int ok = tally_is(&tally, 3, 2);
        folio__pool_destroy(&pool);
        _exit(ok ? 7 : 1);
    }
    assert_int_equal(child_result(child), 7);
    folio__pool_run(pool, count_index, &tally, 3); /* the parent's threads are untouched */
    assert_true(tally_is(&tally, 3, 2));
    folio__pool_destroy(&pool);
}

struct endless {
    struct pool *pool;
    atomic_bool stop;
};

static void *call_until_stopped(void *arg)
{
    struct endless *endless = arg;
    struct tally tally = { 0 };
    while (!atomic_load(&endless->stop))
        folio__pool_run(endless->pool, count_index, &tally, 2);
    return NULL;
}

/* fork() while another thread is inside a run: the child inherits locked locks and a half-done job. */
static void fork_during_a_run(void **state)
{
    (void)state;
    skip_where_threads_and_fork_do_not_mix();
    struct endless endless = { 0 };
    assert_int_equal(folio__pool_create(&endless.pool, 2, NULL, NULL), FOLIO_OK);
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, call_until_stopped, &endless), 0);
    for (i32 repeat = 0; repeat < 10; repeat++) {
        sleep_us(50);
        const pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            alarm(20);
            struct tally tally = { 0 };
            folio__pool_run(endless.pool, count_index, &tally, 2);
            _exit(tally_is(&tally, 2, 1) ? 7 : 1);
        }
        assert_int_equal(child_result(child), 7);
    }
    atomic_store(&endless.stop, true);
    pthread_join(thread, NULL);
    folio__pool_destroy(&endless.pool);
}

/* FOLIO_NUM_THREADS is read once a process, so each value gets a process. */
static void the_environment_sets_the_thread_count(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        i32 expected; /* 0 = what the machine gives */
    } cases[] = { { "3", 3 }, { "1024", 1024 }, { "1025", 0 }, { "0", 0 }, { "-2", 0 }, { "4x", 0 }, { "", 0 } };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        const pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            setenv("FOLIO_NUM_THREADS", cases[i].text, 1);
            const i32 n = folio__pool_default_threads();
            const i32 n_online = (i32)sysconf(_SC_NPROCESSORS_ONLN);
            _exit(cases[i].expected ? n == cases[i].expected : n >= 1 && n <= n_online);
        }
        assert_int_equal(child_result(child), 1);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(
            the_environment_sets_the_thread_count), /* first: the parent must not have read the environment yet */
        cmocka_unit_test(each_index_runs_once),
        cmocka_unit_test(sleeping_workers_wake),
        cmocka_unit_test(a_sleeping_caller_wakes),
        cmocka_unit_test(one_index_runs_on_the_caller),
        cmocka_unit_test(callers_take_turns),
        cmocka_unit_test(host_threads_run_it_all),
        cmocka_unit_test(a_run_allocates_nothing),
        cmocka_unit_test(a_failing_create_leaves_nothing),
        cmocka_unit_test(a_forked_child_gets_its_own_threads),
        cmocka_unit_test(fork_during_a_run),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
