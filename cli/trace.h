/* SPDX-License-Identifier: Apache-2.0
 * trace.h: recorded serving traffic: who asked when, how long the prompt was, how long the answer.
 *
 *   requests  [0] ──ids_begin──► ids[0 .. 13]      prompt tokens 0..511 have ids[0], 512..1023 ids[1], ...
 *             [1] ──ids_begin──► ids[14 .. 28]     an id stands for its tokens and everything before them:
 *              :                                   equal ids at equal places = equal prefixes
 *
 * Two formats, told apart by their first character:
 *   Mooncake  JSON lines: {"timestamp": ms, "input_length": n, "output_length": n, "hash_ids": [one per 512 tokens]}
 *   Azure     CSV: TIMESTAMP,ContextTokens,GeneratedTokens, and no ids
 * Parsing is strict: a line that is not exactly that is an error with its line and column. */
#ifndef CLI_TRACE_H
#define CLI_TRACE_H

#include "types.h"

enum { TRACE_MAX_TOKENS = 1 << 28, TRACE_ID_TOKENS = 512 };

struct request {
    double arrival_s; /* since the trace's first request */
    i64 prompt_tokens, output_tokens;
    i64 ids_begin, n_ids; /* into trace.ids; n_ids 0 = the format has none */
};

struct trace {
    const char *format;       /* "mooncake" | "azure" */
    struct request *requests; /* [n_requests] */
    u64 *ids;                 /* [n_ids] */
    i64 n_requests, n_ids;
    i64 requests_room, ids_room;
    i64 scale_num, scale_den; /* lengths are the file's times num / den, rounded up */
};

struct trace_error {
    i64 line, column; /* from 1; 0 = about the whole file */
    char text[200];   /* what was got and what is allowed */
};

/* text [n] of a whole file; at most `limit` requests are taken (0 = all), and what follows them is not looked at.
 * false: *error is set and *trace is empty. */
bool trace_parse(struct trace *trace, const char *text, size_t n, i64 limit, struct trace_error *error);
void trace_free(struct trace *trace);

/* Multiply all lengths by num / den <= 1, rounding up. Once. */
void trace_scale(struct trace *trace, i64 num, i64 den);

/* The id of the prompt token at `position`; call only when the request has ids. */
u64 trace_prompt_id(const struct trace *trace, const struct request *request, i64 position);

i64 trace_longest(const struct trace *trace); /* max of prompt + output tokens; 0 without requests */

/* For the two parsers. */
struct trace_line {
    const char *text; /* [n], no line end */
    size_t n;
    i64 number; /* from 1 */
};
bool trace_fail(struct trace_error *error, i64 line, i64 column, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
bool trace_push(struct trace *trace, struct request request, const u64 *ids); /* false: out of memory */
bool trace_parse_mooncake(struct trace *trace, struct trace_line line, struct trace_error *error);
bool trace_parse_azure(struct trace *trace, struct trace_line line, struct trace_error *error);

#endif
