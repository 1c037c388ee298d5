/* SPDX-License-Identifier: Apache-2.0
 * replay.c: `folio replay`: real serving traffic through cache, pages and attention, with every result in doubt checked
 * against double precision. */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "command.h"
#include "input.h"
#include "machine.h"
#include "options.h"
#include "plot.h"
#include "probe.h"
#include "replay_loop.h"

struct replay_options {
    const char *shape, *scale, *plot;
    i64 layers, pages, memory, page_size, max_batch, chunk, threads, limit, seed, check_rows;
    int dtype, layout, isa, inject, as_fast, no_probe, json;
};

static const struct replay_options defaults = {
    .shape = "smollm2-135m",
    .scale = "1",
    .memory = INT64_C(1) << 30,
    .page_size = 16,
    .max_batch = 32,
    .chunk = 512,
    .check_rows = 1,
    .seed = 1,
    .dtype = ELEMENT_BF16,
};

static const char *const isa_choices[] = { "auto",         "c",   "avx2", "avx512", "avx512_bf16", "amx",
                                           "amx_emulated", "ref", NULL };

#define FIELD(name) offsetof(struct replay_options, name)
static const struct option_spec options[] = {
    { "shape", "NAME",
      "smollm2-135m, llama-3-8b, or H/Hkv/D[/Dv]: query heads, kv heads, head dim (and V's). Default smollm2-135m.",
      OPTION_TEXT, FIELD(shape), 0, 0, NULL },
    { "layers", "N", "Layers. Default: the model's; 1 for H/Hkv/D.", OPTION_I64, FIELD(layers), 1, 1024, NULL },
    { "limit", "N", "Only the first N requests.", OPTION_I64, FIELD(limit), 1, INT64_C(1) << 40, NULL },
    { "scale-lengths", "N/M", "Prompts and answers at N/M of their recorded length, rounded up. Default 1.",
      OPTION_TEXT, FIELD(scale), 0, 0, NULL },
    { "as-fast-as-possible", NULL,
      "All requests are there at once. Default: they arrive by the trace's clock, which "
      "advances by the measured time of each step; idle time is skipped.",
      OPTION_FLAG, FIELD(as_fast), 0, 0, NULL },
    { "max-batch", "N", "Sequences that run together. Default 32.", OPTION_I64, FIELD(max_batch), 1, 65536, NULL },
    { "chunk", "N", "Tokens a step; longer prompts take several. Default 512.", OPTION_I64, FIELD(chunk), 1, 1 << 20,
      NULL },
    { "page-size", "N", "Tokens a page. Default 16.", OPTION_I64, FIELD(page_size), 1, 1 << 20, NULL },
    { "pages", "N", "Pages in the pool. Default: from --memory.", OPTION_I64, FIELD(pages), 2, INT32_MAX, NULL },
    { "memory", "BYTES",
      "Memory for K and V of all layers, if --pages is not given; no more is taken than contiguous "
      "reservation would. Default 1G.",
      OPTION_BYTES, FIELD(memory), 1 << 10, INT64_C(1) << 45, NULL },
    { "dtype", "TYPE", "f32, f16 or bf16: of q and of the pages. Default bf16.", OPTION_CHOICE, FIELD(dtype), 0, 0,
      element_names },
    { "layout", "NAME", "hnd, nhd or split: how K and V lie in memory. Default hnd.", OPTION_CHOICE, FIELD(layout), 0,
      0, layout_names },
    { "threads", "N", "Default: all CPUs this process may use.", OPTION_I64, FIELD(threads), 1, 1024, NULL },
    { "isa", "LEVEL",
      "auto, c, avx2, avx512, avx512_bf16, amx cap the kernels; amx_emulated is amx on any CPU, slow; ref runs the "
      "slow double-precision backend.",
      OPTION_CHOICE, FIELD(isa), 0, 0, isa_choices },
    { "check-rows", "N",
      "Rows checked at random each step, beside the last row of every prompt and of every request, "
      "which always are. Default 1.",
      OPTION_I64, FIELD(check_rows), 0, 4096, NULL },
    { "seed", "N", "Another seed: other K, V, q and other rows checked. Default 1.", OPTION_I64, FIELD(seed), 0,
      INT64_MAX, NULL },
    { "inject", "FAULT", "Break one page table entry half way: swap, stale or offbyone. The run must then fail.",
      OPTION_CHOICE, FIELD(inject), 0, 0, fault_names },
    { "no-probe", NULL, "Don't measure what the machine can do at most; the report then has no shares.", OPTION_FLAG,
      FIELD(no_probe), 0, 0, NULL },
    { "plot", "FILE", "Draw memory and step latency over time into an SVG file (needs gnuplot).", OPTION_TEXT,
      FIELD(plot), 0, 0, NULL },
    { "json", NULL, "JSON: one object a step, the summary last.", OPTION_FLAG, FIELD(json), 0, 0, NULL },
    { 0 },
};
#undef FIELD

