/* SPDX-License-Identifier: Apache-2.0
 * move_tmpl.h: append, gather and merge: rows between pages, tensors and partial results. */

static void convert_row(enum dtype to, u8 *dst, enum dtype from, const u8 *src, i32 d)
{
    if (to == from) {
        memcpy(dst, src, (size_t)(d * element_bytes(to)));
        return;
    }
    const i32 to_bytes = element_bytes(to), from_bytes = element_bytes(from);
    for (i32 c = 0; c < d; c += 16) {
        const i32 n = d - c < 16 ? d - c : 16;
        store_n(to, dst + (i64)c * to_bytes, load_n(from, src + (i64)c * from_bytes, n), n);
    }
}

/* Stored times scale, in f32, then rounded to the row's dtype. */
static void dequantise_row(enum dtype to, u8 *dst, enum dtype from, const u8 *src, i32 d, float scale)
{
    const i32 to_bytes = element_bytes(to);
    for (i32 c = 0; c < d; c += 16) {
        const i32 n = d - c < 16 ? d - c : 16;
        store_n(to, dst + (i64)c * to_bytes, vec_mul(load_n(from, src + c, n), vec_set1(scale)), n);
    }
}

static void row_to_slot(const struct pages_view *pages, const struct rows_view *rows, i64 token, i64 page, i64 slot,
                        i32 n_heads)
{
    for (i32 head = 0; head < n_heads; head++)
        convert_row((enum dtype)pages->dtype, layout_slot(pages, page, slot, head), (enum dtype)rows->dtype,
                    layout_row(rows, token, head), pages->head_dim);
}

static void slot_to_row(const struct rows_view *rows, const struct pages_view *pages, i64 token, i64 page, i64 slot,
                        i32 n_heads)
{
    const enum dtype to = (enum dtype)rows->dtype, from = (enum dtype)pages->dtype;
    for (i32 head = 0; head < n_heads; head++) {
        u8 *dst = layout_row(rows, token, head);
        const u8 *src = layout_slot(pages, page, slot, head);
        if (dtype_is_quantised(from))
            dequantise_row(to, dst, from, src, pages->head_dim,
                           pages->scale ? *layout_scale(pages, page, slot, head) : 1.0f);
        else
            convert_row(to, dst, from, src, pages->head_dim);
    }
}

static void append_token(const struct append_args *args, const struct pages_view *pages, const struct rows_view *rows,
                         i64 token, i64 page, i64 slot)
{
    if (dtype_is_quantised((enum dtype)pages->dtype))
        folio__quantise_token(args, pages, page, slot, rows, token);
    else
        row_to_slot(pages, rows, token, page, slot, args->n_kv_heads);
}

static void append(const struct append_args *args, i64 begin, i64 end)
{
    for (i64 token = begin; token < end; token++) {
        const i64 at = layout_index(args->slots, args->slots_are_i64, token);
        if (at < 0)
            continue;
        const i64 page = at / args->page_size, slot = at % args->page_size;
        append_token(args, &args->k_pages, &args->k, token, page, slot);
        append_token(args, &args->v_pages, &args->v, token, page, slot);
    }
}

static void gather(const struct gather_args *args, i64 begin, i64 end)
{
    for (i64 token = begin; token < end; token++) {
        const i64 page = layout_index(args->page_row, args->ids_are_i64, token / args->page_size);
        const i64 slot = token % args->page_size;
        slot_to_row(&args->k, &args->k_pages, token, page, slot, args->n_kv_heads);
        slot_to_row(&args->v, &args->v_pages, token, page, slot, args->n_kv_heads);
    }
}

static double part_lse(const struct merge_args *args, i32 part, i64 token, i32 head)
{
    const u8 *p = (const u8 *)args->lses + part * args->lses_part_stride + token * args->lses_token_stride +
                  head * args->lses_head_stride;
    return (double)*(const float *)(const void *)p;
}

/* Weight of a part; an empty one has none, whatever its out holds. */
static double part_weight(double lse, double top)
{
    return lse == top ? 1.0 : exp(lse - top);
}

static void merge_row(const struct merge_args *args, i64 token, i32 head)
{
    double top = -INFINITY, sum = 0.0;
    for (i32 part = 0; part < args->n_parts; part++) {
        const double lse = part_lse(args, part, token, head);
        top = lse > top || isnan(lse) ? lse : top;
    }
    const bool empty = top == -INFINITY;
    for (i32 part = 0; part < args->n_parts && !empty; part++)
        sum += part_weight(part_lse(args, part, token, head), top);
    const enum dtype from = (enum dtype)args->outs.dtype, to = (enum dtype)args->out.dtype;
    u8 *dst = layout_row(&args->out, token, head);
    for (i32 c = 0; c < args->out.dim; c += 16) {
        const i32 n = args->out.dim - c < 16 ? args->out.dim - c : 16;
        vec x = vec_zero();
        for (i32 part = 0; part < args->n_parts && !empty; part++) {
            const double lse = part_lse(args, part, token, head);
            if (lse == -INFINITY)
                continue;
            const u8 *src = layout_row(&args->outs, token, head) + part * args->outs_part_stride;
            const float weight = (float)(part_weight(lse, top) / sum);
            x = vec_fma(load_n(from, src + (i64)c * element_bytes(from), n), vec_set1(weight), x);
        }
        store_n(to, dst + (i64)c * element_bytes(to), x, n);
    }
    if (args->lse)
        *(float *)(void *)((u8 *)args->lse + token * args->lse_token_stride + head * args->lse_head_stride) =
            (float)(empty ? -INFINITY : top + log(sum));
}

static void merge(const struct merge_args *args, i64 begin, i64 end)
{
    for (i64 token = begin; token < end; token++)
        for (i32 head = 0; head < args->n_heads; head++)
            merge_row(args, token, head);
}
