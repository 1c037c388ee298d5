/* SPDX-License-Identifier: Apache-2.0
 * report_print.c: a replay's numbers as text for people and as JSON lines for programs. */
#include <math.h>
#include <stdio.h>

#include "json.h"
#include "report.h"
#include "version.h"

void report_step_json(const struct step_record *step, i64 number)
{
    json_line(json_pack("{s:s, s:I, s:o, s:o, s:I, s:I, s:I, s:I, s:I, s:I}", "type", "step", "step",
                        (json_int_t)number, "at_s", json_number(step->at_s), "ms", json_number(step->ms), "running",
                        (json_int_t)step->n_running, "prompt_tokens", (json_int_t)step->prompt_tokens, "answer_tokens",
                        (json_int_t)step->answer_tokens, "pages_held", (json_int_t)step->pages_held, "pages_contiguous",
                        (json_int_t)step->pages_contiguous, "preempted", (json_int_t)step->n_preempted));
}

void report_error(const struct verify_error *error, bool json)
{
    const struct oracle_row *row = &error->row;
    if (json) {
        json_line(json_pack("{s:s, s:I, s:I, s:i, s:i, s:i, s:o, s:o, s:o, s:o}", "type", "error", "request",
                            (json_int_t)row->request, "position", (json_int_t)row->position, "layer", row->layer,
                            "q_head", error->q_head, "dim", error->dim, "got", json_number(error->got), "want",
                            json_number(error->want), "error", json_number(error->error), "allowed",
                            json_number(error->allowed)));
        return;
    }
    char what[32] = "LSE";
    if (error->dim >= 0)
        snprintf(what, sizeof(what), "output %d", error->dim);
    printf("WRONG: request %lld, position %lld, layer %d, query head %d, %s: got %.9g, want %.9g, error %.3g, "
           "allowed %.3g\n",
           (long long)row->request, (long long)row->position, row->layer, error->q_head, what, error->got, error->want,
           error->error, error->allowed);
}

static void heading_json(const struct report_setup *setup)
{
    const struct engine_config *engine = setup->engine;
    char scale[48];
    snprintf(scale, sizeof(scale), "%lld/%lld", (long long)setup->trace->scale_num, (long long)setup->trace->scale_den);
    json_line(json_pack(
        "{s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:i, s:i, s:i, s:i, s:i, s:s, s:s, s:I, s:I, s:I, s:I, s:i, s:s, s:b}",
        "type", "setup", "machine", setup->machine, "commit", build_commit(), "trace", setup->trace_name, "format",
        setup->trace->format, "lengths", scale, "shape", setup->shape->name, "q_heads", setup->shape->n_q_heads,
        "kv_heads", setup->shape->n_kv_heads, "head_dim", setup->shape->dim_qk, "head_dim_v", setup->shape->dim_v,
        "layers", engine->pages.n_layers, "dtype", element_names[engine->pages.element], "layout",
        layout_names[engine->pages.layout], "page_size", (json_int_t)engine->pages.page_size, "pages",
        (json_int_t)engine->pages.n_pages, "max_batch", (json_int_t)engine->max_batch, "chunk",
        (json_int_t)engine->chunk, "threads", setup->n_threads, "isa", setup->isa, "by_clock", setup->by_clock));
}

