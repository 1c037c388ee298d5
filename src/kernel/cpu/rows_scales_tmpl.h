/* SPDX-License-Identifier: Apache-2.0
 * rows_scales_tmpl.h: the scales of a block for all heads of a pass, once a block: they lie head by head in a slot, and
 * are wanted key by key of a head. A head alone would read every line of them again. */

/* Slots of 16 keys at most, from the block's key i on; repeats of the last. Gives how many there are. */
static i32 scale_slots(const float *slots[16], const struct pages_view *pages, const struct table_view *table,
                       const struct rows_pass *pass, const struct block *block, i32 i)
{
    const i64 page_size = pass->args->page_size;
    const i32 n = block->n - i < 16 ? block->n - i : 16;
    i64 column = (block->key + i) / page_size, slot = (block->key + i) % page_size;
    for (i32 t = 0; t < n; column++, slot = 0) {
        const u8 *at =
            (const u8 *)layout_scale(pages, layout_page(table, pass->item->seq, column), slot, pass->head_begin);
        for (; t < n && slot < page_size; t++, slot++, at += pages->scale_slot_stride)
            slots[t] = (const float *)(const void *)at;
    }
    for (i32 t = n; t < 16; t++)
        slots[t] = slots[n - 1];
    return n;
}

/* dst [n_heads][ROWS_KEYS]. Only the block's own slots are read: what stands in others may be anything. */
static void rows_scales_of(float *dst, const struct pages_view *pages, const struct table_view *table,
                           const struct rows_pass *pass, const struct block *block)
{
    const i64 stride = pages->scale_head_stride / (i64)sizeof *dst;
    for (i32 i = 0; i < block->n; i += 16) {
        const float *slots[16];
        vec x[16];
        scale_slots(slots, pages, table, pass, block, i);
        for (i32 h = 0; h < pass->n_heads; h += 16) {
            const i32 n = pass->n_heads - h < 16 ? pass->n_heads - h : 16;
            if (stride == 1) {
                for (i32 t = 0; t < 16; t++)
                    x[t] = vec_load_n(slots[t] + h, n);
                vec_transpose(x);
                for (i32 j = 0; j < n; j++)
                    vec_store(dst + (i64)(h + j) * ROWS_KEYS + i, x[j]);
                continue;
            }
            for (i32 j = 0; j < n; j++)
                for (i32 t = 0; t < 16; t++)
                    dst[(i64)(h + j) * ROWS_KEYS + i + t] = slots[t][(h + j) * stride];
        }
    }
}

/* Without scales all are 1. */
static void rows_scales(const struct rows_pass *pass, const struct block *block)
{
    const struct attend_args *args = pass->args;
    if (pass->k_scales && args->k.scale)
        rows_scales_of(pass->k_scales, &args->k, &args->k_table, pass, block);
    if (pass->v_scales && args->v.scale)
        rows_scales_of(pass->v_scales, &args->v, &args->v_table, pass, block);
}

static void rows_scales_begin(struct rows_pass *pass, i32 n_heads, bool always, float **scratch)
{
    const i64 n = (i64)n_heads * ROWS_KEYS;
    pass->k_scales = always || pass->args->k.scale ? take(scratch, n) : NULL;
    pass->v_scales = always || pass->args->v.scale ? take(scratch, n) : NULL;
    for (i64 i = 0; i < n && pass->k_scales && !pass->args->k.scale; i++)
        pass->k_scales[i] = 1.0f;
    for (i64 i = 0; i < n && pass->v_scales && !pass->args->v.scale; i++)
        pass->v_scales[i] = 1.0f;
}

/* Of a head, from key `at` of the block on; NULL = all are 1. */
static const float *rows_k_scale(const struct rows_pass *pass, const struct rows_step *step)
{
    return pass->k_scales ? pass->k_scales + (i64)step->head * ROWS_KEYS + step->at : NULL;
}

static const float *rows_v_scale(const struct rows_pass *pass, const struct rows_step *step)
{
    return pass->v_scales ? pass->v_scales + (i64)step->head * ROWS_KEYS + step->at : NULL;
}
