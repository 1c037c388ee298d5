/* SPDX-License-Identifier: Apache-2.0
 * gather.c: a sequence's tokens out of its pages: checks, then the kernel over ranges of tokens. */
#include "base/bits.h"
#include "base/status.h"
#include "folio/pages.h"
#include "kernel/layout.h"
#include "pages/pages_cuda.h"
#include "pages/tokens.h"

struct gather_work {
    const struct kernels *kernels;
    struct gather_args args;
};

static void gather_range(void *arg, i64 begin, i64 end)
{
    const struct gather_work *work = arg;
    work->kernels->gather(&work->args, begin, end);
}

enum { READ_K_PAGES, READ_V_PAGES, READ_ROW, N_READ };

struct gather_operands {
    struct operand k, v, read[N_READ];
    struct operand scales[2]; /* of k_pages, of v_pages; t absent = NULL */
};

static folio_status read_operands(struct gather_operands *dst, const folio_context *ctx, const folio_gather_args *a)
{
    FOLIO_TRY(folio__operand_read(&dst->read[READ_K_PAGES], ctx, "k_pages", PAGES_SHAPE, a->k_pages));
    FOLIO_TRY(folio__operand_read(&dst->read[READ_V_PAGES], ctx, "v_pages", PAGES_SHAPE, a->v_pages));
    FOLIO_TRY(folio__operand_read(&dst->read[READ_ROW], ctx, "page_row", INDEX_SHAPE, a->page_row));
    FOLIO_TRY(folio__operand_read(&dst->k, ctx, "k", ROWS_SHAPE, a->k));
    FOLIO_TRY(folio__operand_read(&dst->v, ctx, "v", ROWS_SHAPE, a->v));
    dst->scales[0].t = dst->scales[1].t = (struct tensor){ 0 };
    if (a->k_scale)
        FOLIO_TRY(folio__operand_read(&dst->scales[0], ctx, "k_scale", SCALE_SHAPE, a->k_scale));
    if (a->v_scale)
        FOLIO_TRY(folio__operand_read(&dst->scales[1], ctx, "v_scale", SCALE_SHAPE, a->v_scale));
    return FOLIO_OK;
}

static folio_status read_scales(struct gather_args *dst, const struct gather_operands *o)
{
    struct pages_view *const pages[] = { &dst->k_pages, &dst->v_pages };
    static const char *const names[] = { "k_scale", "v_scale" };
    for (i32 i = 0; i < 2; i++) {
        FOLIO_TRY(folio__pages_scale_of(pages[i], dst->page_size, dst->n_kv_heads, names[i], &o->scales[i].t));
        FOLIO_TRY(folio__pages_scale_require(names[i], pages[i], dst->n_kv_heads));
        if (tensor_is_absent(&o->scales[i].t))
            continue;
        FOLIO_TRY(folio__operands_require_apart(&o->k, &o->scales[i]));
        FOLIO_TRY(folio__operands_require_apart(&o->v, &o->scales[i]));
    }
    return FOLIO_OK;
}

/* What is written shares no memory with itself or with what is read. */
static folio_status require_apart(const struct gather_operands *o)
{
    FOLIO_TRY(folio__operand_require_disjoint(&o->k));
    FOLIO_TRY(folio__operand_require_disjoint(&o->v));
    for (i32 i = 0; i < N_READ; i++) {
        FOLIO_TRY(folio__operands_require_apart(&o->k, &o->read[i]));
        FOLIO_TRY(folio__operands_require_apart(&o->v, &o->read[i]));
    }
    return folio__operands_require_apart(&o->v, &o->k);
}

/* Every check but the values of page_row, which may live on a device. */
static folio_status read_args(struct gather_args *dst, struct index_view *page_row, const folio_context *ctx,
                              const folio_gather_args *a)
{
    FOLIO_REQUIRE(a->flags == 0, FOLIO_EINVAL, "flags %#x: must be 0", (unsigned)a->flags);
    FOLIO_REQUIRE(a->kv_len >= 0, FOLIO_EINVAL, "kv_len %lld: must be >= 0", (long long)a->kv_len);
    struct gather_operands o;
    struct pages_pair pages;
    i64 n_tokens;
    FOLIO_TRY(read_operands(&o, ctx, a));
    FOLIO_TRY(folio__pages_pair_read(&pages, ctx, &o.read[READ_K_PAGES], &o.read[READ_V_PAGES]));
    *dst = (struct gather_args){ .k_pages = pages.k, .v_pages = pages.v, .page_size = pages.page_size };
    dst->n_kv_heads = pages.n_kv_heads;
    FOLIO_TRY(folio__rows_pair_read(&dst->k, &dst->v, &n_tokens, &o.k, &o.v, &pages));
    FOLIO_REQUIRE(n_tokens == a->kv_len, FOLIO_EINVAL, "k: %lld tokens; must be kv_len, %lld", (long long)n_tokens,
                  (long long)a->kv_len);
    FOLIO_TRY(folio__index_view_of(page_row, "page_row", &o.read[READ_ROW].t));
    FOLIO_REQUIRE(page_row->n >= ceil_div(a->kv_len, pages.page_size), FOLIO_ERANGE,
                  "kv_len %lld: page_row, a row of the page table, has %lld pages of %lld tokens", (long long)a->kv_len,
                  (long long)page_row->n, (long long)pages.page_size);
    dst->page_row = page_row->data;
    dst->ids_are_i64 = page_row->are_i64;
    FOLIO_TRY(require_apart(&o));
    return read_scales(dst, &o);
}

/* The pages that hold tokens; what stands behind them may be anything. */
static folio_status check_ids(const struct gather_args *args, i64 kv_len)
{
    for (i64 column = 0; column < ceil_div(kv_len, args->page_size); column++) {
        const i64 page = layout_index(args->page_row, args->ids_are_i64, column);
        FOLIO_REQUIRE(page >= 0 && page < args->k_pages.n_pages, FOLIO_ERANGE,
                      "page_row[%lld]: %lld; must be 0 .. %lld", (long long)column, (long long)page,
                      (long long)(args->k_pages.n_pages - 1));
    }
    return FOLIO_OK;
}

folio_status folio_pages_gather(folio_context *ctx, const folio_gather_args *args, void *stream)
{
    FOLIO_TRY(folio__context_require(ctx));
    folio_gather_args a;
    FOLIO_TRY(folio__read_struct("args", &a, sizeof a, args));
    struct gather_work work = { .kernels = ctx->kernels };
    struct index_view page_row;
    FOLIO_TRY(read_args(&work.args, &page_row, ctx, &a));
    if (ctx->backend == FOLIO_BACKEND_CUDA)
        return folio__cuda_gather(ctx, &work.args, a.kv_len, stream);
    FOLIO_TRY(check_ids(&work.args, a.kv_len));
    if (a.kv_len == 0)
        return FOLIO_OK;
    const i64 bytes_each = work.args.n_kv_heads * (row_bytes(work.args.k.dtype, work.args.k.dim) +
                                                   row_bytes(work.args.v.dtype, work.args.v.dim));
    folio__over_ranges(ctx, gather_range, &work, a.kv_len, bytes_each);
    return FOLIO_OK;
}