static void heading_text(const struct report_setup *setup)
{
    const struct engine_config *engine = setup->engine;
    const struct trace *trace = setup->trace;
    printf("folio replay: %lld requests of %s (%s)\n", (long long)trace->n_requests, setup->trace_name, trace->format);
    if (trace->scale_num != trace->scale_den)
        printf("  SCALED: every prompt and answer has %lld/%lld of its recorded length\n", (long long)trace->scale_num,
               (long long)trace->scale_den);
    if (setup->n_model_layers && engine->pages.n_layers != setup->n_model_layers)
        printf("  SCALED: %d layers of the model's %d\n", engine->pages.n_layers, setup->n_model_layers);
    printf("  arrivals  %s\n", setup->by_clock ? "by the trace's clock, advanced by the measured time of each step; "
                                                 "idle time is skipped"
                                               : "all at once");
    printf("  model     %s: %d query heads, %d kv heads, head dim %d, %d layers; attention only, no weights\n",
           setup->shape->name, setup->shape->n_q_heads, setup->shape->n_kv_heads, setup->shape->dim_qk,
           engine->pages.n_layers);
    printf("  memory    %lld pages of %lld tokens, %s, %.1f MB for all layers\n", (long long)engine->pages.n_pages,
           (long long)engine->pages.page_size, element_names[engine->pages.element],
           (double)(page_bytes(&engine->pages) * engine->pages.n_pages * engine->pages.n_layers) / (1 << 20));
    printf("  machine   %s, %s kernels, %d threads\n\n", setup->machine, setup->isa, setup->n_threads);
    fflush(stdout);
}

void report_heading(const struct report_setup *setup, bool json)
{
    if (json)
        heading_json(setup);
    else
        heading_text(setup);
}

/* NaN, which JSON shows as null, when there is no whole: nothing was measured. */
static double share(double part, double whole)
{
    return whole > 0 ? part / whole : NAN;
}

static void summary_json(const struct report *r, const struct report_totals *t, const struct verify *verify, bool ok)
{
    json_t *object =
        json_pack("{s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:o, s:I, s:I, s:o, s:b}", "type", "summary", "requests",
                  (json_int_t)r->n_requests_done, "prompt_tokens", (json_int_t)r->prompt_tokens, "generated_tokens",
                  (json_int_t)r->generated_tokens, "steps", (json_int_t)r->n_steps, "peak_pages",
                  (json_int_t)t->peak_pages, "contiguous_pages", (json_int_t)t->contiguous_pages, "saved_fraction",
                  json_number(t->saved_fraction), "preemptions", (json_int_t)r->preemptions, "rows_checked",
                  (json_int_t)verify->n_rows, "worst_error", json_number(verify->worst_error), "ok", ok);
    const struct {
        const char *name;
        double value;
    } numbers[] = {
        { "worst_error_of_allowed", verify->worst_share },
        { "fragmentation", t->fragmentation },
        { "step_ms_p50", t->step_ms_p50 },
        { "step_ms_p90", t->step_ms_p90 },
        { "step_ms_p99", t->step_ms_p99 },
        { "tokens_per_s", t->tokens_per_s },
        { "useful_gb_s", work_gb_s(&r->all) },
        { "useful_gflop_s", work_gflop_s(&r->all) },
        { "decode_gb_s", work_gb_s(&r->decode) },
        { "prefill_gflop_s", work_gflop_s(&r->prefill) },
        { "probe_gb_s", r->probe_gb_s > 0 ? r->probe_gb_s : NAN },
        { "probe_gflop_s", r->probe_gflop_s > 0 ? r->probe_gflop_s : NAN },
        { "decode_share", share(work_gb_s(&r->decode), r->probe_gb_s) },
        { "prefill_share", share(work_gflop_s(&r->prefill), r->probe_gflop_s) },
        { "probe_drift", r->probe_gb_s > 0 ? r->probe_drift : NAN },
        { "cache_s", r->times.cache },
        { "plan_s", r->times.plan },
        { "append_s", r->times.append },
        { "attend_s", r->times.attend },
        { "model_s", r->model_s },
        { "check_s", r->check_s },
        { "wall_s", r->wall_s },
        { "first_token_s_p50", quantile(r->first_token_s, r->n_first_tokens, 0.5) },
        { "first_token_s_p99", quantile(r->first_token_s, r->n_first_tokens, 0.99) },
    };
    json_object_set_new(object, "peak_running", json_integer((json_int_t)t->peak_running));
    json_object_set_new(object, "rows_wrong", json_integer((json_int_t)verify->n_wrong));
    json_object_set_new(object, "computed_tokens", json_integer((json_int_t)r->computed_tokens));
    for (size_t i = 0; i < COUNT_OF(numbers); i++)
        json_object_set_new(object, numbers[i].name, json_number(numbers[i].value));
    json_line(object);
}

