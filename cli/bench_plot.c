/* SPDX-License-Identifier: Apache-2.0
 * bench_plot.c: the shares of bench's rows as bars and, where kv_len differs, as lines over it.
 *
 *        machine, commit, what all rows have in common
 *    page 16, cold  ████████████      ┊        a bar a row, named by what tells the rows apart
 *     page 16, hot  ██████████████    ┊ 100 %
 *
 *   share │ ─────╲──────               a line for rows that differ in kv_len alone
 *         └──────────── kv_len  */
#include <stdlib.h>
#include <string.h>

#include "bench.h"
#include "plot.h"
#include "version.h"

enum field { KIND, TYPE, SHAPE, ISA, THREADS, PAGE, LAYOUT, BATCH, ROWS, KV, STATE, MIX, N_FIELDS };
enum { TEXT = 48, LABEL = 256, TOP = 90, A_BAR = 22, A_LINE = 20, LINES = 300 /* points */ };

struct shares {
    const struct bench_row **rows; /* [n], those with a share */
    i64 n;
    bool differs[N_FIELDS];
};

static void field_text(char text[TEXT], const struct bench_row *row, enum field field)
{
    const struct bench_case *c = &row->c;
    const char *const names[N_FIELDS] = {
        [KIND] = bench_kind_names[c->kind],
        [TYPE] = page_element_names[c->element],
        [SHAPE] = c->shape.name,
        [ISA] = row->isa,
        [THREADS] = "threads",
        [PAGE] = "page",
        [LAYOUT] = layout_names[c->layout],
        [BATCH] = "batch",
        [ROWS] = "rows",
        [KV] = "kv",
        [STATE] = c->cold ? "cold" : "hot",
        [MIX] = mix_names[c->mix],
    };
    const i64 numbers[N_FIELDS] = {
        [THREADS] = row->n_threads, [PAGE] = c->page_size, [BATCH] = c->batch, [ROWS] = c->q_len, [KV] = c->kv_len
    };
    if (numbers[field])
        snprintf(text, TEXT, "%s %lld", names[field], (long long)numbers[field]);
    else
        snprintf(text, TEXT, "%s", names[field]);
}

static bool is_same(const struct bench_row *a, const struct bench_row *b, enum field field)
{
    char left[TEXT], right[TEXT];
    field_text(left, a, field);
    field_text(right, b, field);
    return strcmp(left, right) == 0;
}

/* The fields that differ among the rows, without `but`; or those that all have in common. Returns its length. */
static int put_label(char label[LABEL], const struct shares *shares, const struct bench_row *row, bool differing,
                     enum field but)
{
    int n = 0;
    label[0] = '\0';
    for (enum field f = 0; f < N_FIELDS; f++) {
        char text[TEXT];
        if (shares->differs[f] != differing || f == but || (f == MIX && !differing && row->c.mix == MIX_EQUAL))
            continue;
        field_text(text, row, f);
        n += snprintf(label + n, (size_t)(LABEL - n), "%s%s", n ? ", " : "", text);
        n = n < LABEL ? n : LABEL - 1;
    }
    return n;
}

/* Of the longest label. */
static int label_columns(const struct shares *shares, enum field but)
{
    int columns = 0;
    for (i64 i = 0; i < shares->n; i++) {
        char label[LABEL];
        const int n = put_label(label, shares, shares->rows[i], true, but);
        columns = n > columns ? n : columns;
    }
    return columns;
}

static int group_of(const struct bench_row *row)
{
    return row->c.kind == BENCH_PREFILL ? 2 : row->c.cold ? 0 : 1;
}

/* -> whether the group has rows */
static bool put_group(FILE *plot, const struct shares *shares, int group)
{
    bool has_rows = false;
    fprintf(plot, "$group%d << EOD\n", group);
    for (i64 i = 0; i < shares->n; i++) {
        char label[LABEL];
        if (group_of(shares->rows[i]) != group)
            continue;
        put_label(label, shares, shares->rows[i], true, N_FIELDS);
        fprintf(plot, "%lld %.4f \"%s\"\n", (long long)-i, 100 * bench_row_share(shares->rows[i]), label);
        has_rows = true;
    }
    fputs("EOD\n", plot);
    return has_rows;
}

static void put_bars(FILE *plot, const struct shares *shares)
{
    static const char *const groups[] = { "'#1f77b4' title 'decode, cold: of read bandwidth'",
                                          "'#9ecae1' title 'decode, hot: of read bandwidth'",
                                          "'#ff7f0e' title 'prefill: of multiply-adds'" };
    bool has_rows[COUNT_OF(groups)];
    for (int g = 0; g < (int)COUNT_OF(groups); g++)
        has_rows[g] = put_group(plot, shares, g);
    fprintf(plot,
            "set lmargin %d\nset rmargin 4\nset tmargin 5.5\nset key at screen 0.97,graph 1 right bottom horizontal "
            "maxrows 1\n"
            "set xlabel '%% of the probe beside it'\n"
            "set xrange [0:*<200]\nset yrange [-%lld.6:0.6]\nset grid noytics xtics\nset style fill solid\n"
            "set arrow 1 from 100, graph 0 to 100, graph 1 nohead dt 2 lc rgb '#444444'\nplot ",
            label_columns(shares, N_FIELDS) + 2, (long long)(shares->n - 1));
    for (int g = 0; g < (int)COUNT_OF(groups); g++)
        if (has_rows[g])
            fprintf(plot, "$group%d using (0):1:(0):2:($1-0.35):($1+0.35):ytic(3) with boxxyerror lc rgb %s, ", g,
                    groups[g]);
    fputs("\nunset arrow 1\n", plot);
}

