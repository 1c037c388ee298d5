/* SPDX-License-Identifier: Apache-2.0
 * bench.c: `folio bench`: the grid: which rows, in which order. */
#include "bench.h"
#include "level.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "json.h"
#include "machine.h"
#include "options.h"
#include "version.h"

struct bench_options {
    const char *shape, *plot;
    struct number_list rows, isas, threads, dtypes, layouts, page_sizes, batches, q_lens, kv_lens, states;
    i64 layers, reps, memory, window, softcap, shared;
    int mix, sinks, cascade, json;
};

static const struct bench_options defaults = {
    .shape = "llama-3-8b",
    .rows = { .values = { BENCH_DECODE, BENCH_PREFILL, BENCH_APPEND, BENCH_CACHE, BENCH_OVERHEAD }, .n = 5 },
    .isas = { .values = { 0 }, .n = 1 },
    .dtypes = { .values = { ELEMENT_F32, ELEMENT_BF16 }, .n = 2 },
    .layouts = { .values = { LAYOUT_HND }, .n = 1 },
    .page_sizes = { .values = { 16, 128 }, .n = 2 },
    .batches = { .values = { 1, 8 }, .n = 2 },
    .layers = 12,
    .reps = 20,
    .memory = INT64_C(512) << 20,
};

static const char *const isa_choices[] = { "auto", "c", "avx2", "avx512", "avx512_bf16", "amx", "amx_emulated", NULL };
static const folio_isa isa_levels[] = { FOLIO_ISA_AUTO,        FOLIO_ISA_C,   FOLIO_ISA_AVX2,        FOLIO_ISA_AVX512,
                                        FOLIO_ISA_AVX512_BF16, FOLIO_ISA_AMX, FOLIO_ISA_AMX_EMULATED };
static const char *const state_choices[] = { "cold", "hot", NULL };

#define FIELD(name) offsetof(struct bench_options, name)
static const struct option_spec options[] = {
    { "rows", "ROW,..", "decode, prefill, append, cache, overhead, mods. Default: all but mods.", OPTION_CHOICES,
      FIELD(rows), 0, 0, bench_kind_names },
    { "shape", "NAME", "smollm2-135m, llama-3-8b, or H/Hkv/D[/Dv]. Default llama-3-8b (32/8/128).", OPTION_TEXT,
      FIELD(shape), 0, 0, NULL },
    { "isa", "LEVEL,..", "auto, c, avx2, avx512, avx512_bf16, amx, amx_emulated. Default auto: the best.",
      OPTION_CHOICES, FIELD(isas), 0, 0, isa_choices },
    { "threads", "N,..", "Default: 1 and all CPUs this process may use.", OPTION_NUMBERS, FIELD(threads), 1, 1024,
      NULL },
    { "dtype", "TYPE,..",
      "Of pages: f32, f16, bf16, i8, e4m3, e5m2 (the last three with bf16 rows and a scale a slot). Default f32,bf16.",
      OPTION_CHOICES, FIELD(dtypes), 0, 0, page_element_names },
    { "layout", "NAME,..", "hnd, nhd, split. Default hnd.", OPTION_CHOICES, FIELD(layouts), 0, 0, layout_names },
    { "page-size", "N,..", "Default 16,128.", OPTION_NUMBERS, FIELD(page_sizes), 1, 1 << 20, NULL },
    { "batch", "N,..", "Sequences of decode rows. Default 1,8.", OPTION_NUMBERS, FIELD(batches), 1, 65536, NULL },
    { "kv", "N,..", "kv_len. Default: 4096 for decode, q_len for prefill.", OPTION_NUMBERS, FIELD(kv_lens), 1, 1 << 24,
      NULL },
    { "q", "N,..", "q_len of prefill rows. Default 1024.", OPTION_NUMBERS, FIELD(q_lens), 1, 1 << 20, NULL },
    { "state", "STATE,..",
      "cold: another layer each time, K and V come from memory; hot: the same layer. Default: "
      "both, prefill cold.",
      OPTION_CHOICES, FIELD(states), 0, 0, state_choices },
    { "mix", "NAME",
      "equal, zipf (kv / rank) or one-long (the others kv / 16): lengths in a decode batch. Default equal.",
      OPTION_CHOICE, FIELD(mix), 0, 0, mix_names },
    { "window", "N", "Each row sees its last N keys. Default: all.", OPTION_I64, FIELD(window), 1, 1 << 24, NULL },
    { "softcap", "N", "Default: none.", OPTION_I64, FIELD(softcap), 1, 1000, NULL },
    { "sinks", NULL, "One sink a query head.", OPTION_FLAG, FIELD(sinks), 0, 0, NULL },
    { "shared", "N", "Tokens that all sequences of a decode row have in common, in the same pages. Default 0.",
      OPTION_I64, FIELD(shared), 0, 1 << 24, NULL },
    { "cascade", NULL, "FOLIO_CASCADE: equal leading pages are read once.", OPTION_FLAG, FIELD(cascade), 0, 0, NULL },
    { "layers", "N",
      "Layers of a cold row, at least, as far as --memory goes; always enough to exceed the last-level "
      "cache four times. Default 12.",
      OPTION_I64, FIELD(layers), 1, 1024, NULL },
    { "reps", "N", "Repetitions, at least. Default 20.", OPTION_I64, FIELD(reps), 3, 4000, NULL },
    { "memory", "BYTES", "For K and V, at most; rows that need more are left out. Default 512M.", OPTION_BYTES,
      FIELD(memory), 1 << 20, INT64_C(1) << 45, NULL },
    { "plot", "FILE", "Draw the shares into an SVG file: bars, and lines where kv_len differs (needs gnuplot).",
      OPTION_TEXT, FIELD(plot), 0, 0, NULL },
    { "json", NULL, "JSON: one object a row, the summary last.", OPTION_FLAG, FIELD(json), 0, 0, NULL },
    { 0 },
};
#undef FIELD

