/* SPDX-License-Identifier: Apache-2.0
 * fuzz_cache.c: bytes as a configuration and a list of operations for the cache and its model side by side. Five
 * bytes of configuration, then four an operation. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model_cache_run.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    enum { MAX_OPS = 1000 };
    struct run_config config;
    static struct op ops[MAX_OPS];
    if (size < sizeof config)
        return 0;
    memcpy(&config, data, sizeof config);
    const size_t n_all = (size - sizeof config) / sizeof *ops, n = n_all < MAX_OPS ? n_all : MAX_OPS;
    memcpy(ops, data + sizeof config, n * sizeof *ops);
    char error[512];
    const i32 n_done = run_ops(&config, ops, (i32)n, 0, error);
    if (n_done == (i32)n)
        return 0;
    fprintf(stderr, "operation %d: %s\n", (int)n_done, error);
    abort();
}
