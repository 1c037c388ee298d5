/* SPDX-License-Identifier: Apache-2.0
 * append.c: new tokens into their slots: checks, then the kernel over ranges of tokens. */
#include "base/status.h"
#include "folio/pages.h"
#include "pages/pages_cuda.h"
#include "pages/slots.h"
#include "pages/tokens.h"

struct append_work {
    const struct kernels *kernels;
    struct append_args args;
};

static void append_range(void *arg, i64 begin, i64 end)
{
    const struct append_work *work = arg;
    work->kernels->append(&work->args, begin, end);
}

/* What is written shares no memory with what is read. */
static folio_status require_apart(const folio_append_args *a)
{
    FOLIO_TRY(folio__pages_pair_is_writable(a->k_pages, a->v_pages));
    const DLTensor *const read[] = { a->k, a->v, a->slots };
    const char *const names[] = { "k", "v", "slots" };
    for (size_t i = 0; i < COUNT_OF(read); i++) {
        FOLIO_TRY(folio__require_apart("k_pages", a->k_pages, names[i], read[i]));
        FOLIO_TRY(folio__require_apart("v_pages", a->v_pages, names[i], read[i]));
    }
    return FOLIO_OK;
}

/* Every check but the values of slots, which may live on a device. */
static folio_status read_args(struct append_args *dst, struct index_view *slots, const folio_context *ctx,
                              const folio_append_args *a)
{
    FOLIO_REQUIRE(a->flags == 0, FOLIO_EINVAL, "flags %#x: must be 0", (unsigned)a->flags);
    FOLIO_REQUIRE(!a->k_scale && !a->v_scale, FOLIO_ENOTSUP, "%s: quantised K and V are not supported; must be NULL",
                  a->k_scale ? "k_scale" : "v_scale");
    struct pages_pair pages;
    i64 n_tokens;
    FOLIO_TRY(folio__pages_pair_read(&pages, ctx, a->k_pages, a->v_pages));
    *dst = (struct append_args){ .k_pages = pages.k, .v_pages = pages.v, .page_size = pages.page_size };
    dst->n_kv_heads = pages.n_kv_heads;
    FOLIO_TRY(folio__rows_pair_read(&dst->k, &dst->v, &n_tokens, ctx, a->k, a->v, &pages));
    FOLIO_TRY(folio__index_view_read(slots, "slots", a->slots));
    FOLIO_REQUIRE(slots->n == n_tokens, FOLIO_EINVAL, "slots: %lld entries; must be %lld, the tokens of k",
                  (long long)slots->n, (long long)n_tokens);
    FOLIO_TRY(folio__require_device(ctx, "slots", a->slots));
    FOLIO_TRY(folio__require_data("slots", a->slots));
    dst->slots = slots->data;
    dst->slots_are_i64 = slots->are_i64;
    return require_apart(a);
}

folio_status folio_pages_append(folio_context *ctx, const folio_append_args *args, void *stream)
{
    FOLIO_TRY(folio__context_require(ctx));
    folio_append_args a;
    FOLIO_TRY(folio__read_struct("args", &a, sizeof a, args));
    struct append_work work = { .kernels = ctx->kernels };
    struct index_view slots;
    FOLIO_TRY(read_args(&work.args, &slots, ctx, &a));
    if (ctx->backend == FOLIO_BACKEND_CUDA)
        return folio__cuda_append(ctx, &work.args, slots.n, stream);
    FOLIO_TRY(folio__slots_require(&slots, work.args.k_pages.n_pages * work.args.page_size));
    if (slots.n == 0)
        return FOLIO_OK;
    const i64 bytes_each = work.args.n_kv_heads * (row_bytes(work.args.k.dtype, work.args.k.dim) +
                                                   row_bytes(work.args.v.dtype, work.args.v.dim));
    folio__over_ranges(ctx, append_range, &work, slots.n, bytes_each);
    return FOLIO_OK;
}
