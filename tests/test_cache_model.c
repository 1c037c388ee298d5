/* SPDX-License-Identifier: Apache-2.0
 * test_cache_model.c: random operations on a cache and its naive model side by side (model_cache_run.h). A failing
 * list is cut down to a minimal one and printed, ready to paste below. FOLIO_MODEL_OPS: how many operations in all,
 * else 20000; FOLIO_SEED: where they start. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "model_cache_run.h"
#include "support/strided.h"

enum { OPS_PER_RUN = 500 };

static struct op random_op(u64 *random)
{
    static const u8 weights[N_OP_KINDS] = {
        [OP_OPEN] = 9,  [OP_APPEND] = 22, [OP_RESERVE] = 12, [OP_BATCH] = 8, [OP_TRUNCATE] = 11,
        [OP_FORK] = 10, [OP_BRANCH] = 12, [OP_CLOSE] = 10,   [OP_TAKE] = 3,  [OP_WRITE] = 3,
    };
    i64 left = random_below(random, 100);
    u8 kind = 0;
    while (kind < N_OP_KINDS - 1 && left >= weights[kind])
        left -= weights[kind++];
    const u64 x = random_next(random);
    return (struct op){ .kind = kind, .a = (u8)x, .b = (u8)(x >> 8), .c = (u8)(x >> 16) };
}

static struct run_config random_config(u64 *random)
{
    const u64 x = random_next(random);
    struct run_config config = { (u8)x, (u8)(x >> 8), (u8)(x >> 16), (u8)(x >> 24), (u8)(x >> 32) };
    if (x >> 40 & 3) { /* mostly: a pool of some size, rows that may hold it, pages that can be half full */
        config.n_pages = (u8)(8 + config.n_pages % 16);
        config.row_pages = config.n_pages;
        config.page_size = (u8)(1 + config.page_size % 3);
        config.max_seqs = (u8)(2 + config.max_seqs % 4);
    }
    return config;
}

/* Cut away what is not needed for the list to fail, then make operands 0 where that still fails. Gives the new
 * length. */
static i32 shrink_once(const struct run_config *config, struct op *ops, i32 n, i32 fault)
{
    char error[512];
    struct op trial[OPS_PER_RUN];
    for (i32 chunk = n / 2 > 0 ? n / 2 : 1; chunk > 0; chunk /= 2)
        for (i32 at = 0; at + chunk <= n;) {
            memcpy(trial, ops, (size_t)at * sizeof *ops);
            memcpy(trial + at, ops + at + chunk, (size_t)(n - at - chunk) * sizeof *ops);
            const i32 n_done = run_ops(config, trial, n - chunk, fault, error);
            if (n_done == n - chunk) {
                at += chunk;
                continue;
            }
            n = n_done + 1; /* nothing behind the failing one is needed */
            memcpy(ops, trial, (size_t)n * sizeof *ops);
        }
    for (i32 at = 0; at < n; at++)
        for (i32 operand = 0; operand < 3; operand++) {
            u8 *const field[] = { &ops[at].a, &ops[at].b, &ops[at].c };
            const u8 before = *field[operand];
            *field[operand] = 0;
            if (run_ops(config, ops, n, fault, error) == n)
                *field[operand] = before;
        }
    return n;
}

static i32 shrink(const struct run_config *config, struct op *ops, i32 n, i32 fault)
{
    for (i32 before = n + 1; n < before;) {
        before = n;
        n = shrink_once(config, ops, n, fault);
    }
    return n;
}

/* A list that fails: make it small and say it. */
static void report(const struct run_config *config, struct op *ops, i32 n, u64 seed)
{
    char error[512], text[64];
    n = shrink(config, ops, n, 0);
    const i32 n_done = run_ops(config, ops, n, 0, error);
    print_error("seed %llu, config { %u, %u, %u, %u, %u }, operation %d: %s\n", (unsigned long long)seed,
                config->n_pages, config->page_size, config->max_seqs, config->row_pages, config->flags, n_done, error);
    for (i32 i = 0; i < n; i++) {
        op_text(ops[i], text, sizeof text);
        print_error("    %s,\n", text);
    }
    fail_msg("cache and model differ");
}

static void random_operations_agree_with_the_model(void **state)
{
    (void)state;
    const char *text = getenv("FOLIO_MODEL_OPS");
    const i64 n_ops = text ? strtoll(text, NULL, 0) : 20000;
    u64 random = random_seed();
    for (i64 done = 0; done < n_ops; done += OPS_PER_RUN) {
        const u64 seed = random;
        const struct run_config config = random_config(&random);
        struct op ops[OPS_PER_RUN];
        char error[512];
        for (i32 i = 0; i < OPS_PER_RUN; i++)
            ops[i] = random_op(&random);
        const i32 n_done = run_ops(&config, ops, OPS_PER_RUN, 0, error);
        if (n_done < OPS_PER_RUN)
            report(&config, ops, n_done + 1, seed);
    }
    print_message("%lld operations\n", (long long)n_ops);
}

/* The comparison can fail, and a failing list gets short: a model that keeps a page too many at truncate. */
static void a_planted_fault_is_found_and_shrunk(void **state)
{
    (void)state;
    u64 random = random_seed();
    const struct run_config config = { 11, 1, 3, 11, FOLIO_CACHE_USE_PAGE_0 };
    struct op ops[OPS_PER_RUN];
    for (i32 i = 0; i < OPS_PER_RUN; i++)
        ops[i] = random_op(&random);
    char error[512];
    const i32 n_done = run_ops(&config, ops, OPS_PER_RUN, 1, error);
    assert_true(n_done < OPS_PER_RUN);
    const i32 n = shrink(&config, ops, n_done + 1, 1);
    assert_int_equal(run_ops(&config, ops, n, 1, error), n - 1);
    assert_in_range(n, 3, 4); /* open, reserve or append once or twice, truncate */
    assert_int_equal(ops[n - 1].kind, OP_TRUNCATE);
    assert_int_equal(run_ops(&config, ops, n, 0, error), n);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_operations_agree_with_the_model),
        cmocka_unit_test(a_planted_fault_is_found_and_shrunk),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
