/* SPDX-License-Identifier: Apache-2.0
 * check_problem.c: a case with memory: every tensor that folio_attend takes. */
#include "check_problem.h"

#include <stdlib.h>
#include <string.h>

enum { UNUSED_ENTRY = 0x7fffffff, NAN_BYTE = 0xff, GAP = 3 /* rows between two tokens */ };

/* Identities of the rows of one case: any 64-bit numbers that differ. */
static u64 identity(const struct problem *p, i64 seq, i64 index)
{
    return (p->c.seed + (u64)p->c.number) * UINT64_C(0x9e3779b97f4a7c15) + ((u64)seq << 40 | (u64)index);
}

static u64 random_bits(u64 *state)
{
    *state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return *state >> 33;
}

/* n bytes of NaN, freed with the problem. NULL and a mark when there is no memory. */
static void *block(struct problem *p, i64 n)
{
    void *memory = malloc((size_t)max_i64(n, 1));
    if (!memory) {
        p->no_memory = true;
        return NULL;
    }
    memset(memory, NAN_BYTE, (size_t)max_i64(n, 1));
    p->blocks[p->n_blocks++] = memory;
    return memory;
}

static void make_queries(struct problem *p)
{
    const struct check_case *c = &p->c;
    const i64 heads = c->n_kv_heads * c->group, gap = c->options.gaps ? GAP : 0;
    const i64 shape[3] = { p->n_tokens, heads, c->dim_qk };
    const i64 strides[3] = { (heads + gap) * c->dim_qk, c->dim_qk, 1 };
    char *data = block(p, p->n_tokens * strides[0] * element_bytes(c->q_element));
    tensor_init_strided(&p->q, data, type_of_element(c->q_element), 3, shape, strides);
    for (i64 t = 0; data && t < p->n_tokens; t++)
        row_fill(identity(p, 0xffff, t), 0, ROW_Q, (i32)heads, c->dim_qk, c->q_element,
                 data + t * strides[0] * element_bytes(c->q_element));
}

static void make_outputs(struct problem *p)
{
    const struct check_case *c = &p->c;
    const i64 heads = c->n_kv_heads * c->group, gap = c->options.gaps ? GAP : 0;
    p->out_bytes = (size_t)(p->n_tokens * (heads + gap) * c->dim_v * element_bytes(c->q_element));
    p->lse_bytes = (size_t)(p->n_tokens * (heads + gap)) * sizeof(float);
    p->out_memory = block(p, (i64)p->out_bytes);
    p->lse_memory = block(p, (i64)p->lse_bytes);
    tensor_init_strided(&p->out, p->out_memory, type_of_element(c->q_element), 3,
                        (const i64[]){ p->n_tokens, heads, c->dim_v },
                        (const i64[]){ (heads + gap) * c->dim_v, c->dim_v, 1 });
    tensor_init_strided(&p->lse, p->lse_memory, type_of_element(ELEMENT_F32), 2, (const i64[]){ p->n_tokens, heads },
                        (const i64[]){ heads + gap, 1 });
}

/* A random order of the page ids into ids [n_pages]. */
static void shuffle(i64 *ids, i64 n, u64 *state)
{
    for (i64 i = 0; i < n; i++)
        ids[i] = i;
    for (i64 i = n - 1; i > 0; i--) {
        const i64 j = (i64)(random_bits(state) % (u64)(i + 1)), other = ids[j];
        ids[j] = ids[i];
        ids[i] = other;
    }
}

static i64 row_pages(const struct problem *p, i64 seq)
{
    return ceil_div(p->c.kv_lens[seq], p->c.page_size);
}

/* Logical page `page` of a sequence, from an order of all pages. */
static i64 page_id(const struct problem *p, const i64 *ids, i64 seq, i64 page)
{
    for (i64 i = 0; i < seq; i++)
        page += row_pages(p, i);
    return ids[page];
}

