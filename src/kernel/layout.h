/* SPDX-License-Identifier: Apache-2.0
 * layout.h: the only address arithmetic over pages, rows and tables. Everything is 64-bit and in bytes.
 *
 *   page p of K      slot 0      slot 1          page_size - 1
 *   head 0          [dim ....]  [dim ....]  ...  [dim ....]       next slot: + slot_stride
 *   head 1          [dim ....]  [dim ....]  ...  [dim ....]       next head: + head_stride
 *   next page: + page_stride. NHD has slot_stride > head_stride, HND the reverse; gaps are free. */
#ifndef FOLIO_KERNEL_LAYOUT_H
#define FOLIO_KERNEL_LAYOUT_H

#include "kernel/args.h"

static inline u8 *layout_slot(const struct pages_view *pages, i64 page, i64 slot, i64 head)
{
    return pages->data + page * pages->page_stride + slot * pages->slot_stride + head * pages->head_stride;
}

/* The scale of a quantised slot, where there are scales. */
static inline float *layout_scale(const struct pages_view *pages, i64 page, i64 slot, i64 head)
{
    return (float *)(void *)((u8 *)pages->scale + page * pages->scale_page_stride + slot * pages->scale_slot_stride +
                             head * pages->scale_head_stride);
}

static inline u8 *layout_row(const struct rows_view *rows, i64 token, i64 head)
{
    return rows->data + token * rows->token_stride + head * rows->head_stride;
}

static inline u8 *layout_token(const struct rows_view *rows, const struct token_runs *runs, i64 token, i64 head)
{
    if (runs->n == 0)
        return layout_row(rows, token, head);
    return layout_row(rows, token % runs->n, head) + token / runs->n * runs->stride;
}

static inline const u8 *layout_score(const struct score_view *view, i64 token, i64 head, i64 key)
{
    return view->data + token * view->token_stride + head * view->head_stride + key * view->key_stride;
}

static inline i64 layout_index(const void *indices, i32 are_i64, i64 i)
{
    return are_i64 ? ((const i64 *)indices)[i] : ((const i32 *)indices)[i];
}

/* The physical page of a sequence's logical page. */
static inline i64 layout_page(const struct table_view *table, i64 seq, i64 column)
{
    const i64 row = table->indptr ? layout_index(table->indptr, table->indptr_is_i64, seq) : seq * table->row_stride;
    return layout_index(table->ids, table->ids_are_i64, row + column);
}

#endif
