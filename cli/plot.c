/* SPDX-License-Identifier: Apache-2.0
 * plot.c: pictures, through gnuplot. */
#include "plot.h"

#include <signal.h>

/* 'text' for gnuplot: quotes inside are doubled. */
static void put_quoted(FILE *to, const char *text)
{
    fputc('\'', to);
    for (const char *p = text; *p; p++) {
        if (*p == '\'')
            fputc('\'', to);
        fputc(*p, to);
    }
    fputc('\'', to);
}

FILE *plot_open(const char *path, int height)
{
    signal(SIGPIPE, SIG_IGN); /* a gnuplot that isn't there must not end us: plot_close reports it */
    FILE *plot = popen("gnuplot", "w");
    if (!plot)
        return NULL;
    fprintf(plot, "set terminal svg size 900,%d font 'sans,13' background 'white'\nset output ", height);
    put_quoted(plot, path);
    fputs("\nset border 3 lc rgb '#888888'\nset tics nomirror\nset grid ytics lc rgb '#dddddd'\n", plot);
    return plot;
}

bool plot_close(FILE *plot)
{
    const bool wrote = !ferror(plot);
    return pclose(plot) == 0 && wrote;
}

/* $steps: at_s, MB held, MB of contiguous reservation, ms, whether it had prompt tokens. */
static void put_steps(FILE *plot, const struct report *report, double page_mb)
{
    fputs("$steps << EOD\n", plot);
    for (i64 i = 0; i < report->n_steps; i++) {
        const struct step_record *step = &report->steps[i];
        fprintf(plot, "%.6f %.4f %.4f %.5f %d\n", step->at_s, (double)step->pages_held * page_mb,
                (double)step->pages_contiguous * page_mb, step->ms, step->prompt_tokens > 0);
        const double end_s = step->at_s + 1e-3 * step->ms;
        if (i + 1 == report->n_steps || step[1].at_s > end_s + 1e-6) /* then nothing runs, and nothing is held */
            fprintf(plot, "%.6f 0 0 NaN 0\n", end_s);
    }
    fputs("EOD\n", plot);
}

bool plot_replay(const char *path, const struct report *report, const struct report_setup *setup)
{
    const struct pagepool_config *pages = &setup->engine->pages;
    FILE *plot = plot_open(path, 640);
    if (!plot)
        return false;
    put_steps(plot, report, (double)(page_bytes(pages) * pages->n_layers) / (1 << 20));
    fprintf(
        plot,
        "set multiplot layout 2,1\n"
        "set key top right\nset lmargin 10\n"
        "set ylabel 'KV memory, MB'\nset yrange [0:*]\n"
        "set title '%s, %d layers, %s pages of %lld tokens'\n"
        "plot $steps using 1:3 with steps lc rgb '#bbbbbb' lw 2 title 'contiguous reservation', "
        "'' using 1:2 with steps lc rgb '#1f77b4' lw 2 title 'pages in use'\n"
        "unset title\nset ylabel 'step, ms'\nset xlabel 'time, s'\n"
        "plot $steps using 1:($5 == 1 ? $4 : NaN) with points pt 7 ps 0.3 lc rgb '#d62728' title 'with prompt tokens', "
        "'' using 1:($5 == 1 ? NaN : $4) with points pt 7 ps 0.3 lc rgb '#2ca02c' title 'decode only'\n"
        "unset multiplot\n",
        setup->shape->name, pages->n_layers, element_names[pages->element], (long long)pages->page_size);
    return plot_close(plot);
}
