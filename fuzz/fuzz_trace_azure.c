/* SPDX-License-Identifier: Apache-2.0
 * fuzz_trace_azure.c: any bytes as the lines of an Azure trace: refused with a reason, or whole and consistent.
 * A first byte of 'T' is taken as the start of the input's own header; else the right header goes before. */
#include <stdlib.h>
#include <string.h>

#include "trace.h"

int LLVMFuzzerTestOneInput(const u8 *data, size_t size);

static void require(bool ok)
{
    if (!ok)
        abort();
}

static void check_requests(const struct trace *trace)
{
    require(trace->n_requests > 0 && trace->n_ids == 0);
    for (i64 i = 0; i < trace->n_requests; i++) {
        const struct request *request = &trace->requests[i];
        require(request->prompt_tokens >= 1 && request->prompt_tokens <= TRACE_MAX_TOKENS);
        require(request->output_tokens >= 1 && request->output_tokens <= TRACE_MAX_TOKENS);
        require(i == 0 ? request->arrival_s == 0 : request->arrival_s >= request[-1].arrival_s);
    }
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
    static const char header[] = "TIMESTAMP,ContextTokens,GeneratedTokens\n";
    const size_t n_header = size && data[0] == 'T' ? 0 : sizeof(header) - 1;
    char *text = malloc(n_header + size + 1);
    require(text != NULL);
    memcpy(text, header, n_header);
    memcpy(text + n_header, data, size);
    char *exact = realloc(text, n_header + size); /* a sanitizer sees the first byte past it */
    text = exact ? exact : text;
    struct trace trace;
    struct trace_error error = { .line = -1 };
    if (trace_parse(&trace, text, n_header + size, 0, &error))
        check_requests(&trace);
    else
        require(error.line >= 0 && error.column >= 0 && error.text[0] && !trace.requests);
    trace_free(&trace);
    free(text);
    return 0;
}