static void put_id(const struct problem *p, void *ids, i64 at, i64 id)
{
    if (p->c.options.wide_ids)
        ((i64 *)ids)[at] = id;
    else
        ((i32 *)ids)[at] = (i32)id;
}

static i64 id_bytes(const struct problem *p)
{
    return p->c.options.wide_ids ? 8 : 4;
}

/* A padded table, or the indices of a CSR one, in the order of `ids`. */
static void make_table(struct problem *p, struct tensor *table, const i64 *ids)
{
    const DLDataType type = type_of_ints((i32)id_bytes(p) * 8);
    const bool csr = p->c.options.csr;
    const i64 n = csr ? p->n_pages : p->c.batch * p->table_width;
    void *data = block(p, n * id_bytes(p));
    if (!data)
        return;
    for (i64 i = 0; i < n; i++)
        put_id(p, data, i, UNUSED_ENTRY);
    for (i64 seq = 0, packed = 0; seq < p->c.batch; seq++)
        for (i64 page = 0; page < row_pages(p, seq); page++, packed++)
            put_id(p, data, csr ? packed : seq * p->table_width + page, page_id(p, ids, seq, page));
    if (csr)
        tensor_init(table, data, type, 1, (const i64[]){ p->n_pages });
    else
        tensor_init(table, data, type, 2, (const i64[]){ p->c.batch, p->table_width });
}

/* K or V of every token at its slot. */
static void fill_slots(struct problem *p, const struct tensor *pages, enum row_kind kind, const i64 *ids)
{
    const struct check_case *c = &p->c;
    const i64 bytes = element_bytes(c->kv_element);
    for (i64 seq = 0; seq < c->batch; seq++)
        for (i64 j = 0; j < c->kv_lens[seq]; j++) {
            const i64 page = page_id(p, ids, seq, j / c->page_size);
            for (i32 head = 0; head < c->n_kv_heads; head++) {
                const i64 at =
                    page * pages->strides[0] + j % c->page_size * pages->strides[1] + head * pages->strides[2];
                row_fill(identity(p, seq, j), head, kind, 1, (i32)pages->shape[3], c->kv_element,
                         (char *)pages->dl.data + at * bytes);
            }
        }
}

/* K and V pools, interleaved by page or one after the other; both lie in one block. */
static void make_pages(struct problem *p)
{
    const struct check_case *c = &p->c;
    const i64 k_row = c->n_kv_heads * c->dim_qk, v_row = c->n_kv_heads * c->dim_v, s = c->page_size;
    const bool split = c->layout == LAYOUT_SPLIT, hnd = c->layout == LAYOUT_HND;
    const i64 k_page = split ? s * k_row : 2 * s * k_row, v_page = split ? s * v_row : 2 * s * v_row;
    const i64 to_v = split ? p->n_pages * k_page : s * k_row;
    const i64 bytes = element_bytes(c->kv_element);
    char *data = block(p, (split ? p->n_pages * (k_page + v_page) : p->n_pages * k_page) * bytes);
    if (!data)
        return;
    tensor_init_strided(&p->k_pages, data, type_of_element(c->kv_element), 4,
                        (const i64[]){ p->n_pages, s, c->n_kv_heads, c->dim_qk },
                        (const i64[]){ k_page, hnd ? c->dim_qk : k_row, hnd ? s * c->dim_qk : c->dim_qk, 1 });
    tensor_init_strided(&p->v_pages, data + to_v * bytes, type_of_element(c->kv_element), 4,
                        (const i64[]){ p->n_pages, s, c->n_kv_heads, c->dim_v },
                        (const i64[]){ v_page, hnd ? c->dim_v : v_row, hnd ? s * c->dim_v : c->dim_v, 1 });
}

