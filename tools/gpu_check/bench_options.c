/* SPDX-License-Identifier: Apache-2.0
 * bench_options.c: one decode problem in the layouts, page sizes, dtypes and options that should cost the same,
 * replayed in turn: what each takes of the plain one's time. */
#include <string.h>

#include "bench.h"

#define PLAIN .batch = 64, .kv_len = 4096, .q_len = 1, .n_q_heads = 32, .n_kv_heads = 8, .dim = 128, .causal = true
#define PAGES(n)                                                       \
    {                                                                  \
        .name = "page " #n, PLAIN, .dtype = DTYPE_BF16, .page_size = n \
    }
#define OPTION(text, ...)                                                      \
    {                                                                          \
        .name = text, PLAIN, .dtype = DTYPE_BF16, .page_size = 16, __VA_ARGS__ \
    }

static const struct row rows[] = {
    PAGES(16),
    { .name = "f16", PLAIN, .dtype = DTYPE_F16, .page_size = 16 },
    OPTION("HND", .hnd = true),
    OPTION("FLAT", .flat = true),
    OPTION("separate V table", .v_table = true),
    OPTION("window 4096", .window = 4096),
    OPTION("softcap 30", .softcap = 30),
    OPTION("sinks", .sinks = true),
    PAGES(64),
    PAGES(8),
    PAGES(9),
    PAGES(12),
    PAGES(15),
    PAGES(1),
    PAGES(2),
    PAGES(4),
    PAGES(7),
};

enum { N_ROWS = COUNT_OF(rows), N_REPLAYS = 25, ATTENDS = 4 };

struct option {
    struct setup setup;
    folio_plan *plan;
    char kernel[96];
};

static cu_graph_exec prepare(struct rig *rig, struct option *o, const struct row *r)
{
    set_up(rig, &o->setup, r);
    folio_attend_args args = attend_args_of(&o->setup, r);
    MUST(folio_plan_create(&o->plan, rig->gpu, &args));
    MUST(folio_plan_update(o->plan, &args, rig->stream));
    folio_explain(rig->gpu, &args, o->kernel, sizeof o->kernel);
    o->kernel[strcspn(o->kernel, "\n")] = '\0';
    return capture_attends(rig, &o->setup, o->plan, &args, ATTENDS);
}

void bench_options(struct rig *rig, FILE *json)
{
    static struct option options[N_ROWS];
    cu_graph_exec execs[N_ROWS];
    double us[N_ROWS];
    for (i32 i = 0; i < N_ROWS; i++)
        execs[i] = prepare(rig, &options[i], &rows[i]);
    replay_in_turn(rig, us, execs, N_ROWS, N_REPLAYS);
    printf("decode B64 kv4096 32/8 d128 bf16 NHD, in turn:\n%-30s %9s %9s\n", "what differs", "us", "of plain");
    for (i32 i = 0; i < N_ROWS; i++) {
        printf("%-30s %9.2f %9.3f  %s\n", rows[i].name, us[i] / ATTENDS, us[i] / us[0], options[i].kernel);
        if (json)
            fprintf(json, "{\"option\": \"%s\", \"us\": %.2f, \"of_plain\": %.4f, \"kernel\": \"%s\"}\n", rows[i].name,
                    us[i] / ATTENDS, us[i] / us[0], options[i].kernel);
        rig->api->graph_exec_destroy(execs[i]);
        MUST(folio_plan_status(options[i].plan));
        folio_plan_destroy(&options[i].plan);
        rig->api->mem_free(options[i].setup.memory);
    }
}
