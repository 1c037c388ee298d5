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

enum { READ_K, READ_V, READ_SLOTS, N_READ };

struct append_operands {
    struct operand k_pages, v_pages, read[N_READ];
};

static folio_status read_operands(struct append_operands *dst, const folio_context *ctx, const folio_append_args *a)
{
    FOLIO_TRY(folio__operand_read(&dst->k_pages, ctx, "k_pages", PAGES_SHAPE, a->k_pages));
    FOLIO_TRY(folio__operand_read(&dst->v_pages, ctx, "v_pages", PAGES_SHAPE, a->v_pages));
    FOLIO_TRY(folio__operand_read(&dst->read[READ_K], ctx, "k", ROWS_SHAPE, a->k));
    FOLIO_TRY(folio__operand_read(&dst->read[READ_V], ctx, "v", ROWS_SHAPE, a->v));
    return folio__operand_read(&dst->read[READ_SLOTS], ctx, "slots", INDEX_SHAPE, a->slots);
}

/* What is written shares no memory with what is read. */
static folio_status require_apart(const struct append_operands *o)
{
    FOLIO_TRY(folio__pages_pair_is_writable(&o->k_pages, &o->v_pages));
    for (i32 i = 0; i < N_READ; i++) {
        FOLIO_TRY(folio__operands_require_apart(&o->k_pages, &o->read[i]));
        FOLIO_TRY(folio__operands_require_apart(&o->v_pages, &o->read[i]));
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
    struct append_operands o;
    struct pages_pair pages;
    i64 n_tokens;
    FOLIO_TRY(read_operands(&o, ctx, a));
    FOLIO_TRY(folio__pages_pair_read(&pages, &o.k_pages, &o.v_pages));
    *dst = (struct append_args){ .k_pages = pages.k, .v_pages = pages.v, .page_size = pages.page_size };
    dst->n_kv_heads = pages.n_kv_heads;
    FOLIO_TRY(folio__rows_pair_read(&dst->k, &dst->v, &n_tokens, &o.read[READ_K], &o.read[READ_V], &pages));
    FOLIO_TRY(folio__index_view_of(slots, "slots", &o.read[READ_SLOTS].t));
    FOLIO_REQUIRE(slots->n == n_tokens, FOLIO_EINVAL, "slots: %lld entries; must be %lld, the tokens of k",
                  (long long)slots->n, (long long)n_tokens);
    dst->slots = slots->data;
    dst->slots_are_i64 = slots->are_i64;
    return require_apart(&o);
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
