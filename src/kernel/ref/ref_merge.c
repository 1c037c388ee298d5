/* SPDX-License-Identifier: Apache-2.0
 * ref_merge.c: partial results over disjoint keys -> one. Part p weighs e^(lse_p - lse); an empty part is not read. */
#include <math.h>

#include "kernel/layout.h"
#include "kernel/ref/ref.h"

static double lse_of(const struct merge_args *args, i32 part, i64 token, i32 head)
{
    const u8 *lse = (const u8 *)args->lses + part * args->lses_part_stride + token * args->lses_token_stride +
                    head * args->lses_head_stride;
    return (double)folio__load_float(DTYPE_F32, lse);
}

/* e^(lse - max), where two equal infinities are equal weights. */
static double weight_of(double lse, double max)
{
    return lse == max ? 1 : exp(lse - max);
}

static void merge_vector(const struct merge_args *args, i64 token, i32 head)
{
    double max = -INFINITY, sum = 0;
    for (i32 part = 0; part < args->n_parts; part++) {
        const double lse = lse_of(args, part, token, head);
        max = lse > max || isnan(lse) ? lse : max;
    }
    for (i32 part = 0; part < args->n_parts && max != -INFINITY; part++)
        sum += weight_of(lse_of(args, part, token, head), max);
    const enum dtype dtype = (enum dtype)args->out.dtype;
    const i64 element = folio__dtype_bytes(dtype);
    for (i32 d = 0; d < args->out.dim; d++) {
        double out = 0;
        for (i32 part = 0; part < args->n_parts && max != -INFINITY; part++) {
            const double lse = lse_of(args, part, token, head);
            const u8 *x = layout_row(&args->outs, token, head) + part * args->outs_part_stride + d * element;
            if (lse != -INFINITY)
                out += weight_of(lse, max) / sum * (double)folio__load_float(dtype, x);
        }
        folio__store_double(dtype, layout_row(&args->out, token, head) + d * element, out);
    }
    if (args->lse)
        folio__store_double(DTYPE_F32, (u8 *)args->lse + token * args->lse_token_stride + head * args->lse_head_stride,
                            max == -INFINITY ? -INFINITY : max + log(sum));
}

void folio__ref_merge(const struct merge_args *args, i64 begin, i64 end)
{
    for (i64 token = begin; token < end; token++)
        for (i32 head = 0; head < args->n_heads; head++)
            merge_vector(args, token, head);
}
