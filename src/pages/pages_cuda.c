/* SPDX-License-Identifier: Apache-2.0
 * pages_cuda.c: the launches. */
#include "pages/pages_cuda.h"

#include "base/bits.h"
#include "base/status.h"
#include "kernel/cuda/memory.h"

enum { APPEND, GATHER, COPY, LAY }; /* symbols of the row CUDA_PAGES */
enum { CHUNK = 8, MAX_BLOCKS = 1 << 20, IN_FLIGHT = 4, BLOCKS_AN_SM = 16 };

/* Enough blocks for one item a thread; where that is many times the device, for as many as a thread has in flight.
 * Kernels loop. */
static i32 blocks_for(const struct cuda_device *device, i64 n_items)
{
    const i64 blocks = ceil_div(n_items, PAGES_THREADS), some = (i64)device->n_sms * BLOCKS_AN_SM;
    return (i32)clamp_i64(max_i64(min_i64(blocks, some), blocks / IN_FLIGHT), 1, MAX_BLOCKS);
}

static i64 chunks_of(i32 dim)
{
    return ceil_div(dim, CHUNK);
}

/* Launch one kernel of the row with one parameter block. */
static folio_status launch(folio_context *ctx, i32 symbol, void *args, i64 n_items, i32 n_sides, void *stream)
{
    struct cuda_device *device = ctx->cuda;
    struct cuda_launch launch = {
        .grid = blocks_for(device, n_items), .grid_y = n_sides, .block = PAGES_THREADS, .stream = stream
    };
    void *parameters[] = { args };
    FOLIO_TRY(folio__cuda_check_stream(device, stream));
    FOLIO_TRY(folio__cuda_function(&launch.function, device, CUDA_PAGES, symbol));
    FOLIO_TRY(folio__cuda_launch(device, &launch, parameters));
    return folio__cuda_check_now(device, 0, stream);
}

/* Enter, launch, leave; earlier calls' errors come first. args holds its error record's address. */
static folio_status run(folio_context *ctx, i32 symbol, void *args, struct cuda_error **error, i64 n_items, i32 n_sides,
                        void *stream)
{
    struct cuda_scope scope;
    FOLIO_TRY(folio__cuda_error_report(ctx->cuda, 0));
    FOLIO_TRY(folio__cuda_enter(&scope, ctx->cuda));
    folio_status status = folio__cuda_error_ready(ctx->cuda);
    if (status == FOLIO_OK) {
        if (error)
            *error = folio__cuda_error_on_device(ctx->cuda, 0);
        status = launch(ctx, symbol, args, n_items, n_sides, stream);
    }
    folio__cuda_leave(&scope);
    return status;
}

folio_status folio__cuda_append(folio_context *ctx, const struct append_args *args, i64 n_tokens, void *stream)
{
    struct cuda_append_args a = { .args = *args,
                                  .n_tokens = n_tokens,
                                  .n_slots = args->k_pages.n_pages * args->page_size };
    const i64 chunks = max_i64(chunks_of(args->k.dim), chunks_of(args->v.dim));
    if (n_tokens == 0)
        return FOLIO_OK;
    return run(ctx, APPEND, &a, &a.error, n_tokens * args->n_kv_heads * chunks, 2, stream);
}

folio_status folio__cuda_gather(folio_context *ctx, const struct gather_args *args, i64 kv_len, void *stream)
{
    struct cuda_gather_args a = { .args = *args, .kv_len = kv_len };
    const i64 chunks = max_i64(chunks_of(args->k.dim), chunks_of(args->v.dim));
    if (kv_len == 0)
        return FOLIO_OK;
    return run(ctx, GATHER, &a, &a.error, kv_len * args->n_kv_heads * chunks, 2, stream);
}

folio_status folio__cuda_copy(folio_context *ctx, const struct cuda_copy_args *args, void *stream)
{
    struct cuda_copy_args a = *args;
    i64 chunks = 0;
    for (i32 i = 0; i < a.n_views; i++)
        chunks = max_i64(chunks, chunks_of(a.views[i].head_dim));
    if (a.n_copies == 0)
        return FOLIO_OK;
    return run(ctx, COPY, &a, &a.error, a.page_size * a.n_heads * chunks, a.n_views, stream);
}

folio_status folio__cuda_lay(folio_context *ctx, const struct cuda_lay_args *args, void *stream)
{
    struct cuda_lay_args a = *args;
    const i64 n_rows = a.batch * a.pages_per_seq * a.page_size * a.n_heads;
    if (n_rows == 0)
        return FOLIO_OK;
    return run(ctx, LAY, &a, NULL, n_rows * chunks_of(a.pages.head_dim), 1, stream);
}
