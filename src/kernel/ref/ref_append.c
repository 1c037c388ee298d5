/* SPDX-License-Identifier: Apache-2.0
 * ref_append.c: new tokens into their slots, element by element. */
#include <string.h>

#include "kernel/layout.h"
#include "kernel/quantise.h"
#include "kernel/ref/ref.h"

void folio__ref_convert(void *dst, i32 dst_dtype, const void *src, i32 src_dtype, i64 n)
{
    const enum dtype to = (enum dtype)dst_dtype, from = (enum dtype)src_dtype;
    const i64 to_bytes = folio__dtype_bytes(to), from_bytes = folio__dtype_bytes(from);
    if (to == from) {
        memcpy(dst, src, (size_t)(n * to_bytes));
        return;
    }
    for (i64 i = 0; i < n; i++)
        folio__store_float(to, (u8 *)dst + i * to_bytes, folio__load_float(from, (const u8 *)src + i * from_bytes));
}

static void append_token(const struct append_args *args, const struct rows_view *rows, i64 token,
                         const struct pages_view *pages, i64 page, i64 position)
{
    if (dtype_is_quantised((enum dtype)pages->dtype)) {
        folio__quantise_token(args, pages, page, position, rows, token);
        return;
    }
    for (i32 head = 0; head < args->n_kv_heads; head++)
        folio__ref_convert(layout_slot(pages, page, position, head), pages->dtype, layout_row(rows, token, head),
                           rows->dtype, rows->dim);
}

void folio__ref_append(const struct append_args *args, i64 begin, i64 end)
{
    for (i64 token = begin; token < end; token++) {
        const i64 slot = layout_index(args->slots, args->slots_are_i64, token);
        if (slot < 0)
            continue;
        const i64 page = slot / args->page_size, position = slot % args->page_size;
        append_token(args, &args->k, token, &args->k_pages, page, position);
        append_token(args, &args->v, token, &args->v_pages, page, position);
    }
}
