/* SPDX-License-Identifier: Apache-2.0
 * trace.c: what both trace formats share: lines, storage, identities. */
#include "trace.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool trace_fail(struct trace_error *error, i64 line, i64 column, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    error->line = line;
    error->column = column;
    vsnprintf(error->text, sizeof(error->text), format, args);
    va_end(args);
    return false;
}

/* Room for `need` elements in *array, doubling. */
static bool make_room(void **array, i64 *room, i64 need, size_t element_bytes)
{
    if (need <= *room)
        return true;
    const i64 n = max_i64(need, *room * 2);
    void *bigger = realloc(*array, (size_t)n * element_bytes);
    if (!bigger)
        return false;
    *array = bigger;
    *room = n;
    return true;
}

bool trace_push(struct trace *trace, struct request request, const u64 *ids)
{
    void *requests = trace->requests, *all_ids = trace->ids;
    const bool ok =
        make_room(&requests, &trace->requests_room, trace->n_requests + 1, sizeof(*trace->requests)) &&
        make_room(&all_ids, &trace->ids_room, max_i64(trace->n_ids + request.n_ids, 1), sizeof(*trace->ids));
    trace->requests = requests;
    trace->ids = all_ids;
    if (!ok)
        return false;
    request.ids_begin = trace->n_ids;
    if (request.n_ids)
        memcpy(trace->ids + trace->n_ids, ids, (size_t)request.n_ids * sizeof(*ids));
    trace->n_ids += request.n_ids;
    trace->requests[trace->n_requests++] = request;
    return true;
}

void trace_free(struct trace *trace)
{
    free(trace->requests);
    free(trace->ids);
    *trace = (struct trace){ 0 };
}

static bool parse_lines(struct trace *trace, const char *text, size_t n, i64 limit, struct trace_error *error)
{
    const bool mooncake = text[0] == '{';
    trace->format = mooncake ? "mooncake" : "azure";
    i64 number = 0;
    for (size_t at = 0; at < n && (limit == 0 || trace->n_requests < limit);) {
        const char *end = memchr(text + at, '\n', n - at);
        const size_t length = end ? (size_t)(end - (text + at)) : n - at;
        struct trace_line line = { text + at, length, ++number };
        if (line.n && line.text[line.n - 1] == '\r')
            line.n--;
        const bool ok = mooncake ? trace_parse_mooncake(trace, line, error) : trace_parse_azure(trace, line, error);
        if (!ok)
            return false;
        at += length + 1;
    }
    return trace->n_requests ? true : trace_fail(error, 0, 0, "no requests in it");
}

bool trace_parse(struct trace *trace, const char *text, size_t n, i64 limit, struct trace_error *error)
{
    *trace = (struct trace){ .scale_num = 1, .scale_den = 1 };
    if (n == 0)
        return trace_fail(error, 0, 0, "the trace is empty");
    if (text[0] != '{' && text[0] != 'T')
        return trace_fail(error, 1, 1,
                          "a trace starts with \"{\" (Mooncake JSON lines) or \"TIMESTAMP,\" (Azure CSV), "
                          "got character code %d",
                          (unsigned char)text[0]);
    if (!parse_lines(trace, text, n, limit, error)) {
        trace_free(trace);
        return false;
    }
    const double first_s = trace->requests[0].arrival_s;
    for (i64 i = 0; i < trace->n_requests; i++)
        trace->requests[i].arrival_s -= first_s;
    return true;
}

void trace_scale(struct trace *trace, i64 num, i64 den)
{
    trace->scale_num = num;
    trace->scale_den = den;
    for (i64 i = 0; i < trace->n_requests; i++) {
        struct request *request = &trace->requests[i];
        request->prompt_tokens = ceil_div(request->prompt_tokens * num, den);
        request->output_tokens = ceil_div(request->output_tokens * num, den);
    }
}

u64 trace_prompt_id(const struct trace *trace, const struct request *request, i64 position)
{
    const i64 in_file = position * trace->scale_den / trace->scale_num;
    return trace->ids[request->ids_begin + min_i64(in_file / TRACE_ID_TOKENS, request->n_ids - 1)];
}

i64 trace_longest(const struct trace *trace)
{
    i64 longest = 0;
    for (i64 i = 0; i < trace->n_requests; i++)
        longest = max_i64(longest, trace->requests[i].prompt_tokens + trace->requests[i].output_tokens);
    return longest;
}