struct bench_run {
    struct bench_options options;
    struct shape shape;
    struct machine machine;
    struct bench bench;
    const char *isa;        /* of the rows being measured */
    struct bench_row *rows; /* [n_rows] of [room] */
    i64 n_rows, room, n_left_out, n_contexts;
    bool no_memory;
};

static void keep_row(struct bench_run *run, const struct bench_row *row)
{
    if (run->n_rows == run->room) {
        const i64 room = max_i64(64, 2 * run->room);
        void *bigger = realloc(run->rows, (size_t)room * sizeof(*run->rows));
        if (!bigger) {
            run->no_memory = true;
            return;
        }
        run->rows = bigger;
        run->room = room;
    }
    run->rows[run->n_rows++] = *row;
}

static void leave_out(struct bench_run *run, const struct bench_case *c, const char *why)
{
    run->n_left_out++;
    fprintf(stderr, "folio bench: %s %s%s%s, batch %lld, rows %lld, kv %lld: left out: %s\n", bench_kind_names[c->kind],
            c->what, c->what[0] ? " " : "", page_element_names[c->element], (long long)c->batch, (long long)c->q_len,
            (long long)c->kv_len, why);
}

static void measure(struct bench_run *run, const struct bench_case *c)
{
    static bool (*const bodies[])(const struct bench *, struct bench_row *, char *, size_t) = {
        [BENCH_DECODE] = bench_attend, [BENCH_PREFILL] = bench_attend, [BENCH_APPEND] = bench_append,
        [BENCH_CACHE] = bench_cache,   [BENCH_OVERHEAD] = bench_call,  [BENCH_MODS] = bench_mods,
    };
    struct bench_row row = { .c = *c, .isa = run->isa, .n_threads = folio_context_n_threads(run->bench.ctx) };
    char error[320] = "";
    if (!bodies[c->kind](&run->bench, &row, error, sizeof(error))) {
        leave_out(run, c, error);
        return;
    }
    if (run->options.json)
        bench_json_row(&row, run->machine.cpu);
    else
        bench_print_row(&row);
    keep_row(run, &row);
}

static void measure_states(struct bench_run *run, struct bench_case *c)
{
    const struct number_list *states = &run->options.states;
    const bool both = states->n == 0 && c->kind == BENCH_DECODE;
    for (i64 state = 0; state < 2; state++) {
        bool wanted = states->n == 0 && (both || state == 0);
        for (i32 i = 0; i < states->n; i++)
            wanted = wanted || states->values[i] == state;
        c->cold = state == 0;
        if (wanted)
            measure(run, c);
    }
}

static void measure_decode(struct bench_run *run, struct bench_case *c)
{
    static const struct number_list one = { .values = { 4096 }, .n = 1 };
    const struct bench_options *o = &run->options;
    const struct number_list *kv_lens = o->kv_lens.n ? &o->kv_lens : &one;
    c->q_len = 1;
    for (i32 b = 0; b < o->batches.n; b++)
        for (i32 k = 0; k < kv_lens->n; k++) {
            c->batch = o->batches.values[b];
            c->kv_len = kv_lens->values[k];
            measure_states(run, c);
        }
}