static void make_cache(struct problem *p)
{
    u64 state = p->c.seed ^ (u64)p->c.number << 20;
    i64 *k_ids = block(p, p->n_pages * 8), *v_ids = block(p, p->n_pages * 8);
    make_pages(p);
    if (p->no_memory)
        return;
    shuffle(k_ids, p->n_pages, &state);
    shuffle(v_ids, p->n_pages, &state);
    const i64 *used_v_ids = p->c.options.v_table ? v_ids : k_ids;
    make_table(p, &p->table, k_ids);
    if (p->c.options.v_table)
        make_table(p, &p->v_table, v_ids);
    fill_slots(p, &p->k_pages, ROW_K, k_ids);
    fill_slots(p, &p->v_pages, ROW_V, used_v_ids);
}

static void make_lengths(struct problem *p)
{
    const i64 batch = p->c.batch;
    i64 *kv_lens = block(p, batch * 8);
    i32 *q_indptr = block(p, (batch + 1) * 4);
    void *kv_indptr = block(p, (batch + 1) * id_bytes(p));
    if (p->no_memory)
        return;
    i64 pages = 0, tokens = 0;
    for (i64 i = 0; i <= batch; i++) {
        q_indptr[i] = (i32)tokens;
        put_id(p, kv_indptr, i, pages);
        if (i == batch)
            break;
        kv_lens[i] = p->c.kv_lens[i];
        tokens += p->c.q_lens[i];
        pages += row_pages(p, i);
    }
    tensor_init(&p->kv_lens, kv_lens, type_of_ints(64), 1, &batch);
    tensor_init(&p->q_indptr, q_indptr, type_of_ints(32), 1, (const i64[]){ batch + 1 });
    tensor_init(&p->kv_indptr, kv_indptr, type_of_ints((i32)id_bytes(p) * 8), 1, (const i64[]){ batch + 1 });
}

/* Extents of a broadcastable [t, h, j] input. */
static void score_shape(const struct problem *p, enum score_input input, i64 *shape)
{
    shape[0] = input == SCORE_FULL ? p->n_tokens : 1;
    shape[1] = input == SCORE_BY_KEY ? 1 : p->c.n_kv_heads * p->c.group;
    shape[2] = p->max_kv_len;
}

static void make_scores(struct problem *p)
{
    const struct case_options *o = &p->c.options;
    const i64 heads = p->c.n_kv_heads * p->c.group;
    const DLDataType f32 = type_of_element(ELEMENT_F32), boolean = { kDLBool, 8, 1 };
    u64 state = p->c.seed + (u64)p->c.number;
    i64 bias_shape[3], mask_shape[3];
    score_shape(p, o->bias, bias_shape);
    score_shape(p, o->mask, mask_shape);
    const i64 n_bias = bias_shape[0] * bias_shape[1] * bias_shape[2];
    const i64 n_mask = mask_shape[0] * mask_shape[1] * mask_shape[2];
    float *bias = block(p, n_bias * 4), *alibi = block(p, heads * 4), *sinks = block(p, heads * 4);
    u8 *mask = block(p, n_mask);
    if (p->no_memory)
        return;
    for (i64 i = 0; i < n_bias; i++)
        bias[i] = (float)(random_bits(&state) % 512) / 128 - 2;
    for (i64 i = 0; i < n_mask; i++)
        mask[i] = random_bits(&state) % 4 != 0;
    for (i64 h = 0; h < heads; h++) {
        alibi[h] = (float)(random_bits(&state) % 64) / 256 - 0.0625f;
        sinks[h] = (float)(random_bits(&state) % 64) / 16 - 1;
    }
    tensor_init(&p->bias, bias, f32, 3, bias_shape);
    tensor_init(&p->mask, mask, boolean, 3, mask_shape);
    tensor_init(&p->alibi, alibi, f32, 1, &heads);
    tensor_init(&p->sinks, sinks, f32, 1, &heads);
}