/* Everything a run needs, in the order it is made. */
struct run {
    struct replay_options options;
    const char *trace_name;
    struct trace trace;
    struct shape shape;
    struct engine_config engine_config;
    struct engine engine;
    struct verify verify;
    struct inject inject;
    struct report report;
    struct probe *probe;
    struct machine machine;
};

static int load_trace(struct run *run)
{
    const char *name = run->trace_name;
    size_t n;
    char *text = input_read(name, &n);
    if (!text)
        return usage_error(&command_replay, "%s: %s", name, strerror(errno));
    struct trace_error error;
    const bool ok = trace_parse(&run->trace, text, n, run->options.limit, &error);
    free(text);
    if (ok)
        return EXIT_DONE;
    if (error.line)
        fprintf(stderr, "folio replay: %s:%lld:%lld: %s\n", name, (long long)error.line, (long long)error.column,
                error.text);
    else
        fprintf(stderr, "folio replay: %s: %s\n", name, error.text);
    return EXIT_USAGE;
}

static int scale_trace(struct run *run)
{
    const char *text = run->options.scale, *slash = strchr(text, '/');
    char num_text[16];
    i64 num = 0, den = 1;
    snprintf(num_text, sizeof(num_text), "%.*s", slash ? (int)(slash - text) : (int)strlen(text), text);
    if (!parse_i64(num_text, 1, 1000000, &num) || (slash && !parse_i64(slash + 1, 1, 1000000, &den)) || num > den)
        return usage_error(&command_replay, "--scale-lengths: got \"%s\", allowed: N/M with 1 <= N <= M <= 1000000",
                           text);
    trace_scale(&run->trace, num, den);
    return EXIT_DONE;
}

/* Pages as asked for, or as many as memory holds, but no more than contiguous reservation would take. */
static int size_pool(struct run *run)
{
    const struct replay_options *o = &run->options;
    struct pagepool_config *pages = &run->engine_config.pages;
    const i64 longest = trace_longest(&run->trace), need = ceil_div(longest, o->page_size);
    const i64 in_memory = o->memory / (page_bytes(pages) * pages->n_layers);
    pages->n_pages = o->pages ? o->pages : min_i64(min_i64(in_memory, o->max_batch * need + 1), INT32_MAX);
    if (need > pages->n_pages - 1) /* page 0 is the null page */
        return usage_error(&command_replay,
                           "%s gives %lld pages, but the longest request has %lld tokens and needs %lld + 1; more "
                           "--memory or --pages, fewer --layers or --scale-lengths",
                           o->pages ? "--pages" : "--memory", (long long)pages->n_pages, (long long)longest,
                           (long long)need);
    return EXIT_DONE;
}

