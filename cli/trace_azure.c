/* SPDX-License-Identifier: Apache-2.0
 * trace_azure.c: one line of an Azure LLM inference trace, after the header TIMESTAMP,ContextTokens,GeneratedTokens:
 *   2023-11-16 18:17:03.9799600,4808,10
 * The fraction has 0 to 9 digits; timestamps never decrease. No ids: every request's tokens are its own. */
#include <string.h>

#include "trace.h"

static const char header[] = "TIMESTAMP,ContextTokens,GeneratedTokens";

/* A place in a line; `ok` falls once and stays down. */
struct cursor {
    struct trace_line line;
    size_t at;
    struct trace_error *error;
    bool ok;
};

static bool fail_here(struct cursor *c, const char *wanted)
{
    if (c->ok)
        c->ok = trace_fail(c->error, c->line.number, (i64)c->at + 1, "expected %s", wanted);
    return false;
}

static bool at_digit(const struct cursor *c)
{
    return c->ok && c->at < c->line.n && c->line.text[c->at] >= '0' && c->line.text[c->at] <= '9';
}

static void take_char(struct cursor *c, char wanted)
{
    const char name[] = { '"', wanted, '"', '\0' };
    if (c->ok && (c->at >= c->line.n || c->line.text[c->at] != wanted))
        fail_here(c, name);
    c->at += c->ok;
}

/* Exactly n digits, value in [min, max]. */
static i64 take_fixed(struct cursor *c, i32 n, i64 min, i64 max, const char *wanted)
{
    const size_t begin = c->at;
    i64 value = 0;
    for (i32 i = 0; i < n; i++) {
        if (!at_digit(c))
            return fail_here(c, wanted);
        value = value * 10 + (c->line.text[c->at++] - '0');
    }
    if (c->ok && (value < min || value > max)) {
        c->at = begin;
        return fail_here(c, wanted);
    }
    return value;
}

static i64 take_count(struct cursor *c, const char *wanted)
{
    const size_t begin = c->at;
    i64 value = 0;
    while (at_digit(c) && value <= TRACE_MAX_TOKENS)
        value = value * 10 + (c->line.text[c->at++] - '0');
    if (c->ok && (value < 1 || value > TRACE_MAX_TOKENS)) {
        c->at = begin;
        return fail_here(c, wanted);
    }
    return value;
}

static i64 take_fraction(struct cursor *c) /* ns */
{
    i64 ns = 0, unit = 1000000000;
    if (!c->ok || c->at >= c->line.n || c->line.text[c->at] != '.')
        return 0;
    c->at++;
    if (!at_digit(c))
        return fail_here(c, "a digit");
    while (at_digit(c) && unit > 1) {
        unit /= 10;
        ns += unit * (c->line.text[c->at++] - '0');
    }
    return ns;
}

/* Days since 1 March of year 0, proleptic Gregorian: years that begin in March have their leap day last. */
static i64 day_number(i64 year, i64 month, i64 day)
{
    const i64 y = month > 2 ? year : year - 1, m = (month + 9) % 12;
    return 365 * y + y / 4 - y / 100 + y / 400 + (153 * m + 2) / 5 + day - 1;
}

static double take_timestamp(struct cursor *c) /* s */
{
    const i64 year = take_fixed(c, 4, 1, 9999, "a date, YYYY-MM-DD");
    take_char(c, '-');
    const i64 month = take_fixed(c, 2, 1, 12, "a month, 01 .. 12");
    take_char(c, '-');
    const i64 day = take_fixed(c, 2, 1, 31, "a day, 01 .. 31");
    take_char(c, ' ');
    const i64 hour = take_fixed(c, 2, 0, 23, "an hour, 00 .. 23");
    take_char(c, ':');
    const i64 minute = take_fixed(c, 2, 0, 59, "minutes, 00 .. 59");
    take_char(c, ':');
    const i64 second = take_fixed(c, 2, 0, 60, "seconds, 00 .. 60");
    const i64 ns = take_fraction(c);
    return (double)(day_number(year, month, day) * 86400 + hour * 3600 + minute * 60 + second) + 1e-9 * (double)ns;
}

static bool take_header(struct trace_line line, struct trace_error *error)
{
    const size_t n = sizeof(header) - 1;
    if (line.n == n && !memcmp(line.text, header, n))
        return true;
    size_t same = 0;
    while (same < n && same < line.n && line.text[same] == header[same])
        same++;
    return trace_fail(error, line.number, (i64)same + 1, "expected the header %s", header);
}

bool trace_parse_azure(struct trace *trace, struct trace_line line, struct trace_error *error)
{
    if (line.number == 1)
        return take_header(line, error);
    struct cursor c = { line, 0, error, true };
    struct request request = { .arrival_s = take_timestamp(&c) };
    take_char(&c, ',');
    request.prompt_tokens = take_count(&c, "ContextTokens, an integer in 1 .. 268435456");
    take_char(&c, ',');
    request.output_tokens = take_count(&c, "GeneratedTokens, an integer in 1 .. 268435456");
    if (c.ok && c.at != line.n)
        fail_here(&c, "the end of the line");
    if (!c.ok)
        return false;
    if (trace->n_requests && request.arrival_s < trace->requests[trace->n_requests - 1].arrival_s)
        return trace_fail(error, line.number, 1, "TIMESTAMP is before the last line's");
    return trace_push(trace, request, NULL) ? true : trace_fail(error, line.number, 0, "out of memory");
}
