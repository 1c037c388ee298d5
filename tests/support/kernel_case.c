/* SPDX-License-Identifier: Apache-2.0
 * kernel_case.c: builds, runs and guards one kernel problem. */
#include "support/kernel_case.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "kernel/layout.h"
#include "support/guarded.h"
#include "support/strided.h"

enum { SEQ = 1, N_SEQS = 3, FIRST_TOKEN = 2 };

struct kernel_memory {
    struct kernel_case c;
    struct attend_args args;
    struct guarded q, pages, v_pages, ids, v_ids, indptr, out, lse, slopes, sinks, bias, mask;
    struct guarded scratch, part_o, part_m, part_l;
    i32 n_pages, n_columns;
};

static float random_normal(u64 *state) /* about standard normal; |x| <= 6 */
{
    i64 sum = 0;
    for (i32 i = 0; i < 12; i++)
        sum += random_below(state, 1 << 20);
    return (float)sum / (float)(1 << 20) - 6.0f;
}

static i64 element(enum dtype dtype)
{
    return folio__dtype_bytes(dtype);
}

/* ---- pages and tables */

static void layout_pages(struct pages_view *view, const struct kernel_case *c, i32 d, i64 interleave)
{
    const i64 bytes = element(c->kv_dtype), gap = c->gaps ? 3 : 0;
    const i64 row = (d + gap) * bytes * interleave;
    if (c->hnd) {
        view->slot_stride = row;
        view->head_stride = row * c->page_size + gap * 16 * bytes;
        view->page_stride = view->head_stride * c->n_kv_heads + gap * 32 * bytes;
    } else {
        view->head_stride = row;
        view->slot_stride = row * c->n_kv_heads + gap * 16 * bytes;
        view->page_stride = view->slot_stride * c->page_size + gap * 32 * bytes;
    }
    view->head_dim = d;
    view->dtype = c->kv_dtype;
}

/* Every page id of the used columns at random, with repeats only by chance; absurd ids everywhere else. */
static void fill_table(struct kernel_memory *m, struct table_view *table, struct guarded *ids, u64 *random)
{
    const struct kernel_case *c = &m->c;
    const i64 stride = m->n_columns + 3;
    const i64 n = c->csr ? 7 + m->n_columns + 5 : N_SEQS * stride;
    void *data = guarded_alloc(ids, (size_t)n * (c->ids_are_i64 ? 8 : 4), 0x7f);
    i32 *order = malloc((size_t)m->n_pages * sizeof *order);
    for (i32 i = 0; i < m->n_pages; i++)
        order[i] = i;
    for (i32 i = m->n_pages - 1; i > 0; i--) {
        const i32 j = (i32)random_below(random, i + 1), swap = order[i];
        order[i] = order[j];
        order[j] = swap;
    }
    const i64 first = c->csr ? 7 : SEQ * stride;
    for (i32 column = 0; column < m->n_columns; column++) {
        if (c->ids_are_i64)
            ((i64 *)data)[first + column] = order[column];
        else
            ((i32 *)data)[first + column] = order[column];
    }
    free(order);
    *table = (struct table_view){ .ids = data, .row_stride = stride, .ids_are_i64 = c->ids_are_i64 };
    if (c->csr) {
        if (!m->indptr.block) {
            i64 *indptr = guarded_alloc(&m->indptr, (N_SEQS + 1) * sizeof *indptr, 0);
            const i64 values[N_SEQS + 1] = { 0, 7, 7 + m->n_columns, n };
            memcpy(indptr, values, sizeof values);
        }
        table->indptr = guarded_data(&m->indptr);
        table->indptr_is_i64 = 1;
        table->row_stride = 0;
    }
}

static void fill_pages(const struct kernel_memory *m, const struct pages_view *view, const struct table_view *table,
                       bool ones, u64 *random)
{
    const struct kernel_case *c = &m->c;
    for (i64 key = 0; key < c->kv_len; key++)
        for (i32 head = 0; head < c->n_kv_heads; head++) {
            u8 *row = layout_slot(view, layout_page(table, SEQ, key / c->page_size), key % c->page_size, head);
            for (i32 i = 0; i < view->head_dim; i++)
                folio__store_float(c->kv_dtype, row + i * element(c->kv_dtype), ones ? 1.0f : random_normal(random));
        }
}