static void make_args(struct problem *p)
{
    const struct case_options *o = &p->c.options;
    p->args = (folio_attend_args){
        .struct_size = sizeof(p->args),
        .q = &p->q.dl,
        .k_pages = &p->k_pages.dl,
        .v_pages = &p->v_pages.dl,
        .page_table = o->csr ? NULL : &p->table.dl,
        .kv_indptr = o->csr ? &p->kv_indptr.dl : NULL,
        .kv_indices = o->csr ? &p->table.dl : NULL,
        .v_page_table = o->v_table && !o->csr ? &p->v_table.dl : NULL,
        .kv_lens = &p->kv_lens.dl,
        .q_indptr = p->c.decode ? NULL : &p->q_indptr.dl,
        .alibi_slopes = o->alibi ? &p->alibi.dl : NULL,
        .sinks = o->sinks ? &p->sinks.dl : NULL,
        .bias = o->bias ? &p->bias.dl : NULL,
        .mask = o->mask ? &p->mask.dl : NULL,
        .out = &p->out.dl,
        .lse = &p->lse.dl,
        .scale = o->scale,
        .softcap = o->softcap,
        .window_left = o->window_left,
        .window_right = o->window_right,
        .causal = o->causal,
        .align = o->align,
        .flags = (o->has_scale ? FOLIO_SCALE_IS_SET : 0u) | (o->has_window ? FOLIO_WINDOW_IS_SET : 0u),
        .num_splits = o->num_splits,
    };
}

bool problem_init(struct problem *p, const struct check_case *c)
{
    *p = (struct problem){ .c = *c };
    p->n_tokens = case_n_tokens(c);
    p->max_kv_len = case_max_kv_len(c);
    p->table_width = ceil_div(p->max_kv_len, c->page_size) + 2;
    p->n_pages = 3; /* pages that nobody names */
    for (i64 i = 0; i < c->batch; i++)
        p->n_pages += row_pages(p, i);
    make_queries(p);
    make_outputs(p);
    make_cache(p);
    make_lengths(p);
    make_scores(p);
    if (p->no_memory) {
        problem_free(p);
        return false;
    }
    make_args(p);
    return true;
}

void problem_free(struct problem *p)
{
    for (i32 i = 0; i < p->n_blocks; i++)
        free(p->blocks[i]);
    *p = (struct problem){ 0 };
}

folio_status problem_run(struct problem *p, folio_context *ctx, bool with_plan)
{
    memset(p->out_memory, NAN_BYTE, p->out_bytes);
    memset(p->lse_memory, NAN_BYTE, p->lse_bytes);
    if (!with_plan)
        return folio_attend(ctx, NULL, &p->args, NULL);
    folio_plan *plan = NULL;
    folio_status status = folio_plan_create(&plan, ctx, &p->args);
    if (!status)
        status = folio_plan_update(plan, &p->args, NULL);
    if (!status)
        status = folio_attend(ctx, plan, &p->args, NULL);
    folio_plan_destroy(&plan);
    return status;
}

double problem_out(const struct problem *p, i64 token, i32 head, i32 dim)
{
    return element_read(p->c.q_element, p->out_memory, token * p->out.strides[0] + head * p->out.strides[1] + dim);
}

double problem_lse(const struct problem *p, i64 token, i32 head)
{
    return (double)p->lse_memory[token * p->lse.strides[0] + head];
}

static bool all_nan_bytes(const char *bytes, i64 n)
{
    for (i64 i = 0; i < n; i++)
        if (bytes[i] != (char)NAN_BYTE)
            return false;
    return true;
}

bool problem_gaps_untouched(const struct problem *p)
{
    const i64 heads = p->c.n_kv_heads * p->c.group, bytes = element_bytes(p->c.q_element);
    for (i64 t = 0; t < p->n_tokens; t++) {
        const i64 out_end = t * p->out.strides[0] + heads * p->c.dim_v, out_next = (t + 1) * p->out.strides[0];
        const i64 lse_end = t * p->lse.strides[0] + heads, lse_next = (t + 1) * p->lse.strides[0];
        if (!all_nan_bytes((const char *)p->out_memory + out_end * bytes, (out_next - out_end) * bytes) ||
            !all_nan_bytes((const char *)(p->lse_memory + lse_end), (lse_next - lse_end) * 4))
            return false;
    }
    return true;
}