static int configure(struct run *run)
{
    const struct replay_options *o = &run->options;
    static const i32 isas[] = { FOLIO_ISA_AUTO,        FOLIO_ISA_C,   FOLIO_ISA_AVX2,         FOLIO_ISA_AVX512,
                                FOLIO_ISA_AVX512_BF16, FOLIO_ISA_AMX, FOLIO_ISA_AMX_EMULATED, FOLIO_ISA_AUTO };
    if (!shape_parse(o->shape, &run->shape))
        return usage_error(
            &command_replay,
            "--shape: got \"%s\", allowed: smollm2-135m, llama-3-8b, or H/Hkv/D[/Dv] with H a multiple of Hkv "
            "and D at most %d",
            o->shape, MODEL_MAX_HEAD_DIM);
    const i32 n_layers = o->layers ? (i32)o->layers : run->shape.n_layers ? run->shape.n_layers : 1;
    run->engine_config = (struct engine_config){
        .pages = { .layout = (enum layout)o->layout,
                   .element = (enum element)o->dtype,
                   .page_size = o->page_size,
                   .n_layers = n_layers,
                   .n_kv_heads = run->shape.n_kv_heads,
                   .dim_qk = run->shape.dim_qk,
                   .dim_v = run->shape.dim_v },
        .n_q_heads = run->shape.n_q_heads,
        .max_batch = o->max_batch,
        .chunk = o->chunk,
        .max_seq_len = trace_longest(&run->trace),
        .n_threads = (i32)o->threads,
        .backend = strcmp(isa_choices[o->isa], "ref") ? FOLIO_BACKEND_CPU : FOLIO_BACKEND_REF,
        .isa = isas[o->isa],
    };
    return size_pool(run);
}

static int open_run(struct run *run)
{
    const struct replay_options *o = &run->options;
    char error[320];
    machine_read(&run->machine);
    if (!engine_open(&run->engine, &run->engine_config, error, sizeof(error)))
        return run_error(&command_replay, "%s", error);
    run->verify = (struct verify){ .element = run->engine_config.pages.element,
                                   .n_layers = run->engine_config.pages.n_layers,
                                   .n_random = o->check_rows };
    if (!o->no_probe)
        run->probe = probe_open(folio_context_n_threads(run->engine.ctx), folio_context_isa(run->engine.ctx));
    if (!verify_init(&run->verify, &run->trace, &run->shape, o->max_batch, (u64)o->seed) ||
        !report_init(&run->report, run->trace.n_requests) || (!run->probe && !o->no_probe))
        return run_error(&command_replay, "out of memory");
    inject_init(&run->inject, (enum fault)o->inject, o->page_size, run->engine_config.pages.n_pages);
    return EXIT_DONE;
}

static void close_run(struct run *run)
{
    probe_close(run->probe);
    report_free(&run->report);
    verify_free(&run->verify);
    engine_close(&run->engine);
    trace_free(&run->trace);
}

static struct report_setup setup_of(const struct run *run)
{
    return (struct report_setup){
        .trace_name = strcmp(run->trace_name, "-") ? run->trace_name : "standard input",
        .trace = &run->trace,
        .shape = &run->shape,
        .engine = &run->engine_config,
        .n_model_layers = run->shape.n_layers,
        .n_threads = folio_context_n_threads(run->engine.ctx),
        .isa = run->engine_config.backend == FOLIO_BACKEND_REF ? "ref"
                                                               : folio_isa_name(folio_context_isa(run->engine.ctx)),
        .machine = run->machine.cpu,
        .by_clock = !run->options.as_fast,
    };
}

/* The whole trace between two looks at the machine. */
static bool measure(struct run *run, struct replay *replay)
{
    if (!run->probe)
        return replay_run(replay);
    run->report.probe_gb_s = probe_read_gb_s(run->probe, 0.2);
    run->report.probe_gflop_s = probe_peak_gflop_s(run->probe, run->options.dtype == ELEMENT_BF16, 0.1);
    const bool ok = replay_run(replay);
    const double end_gb_s = probe_read_gb_s(run->probe, 0.2);
    run->report.probe_drift = fabs(end_gb_s / run->report.probe_gb_s - 1);
    return ok;
}