static void make_pages(struct kernel_memory *m, u64 *random)
{
    const struct kernel_case *c = &m->c;
    m->n_columns = (c->kv_len + c->page_size - 1) / c->page_size;
    m->n_pages = m->n_columns + 3;
    layout_pages(&m->args.k, c, c->d, c->interleaved ? 2 : 1);
    layout_pages(&m->args.v, c, c->interleaved ? c->d : c->dv, c->interleaved ? 2 : 1);
    m->args.v.head_dim = c->dv;
    m->args.k.n_pages = m->args.v.n_pages = m->n_pages;
    u8 *k = guarded_alloc(&m->pages, (size_t)(m->args.k.page_stride * m->n_pages), 0xff); /* NaN in every dtype */
    m->args.k.data = k;
    if (c->interleaved) /* K and V of a slot side by side in one buffer; needs dv <= d */
        m->args.v.data = k + c->d * element(c->kv_dtype);
    else
        m->args.v.data = guarded_alloc(&m->v_pages, (size_t)(m->args.v.page_stride * m->n_pages), 0xff);
    fill_table(m, &m->args.k_table, &m->ids, random);
    if (c->v_table)
        fill_table(m, &m->args.v_table, &m->v_ids, random);
    else
        m->args.v_table = m->args.k_table;
    fill_pages(m, &m->args.k, &m->args.k_table, false, random);
    fill_pages(m, &m->args.v, &m->args.v_table, c->ones, random);
}

/* ---- the rest */

static void make_rows(struct rows_view *view, struct guarded *g, const struct kernel_case *c, i32 d)
{
    const i64 bytes = element(c->q_dtype), gap = c->gaps ? 5 : 0;
    view->dim = d;
    view->dtype = c->q_dtype;
    view->head_stride = (d + gap) * bytes;
    view->token_stride = view->head_stride * c->group * c->n_kv_heads + gap * bytes;
    view->data = guarded_alloc(g, (size_t)(view->token_stride * (FIRST_TOKEN + c->q_len)), 0xff);
}

static void make_scores(struct kernel_memory *m, u64 *random)
{
    const struct kernel_case *c = &m->c;
    const i64 heads = c->group * c->n_kv_heads, tokens = FIRST_TOKEN + c->q_len;
    if (c->bias_dtype) {
        struct score_view *bias = &m->args.bias;
        const i64 bytes = element(c->bias_dtype);
        bias->dtype = c->bias_dtype;
        bias->key_stride = c->bias_strided ? 2 * bytes : bytes;
        bias->head_stride = c->bias_per_key ? 0 : bias->key_stride * c->kv_len;
        bias->token_stride = c->bias_per_key ? 0 : bias->head_stride * heads;
        const i64 n = c->bias_per_key ? c->kv_len : tokens * heads * c->kv_len;
        bias->data = guarded_alloc(&m->bias, (size_t)(n * bias->key_stride), 0xff);
        for (i64 i = 0; i < n; i++)
            folio__store_float(c->bias_dtype, (u8 *)(uintptr_t)bias->data + i * bias->key_stride,
                               random_below(random, 9) ? random_normal(random) : -INFINITY);
    }
    if (c->mask) {
        struct score_view *mask = &m->args.mask;
        mask->dtype = DTYPE_BOOL;
        mask->key_stride = c->bias_strided ? 3 : 1;
        mask->token_stride = mask->key_stride * c->kv_len;
        mask->head_stride = c->mask_per_token ? 0 : mask->token_stride * tokens;
        const i64 n = (c->mask_per_token ? 1 : heads) * tokens * c->kv_len;
        u8 *data = guarded_alloc(&m->mask, (size_t)(n * mask->key_stride), 0);
        for (i64 i = 0; i < n; i++) {
            const bool row_is_empty = c->empty_mask && i / c->kv_len % 3 == 0;
            data[i * mask->key_stride] =
                (u8)(!row_is_empty && random_below(random, 4) ? 1 + random_below(random, 255) : 0);
        }
        mask->data = data;
    }
}

static float *make_floats(struct guarded *g, i64 n, u64 *random)
{
    float *x = guarded_alloc(g, (size_t)n * sizeof *x, 0);
    for (i64 i = 0; i < n; i++)
        x[i] = random_normal(random) * 0.5f;
    return x;
}

static void make_args(struct kernel_memory *m)
{
    const struct kernel_case *c = &m->c;
    struct attend_args *a = &m->args;
    a->scale = c->scale_is_set ? c->scale : 1.0 / sqrt(c->d);
    a->softcap = c->softcap;
    a->causal = c->causal;
    a->align = c->align ? c->align : c->causal == CAUSAL_TOP_LEFT ? ALIGN_TOP_LEFT : ALIGN_BOTTOM_RIGHT;
    a->window_left = c->window_is_set ? c->window_left : -1;
    a->window_right = c->window_is_set ? c->window_right : -1;
    a->page_size = c->page_size;
    a->group = c->group;
    a->n_kv_heads = c->n_kv_heads;
    a->n_q_heads = c->group * c->n_kv_heads;
}

