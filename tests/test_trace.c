/* SPDX-License-Identifier: Apache-2.0
 * test_trace.c: good traces come in whole; a bad line is an error that says where and what is allowed. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "trace.h"

#define MOONCAKE_1 "{\"timestamp\": 5, \"input_length\": 513, \"output_length\": 2, \"hash_ids\": [0, 7]}"
#define MOONCAKE_2 "{\"timestamp\": 3005.5, \"input_length\": 512, \"output_length\": 1, \"hash_ids\": [9]}"
#define AZURE_HEADER "TIMESTAMP,ContextTokens,GeneratedTokens"
#define AZURE_1 "2024-02-28 23:59:59.9799600,4808,10"
#define AZURE_2 "2024-03-01 00:00:01,17,1"

static void mooncake_lines_come_in_whole(void **state)
{
    (void)state;
    static const char *const texts[] = { /* with and without the last line end, and with both kinds */
                                         MOONCAKE_1 "\n" MOONCAKE_2 "\n", MOONCAKE_1 "\n" MOONCAKE_2,
                                         MOONCAKE_1 "\r\n" MOONCAKE_2 "\r\n"
    };
    for (size_t i = 0; i < COUNT_OF(texts); i++) {
        struct trace trace;
        struct trace_error error;
        assert_true(trace_parse(&trace, texts[i], strlen(texts[i]), 0, &error));
        assert_string_equal(trace.format, "mooncake");
        assert_int_equal(trace.n_requests, 2);
        assert_int_equal(trace.n_ids, 3);
        const struct request *first = &trace.requests[0], *second = &trace.requests[1];
        assert_int_equal(first->prompt_tokens, 513);
        assert_int_equal(first->output_tokens, 2);
        assert_true(first->arrival_s == 0);
        assert_true(fabs(second->arrival_s - 3.0005) < 1e-9);
        assert_int_equal(trace_prompt_id(&trace, first, 0), 0);
        assert_int_equal(trace_prompt_id(&trace, first, 511), 0);
        assert_int_equal(trace_prompt_id(&trace, first, 512), 7);
        assert_int_equal(trace_prompt_id(&trace, second, 511), 9);
        assert_int_equal(trace_longest(&trace), 515);
        trace_free(&trace);
    }
}

/* 2024 is a leap year: two days and two seconds between the lines. */
static void azure_lines_come_in_whole(void **state)
{
    (void)state;
    static const char *const texts[] = { AZURE_HEADER "\n" AZURE_1 "\n" AZURE_2 "\n",
                                         AZURE_HEADER "\r\n" AZURE_1 "\r\n" AZURE_2 };
    for (size_t i = 0; i < COUNT_OF(texts); i++) {
        struct trace trace;
        struct trace_error error;
        assert_true(trace_parse(&trace, texts[i], strlen(texts[i]), 0, &error));
        assert_string_equal(trace.format, "azure");
        assert_int_equal(trace.n_requests, 2);
        assert_int_equal(trace.n_ids, 0);
        assert_int_equal(trace.requests[0].prompt_tokens, 4808);
        assert_int_equal(trace.requests[0].output_tokens, 10);
        assert_int_equal(trace.requests[1].n_ids, 0);
        assert_true(fabs(trace.requests[1].arrival_s - (86400 + 1.02004)) < 1e-4);
        trace_free(&trace);
    }
}

static void limit_stops_before_what_follows(void **state)
{
    (void)state;
    const char text[] = MOONCAKE_1 "\nnot looked at";
    struct trace trace;
    struct trace_error error;
    assert_true(trace_parse(&trace, text, strlen(text), 1, &error));
    assert_int_equal(trace.n_requests, 1);
    trace_free(&trace);
    assert_false(trace_parse(&trace, text, strlen(text), 2, &error));
    assert_int_equal(error.line, 2);
}

