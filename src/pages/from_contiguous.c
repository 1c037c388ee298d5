/* SPDX-License-Identifier: Apache-2.0
 * from_contiguous.c: [batch, n_heads, n_tokens, head_dim] cut into pages, and the page table that says so. */
#include <string.h>

#include "base/bits.h"
#include "base/status.h"
#include "folio/pages.h"
#include "kernel/layout.h"
#include "pages/pages_cuda.h"
#include "pages/tokens.h"

struct cut_work {
    struct pages_view pages;
    struct tensor x, table;
    i64 page_size, pages_per_seq;
    i32 n_heads;
};

/* x of one sequence, by token and head. */
static struct rows_view sequence_rows(const struct cut_work *work, i64 seq)
{
    const struct tensor *x = &work->x;
    return (struct rows_view){ .data = x->data + seq * x->stride[0],
                               .token_stride = x->stride[2],
                               .head_stride = x->stride[1],
                               .dtype = x->dtype,
                               .dim = (i32)x->shape[3] };
}

static void write_entry(const struct tensor *table, i64 seq, i64 column, i64 page)
{
    u8 *entry = table->data + seq * table->stride[0] + column * table->stride[1];
    if (table->dtype == DTYPE_I64)
        memcpy(entry, &page, sizeof page);
    else
        memcpy(entry, &(i32){ (i32)page }, sizeof(i32));
}

static void cut_pages(void *arg, i64 begin, i64 end)
{
    const struct cut_work *work = arg;
    const size_t n_bytes = (size_t)row_bytes(work->x.dtype, work->pages.head_dim);
    for (i64 page = begin; page < end; page++) {
        const i64 seq = page / work->pages_per_seq, column = page % work->pages_per_seq;
        const struct rows_view rows = sequence_rows(work, seq);
        write_entry(&work->table, seq, column, page);
        for (i64 slot = 0; slot < work->page_size; slot++) {
            const i64 token = column * work->page_size + slot;
            for (i32 head = 0; head < work->n_heads; head++) {
                u8 *dst = layout_slot(&work->pages, page, slot, head);
                if (token < work->x.shape[2])
                    memcpy(dst, layout_row(&rows, token, head), n_bytes);
                else
                    memset(dst, 0, n_bytes);
            }
        }
    }
}

#define X_SHAPE "[batch, n_heads, n_tokens, head_dim]"

static folio_status check_x(const struct cut_work *work)
{
    const struct tensor *x = &work->x;
    FOLIO_REQUIRE(x->ndim == 4, FOLIO_EINVAL, "x: %d dims; must have 4: " X_SHAPE, x->ndim);
    FOLIO_REQUIRE_TYPE((i32)x->dtype == work->pages.dtype, "x: dtype %s; must be %s, as pages",
                       folio__dtype_name(x->dtype), folio__dtype_name((enum dtype)work->pages.dtype));
    FOLIO_REQUIRE(x->shape[1] == work->n_heads, FOLIO_EINVAL, "x: %lld heads; must be %d, as pages",
                  (long long)x->shape[1], work->n_heads);
    FOLIO_REQUIRE(x->shape[3] == work->pages.head_dim, FOLIO_EINVAL, "x: head_dim %lld; must be %d, as pages",
                  (long long)x->shape[3], work->pages.head_dim);
    const i64 element = folio__dtype_bytes(x->dtype);
    FOLIO_REQUIRE(x->shape[3] == 1 || x->stride[3] == element || folio__tensor_count(x) == 0, FOLIO_EINVAL,
                  "x: stride of the last dim is %lld elements; must be 1", (long long)(x->stride[3] / element));
    return FOLIO_OK;
}

