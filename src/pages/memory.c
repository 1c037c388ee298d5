/* SPDX-License-Identifier: Apache-2.0
 * memory.c: memory for pages: huge pages, spread over the memory of the threads that will read them. */
#include "base/alloc.h"
#include "base/bits.h"
#include "base/status.h"
#include "folio/pages.h"
#include "kernel/context.h"

enum { TURN_BYTES = 2 << 20, SMALLEST_PAGE = 4096 };

struct touch {
    volatile u8 *memory; /* [bytes] */
    size_t bytes;
    i32 n_threads;
};

/* Every n_threads-th piece. */
static void touch_turns(void *arg, i32 thread)
{
    const struct touch *touch = arg;
    const size_t step = (size_t)touch->n_threads * TURN_BYTES;
    for (size_t turn = (size_t)thread * TURN_BYTES; turn < touch->bytes; turn += step)
        for (size_t at = turn; at < touch->bytes && at < turn + TURN_BYTES; at += SMALLEST_PAGE)
            touch->memory[at] = 0;
}

folio_status folio_pages_alloc(folio_context *ctx, size_t bytes, void **memory)
{
    FOLIO_TRY(folio__context_require(ctx));
    FOLIO_REQUIRE(memory, FOLIO_EINVAL, "memory: NULL");
    FOLIO_REQUIRE(bytes > 0, FOLIO_EINVAL, "bytes 0: must be > 0");
    FOLIO_REQUIRE(ctx->backend != FOLIO_BACKEND_CUDA, FOLIO_ENOTSUP,
                  "ctx: works on CUDA, whose memory is the caller's; allowed are host backends");
    void *got = folio__map_huge(bytes);
    FOLIO_REQUIRE(got, FOLIO_ENOMEM, "bytes %zu: no memory", bytes);
    struct touch touch = { .memory = got, .bytes = bytes, .n_threads = folio__pool_n_threads(ctx->pool) };
    touch.n_threads = (i32)min_i64(touch.n_threads, (i64)((bytes - 1) / TURN_BYTES) + 1);
    folio__pool_run(ctx->pool, touch_turns, &touch, touch.n_threads);
    *memory = got;
    return FOLIO_OK;
}

void folio_pages_free(void **memory)
{
    if (!memory)
        return;
    folio__unmap_huge(*memory);
    *memory = NULL;
}
