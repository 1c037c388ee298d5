/* SPDX-License-Identifier: Apache-2.0
 * quantise.c: rows of floats into quantised slots. */
#include "kernel/quantise.h"

#include <float.h>
#include <math.h>

#include "kernel/layout.h"

static float largest_finite(const u8 *row, enum dtype dtype, i32 dim)
{
    const i64 bytes = folio__dtype_bytes(dtype);
    float largest = 0;
    for (i32 i = 0; i < dim; i++) {
        const float size = fabsf(folio__load_float(dtype, row + i * bytes));
        largest = size > largest && size <= FLT_MAX ? size : largest;
    }
    return largest;
}

/* Never 0, so that dividing by it is safe. */
static float scale_for(const u8 *row, enum dtype dtype, i32 dim, enum dtype to)
{
    const float largest = largest_finite(row, dtype, dim);
    return largest == 0 ? 1.0f : fmaxf(largest / folio__dtype_max(to), FLT_MIN);
}

static void quantise_row(u8 *dst, enum dtype to, const u8 *src, enum dtype from, i32 dim, float scale)
{
    const i64 bytes = folio__dtype_bytes(from);
    for (i32 i = 0; i < dim; i++)
        folio__store_float(to, dst + i, folio__load_float(from, src + i * bytes) / scale);
}

void folio__quantise_token(const struct append_args *args, const struct pages_view *pages, i64 page, i64 slot,
                           const struct rows_view *rows, i64 token)
{
    const enum dtype from = (enum dtype)rows->dtype, to = (enum dtype)pages->dtype;
    for (i32 head = 0; head < args->n_kv_heads; head++) {
        const u8 *src = layout_row(rows, token, head);
        float one = 1;
        float *scale = pages->scale ? layout_scale(pages, page, slot, head) : &one;
        if (args->makes_scales)
            *scale = scale_for(src, from, rows->dim, to);
        quantise_row(layout_slot(pages, page, slot, head), to, src, from, rows->dim, *scale);
    }
}
