/* SPDX-License-Identifier: Apache-2.0
 * ref_gather.c: a sequence's tokens out of its pages, element by element. */
#include "kernel/layout.h"
#include "kernel/ref/ref.h"

/* Stored times scale in f32, which is what every level computes. */
static void dequantise(const struct pages_view *pages, i64 page, i64 position, const struct rows_view *rows, i64 token,
                       i32 head)
{
    const float scale = pages->scale ? *layout_scale(pages, page, position, head) : 1.0f;
    const u8 *src = layout_slot(pages, page, position, head);
    const enum dtype to = (enum dtype)rows->dtype;
    for (i32 d = 0; d < rows->dim; d++)
        folio__store_float(to, layout_row(rows, token, head) + d * folio__dtype_bytes(to),
                           folio__load_float((enum dtype)pages->dtype, src + d) * scale);
}

static void gather_token(const struct pages_view *pages, i64 page, i64 position, const struct rows_view *rows,
                         i64 token, i32 n_kv_heads)
{
    for (i32 head = 0; head < n_kv_heads; head++) {
        if (dtype_is_quantised((enum dtype)pages->dtype)) {
            dequantise(pages, page, position, rows, token, head);
            continue;
        }
        folio__ref_convert(layout_row(rows, token, head), rows->dtype, layout_slot(pages, page, position, head),
                           pages->dtype, rows->dim);
    }
}

void folio__ref_gather(const struct gather_args *args, i64 begin, i64 end)
{
    for (i64 token = begin; token < end; token++) {
        const i64 page = layout_index(args->page_row, args->ids_are_i64, token / args->page_size);
        const i64 position = token % args->page_size;
        gather_token(&args->k_pages, page, position, &args->k, token, args->n_kv_heads);
        gather_token(&args->v_pages, page, position, &args->v, token, args->n_kv_heads);
    }
}
