/* SPDX-License-Identifier: Apache-2.0
 * check.c: `folio check`: every kernel this machine can run, against the double-precision backend. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check_moves.h"
#include "check_problem.h"
#include "command.h"
#include "json.h"
#include "level.h"
#include "options.h"
#include "progress.h"

struct check_options {
    i64 random, seed, threads, only;
    struct number_list isas;
    int json;
};

static const struct check_options defaults = { .random = 150, .seed = 1, .threads = 2, .only = -1 };

static const char *const isa_choices[] = { "c", "avx2", "avx512", "avx512_bf16", "amx", "amx_emulated", NULL };
static const folio_isa isa_levels[] = { FOLIO_ISA_C,           FOLIO_ISA_AVX2, FOLIO_ISA_AVX512,
                                        FOLIO_ISA_AVX512_BF16, FOLIO_ISA_AMX,  FOLIO_ISA_AMX_EMULATED };

#define FIELD(name) offsetof(struct check_options, name)
static const struct option_spec options[] = {
    { "isa", "LEVEL,..", "c, avx2, avx512, avx512_bf16, amx, amx_emulated. Default: all that this machine has.",
      OPTION_CHOICES, FIELD(isas), 0, 0, isa_choices },
    { "random", "N", "Random problems behind the edge list. Default 150.", OPTION_I64, FIELD(random), 0, 1000000,
      NULL },
    { "seed", "N", "Of the random problems and of all values. Default 1.", OPTION_I64, FIELD(seed), 0, INT64_MAX,
      NULL },
    { "case", "N", "Only this problem: a failing line names it.", OPTION_I64, FIELD(only), 0, INT64_C(1) << 40, NULL },
    { "threads", "N", "Default 2.", OPTION_I64, FIELD(threads), 1, 1024, NULL },
    { "json", NULL, "JSON: one object a line, the summary last.", OPTION_FLAG, FIELD(json), 0, 0, NULL },
    { 0 },
};
#undef FIELD

enum { MAX_LEVELS = 6, MAX_SHOWN = 10 };

/* What q and pages may be together. */
static const enum element type_pairs[][2] = { /* q, pages */
                                              { ELEMENT_F32, ELEMENT_F32 },
                                              { ELEMENT_F16, ELEMENT_F16 },
                                              { ELEMENT_BF16, ELEMENT_BF16 },
                                              { ELEMENT_F32, ELEMENT_F16 },
                                              { ELEMENT_F32, ELEMENT_BF16 }
};
enum { N_PAIRS = 5 };

struct cell { /* one ISA level, one pair of types */
    i64 n_run, n_wrong, n_other_bits;
    double worst_share; /* largest difference as a share of what rounding allows */
};

struct check {
    struct check_options options;
    folio_context *ref;
    folio_context *ctx[MAX_LEVELS];
    const char *names[MAX_LEVELS];
    i32 n_levels;
    struct cell cells[MAX_LEVELS][N_PAIRS];
    struct cell moves[MAX_LEVELS]; /* append, gather, merge */
    i64 n_shown;
};

static void show_failure(struct check *check, const struct check_case *c, const char *level, const char *why)
{
    char text[600];
    if (check->n_shown++ >= MAX_SHOWN)
        return;
    case_describe(c, text, sizeof(text));
    if (check->options.json)
        json_line(json_pack("{s:s, s:s, s:I, s:I, s:s, s:s}", "type", "error", "isa", level, "case",
                            (json_int_t)c->number, "seed", (json_int_t)c->seed, "why", why, "problem", text));
    else
        printf("WRONG: %s: %s\n  %s\n  again: folio check --isa %s --seed %lld --case %lld\n", level, why, text, level,
               (long long)c->seed, (long long)c->number);
}

/* Kernels that multiply pairs of bf16 round every softmax weight to 8 bits; weights sum to 1, and |v| <= 1. They have
 * other bits than the levels below. */
static bool rounds_weights(const struct check *check, i32 level, const struct check_case *c)
{
    return folio_context_isa(check->ctx[level]) >= FOLIO_ISA_AVX512_BF16 && c->q_element == ELEMENT_BF16;
}

/* Largest difference of two results as a share of what is allowed; INFINITY for a NaN. */
static double worst_share(const struct problem *got, const struct problem *want, double weight_rounding)
{
    const i32 heads = got->c.n_kv_heads * got->c.group;
    double worst = 0;
    for (i64 t = 0; t < got->n_tokens; t++)
        for (i32 h = 0; h < heads; h++) {
            const double lse = problem_lse(got, t, h), lse_want = problem_lse(want, t, h);
            if (lse != lse_want) /* both may be -inf */
                worst = fmax(worst, fabs(lse - lse_want) / check_tolerance(ELEMENT_F32, lse_want));
            if (isnan(lse))
                return INFINITY;
            for (i32 d = 0; d < got->c.dim_v; d++) {
                const double x = problem_out(got, t, h, d), y = problem_out(want, t, h, d);
                if (isnan(x) || isnan(y))
                    return INFINITY;
                worst = fmax(worst, fabs(x - y) / (check_tolerance(got->c.q_element, y) + weight_rounding));
            }
        }
    return worst;
}

