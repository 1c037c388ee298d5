/* SPDX-License-Identifier: Apache-2.0
 * copy.c: whole pages to other pages, in order. Threads share the slots, not the copies: whatever depends on what, each
 * slot sees all copies in order. */
#include <string.h>

#include "base/bits.h"
#include "base/status.h"
#include "folio/pages.h"
#include "kernel/layout.h"
#include "pages/pages_cuda.h"
#include "pages/tokens.h"

struct copy_work {
    struct pages_view views[2]; /* K and, when there is one, V */
    i32 n_views;
    i32 n_kv_heads;
    const u8 *copies; /* [n][2] i64, by the strides */
    i64 n, pair_stride, side_stride;
};

static i64 page_of(const struct copy_work *work, i64 copy, i64 side)
{
    i64 id;
    memcpy(&id, work->copies + copy * work->pair_stride + side * work->side_stride, sizeof id);
    return id;
}

static void copy_slots(void *arg, i64 begin, i64 end)
{
    const struct copy_work *work = arg;
    for (i64 i = 0; i < work->n; i++) {
        const i64 from = page_of(work, i, 0), to = page_of(work, i, 1);
        for (const struct pages_view *view = work->views; from != to && view < work->views + work->n_views; view++)
            for (i64 slot = begin; slot < end; slot++)
                for (i32 head = 0; head < work->n_kv_heads; head++)
                    memcpy(layout_slot(view, to, slot, head), layout_slot(view, from, slot, head),
                           (size_t)row_bytes(view->dtype, view->head_dim));
    }
}

/* K and, when there is one, V; not copies' memory. */
static folio_status read_pages(struct copy_work *work, i64 *page_size, const folio_context *ctx,
                               const struct operand *k_pages, const struct operand *v_pages,
                               const struct operand *copies)
{
    FOLIO_TRY(folio__operands_require_apart(k_pages, copies));
    if (!v_pages) {
        *work = (struct copy_work){ .n_views = 1 };
        FOLIO_TRY(folio__pages_view_of(&work->views[0], page_size, &work->n_kv_heads, k_pages->name, &k_pages->t));
        FOLIO_TRY(folio__require_quantised_here(ctx, k_pages->name, work->views[0].dtype));
        return folio__operand_require_disjoint(k_pages);
    }
    struct pages_pair pages;
    FOLIO_TRY(folio__operands_require_apart(v_pages, copies));
    FOLIO_TRY(folio__pages_pair_read(&pages, ctx, k_pages, v_pages));
    *work = (struct copy_work){ .views = { pages.k, pages.v }, .n_views = 2, .n_kv_heads = pages.n_kv_heads };
    *page_size = pages.page_size;
    return folio__pages_pair_is_writable(k_pages, v_pages);
}

static folio_status read_copies(struct copy_work *work, const struct tensor *t)
{
    FOLIO_REQUIRE_TYPE(t->dtype == DTYPE_I64, "copies: dtype %s; allowed i64", folio__dtype_name(t->dtype));
    FOLIO_REQUIRE(t->ndim == 2 && t->shape[1] == 2, FOLIO_EINVAL, "copies: %d dims, the last %lld; must be [n, 2]",
                  t->ndim, (long long)(t->ndim > 0 ? t->shape[t->ndim - 1] : 0));
    work->copies = t->data;
    work->n = t->shape[0];
    work->pair_stride = t->stride[0];
    work->side_stride = t->stride[1];
    return FOLIO_OK;
}

static folio_status read_args(struct copy_work *work, i64 *page_size, const folio_context *ctx, const DLTensor *k_pages,
                              const DLTensor *v_pages, const DLTensor *copies)
{
    struct operand k, v, pairs;
    FOLIO_TRY(folio__operand_read(&k, ctx, "k_pages", PAGES_SHAPE, k_pages));
    if (v_pages)
        FOLIO_TRY(folio__operand_read(&v, ctx, "v_pages", PAGES_SHAPE, v_pages));
    FOLIO_TRY(folio__operand_read(&pairs, ctx, "copies", "[n, 2]", copies));
    FOLIO_TRY(read_pages(work, page_size, ctx, &k, v_pages ? &v : NULL, &pairs));
    return read_copies(work, &pairs.t);
}

static folio_status check_ids(const struct copy_work *work)
{
    for (i64 i = 0; i < work->n; i++)
        for (i64 side = 0; side < 2; side++) {
            const i64 page = page_of(work, i, side), n_pages = work->views[0].n_pages;
            FOLIO_REQUIRE(page >= 0 && page < n_pages, FOLIO_ERANGE, "copies[%lld][%lld]: page %lld; must be 0 .. %lld",
                          (long long)i, (long long)side, (long long)page, (long long)(n_pages - 1));
        }
    return FOLIO_OK;
}

static folio_status copy_on_device(folio_context *ctx, const struct copy_work *work, i64 page_size, void *stream)
{
    const struct cuda_copy_args args = { .views = { work->views[0], work->views[1] },
                                         .copies = work->copies,
                                         .pair_stride = work->pair_stride,
                                         .side_stride = work->side_stride,
                                         .n_copies = work->n,
                                         .page_size = page_size,
                                         .n_views = work->n_views,
                                         .n_heads = work->n_kv_heads };
    return folio__cuda_copy(ctx, &args, stream);
}

folio_status folio_pages_copy(folio_context *ctx, const DLTensor *k_pages, const DLTensor *v_pages,
                              const DLTensor *copies, void *stream)
{
    FOLIO_TRY(folio__context_require(ctx));
    struct copy_work work;
    i64 page_size;
    FOLIO_TRY(read_args(&work, &page_size, ctx, k_pages, v_pages, copies));
    if (ctx->backend == FOLIO_BACKEND_CUDA)
        return copy_on_device(ctx, &work, page_size, stream);
    FOLIO_TRY(check_ids(&work));
    i64 bytes_each = 0; /* of one slot, for all copies */
    for (i32 i = 0; i < work.n_views; i++)
        bytes_each += work.n_kv_heads * row_bytes(work.views[i].dtype, work.views[i].head_dim);
    if (!mul_fits(bytes_each, work.n, &bytes_each))
        bytes_each = INT64_MAX;
    folio__over_ranges(ctx, copy_slots, &work, page_size, bytes_each);
    return FOLIO_OK;
}