/* Scaled lengths round up, and a scaled position still finds the id of the tokens it stands for. */
static void scaling_keeps_every_id_in_its_place(void **state)
{
    (void)state;
    const char text[] = "{\"timestamp\": 0, \"input_length\": 1100, \"output_length\": 3, \"hash_ids\": [4, 5, 6]}";
    struct trace trace;
    struct trace_error error;
    assert_true(trace_parse(&trace, text, strlen(text), 0, &error));
    trace_scale(&trace, 1, 16);
    const struct request *request = &trace.requests[0];
    assert_int_equal(request->prompt_tokens, 69);
    assert_int_equal(request->output_tokens, 1);
    assert_int_equal(trace_prompt_id(&trace, request, 31), 4);
    assert_int_equal(trace_prompt_id(&trace, request, 32), 5);
    assert_int_equal(trace_prompt_id(&trace, request, 64), 6);
    assert_int_equal(trace_prompt_id(&trace, request, 68), 6);
    trace_free(&trace);
}

struct bad_trace {
    const char *text;
    i64 line, column;
    const char *says;
};

#define MOONCAKE_WITH(fields) MOONCAKE_1 "\n{" fields "}\n"
#define AZURE_WITH(line) AZURE_HEADER "\n" line "\n"

static const struct bad_trace bad_traces[] = {
    { "", 0, 0, "empty" },
    { "\n", 1, 1, "a trace starts with" },
    { "[1]\n", 1, 1, "a trace starts with" },
    { AZURE_HEADER "\n", 0, 0, "no requests" },
    /* Mooncake: JSON */
    { MOONCAKE_1 "\n{\"timestamp\": 1,\n", 2, 16, "not JSON" },
    { MOONCAKE_1 "\n\n" MOONCAKE_2 "\n", 2, 1, "not JSON" },
    { MOONCAKE_1 "\n[1]\n", 2, 1, "not a JSON object" },
    { MOONCAKE_1 " x\n", 1, 79, "not JSON" },
    { MOONCAKE_WITH("\"timestamp\": 6, \"timestamp\": 6"), 2, 28, "duplicate" },
    /* Mooncake: fields */
    { MOONCAKE_WITH("\"timestamp\": 6, \"input_length\": 1, \"output_length\": 1"), 2, 1, "no \"hash_ids\"" },
    { MOONCAKE_WITH("\"timestamp\": 6, \"input_length\": 1, \"output_length\": 1, \"hash_ids\": [1], \"x\": 1"), 2, 74,
      "unknown field \"x\"" },
    { MOONCAKE_WITH("\"timestamp\": 6, \"input_length\": 0, \"output_length\": 1, \"hash_ids\": []"), 2, 18,
      "input_length: allowed: an integer in 1 .." },
    { MOONCAKE_WITH("\"timestamp\": 6, \"input_length\": 1.0, \"output_length\": 1, \"hash_ids\": [1]"), 2, 18,
      "input_length" },
    { MOONCAKE_WITH("\"timestamp\": 6, \"input_length\": 268435457, \"output_length\": 1, \"hash_ids\": [1]"), 2, 18,
      "268435456" },
    { MOONCAKE_WITH("\"timestamp\": 6, \"input_length\": 1, \"output_length\": -1, \"hash_ids\": [1]"), 2, 37,
      "output_length" },
    { MOONCAKE_WITH("\"timestamp\": 4, \"input_length\": 1, \"output_length\": 1, \"hash_ids\": [1]"), 2, 2, "before" },
    { MOONCAKE_WITH("\"timestamp\": \"6\", \"input_length\": 1, \"output_length\": 1, \"hash_ids\": [1]"), 2, 2,
      "milliseconds" },
    { MOONCAKE_WITH("\"timestamp\": 6, \"input_length\": 1, \"output_length\": 1, \"hash_ids\": [1, 2]"), 2, 57,
      "got 2, input_length 1 needs 1" },
    { MOONCAKE_WITH("\"timestamp\": 6, \"input_length\": 1, \"output_length\": 1, \"hash_ids\": 1"), 2, 57,
      "an array" },
    { MOONCAKE_WITH("\"timestamp\": 6, \"input_length\": 1, \"output_length\": 1, \"hash_ids\": [-1]"), 2, 57,
      "hash_ids[0]" },
    { MOONCAKE_WITH("\"timestamp\": 6, \"input_length\": 1, \"output_length\": 1, \"hash_ids\": [\"1\"]"), 2, 57,
      "hash_ids[0]" },
    /* Azure */
    { "TIMESTAMP,ContextTokens\n" AZURE_1 "\n", 1, 24, "expected the header" },
    { AZURE_HEADER ",x\n" AZURE_1 "\n", 1, 40, "expected the header" },
    { AZURE_HEADER "\n\n" AZURE_1 "\n", 2, 1, "a date" },
    { AZURE_WITH("2024-13-01 00:00:00,1,1"), 2, 6, "a month" },
    { AZURE_WITH("2024-12-32 00:00:00,1,1"), 2, 9, "a day" },
    { AZURE_WITH("2024-12-31T00:00:00,1,1"), 2, 11, "\" \"" },
    { AZURE_WITH("2024-12-31 24:00:00,1,1"), 2, 12, "an hour" },
    { AZURE_WITH("2024-12-31 00:60:00,1,1"), 2, 15, "minutes" },
    { AZURE_WITH("2024-12-31 00:00:61,1,1"), 2, 18, "seconds" },
    { AZURE_WITH("2024-12-31 00:00:00.,1,1"), 2, 21, "a digit" },
    { AZURE_WITH("2024-12-31 00:00:00.1234567890,1,1"), 2, 30, "\",\"" },
    { AZURE_WITH("2024-12-31 00:00:00,0,1"), 2, 21, "ContextTokens" },
    { AZURE_WITH("2024-12-31 00:00:00,-1,1"), 2, 21, "ContextTokens" },
    { AZURE_WITH("2024-12-31 00:00:00,99999999999999999999,1"), 2, 21, "ContextTokens" },
    { AZURE_WITH("2024-12-31 00:00:00,1"), 2, 22, "\",\"" },
    { AZURE_WITH("2024-12-31 00:00:00,1,"), 2, 23, "GeneratedTokens" },
    { AZURE_WITH("2024-12-31 00:00:00,1,1,1"), 2, 24, "the end of the line" },
    { AZURE_WITH("2024-12-31 00:00:00,1,1 "), 2, 24, "the end of the line" },
    { AZURE_WITH(AZURE_2 "\n" AZURE_1), 3, 1, "before" },
};