/* One level's answer to a problem whose right answer is `want`; `first` is the first level's, for its bits. */
static void check_level(struct check *check, i32 level, struct problem *got, const struct problem *want,
                        const struct problem *first, struct cell *cell)
{
    char why[160] = "";
    const folio_status status = problem_run(got, check->ctx[level], got->c.number % 2 == 0);
    const bool rounds = rounds_weights(check, level, &got->c);
    cell->n_run++;
    if (status) {
        snprintf(why, sizeof(why), "%s: %.120s", folio_status_name(status), folio_last_error());
    } else {
        const double share = worst_share(got, want, rounds ? 0x1p-9 : 0);
        cell->worst_share = fmax(cell->worst_share, share);
        if (!(share <= 1))
            snprintf(why, sizeof(why), "off by %.3g times what rounding allows", share);
        else if (!problem_gaps_untouched(got))
            snprintf(why, sizeof(why), "wrote between the rows of out or lse");
        const bool same = !memcmp(got->out_memory, first->out_memory, got->out_bytes) &&
                          !memcmp(got->lse_memory, first->lse_memory, got->lse_bytes);
        cell->n_other_bits += !same && !rounds;
    }
    if (!why[0])
        return;
    cell->n_wrong++;
    show_failure(check, &got->c, check->names[level], why);
}

/* All levels on one problem. false: no memory, or ref itself failed. */
static bool check_problem(struct check *check, const struct check_case *c, i32 pair)
{
    struct problem want, first, got;
    const bool has_want = problem_init(&want, c), has_first = problem_init(&first, c), has_got = problem_init(&got, c);
    bool ok = has_want && has_first && has_got;
    if (ok && problem_run(&want, check->ref, false)) {
        show_failure(check, c, "ref", folio_last_error());
        ok = false;
    }
    for (i32 level = 0; ok && level < check->n_levels; level++)
        check_level(check, level, level ? &got : &first, &want, &first, &check->cells[level][pair]);
    problem_free(&want);
    problem_free(&first);
    problem_free(&got);
    return ok;
}

/* Edges with every pair of types, random problems with one each. */
static bool check_case_all_types(struct check *check, i64 number)
{
    const bool is_edge = number < case_n_edges();
    for (i32 pair = 0; pair < N_PAIRS; pair++) {
        if (!is_edge && pair != number % N_PAIRS)
            continue;
        struct check_case c;
        case_make(&c, number, (u64)check->options.seed);
        c.q_element = type_pairs[pair][0];
        c.kv_element = type_pairs[pair][1];
        if (!check_problem(check, &c, pair))
            return false;
    }
    return true;
}

/* A level that was asked for and is not there is an error: its name must not stand beside another's results. */
static int open_contexts(struct check *check)
{
    const folio_context_config ref = { .struct_size = sizeof(ref), .backend = FOLIO_BACKEND_REF };
    if (folio_context_create(&check->ref, &ref))
        return run_error(&command_check, "%s", folio_last_error());
    const struct number_list *wanted = &check->options.isas;
    for (i32 i = 0; i < MAX_LEVELS; i++) {
        bool is_wanted = wanted->n == 0;
        for (i32 k = 0; k < wanted->n; k++)
            is_wanted = is_wanted || wanted->values[k] == i;
        if (!is_wanted || (wanted->n == 0 && !folio_isa_available(isa_levels[i])))
            continue;
        const folio_context_config cfg = { .struct_size = sizeof(cfg),
                                           .backend = FOLIO_BACKEND_CPU,
                                           .isa = (i32)isa_levels[i],
                                           .n_threads = (i32)check->options.threads };
        folio_context **ctx = &check->ctx[check->n_levels];
        if (folio_context_create(ctx, &cfg))
            return run_error(&command_check, "%s", folio_last_error());
        check->names[check->n_levels++] = isa_choices[i];
        const char *missing = level_missing(*ctx, isa_levels[i]);
        if (missing)
            return run_error(&command_check, "--isa %s: %s", isa_choices[i], missing);
    }
    return EXIT_DONE;
}

static void close_contexts(struct check *check)
{
    for (i32 i = 0; i < check->n_levels; i++)
        folio_context_destroy(&check->ctx[i]);
    folio_context_destroy(&check->ref);
}

