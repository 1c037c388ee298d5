/* SPDX-License-Identifier: Apache-2.0
 * bench_print.c: rows as a table, as JSON lines, as a picture. */
#include <stdio.h>
#include <time.h>

#include "bench.h"
#include "json.h"
#include "version.h"

const char *const mix_names[] = { "equal", "zipf", "one-long", NULL };
const char *const bench_kind_names[] = { "decode", "prefill", "append", "cache", "overhead", "mods", NULL };

static double gb_s(const struct bench_row *row)
{
    return row->median_s > 0 ? 1e-9 * row->bytes / row->median_s : 0;
}

static double gflop_s(const struct bench_row *row)
{
    return row->median_s > 0 ? 1e-9 * row->flops / row->median_s : 0;
}

double bench_row_share(const struct bench_row *row)
{
    if (row->c.kind == BENCH_PREFILL)
        return row->probe_gflop_s > 0 ? gflop_s(row) / row->probe_gflop_s : 0;
    if (row->c.kind == BENCH_DECODE)
        return row->probe_gb_s > 0 ? gb_s(row) / row->probe_gb_s : 0;
    return 0;
}

void bench_print_head(void)
{
    printf("%-8s %-11s %3s %-4s %-12s %4s %-5s %3s %5s %6s %-4s %10s %10s %10s %7s %8s %6s\n", "row", "isa", "thr",
           "type", "shape", "page", "lay", "B", "q", "kv", "", "median us", "p10", "p90", "GB/s", "GFLOP/s", "share");
}

/* Rows without a shape: an operation and its time. */
static void print_operation(const struct bench_row *row)
{
    printf("%-8s %-11s %3d %-55s %10.4f %10.4f %10.4f", bench_kind_names[row->c.kind], row->isa, row->n_threads,
           row->c.what, 1e6 * row->median_s, 1e6 * row->p10_s, 1e6 * row->p90_s);
    if (row->built_in_s > 0)
        printf("  %.2f of the built-in's %.1f us", row->median_s / row->built_in_s, 1e6 * row->built_in_s);
    putchar('\n');
    fflush(stdout);
}

void bench_print_row(const struct bench_row *row)
{
    const struct bench_case *c = &row->c;
    if (c->what[0]) {
        print_operation(row);
        return;
    }
    printf("%-8s %-11s %3d %-4s %-12s %4lld %-5s %3lld %5lld %6lld %-4s %10.1f %10.1f %10.1f %7.2f %8.1f",
           bench_kind_names[c->kind], row->isa, row->n_threads, page_element_names[c->element], c->shape.name,
           (long long)c->page_size, layout_names[c->layout], (long long)c->batch, (long long)c->q_len,
           (long long)c->kv_len, c->cold ? "cold" : "hot", 1e6 * row->median_s, 1e6 * row->p10_s, 1e6 * row->p90_s,
           gb_s(row), gflop_s(row));
    const double share = bench_row_share(row);
    if (share > 0)
        printf(" %4.0f %%", 100 * share);
    if (c->mix)
        printf("  %s", mix_names[c->mix]);
    if (row->drift > 0.1)
        printf("  probe moved by %.0f %%", 100 * row->drift);
    putchar('\n');
    fflush(stdout);
}

static json_t *json_problem(const struct bench_case *c, i32 n_layers)
{
    json_t *object = json_pack("{s:s, s:i, s:i, s:i, s:i, s:s, s:s, s:I, s:i}", "shape", c->shape.name, "q_heads",
                               c->shape.n_q_heads, "kv_heads", c->shape.n_kv_heads, "head_dim", c->shape.dim_qk,
                               "head_dim_v", c->shape.dim_v, "dtype", page_element_names[c->element], "layout",
                               layout_names[c->layout], "page_size", (json_int_t)c->page_size, "layers", n_layers);
    json_object_update_new(object,
                           json_pack("{s:I, s:I, s:I, s:s, s:I, s:I, s:b, s:s}", "batch", (json_int_t)c->batch, "q_len",
                                     (json_int_t)c->q_len, "kv_len", (json_int_t)c->kv_len, "mix", mix_names[c->mix],
                                     "window", (json_int_t)c->window, "softcap", (json_int_t)c->softcap, "sinks",
                                     c->sinks, "layers_are", c->cold ? "cold" : "hot"));
    return object;
}

void bench_json_row(const struct bench_row *row, const char *cpu)
{
    const struct bench_case *c = &row->c;
    json_t *object = json_pack("{s:s, s:s, s:s, s:s, s:s, s:i, s:s, s:I}", "type", "row", "row",
                               bench_kind_names[c->kind], "machine", cpu, "commit", build_commit(), "isa", row->isa,
                               "threads", row->n_threads, "what", c->what, "reps", (json_int_t)row->n_reps);
    if (!c->what[0])
        json_object_update_new(object, json_problem(c, row->n_layers));
    const struct {
        const char *name;
        double value;
    } numbers[] = {
        { "median_us", 1e6 * row->median_s },
        { "p10_us", 1e6 * row->p10_s },
        { "p90_us", 1e6 * row->p90_s },
        { "built_in_us", 1e6 * row->built_in_s },
        { "gb_s", gb_s(row) },
        { "gflop_s", gflop_s(row) },
        { "probe_gb_s", row->probe_gb_s },
        { "probe_gflop_s", row->probe_gflop_s },
        { "share", bench_row_share(row) },
        { "probe_drift", row->drift },
    };
    for (size_t i = 0; i < COUNT_OF(numbers); i++)
        json_object_set_new(object, numbers[i].name, json_number(numbers[i].value));
    json_line(object);
}