static void measure_prefill(struct bench_run *run, struct bench_case *c)
{
    static const struct number_list one = { .values = { 1024 }, .n = 1 };
    const struct bench_options *o = &run->options;
    const struct number_list *q_lens = o->q_lens.n ? &o->q_lens : &one;
    c->batch = 1;
    for (i32 q = 0; q < q_lens->n; q++)
        for (i32 k = 0; k < max_i64(o->kv_lens.n, 1); k++) {
            c->q_len = q_lens->values[q];
            c->kv_len = o->kv_lens.n ? o->kv_lens.values[k] : c->q_len;
            if (c->q_len == 1)
                leave_out(run, c, "one row is a decode row");
            else if (c->q_len > c->kv_len)
                leave_out(run, c, "more rows than keys");
            else
                measure_states(run, c);
        }
}

static void measure_append(struct bench_run *run, struct bench_case *c)
{
    static const i64 sizes[][2] = { { 32, 1 }, { 1, 512 } }; /* a decode step's tokens, a prompt's chunk */
    for (size_t i = 0; i < COUNT_OF(sizes); i++) {
        c->batch = sizes[i][0];
        c->q_len = sizes[i][1];
        c->kv_len = c->q_len;
        measure_states(run, c);
    }
}

/* Every type, page size and layout of one kind. */
static void measure_kind(struct bench_run *run, enum bench_kind kind)
{
    static void (*const kinds[])(struct bench_run *, struct bench_case *) = { measure_decode, measure_prefill,
                                                                              measure_append };
    const struct bench_options *o = &run->options;
    for (i32 t = 0; t < o->dtypes.n; t++)
        for (i32 l = 0; l < o->layouts.n; l++)
            for (i32 p = 0; p < o->page_sizes.n; p++) {
                struct bench_case c = { .kind = kind,
                                        .what = "",
                                        .shape = run->shape,
                                        .element = (enum element)o->dtypes.values[t],
                                        .layout = (enum layout)o->layouts.values[l],
                                        .page_size = o->page_sizes.values[p],
                                        .mix = kind == BENCH_DECODE ? (enum mix)o->mix : MIX_EQUAL,
                                        .window = o->window,
                                        .softcap = o->softcap,
                                        .shared = kind == BENCH_DECODE ? o->shared : 0,
                                        .cascade = o->cascade,
                                        .sinks = o->sinks };
                kinds[kind](run, &c);
            }
}

static void measure_operations(struct bench_run *run, enum bench_kind kind, const char *const *names)
{
    for (i32 i = 0; names[i]; i++)
        measure(run, &(struct bench_case){ .kind = kind, .what = names[i], .batch = 1, .q_len = 1, .kv_len = 1 });
}

/* One layer, which stays in cache as far as it can: what a mod costs shows best where nothing waits for memory. */
static void measure_mods(struct bench_run *run)
{
    const struct bench_options *o = &run->options;
    for (i32 t = 0; t < o->dtypes.n; t++)
        for (i32 i = 0; bench_mods_operations[i]; i++)
            measure(run, &(struct bench_case){ .kind = BENCH_MODS,
                                               .what = bench_mods_operations[i],
                                               .shape = run->shape,
                                               .element = (enum element)o->dtypes.values[t],
                                               .layout = (enum layout)o->layouts.values[0],
                                               .page_size = o->page_sizes.values[0] });
}

static void measure_rows(struct bench_run *run, bool is_first)
{
    for (i32 i = 0; i < run->options.rows.n; i++) {
        const enum bench_kind kind = (enum bench_kind)run->options.rows.values[i];
        if (kind == BENCH_CACHE && is_first) /* neither threads nor ISA matter there */
            measure_operations(run, kind, bench_cache_operations);
        else if (kind == BENCH_OVERHEAD)
            measure_operations(run, kind, bench_call_operations);
        else if (kind == BENCH_MODS)
            measure_mods(run);
        else if (kind != BENCH_CACHE)
            measure_kind(run, kind);
    }
}

static void measure_context(struct bench_run *run)
{
    const bool is_first = run->n_contexts++ == 0;
    const folio_isa isa = folio_context_isa(run->bench.ctx);
    run->isa = folio_isa_name(isa);
    run->bench.probe = probe_open(folio_context_n_threads(run->bench.ctx), isa);
    if (run->bench.probe)
        measure_rows(run, is_first);
    run->no_memory = run->no_memory || !run->bench.probe;
    probe_close(run->bench.probe);
}

