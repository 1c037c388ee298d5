/* SPDX-License-Identifier: Apache-2.0
 * test_apart.c: a sleeping worker keeps off its caller's CPU, and leaves a mask that others set alone. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <time.h>

#include "base/pool.h"

#ifdef __linux__
/* One run of two: each waits until both have begun, so that the worker has index 1. */
struct pair {
    atomic_int n_begun;
    cpu_set_t cpus; /* of the worker */
    bool sets;      /* it gives itself the CPUs of `wanted` */
    cpu_set_t wanted;
};

static void both(void *arg, i32 i)
{
    struct pair *pair = arg;
    atomic_fetch_add(&pair->n_begun, 1);
    while (atomic_load(&pair->n_begun) < 2)
        sched_yield();
    if (i == 0)
        return;
    CPU_ZERO(&pair->cpus); /* stays empty, which no test expects, where a call fails */
    if (!pair->sets || sched_setaffinity(0, sizeof pair->wanted, &pair->wanted) == 0)
        (void)sched_getaffinity(0, sizeof pair->cpus, &pair->cpus);
}

/* The worker's CPUs after it slept three times, the caller being on cpu. */
static void run_pair_on(struct pool *pool, struct pair *pair, i32 cpu)
{
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET((size_t)cpu, &one);
    assert_int_equal(sched_setaffinity(0, sizeof one, &one), 0);
    for (i32 i = 0; i < 3; i++) {
        atomic_store(&pair->n_begun, 0);
        folio__pool_run(pool, both, pair, 2);
        nanosleep(&(struct timespec){ .tv_nsec = 20000000 }, NULL); /* far longer than it spins */
    }
}

static void a_worker_keeps_off_the_callers_cpu(void **state)
{
    (void)state;
    cpu_set_t all;
    i32 cpus[2], n = 0;
    assert_int_equal(sched_getaffinity(0, sizeof all, &all), 0);
    for (i32 cpu = 0; cpu < CPU_SETSIZE && n < 2; cpu++)
        if (CPU_ISSET((size_t)cpu, &all))
            cpus[n++] = cpu;
    if (n < 2 || getenv("FOLIO_EMULATED")) {
        print_message("needs two CPUs, and their numbers\n");
        skip();
    }
    struct pool *pool = NULL;
    struct pair pair = { .sets = false };
    assert_int_equal(folio__pool_create(&pool, 2, NULL, NULL), FOLIO_OK);
    folio__pool_run(pool, both, &pair, 2); /* starts the worker with all CPUs */
    for (i32 i = 0; i < 3; i++) {
        run_pair_on(pool, &pair, cpus[i % 2]);
        cpu_set_t wanted = all;
        CPU_CLR((size_t)cpus[i % 2], &wanted);
        assert_true(CPU_EQUAL(&pair.cpus, &wanted));
    }
    pair.sets = true; /* as taskset would */
    CPU_ZERO(&pair.wanted);
    CPU_SET((size_t)cpus[0], &pair.wanted);
    run_pair_on(pool, &pair, cpus[0]);
    pair.sets = false;
    for (i32 i = 1; i < 3; i++) {
        run_pair_on(pool, &pair, cpus[i % 2]);
        assert_true(CPU_EQUAL(&pair.cpus, &pair.wanted));
    }
    folio__pool_destroy(&pool);
    assert_int_equal(sched_setaffinity(0, sizeof all, &all), 0);
}
#else
static void a_worker_keeps_off_the_callers_cpu(void **state)
{
    (void)state;
    print_message("CPUs are chosen on Linux only\n");
    skip();
}
#endif

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(a_worker_keeps_off_the_callers_cpu) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