static void print_work(const char *name, const struct work *work, double rate, const char *unit, double probe)
{
    if (work->attend_s == 0)
        return;
    printf("  %-13s ", name);
    printf("%.1f %s", rate, unit);
    if (probe > 0)
        printf(": %.0f %% of the %.1f that this machine does at most", 100 * rate / probe, probe);
    putchar('\n');
}

static void print_speed(const struct report *r, const struct report_totals *t, const struct report_setup *setup)
{
    printf("  step latency  p50 %.2f ms, p90 %.2f ms, p99 %.2f ms\n", t->step_ms_p50, t->step_ms_p90, t->step_ms_p99);
    if (setup->by_clock)
        printf("  first token   p50 %.2f s, p99 %.2f s after arrival, on the trace's clock\n",
               quantile(r->first_token_s, r->n_first_tokens, 0.5), quantile(r->first_token_s, r->n_first_tokens, 0.99));
    printf("  speed         %.0f tokens/s through %d layers\n", t->tokens_per_s, setup->engine->pages.n_layers);
    print_work("prefill steps", &r->prefill, work_gflop_s(&r->prefill), "GFLOP/s", r->probe_gflop_s);
    print_work("decode steps", &r->decode, work_gb_s(&r->decode), "GB/s of K and V", r->probe_gb_s);
    if (r->probe_drift > 0.1)
        printf("  note          the bandwidth probe moved by %.0f %% during the run: the machine was not quiet\n",
               100 * r->probe_drift);
    printf("  time          %.1f s: attention %.1f, append %.1f, cache %.2f, plans %.2f; outside the steps: q, k, v "
           "%.1f, checking %.1f\n",
           r->wall_s, r->times.attend, r->times.append, r->times.cache, r->times.plan, r->model_s, r->check_s);
}

/* Sequences that the pool would hold if each took the longest length. */
static i64 contiguous_running(const struct engine_config *engine)
{
    return engine->pages.n_pages / max_i64(ceil_div(engine->max_seq_len, engine->pages.page_size), 1);
}

static void summary_text(const struct report *r, const struct report_totals *t, const struct verify *verify,
                         const struct report_setup *setup)
{
    printf("  requests      %lld done: %lld prompt tokens read, %lld tokens generated, in %lld steps\n",
           (long long)r->n_requests_done, (long long)r->prompt_tokens, (long long)r->generated_tokens,
           (long long)r->n_steps);
    printf("  pages         %lld in use at the peak; reserving the longest length for each running sequence takes "
           "%lld: %.1f %% saved\n",
           (long long)t->peak_pages, (long long)t->contiguous_pages, 100 * t->saved_fraction);
    printf("  together      up to %lld sequences; contiguous reservation in the same memory has room for %lld\n",
           (long long)t->peak_running, (long long)contiguous_running(setup->engine));
    printf("  empty slots   %.1f %% of the pages in use, on average (the tails of last pages)\n",
           100 * t->fragmentation);
    printf("  preemptions   %lld%s\n", (long long)r->preemptions,
           r->preemptions ? " (pages ran out: the youngest sequence gave its pages back and was recomputed)" : "");
    print_speed(r, t, setup);
    printf("  check         %lld rows against double precision computed without pages: worst error %.2g, %.0f %% of "
           "what rounding allows\n",
           (long long)verify->n_rows, verify->worst_error, 100 * verify->worst_share);
    if (verify->n_wrong)
        printf("\nFAILED: %lld of %lld checked rows are wrong.\n", (long long)verify->n_wrong,
               (long long)verify->n_rows);
    else
        printf("\nOK: every checked row is right.\n");
}

bool report_summary(const struct report *report, const struct verify *verify, const struct report_setup *setup,
                    bool json, bool ok)
{
    struct report_totals totals;
    if (!report_totals(report, setup->engine->pages.page_size, &totals))
        return false;
    if (json)
        summary_json(report, &totals, verify, ok);
    else
        summary_text(report, &totals, verify, setup);
    return true;
}