static int replay_and_report(struct run *run)
{
    const struct replay_options *o = &run->options;
    const struct report_setup setup = setup_of(run);
    struct replay replay = { .trace = &run->trace,
                             .shape = run->shape,
                             .seed = (u64)o->seed,
                             .by_clock = !o->as_fast,
                             .json = o->json,
                             .engine = &run->engine,
                             .verify = &run->verify,
                             .inject = &run->inject,
                             .report = &run->report };
    report_heading(&setup, o->json);
    const bool ran = measure(run, &replay);
    for (i64 i = 0; i < min_i64(run->verify.n_wrong, VERIFY_MAX_SHOWN); i++)
        report_error(&run->verify.shown[i], o->json);
    const bool plotted = !o->plot || plot_replay(o->plot, &run->report, &setup);
    const bool injected = o->inject == FAULT_NONE || run->inject.done;
    const bool ok = ran && plotted && injected && run->verify.n_wrong == 0;
    if (!report_summary(&run->report, &run->verify, &setup, o->json, ok))
        return run_error(&command_replay, "out of memory");
    if (!ran)
        return run_error(&command_replay, "%s", replay.error);
    if (!plotted)
        return run_error(&command_replay, "--plot: gnuplot failed");
    if (!injected)
        return run_error(&command_replay, "--inject %s: no step offered the place for it", fault_names[o->inject]);
    return ok ? EXIT_DONE : EXIT_WRONG;
}

static int run(int argc, char **argv)
{
    struct run run = { .options = defaults };
    char **operands;
    i32 n_operands;
    int code = options_parse(&command_replay, argc, argv, &run.options, &operands, &n_operands);
    if (code != OPTIONS_GO)
        return code;
    if (n_operands != 1)
        return usage_error(&command_replay, "got %d traces, allowed: one (\"-\" is standard input)", n_operands);
    run.trace_name = operands[0];
    code = load_trace(&run);
    if (code == EXIT_DONE)
        code = scale_trace(&run);
    if (code == EXIT_DONE)
        code = configure(&run);
    if (code == EXIT_DONE)
        code = open_run(&run);
    if (code == EXIT_DONE)
        code = replay_and_report(&run);
    close_run(&run);
    return code;
}

const struct command command_replay = {
    .name = "replay",
    .summary = "real serving traffic through cache, pages and attention, checked",
    .operands = "TRACE",
    .about = "Replays recorded traffic (Mooncake JSON lines or Azure CSV, from a file or - for standard input) with\n"
             "continuous batching and chunked prefill: each step, running sequences get one token or a chunk of\n"
             "their prompt, pages are reserved, K and V are appended, and every layer attends. When pages run out\n"
             "the youngest sequence gives its pages back and is recomputed later.\n"
             "\n"
             "There are no weights: q, K and V of a token are hashed from who the token is (its id in the trace, or\n"
             "its request, and its position). So any row of attention can be computed in double precision without\n"
             "looking at a page, and sampled rows are: a wrong page table entry, slot or split shows as a difference.\n"
             "\n"
             "The report says how many pages were in use against reserving the longest length for each running\n"
             "sequence, how long steps took, and how near attention came to what this machine can do at most,\n"
             "measured by a probe at the start.",
    .examples = "  folio replay examples/data/mooncake_conversation_200.jsonl --scale-lengths 1/16\n"
                "  folio replay trace.jsonl --limit 50 --shape llama-3-8b --layers 2 --memory 8G\n"
                "  folio replay trace.csv --as-fast-as-possible --plot memory.svg\n"
                "  head -100 trace.jsonl | folio replay - --scale-lengths 1/32 --json | tail -1\n"
                "  folio replay trace.jsonl --limit 20 --scale-lengths 1/64 --inject swap   # must fail\n",
    .options = options,
    .run = run,
};