/* Whether rows[i] is the first of a line: no row before differs from it in kv_len alone, and one behind does. */
static bool begins_line(const struct shares *shares, i64 i)
{
    bool has_next = false;
    for (i64 j = 0; j < shares->n; j++) {
        bool is_line = j != i;
        for (enum field f = 0; f < N_FIELDS; f++)
            is_line = is_line && (f == KV || is_same(shares->rows[i], shares->rows[j], f));
        if (is_line && j < i)
            return false;
        has_next = has_next || is_line;
    }
    return has_next;
}

static i64 count_lines(const struct shares *shares)
{
    i64 n = 0;
    for (i64 i = 0; i < shares->n; i++)
        n += begins_line(shares, i);
    return n;
}

/* The rows that differ from rows[first] in kv_len alone, and it. */
static void put_line(FILE *plot, const struct shares *shares, i64 first)
{
    fprintf(plot, "$line%lld << EOD\n", (long long)first);
    for (i64 i = first; i < shares->n; i++) {
        bool is_line = true;
        for (enum field f = 0; f < N_FIELDS; f++)
            is_line = is_line && (f == KV || is_same(shares->rows[first], shares->rows[i], f));
        if (is_line)
            fprintf(plot, "%lld %.4f\n", (long long)shares->rows[i]->c.kv_len, 100 * bench_row_share(shares->rows[i]));
    }
    fputs("EOD\n", plot);
}

static void put_lines(FILE *plot, const struct shares *shares)
{
    i64 least = INT64_MAX, most = 0;
    for (i64 i = 0; i < shares->n; i++) {
        least = min_i64(least, shares->rows[i]->c.kv_len);
        most = max_i64(most, shares->rows[i]->c.kv_len);
        if (begins_line(shares, i))
            put_line(plot, shares, i);
    }
    fprintf(plot,
            "set lmargin 8\nset rmargin %d\nset tmargin 1\nset xlabel 'kv_len'\nset ylabel '%% of the probe'\n"
            "set xrange [%.1f:%.1f]\nset yrange [0:*]\nset logscale x 2\nset ytics auto\nset grid xtics ytics\n"
            "set key default\nset key outside right top vertical Left reverse\nplot ",
            label_columns(shares, KV) + 10, 0.9 * (double)least, 1.1 * (double)most);
    for (i64 i = 0; i < shares->n; i++) {
        char label[LABEL];
        if (!begins_line(shares, i))
            continue;
        put_label(label, shares, shares->rows[i], true, KV);
        fprintf(plot, "$line%lld using 1:2:xtic(1) with linespoints pt 7 ps 0.5 title \"%s\", ", (long long)i, label);
    }
    fputc('\n', plot);
}

static bool draw(const char *path, const char *cpu, const struct shares *shares)
{
    const i64 n_lines = count_lines(shares);
    const i64 bars = TOP + 60 + A_BAR * shares->n, lines = n_lines ? LINES + A_LINE * n_lines : 0;
    FILE *plot = plot_open(path, (int)(bars + lines));
    if (!plot)
        return false;
    char common[LABEL];
    put_label(common, shares, shares->rows[0], false, N_FIELDS);
    const double below = (double)lines / (double)(bars + lines);
    fprintf(plot,
            "set termoption noenhanced\nset multiplot\n"
            "set label 1 \"folio bench, %s, commit %s\\n%s\" at screen 0.5,screen 1 offset 0,-1.5 center\n"
            "set origin 0,%.4f\nset size 1,%.4f\n",
            cpu, build_commit(), common, below, 1 - below);
    put_bars(plot, shares);
    if (n_lines) {
        fprintf(plot, "unset label 1\nset origin 0,0\nset size 1,%.4f\n", below);
        put_lines(plot, shares);
    }
    fputs("unset multiplot\n", plot);
    return plot_close(plot);
}

bool bench_plot(const char *path, const char *cpu, const struct bench_row *rows, i64 n)
{
    struct shares shares = { .rows = calloc((size_t)max_i64(n, 1), sizeof(*shares.rows)) };
    if (!shares.rows)
        return false;
    for (i64 i = 0; i < n; i++)
        if (bench_row_share(&rows[i]) > 0)
            shares.rows[shares.n++] = &rows[i];
    for (enum field f = 0; f < N_FIELDS; f++)
        for (i64 i = 1; i < shares.n; i++)
            shares.differs[f] = shares.differs[f] || !is_same(shares.rows[0], shares.rows[i], f);
    const bool drawn = shares.n > 0 && draw(path, cpu, &shares);
    free(shares.rows);
    return drawn;
}