static void print_cell(const struct check *check, const char *level, const char *what, const struct cell *cell)
{
    if (check->options.json)
        json_line(json_pack("{s:s, s:s, s:s, s:I, s:I, s:I, s:o}", "type", "row", "isa", level, "what", what, "run",
                            (json_int_t)cell->n_run, "wrong", (json_int_t)cell->n_wrong, "other_bits",
                            (json_int_t)cell->n_other_bits, "worst_of_allowed", json_number(cell->worst_share)));
    else
        printf("%-11s %-24s %8lld %8lld %12.2f %14lld\n", level, what, (long long)cell->n_run, (long long)cell->n_wrong,
               cell->worst_share, (long long)cell->n_other_bits);
}

static bool print_table(const struct check *check)
{
    struct cell sum = { 0 };
    if (!check->options.json)
        printf("%-11s %-24s %8s %8s %12s %14s\n", "isa", "what", "run", "wrong", "of allowed", "bits differ");
    for (i32 level = 0; level < check->n_levels; level++)
        for (i32 pair = 0; pair <= N_PAIRS; pair++) {
            const struct cell *cell = pair < N_PAIRS ? &check->cells[level][pair] : &check->moves[level];
            char what[48] = "append, gather, merge";
            if (pair < N_PAIRS)
                snprintf(what, sizeof(what), "attend q %s, pages %s", element_names[type_pairs[pair][0]],
                         element_names[type_pairs[pair][1]]);
            print_cell(check, check->names[level], what, cell);
            sum.n_run += cell->n_run;
            sum.n_wrong += cell->n_wrong;
            sum.n_other_bits += cell->n_other_bits;
        }
    const bool ok = sum.n_wrong == 0 && sum.n_run > 0;
    if (check->options.json)
        json_line(json_pack("{s:s, s:I, s:I, s:I, s:b}", "type", "summary", "run", (json_int_t)sum.n_run, "wrong",
                            (json_int_t)sum.n_wrong, "other_bits", (json_int_t)sum.n_other_bits, "ok", ok));
    else
        printf("\n%s: %lld results, %lld wrong, %lld with bits that differ from the first level's\n",
               ok ? "OK" : "FAILED", (long long)sum.n_run, (long long)sum.n_wrong, (long long)sum.n_other_bits);
    return ok;
}

static int check_all(struct check *check)
{
    const i64 n = case_n_edges() + check->options.random;
    struct progress_bar bar;
    progress_begin(&bar);
    bool ok = true;
    for (i64 number = 0; ok && number < n; number++) {
        progress_update(&bar, number, n, "problems against double precision");
        if (check->options.only < 0 || check->options.only == number)
            ok = check_case_all_types(check, number);
    }
    progress_end(&bar);
    if (!ok)
        return run_error(&command_check, "gave up: %s", folio_last_error());
    for (i32 level = 0; level < check->n_levels; level++) {
        const struct moves_result moves =
            check_moves(check->ctx[level], check->ref, (u64)check->options.seed, check->names[level]);
        check->moves[level] = (struct cell){ moves.n_run, moves.n_wrong, 0, moves.worst_share };
    }
    return print_table(check) ? EXIT_DONE : EXIT_WRONG;
}

static int run(int argc, char **argv)
{
    struct check check = { .options = defaults };
    char **operands;
    i32 n_operands;
    const int parsed = options_parse(&command_check, argc, argv, &check.options, &operands, &n_operands);
    if (parsed != OPTIONS_GO)
        return parsed;
    if (n_operands)
        return usage_error(&command_check, "got operand \"%s\", allowed: none", operands[0]);
    if (check.options.only >= case_n_edges() + check.options.random)
        return usage_error(&command_check, "--case: got %lld, allowed: 0 .. %lld", (long long)check.options.only,
                           (long long)(case_n_edges() + check.options.random - 1));
    const int opened = open_contexts(&check);
    const int code = opened == EXIT_DONE ? check_all(&check) : opened;
    close_contexts(&check);
    return code;
}

const struct command command_check = {
    .name = "check",
    .summary = "every kernel this machine can run, against double precision",
    .operands = "",
    .about =
        "Runs attention, append, gather and merge at every instruction set level this machine has on an edge\n"
        "list and on random problems, and compares with the double-precision backend. Unused slots, pages and\n"
        "gaps hold NaN, unused table entries garbage. Levels also promise the same bits, save avx512_bf16 and amx on\n"
        "bf16, which rounds softmax weights to 8 bits, and amx on int8: the last column counts results whose\n"
        "bits differ from the first level's.",
    .examples = "  folio check                      # a few seconds\n"
                "  folio check --random 5000 --seed 7\n"
                "  folio check --isa avx2 --case 31   # one problem again\n"
                "  folio check --json | tail -1\n",
    .options = options,
    .run = run,
};