struct kernel_memory *kernel_memory_create(const struct kernel_case *c)
{
    struct kernel_memory *m = calloc(1, sizeof *m);
    if (!m)
        abort();
    m->c = *c;
    u64 random = c->seed * 0x2545f4914f6cdd1du + 1;
    make_args(m);
    make_pages(m, &random);
    make_rows(&m->args.q, &m->q, c, c->d);
    make_rows(&m->args.out, &m->out, c, c->dv);
    const float magnitude = c->magnitude != 0.0f ? c->magnitude : 1.0f;
    for (i64 row = 0; row < c->q_len; row++)
        for (i32 head = 0; head < m->args.n_q_heads; head++)
            for (i32 i = 0; i < c->d; i++)
                folio__store_float(c->q_dtype,
                                   layout_row(&m->args.q, FIRST_TOKEN + row, head) + i * element(c->q_dtype),
                                   random_normal(&random) * magnitude);
    if (!c->no_lse) {
        m->args.lse_head_stride = c->gaps ? 8 : 4;
        m->args.lse_token_stride = m->args.lse_head_stride * m->args.n_q_heads;
        m->args.lse = guarded_alloc(&m->lse, (size_t)(m->args.lse_token_stride * (FIRST_TOKEN + c->q_len)), 0xff);
    }
    make_scores(m, &random);
    if (c->alibi)
        m->args.alibi_slopes = make_floats(&m->slopes, m->args.n_q_heads, &random);
    if (c->sinks)
        m->args.sinks = make_floats(&m->sinks, m->args.n_q_heads, &random);
    return m;
}

#define EACH_BLOCK(m)                                                                                                  \
    {                                                                                                                  \
        &(m)->q, &(m)->pages, &(m)->v_pages, &(m)->ids, &(m)->v_ids, &(m)->indptr, &(m)->out, &(m)->lse, &(m)->slopes, \
            &(m)->sinks, &(m)->bias, &(m)->mask, &(m)->scratch, &(m)->part_o, &(m)->part_m, &(m)->part_l               \
    }

void kernel_memory_destroy(struct kernel_memory *m)
{
    struct guarded *const blocks[] = EACH_BLOCK(m);
    for (size_t i = 0; i < COUNT_OF(blocks); i++)
        guarded_free(blocks[i]);
    free(m);
}

const struct attend_args *kernel_memory_args(const struct kernel_memory *m)
{
    return &m->args;
}

/* ---- running */

static void run_unit(struct kernel_memory *m, const struct kernels *kernels, const struct kernel_cut *cut,
                     struct attend_item unit)
{
    void *scratch = guarded_data(&m->scratch);
    const i64 rows = unit.n_rows * m->c.group * unit.n_heads;
    if (!cut->through_memory) {
        unit.partial = -1;
        kernels->attend(&m->args, &unit, scratch);
        return;
    }
    for (i64 split = unit.n_splits - 1; split >= 0; split--) { /* the order must not matter */
        struct attend_item item = unit;
        item.split_begin = split;
        item.n_splits = 1;
        item.partial = split * rows;
        memset(scratch, 0xff, m->scratch.bytes);
        kernels->attend(&m->args, &item, scratch);
    }
    unit.partial = 0;
    kernels->fold(&m->args, &unit);
}

static void make_partials(struct kernel_memory *m, i64 n)
{
    m->args.part.o = guarded_alloc(&m->part_o, (size_t)(n * m->c.dv) * sizeof(float), 0xff);
    m->args.part.m = guarded_alloc(&m->part_m, (size_t)n * sizeof(float), 0xff);
    m->args.part.l = guarded_alloc(&m->part_l, (size_t)n * sizeof(float), 0xff);
}