/* A context for each level and number of threads; all rows in it. false: no such context. */
static bool measure_grid(struct bench_run *run)
{
    const struct bench_options *o = &run->options;
    for (i32 i = 0; i < o->isas.n; i++)
        for (i32 t = 0; t < o->threads.n; t++) {
            const folio_context_config cfg = { .struct_size = sizeof(cfg),
                                               .backend = FOLIO_BACKEND_CPU,
                                               .isa = (i32)isa_levels[o->isas.values[i]],
                                               .n_threads = (i32)o->threads.values[t] };
            if (folio_context_create(&run->bench.ctx, &cfg))
                return false;
            const char *missing = level_missing(run->bench.ctx, isa_levels[o->isas.values[i]]);
            if (!missing)
                measure_context(run);
            else if (t == 0)
                fprintf(stderr, "folio bench: --isa %s: left out: %s\n", isa_choices[o->isas.values[i]], missing);
            folio_context_destroy(&run->bench.ctx);
        }
    return true;
}

static void set_defaults(struct bench_run *run)
{
    struct number_list *threads = &run->options.threads;
    machine_read(&run->machine);
    run->bench.n_reps = run->options.reps;
    run->bench.memory = run->options.memory;
    run->bench.n_layers = (i32)run->options.layers;
    run->bench.cold_bytes = max_i64(4 * run->machine.l3, INT64_C(64) << 20);
    if (threads->n)
        return;
    threads->values[threads->n++] = 1;
    folio_context *ctx = NULL;
    if (!folio_context_create(&ctx, NULL) && folio_context_n_threads(ctx) > 1)
        threads->values[threads->n++] = folio_context_n_threads(ctx);
    folio_context_destroy(&ctx);
}

static int measure_and_report(struct bench_run *run)
{
    set_defaults(run);
    if (!run->options.json) {
        printf("folio bench: %s, commit %s, %s build\n\n", run->machine.cpu, build_commit(), build_type());
        bench_print_head();
    }
    if (!measure_grid(run))
        return run_error(&command_bench, "%s", folio_last_error());
    if (run->no_memory)
        return run_error(&command_bench, "out of memory");
    const bool plotted = !run->options.plot || bench_plot(run->options.plot, run->machine.cpu, run->rows, run->n_rows);
    if (run->options.json)
        json_line(json_pack("{s:s, s:s, s:s, s:I, s:I, s:b}", "type", "summary", "machine", run->machine.cpu, "commit",
                            build_commit(), "rows", (json_int_t)run->n_rows, "left_out", (json_int_t)run->n_left_out,
                            "ok", plotted && run->n_rows > 0));
    if (!plotted)
        return run_error(&command_bench, "--plot: gnuplot failed, or no row has a share of a probe");
    return run->n_rows ? EXIT_DONE : EXIT_WRONG;
}

static int run(int argc, char **argv)
{
    struct bench_run run = { .options = defaults };
    char **operands;
    i32 n_operands;
    const int parsed = options_parse(&command_bench, argc, argv, &run.options, &operands, &n_operands);
    if (parsed != OPTIONS_GO)
        return parsed;
    if (n_operands)
        return usage_error(&command_bench, "got operand \"%s\", allowed: none", operands[0]);
    if (!shape_parse(run.options.shape, &run.shape))
        return usage_error(&command_bench, "--shape: got \"%s\", allowed: smollm2-135m, llama-3-8b, or H/Hkv/D[/Dv]",
                           run.options.shape);
    const int code = measure_and_report(&run);
    free(run.rows);
    return code;
}

const struct command command_bench = {
    .name = "bench",
    .summary = "measure attention, append and the cache beside a probe of the machine",
    .operands = "",
    .about =
        "Measures one layer of attention (decode, prefill), append, the cache's operations and what a call costs.\n"
        "Each row is the median of at least 20 repetitions with its 10 % and 90 % quantiles, and is put beside a\n"
        "probe that ran just before and after it: decode as a share of the read bandwidth, prefill as a share of\n"
        "the multiply-adds this machine does at most with the same threads. A row whose probe moved by more than\n"
        "10 % says so: the machine was not quiet. Rows of mods time a score or mask function beside the built-in\n"
        "option that does the same, in turn, and give the ratio. GB/s count every sequence's K and V once, GFLOP/s "
        "count\n"
        "2 * (D + Dv) a visible pair of row and key. Page tables are shuffled.",
    .examples = "  folio bench                                   # the default grid, under a minute\n"
                "  folio bench --rows decode --batch 1,32 --kv 1024,8192 --dtype bf16 --memory 2G\n"
                "  folio bench --rows prefill --q 512 --kv 8192 --isa avx2,avx512 --threads 1\n"
                "  folio bench --json --plot shares.svg > rows.jsonl\n",
    .options = options,
    .run = run,
};
