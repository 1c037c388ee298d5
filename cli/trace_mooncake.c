/* SPDX-License-Identifier: Apache-2.0
 * trace_mooncake.c: one line of a Mooncake trace:
 *   {"timestamp": 27482, "input_length": 6955, "output_length": 52, "hash_ids": [46, 47, ...]}
 * timestamp in ms, never decreasing; hash_ids has ceil(input_length / 512) entries. Exactly these four fields. */
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "trace.h"

static const char *const fields[] = { "timestamp", "input_length", "output_length", "hash_ids" };

/* Where a field's name stands in the line, from 1: jansson keeps no places. */
static i64 field_column(struct trace_line line, const char *field)
{
    const size_t n = strlen(field);
    for (size_t i = 0; i + n + 2 <= line.n; i++)
        if (line.text[i] == '"' && line.text[i + n + 1] == '"' && !memcmp(line.text + i + 1, field, n))
            return (i64)i + 1;
    return 1;
}

static bool known_fields(const json_t *row, struct trace_line line, struct trace_error *error)
{
    for (size_t i = 0; i < COUNT_OF(fields); i++)
        if (!json_object_get(row, fields[i]))
            return trace_fail(error, line.number, 1,
                              "no \"%s\"; a line has timestamp, input_length, output_length, hash_ids", fields[i]);
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)row, key, value)
    {
        bool known = false;
        for (size_t i = 0; i < COUNT_OF(fields); i++)
            known = known || !strcmp(key, fields[i]);
        if (!known)
            return trace_fail(error, line.number, field_column(line, key),
                              "unknown field \"%.40s\"; allowed: timestamp, input_length, output_length, hash_ids",
                              key);
    }
    return true;
}

static bool get_length(const json_t *row, const char *field, struct trace_line line, i64 *out,
                       struct trace_error *error)
{
    const json_t *value = json_object_get(row, field);
    const i64 length = json_is_integer(value) ? json_integer_value(value) : 0;
    if (length < 1 || length > TRACE_MAX_TOKENS)
        return trace_fail(error, line.number, field_column(line, field), "%s: allowed: an integer in 1 .. %d", field,
                          TRACE_MAX_TOKENS);
    *out = length;
    return true;
}

static bool get_arrival(const json_t *row, const struct trace *trace, struct trace_line line, double *out,
                        struct trace_error *error)
{
    const json_t *value = json_object_get(row, "timestamp");
    const double ms = json_is_number(value) ? json_number_value(value) : -1;
    const i64 column = field_column(line, "timestamp");
    if (!(ms >= 0) || ms > 1e15)
        return trace_fail(error, line.number, column, "timestamp: allowed: milliseconds, a number in 0 .. 1e15");
    const double before = trace->n_requests ? trace->requests[trace->n_requests - 1].arrival_s : 0;
    if (ms * 1e-3 < before)
        return trace_fail(error, line.number, column, "timestamp: got %g ms, which is before the last line's %g ms", ms,
                          before * 1e3);
    *out = ms * 1e-3;
    return true;
}

/* ids [request->n_ids], allocated. */
static bool get_ids(const json_t *row, struct trace_line line, struct request *request, u64 **ids,
                    struct trace_error *error)
{
    const json_t *array = json_object_get(row, "hash_ids");
    const i64 column = field_column(line, "hash_ids");
    const i64 need = ceil_div(request->prompt_tokens, TRACE_ID_TOKENS);
    if (!json_is_array(array))
        return trace_fail(error, line.number, column, "hash_ids: allowed: an array of integers");
    if ((i64)json_array_size(array) != need)
        return trace_fail(error, line.number, column,
                          "hash_ids: got %zu, input_length %lld needs %lld (one per %d tokens)", json_array_size(array),
                          (long long)request->prompt_tokens, (long long)need, TRACE_ID_TOKENS);
    *ids = malloc((size_t)need * sizeof(**ids));
    if (!*ids)
        return trace_fail(error, line.number, 0, "out of memory");
    request->n_ids = need;
    for (i64 i = 0; i < need; i++) {
        const json_t *id = json_array_get(array, (size_t)i);
        if (!json_is_integer(id) || json_integer_value(id) < 0)
            return trace_fail(error, line.number, column, "hash_ids[%lld]: allowed: an integer, at least 0",
                              (long long)i);
        (*ids)[i] = (u64)json_integer_value(id);
    }
    return true;
}

static bool take_row(struct trace *trace, const json_t *row, struct trace_line line, struct trace_error *error)
{
    if (!json_is_object(row))
        return trace_fail(error, line.number, 1, "not a JSON object");
    struct request request = { 0 };
    u64 *ids = NULL;
    bool ok = known_fields(row, line, error) && get_arrival(row, trace, line, &request.arrival_s, error) &&
              get_length(row, "input_length", line, &request.prompt_tokens, error) &&
              get_length(row, "output_length", line, &request.output_tokens, error) &&
              get_ids(row, line, &request, &ids, error);
    if (ok && !trace_push(trace, request, ids))
        ok = trace_fail(error, line.number, 0, "out of memory");
    free(ids);
    return ok;
}

bool trace_parse_mooncake(struct trace *trace, struct trace_line line, struct trace_error *error)
{
    json_error_t why;
    json_t *row = json_loadb(line.text, line.n, JSON_REJECT_DUPLICATES, &why);
    if (!row)
        return trace_fail(error, line.number, max_i64(why.column, 1), "not JSON: %.140s", why.text);
    const bool ok = take_row(trace, row, line, error);
    json_decref(row);
    return ok;
}
