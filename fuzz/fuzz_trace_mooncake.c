/* SPDX-License-Identifier: Apache-2.0
 * fuzz_trace_mooncake.c: any bytes as a Mooncake trace: refused with a reason, or whole and consistent. */
#include <stdlib.h>

#include "trace.h"

int LLVMFuzzerTestOneInput(const u8 *data, size_t size);

static void require(bool ok)
{
    if (!ok)
        abort();
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
    struct trace trace;
    struct trace_error error = { .line = -1 };
    if (!trace_parse(&trace, (const char *)data, size, 0, &error)) {
        require(error.line >= 0 && error.column >= 0 && error.text[0] && !trace.requests && !trace.ids);
        return 0;
    }
    i64 n_ids = 0;
    require(trace.n_requests > 0);
    for (i64 i = 0; i < trace.n_requests; i++) {
        const struct request *request = &trace.requests[i];
        require(request->prompt_tokens >= 1 && request->prompt_tokens <= TRACE_MAX_TOKENS);
        require(request->output_tokens >= 1 && request->output_tokens <= TRACE_MAX_TOKENS);
        require(i == 0 ? request->arrival_s == 0 : request->arrival_s >= request[-1].arrival_s);
        require(request->ids_begin == n_ids);
        n_ids += request->n_ids;
        if (request->n_ids)
            require(trace_prompt_id(&trace, request, request->prompt_tokens - 1) == trace.ids[n_ids - 1]);
    }
    require(n_ids == trace.n_ids);
    trace_free(&trace);
    return 0;
}