static folio_status check_table(struct cut_work *work, i64 *n_pages)
{
    const struct tensor *table = &work->table;
    const i64 batch = work->x.shape[0];
    work->pages_per_seq = ceil_div(work->x.shape[2], work->page_size);
    FOLIO_REQUIRE(mul_fits(batch, work->pages_per_seq, n_pages) && *n_pages <= work->pages.n_pages, FOLIO_EINVAL,
                  "pages: %lld pages; must be >= %lld sequences * %lld pages", (long long)work->pages.n_pages,
                  (long long)batch, (long long)work->pages_per_seq);
    FOLIO_REQUIRE_TYPE(dtype_is_index(table->dtype), "page_table: dtype %s; allowed i32 i64",
                       folio__dtype_name(table->dtype));
    FOLIO_REQUIRE(table->ndim == 2 && table->shape[0] == batch && table->shape[1] == work->pages_per_seq, FOLIO_EINVAL,
                  "page_table: %d dims, %lld x %lld; must be [%lld, %lld]", table->ndim,
                  (long long)(table->ndim > 0 ? table->shape[0] : 0),
                  (long long)(table->ndim > 1 ? table->shape[1] : 0), (long long)batch, (long long)work->pages_per_seq);
    FOLIO_REQUIRE(table->dtype == DTYPE_I64 || *n_pages <= (i64)INT32_MAX + 1, FOLIO_EINVAL,
                  "page_table: dtype i32 with %lld pages; must be i64", (long long)*n_pages);
    return FOLIO_OK;
}

static folio_status read_args(struct cut_work *work, i64 *n_pages, const folio_context *ctx, const DLTensor *pages,
                              const DLTensor *page_table, const DLTensor *x)
{
    struct operand to, table, from;
    FOLIO_TRY(folio__operand_read(&to, ctx, "pages", PAGES_SHAPE, pages));
    FOLIO_TRY(folio__operand_read(&from, ctx, "x", X_SHAPE, x));
    FOLIO_TRY(folio__operand_read(&table, ctx, "page_table", "[batch, n]", page_table));
    *work = (struct cut_work){ .x = from.t, .table = table.t };
    FOLIO_TRY(folio__pages_view_of(&work->pages, &work->page_size, &work->n_heads, to.name, &to.t));
    FOLIO_TRY(folio__require_quantised_here(ctx, to.name, work->pages.dtype));
    FOLIO_TRY(check_x(work));
    FOLIO_TRY(check_table(work, n_pages));
    FOLIO_TRY(folio__operand_require_disjoint(&to));
    FOLIO_TRY(folio__operand_require_disjoint(&table));
    FOLIO_TRY(folio__operands_require_apart(&to, &from));
    FOLIO_TRY(folio__operands_require_apart(&table, &from));
    return folio__operands_require_apart(&table, &to);
}

static folio_status cut_on_device(folio_context *ctx, const struct cut_work *work, void *stream)
{
    const struct cuda_lay_args args = { .pages = work->pages,
                                        .x = sequence_rows(work, 0),
                                        .table = work->table.data,
                                        .x_seq_stride = work->x.stride[0],
                                        .table_seq_stride = work->table.stride[0],
                                        .table_column_stride = work->table.stride[1],
                                        .batch = work->x.shape[0],
                                        .n_tokens = work->x.shape[2],
                                        .page_size = work->page_size,
                                        .pages_per_seq = work->pages_per_seq,
                                        .n_heads = work->n_heads,
                                        .table_is_i64 = work->table.dtype == DTYPE_I64 };
    return folio__cuda_lay(ctx, &args, stream);
}

folio_status folio_pages_from_contiguous(folio_context *ctx, const DLTensor *pages, const DLTensor *page_table,
                                         const DLTensor *x, void *stream)
{
    FOLIO_TRY(folio__context_require(ctx));
    struct cut_work work;
    i64 n_pages = 0;
    FOLIO_TRY(read_args(&work, &n_pages, ctx, pages, page_table, x));
    if (ctx->backend == FOLIO_BACKEND_CUDA)
        return cut_on_device(ctx, &work, stream);
    if (n_pages > 0)
        folio__over_ranges(ctx, cut_pages, &work, n_pages,
                           work.page_size * work.n_heads * row_bytes(work.x.dtype, work.pages.head_dim));
    return FOLIO_OK;
}