static void bad_lines_say_where_and_what(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(bad_traces); i++) {
        const struct bad_trace *bad = &bad_traces[i];
        struct trace trace;
        struct trace_error error = { .line = -1 };
        const bool ok = trace_parse(&trace, bad->text, strlen(bad->text), 0, &error);
        if (ok || error.line != bad->line || error.column != bad->column || !strstr(error.text, bad->says))
            fail_msg("case %zu, %s\n  want %lld:%lld %s\n  got  %lld:%lld %s", i, bad->text, (long long)bad->line,
                     (long long)bad->column, bad->says, (long long)error.line, (long long)error.column, error.text);
        assert_null(trace.requests);
        assert_int_equal(trace.n_requests, 0);
    }
}

/* No proper prefix of a line is a line. */
static void cut_lines_are_errors(void **state)
{
    (void)state;
    static const char *const wholes[] = { MOONCAKE_1 "\n" MOONCAKE_2, AZURE_HEADER "\n" AZURE_2 "\n" AZURE_1 };
    const size_t last_lines[] = { strlen(MOONCAKE_2), strlen("2024-02-28 23:59:59.9799600,4808,1") };
    for (size_t i = 0; i < COUNT_OF(wholes); i++) {
        const size_t n = strlen(wholes[i]);
        for (size_t cut = 1; cut < last_lines[i]; cut++) {
            struct trace trace;
            struct trace_error error;
            /* A copy of exactly this size: reading behind it is for the sanitizer to find. */
            char *text = malloc(n - cut);
            assert_non_null(text);
            memcpy(text, wholes[i], n - cut);
            if (trace_parse(&trace, text, n - cut, 0, &error))
                fail_msg("%s: accepted without its last %zu characters", wholes[i], cut);
            free(text);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(mooncake_lines_come_in_whole),    cmocka_unit_test(azure_lines_come_in_whole),
        cmocka_unit_test(limit_stops_before_what_follows), cmocka_unit_test(scaling_keeps_every_id_in_its_place),
        cmocka_unit_test(bad_lines_say_where_and_what),    cmocka_unit_test(cut_lines_are_errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
