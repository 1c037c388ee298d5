/* SPDX-License-Identifier: Apache-2.0
 * bench.h: what a row of `folio bench` is, and who measures which.
 *
 *   bench.c ── for each isa, threads ──► context, probe ── for each row ──► bench_attend.c  decode, prefill
 *                                                                     ├──► bench_append.c  append
 *                                                                     ├──► bench_cache.c   cache
 *                                                                     ├──► bench_call.c    overhead
 *                                                                     └──► bench_mods.c    mods
 *                               bench_print.c, bench_plot.c ◄── rows
 * Nothing here judges: a row is a measurement beside a probe of the same moment. */
#ifndef CLI_BENCH_H
#define CLI_BENCH_H

#include "command.h"
#include "folio/folio.h"
#include "pagepool.h"
#include "probe.h"

enum bench_kind { BENCH_DECODE, BENCH_PREFILL, BENCH_APPEND, BENCH_CACHE, BENCH_OVERHEAD, BENCH_MODS };
extern const char *const bench_kind_names[]; /* "decode", "prefill", "append", "cache", "overhead", "mods", NULL */

/* Lengths of a decode batch: all kv_len; kv_len / rank; the first kv_len and all others a sixteenth. */
enum mix { MIX_EQUAL, MIX_ZIPF, MIX_ONE_LONG };
extern const char *const mix_names[]; /* "equal", "zipf", "one-long", NULL */

struct bench_case {
    enum bench_kind kind;
    const char *what; /* cache, overhead, mods: which operation; else "" */
    struct shape shape;
    enum element element;
    enum layout layout;
    i64 page_size, batch, q_len, kv_len;
    enum mix mix;
    i64 window, softcap; /* 0 = none; window: keys a row sees, its own among them */
    i64 shared;          /* decode: tokens that all sequences have in common; 0 = none */
    bool sinks, cascade;
    bool cold; /* a different layer each time, so that K and V come from memory; else one layer */
};

struct bench_row {
    struct bench_case c;
    const char *isa;
    i32 n_threads, n_layers;
    i64 n_reps;
    double median_s, p10_s, p90_s; /* of one repetition; cache, overhead: of one operation */
    double built_in_s;             /* mods: median of the same problem with the built-in option */
    double bytes, flops;           /* useful, of one repetition; 0 = says nothing */
    double probe_gb_s, probe_gflop_s;
    double drift; /* how much the probe that counts moved from before to after, as a share */
};

struct bench {
    folio_context *ctx;
    struct probe *probe;
    i64 n_reps;     /* at least */
    i64 memory;     /* bytes of K and V, at most */
    i64 cold_bytes; /* layers must exceed this to be cold */
    i32 n_layers;   /* of a cold row, at least, if memory allows */
};

/* Of q and of rows to append: bf16 over quantised pages. */
static inline enum element bench_row_element(const struct bench_case *c)
{
    return c->element <= ELEMENT_BF16 ? c->element : ELEMENT_BF16;
}

/* Fills in times, work and probe of row. false: it could not be run; the reason is in error [n]. */
bool bench_attend(const struct bench *bench, struct bench_row *row, char *error, size_t n);
bool bench_append(const struct bench *bench, struct bench_row *row, char *error, size_t n);
bool bench_cache(const struct bench *bench, struct bench_row *row, char *error, size_t n);
bool bench_call(const struct bench *bench, struct bench_row *row, char *error, size_t n);
bool bench_mods(const struct bench *bench, struct bench_row *row, char *error, size_t n);

extern const char *const bench_cache_operations[]; /* names for case.what, ends with NULL */
extern const char *const bench_call_operations[];
extern const char *const bench_mods_operations[];

/* bench_time.c: runs `once` (arg, repetition) often enough and keeps the quantiles. per: operations of one repetition.
 * false: a repetition failed. */
typedef bool bench_body(void *arg, i64 repetition);
bool bench_time(const struct bench *bench, struct bench_row *row, bench_body *once, void *arg, double per);

/* bench_print.c */
void bench_print_head(void);
void bench_print_row(const struct bench_row *row);
void bench_json_row(const struct bench_row *row, const char *cpu);
double bench_row_share(const struct bench_row *row); /* of its probe; 0 = has none */

/* bench_plot.c: the shares of rows [n] into an SVG file. false: gnuplot failed, or no row has a share. */
bool bench_plot(const char *path, const char *cpu, const struct bench_row *rows, i64 n);

#endif