bool kernel_memory_run(struct kernel_memory *m, const struct kernels *kernels, const struct kernel_cut *cut)
{
    const struct kernel_case *c = &m->c;
    const struct tiling tiling = kernels->tiling(&m->args);
    const bool few = (i64)c->group * c->q_len <= tiling.max_packed_rows;
    const i32 family = cut->family >= 0 ? cut->family : few ? ATTEND_ROWS : ATTEND_TILE;
    const i64 tile_rows = family == ATTEND_ROWS ? c->q_len : min_i64(tiling.tile_rows, c->q_len);
    const i64 rows_once = cut->rows_once ? min_i64(cut->rows_once, tile_rows) : tile_rows;
    const i32 heads_once = cut->n_kv_heads_once ? cut->n_kv_heads_once : c->n_kv_heads;
    const i64 split_tokens = cut->split_tokens ? cut->split_tokens : max_i64(c->kv_len, 1);
    const i64 n_splits = max_i64(ceil_div(c->kv_len, split_tokens), 1);

    memset(guarded_data(&m->out), 0xff, m->out.bytes);
    if (m->lse.block)
        memset(guarded_data(&m->lse), 0xff, m->lse.bytes);
    guarded_alloc(&m->scratch, kernels->scratch_bytes(&m->args), 0xff);
    make_partials(m, n_splits * rows_once * c->group * heads_once);
    for (i64 row = 0; row < c->q_len; row += rows_once)
        for (i32 head = 0; head < c->n_kv_heads; head += heads_once)
            run_unit(m, kernels, cut,
                     (struct attend_item){ .q_token = FIRST_TOKEN,
                                           .q_len = c->q_len,
                                           .kv_len = c->kv_len,
                                           .row_begin = row,
                                           .n_rows = min_i64(rows_once, c->q_len - row),
                                           .n_splits = n_splits,
                                           .split_tokens = split_tokens,
                                           .seq = SEQ,
                                           .head_begin = head,
                                           .n_heads = (i32)min_i64(heads_once, c->n_kv_heads - head),
                                           .family = family });
    struct guarded *const blocks[] = EACH_BLOCK(m);
    bool intact = true;
    for (size_t i = 0; i < COUNT_OF(blocks); i++)
        intact &= guarded_intact(blocks[i]);
    return intact;
}

size_t kernel_memory_out(const struct kernel_memory *m, void *dst)
{
    const size_t row = (size_t)(m->c.dv * element(m->c.q_dtype));
    u8 *at = dst;
    for (i64 token = 0; dst && token < m->c.q_len; token++)
        for (i32 head = 0; head < m->args.n_q_heads; head++, at += row)
            memcpy(at, layout_row(&m->args.out, FIRST_TOKEN + token, head), row);
    return row * (size_t)(m->c.q_len * m->args.n_q_heads);
}

size_t kernel_memory_lse(const struct kernel_memory *m, void *dst)
{
    float *at = dst;
    if (!m->args.lse)
        return 0;
    for (i64 token = 0; dst && token < m->c.q_len; token++)
        for (i32 head = 0; head < m->args.n_q_heads; head++)
            memcpy(at++,
                   (u8 *)m->args.lse + (FIRST_TOKEN + token) * m->args.lse_token_stride +
                       head * m->args.lse_head_stride,
                   sizeof *at);
    return sizeof *at * (size_t)(m->c.q_len * m->args.n_q_heads);
}

const char *kernel_case_text(const struct kernel_case *c)
{
    static char text[1024];
    snprintf(
        text, sizeof text,
        ".q_len = %d, .kv_len = %d, .group = %d, .n_kv_heads = %d, .d = %d, .dv = %d, .page_size = %d, .q_dtype = %d, "
        ".kv_dtype = %d, .hnd = %d, .gaps = %d, .interleaved = %d, .csr = %d, .ids_are_i64 = %d, .v_table = %d, "
        ".scale_is_set = %d, .scale = %.17g, .softcap = %.17g, .causal = %d, .align = %d, .window_is_set = %d, "
        ".window_left = %lld, .window_right = %lld, .alibi = %d, .sinks = %d, .bias_dtype = %d, .bias_strided = %d, "
        ".bias_per_key = %d, .mask = %d, .mask_per_token = %d, .empty_mask = %d, .no_lse = %d, .magnitude = %.9gf, "
        ".ones = %d, "
        ".seed = %llu",
        c->q_len, c->kv_len, c->group, c->n_kv_heads, c->d, c->dv, c->page_size, c->q_dtype, c->kv_dtype, c->hnd,
        c->gaps, c->interleaved, c->csr, c->ids_are_i64, c->v_table, c->scale_is_set, c->scale, c->softcap, c->causal,
        c->align, c->window_is_set, (long long)c->window_left, (long long)c->window_right, c->alibi, c->sinks,
        c->bias_dtype, c->bias_strided, c->bias_per_key, c->mask, c->mask_per_token, c->empty_mask, c->no_lse,
        (double)c->magnitude, c->ones, (unsigned long long)c->seed);
    return text;
}
