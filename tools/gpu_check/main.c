/* SPDX-License-Identifier: Apache-2.0
 * main.c: gpu_check [--small] [--only NAME] [--skip NAME] [--seed N] [--cases N] [--verbose] [--bench FILE.json]
 * [--rows NAME]: all checks, then a line each. gpu_check --first-use: the time of one attention in a new process. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "kernel/cuda/device.h"
#include "bench.h"

static const struct check *const checks[] = {
    &check_pages,     &check_merge,     &check_attend,    &check_invariance, &check_graph,
    &check_bad_input, &check_big_pool,  &check_host_cost, &check_contexts,   &check_stress,
    &check_loaders,   &check_by_copies, &check_generic,
};

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void open_rig(struct rig *rig)
{
    const folio_context_config cfg = { .struct_size = sizeof cfg, .backend = FOLIO_BACKEND_CUDA };
    static char text[4096];
    folio_cuda_describe(text, sizeof text);
    fputs(text, stdout);
    const double begin = seconds();
    if (folio_context_create(&rig->gpu, &cfg) != FOLIO_OK) {
        printf("skip: no GPU to check: %s\n", folio_last_error());
        exit(77);
    }
    printf("context: %.0f ms\n", (seconds() - begin) * 1e3);
    /* f32 weights: a level with bf16 tiles would round more than what is checked here */
    const folio_context_config exact = { .struct_size = sizeof exact, .isa = FOLIO_ISA_AVX512 };
    MUST(folio_context_create(&rig->cpu, &exact));
    MUST(folio__cuda_driver(&rig->api, NULL));
    /* one CUDA context for all: the primary one, current in this thread */
    cu_device device;
    cu_context context;
    MUST_CU(rig, device_get, (&device, 0));
    MUST_CU(rig, primary_retain, (&context, device));
    MUST_CU(rig, context_push, (context));
    MUST_CU(rig, stream_create, (&rig->stream, 1));
}

static void run_check(struct rig *rig, const struct check *check)
{
    const i32 passed = rig->n_passed, failed = rig->n_failed;
    const double begin = seconds();
    rig->worst = 0;
    printf("%s: %s\n", check->name, check->about);
    fflush(stdout);
    check->run(rig);
    printf("%s: %d passed, %d failed, worst error %.2f of the tolerance, %.1f s\n", check->name, rig->n_passed - passed,
           rig->n_failed - failed, rig->worst, seconds() - begin);
    fflush(stdout);
}

int main(int argc, char **argv)
{
    struct rig rig = { .seed = 1000, .n_cases = 700, .only = "", .skip = "", .rows = "" };
    const char *bench_path = NULL;
    bool is_first_use = false;
    for (int i = 1; i < argc; i++) {
        const bool has_value = i + 1 < argc;
        if (!strcmp(argv[i], "--small"))
            rig.is_small = true;
        else if (!strcmp(argv[i], "--verbose"))
            rig.is_verbose = true;
        else if (!strcmp(argv[i], "--only") && has_value)
            rig.only = argv[++i];
        else if (!strcmp(argv[i], "--skip") && has_value)
            rig.skip = argv[++i];
        else if (!strcmp(argv[i], "--seed") && has_value)
            rig.seed = strtoull(argv[++i], NULL, 10);
        else if (!strcmp(argv[i], "--cases") && has_value)
            rig.n_cases = atoi(argv[++i]);
        else if (!strcmp(argv[i], "--first-use"))
            is_first_use = true;
        else if (!strcmp(argv[i], "--rows") && has_value)
            rig.rows = argv[++i];
        else if (!strcmp(argv[i], "--bench") && has_value)
            bench_path = argv[++i];
        else {
            fprintf(stderr, "usage: gpu_check [--small] [--verbose] [--only NAME] [--skip NAME] [--seed N] [--cases N] "
                            "[--bench FILE.json] [--rows NAME] [--first-use]\n");
            return 2;
        }
    }
    open_rig(&rig);
    if (is_first_use) {
        bench_first_use(&rig);
        return 0;
    }
    for (size_t i = 0; i < COUNT_OF(checks); i++)
        if (strstr(checks[i]->name, rig.only) && strcmp(checks[i]->name, rig.skip) != 0)
            run_check(&rig, checks[i]);
    if (bench_path)
        bench(&rig, bench_path);
    printf("%d passed, %d failed, %d skipped\n", rig.n_passed, rig.n_failed, rig.n_skipped);
    return rig.n_failed ? 1 : 0;
}
