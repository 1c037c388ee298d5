/* SPDX-License-Identifier: Apache-2.0
 * case.c: memory and arguments of a case. */
#include "case.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TABLE_TAIL = 2147480000 };

static i64 ceil_to(i64 a, i64 b)
{
    return (a + b - 1) / b;
}

static i64 max_of(const i32 *x, i32 n)
{
    i64 most = 0;
    for (i32 i = 0; i < n; i++)
        most = x[i] > most ? x[i] : most;
    return most;
}

/* [n_pages, page_size, heads, dim] by layout; K and V interleaved share one buffer, V behind K in every slot. */
static struct tensor_spec pages_spec(struct made_case *m, i64 dim, i64 other_dim, bool is_v)
{
    const struct problem_case *c = &m->c;
    const i64 p = m->n_pages, s = c->page_size, h = c->n_kv_heads;
    struct tensor_spec t = { .ndim = 4, .dtype = c->page_dtype, .exists = true, .shape = { p, s, h, dim } };
    const i64 bytes = folio__dtype_bytes(c->page_dtype);
    t.strides[3] = 1;
    switch (c->layout) {
    case LAYOUT_HND:
        t.strides[1] = dim, t.strides[2] = s * dim, t.strides[0] = h * s * dim;
        break;
    case LAYOUT_FLAT: /* [1, H, P * S, D] */
        t.strides[1] = dim, t.strides[0] = s * dim, t.strides[2] = p * s * dim;
        break;
    case LAYOUT_INTERLEAVED:
        t.strides[2] = dim + other_dim, t.strides[1] = h * (dim + other_dim), t.strides[0] = s * h * (dim + other_dim);
        break;
    case LAYOUT_GAPS:
        t.strides[2] = dim + 16, t.strides[1] = h * (dim + 16) + 32, t.strides[0] = s * t.strides[1] + 64;
        break;
    case LAYOUT_ODD: /* nothing is aligned to more than an element */
        t.strides[2] = dim + 1, t.strides[1] = h * (dim + 1) + 3, t.strides[0] = s * t.strides[1] + 5;
        break;
    case LAYOUT_NHD:
    case N_LAYOUTS:
        t.strides[2] = dim, t.strides[1] = h * dim, t.strides[0] = s * h * dim;
        break;
    }
    if (c->layout == LAYOUT_INTERLEAVED && is_v) {
        t.offset = m->k.offset + (size_t)(other_dim * bytes);
        return t;
    }
    const i64 span = c->layout == LAYOUT_FLAT ? h * t.strides[2] : p * t.strides[0];
    t.offset = twin_take(&m->twin, (size_t)((span + 16) * bytes)) + (c->layout == LAYOUT_ODD ? (size_t)bytes : 0);
    return t;
}

static void fill_floats(const struct tensor_spec *t, u8 *base, u64 *seed, float magnitude)
{
    for (i64 a = 0; a < t->shape[0]; a++)
        for (i64 b = 0; b < (t->ndim > 1 ? t->shape[1] : 1); b++)
            for (i64 c = 0; c < (t->ndim > 2 ? t->shape[2] : 1); c++)
                for (i64 d = 0; d < (t->ndim > 3 ? t->shape[3] : 1); d++)
                    folio__store_float(t->dtype, element(t, base, a, b, c, d), normal(seed) * magnitude);
}

/* Every other case with a bias removes a fifth of the keys by it, from all rows: their K and V stay poison. */
static bool is_removed(const struct problem_case *c, i64 key)
{
    return c->bias && c->seed % 2 && key % 5 == 2;
}

/* Only what belongs to the sequences; the rest of the pool stays poison. */
static void fill_pages(struct made_case *m, const struct tensor_spec *pages, const i64 *ids, i64 width, u64 *seed)
{
    const struct problem_case *c = &m->c;
    for (i32 b = 0; b < c->batch; b++)
        for (i64 j = 0; j < c->kv_lens[b]; j++)
            for (i64 h = 0; h < c->n_kv_heads; h++)
                for (i64 d = 0; d < pages->shape[3]; d++)
                    folio__store_float(
                        pages->dtype,
                        element(pages, m->twin.host, ids[b * width + j / c->page_size], j % c->page_size, h, d),
                        is_removed(c, j) ? NAN : normal(seed));
}

static void put_index(const struct tensor_spec *t, u8 *base, i64 at, i64 value)
{
    u8 *p = base + t->offset + at * folio__dtype_bytes(t->dtype);
    if (t->dtype == DTYPE_I64)
        memcpy(p, &value, 8);
    else
        memcpy(p, &(i32){ (i32)value }, 4);
}

/* A random permutation of the pool, dealt to the sequences. ids [batch][width]; n_used of each row are real. */
static void deal_pages(const struct made_case *m, i64 *ids, i64 width, u64 *seed)
{
    i64 *deck = malloc((size_t)m->n_pages * sizeof *deck);
    i64 next = 0;
    for (i64 i = 0; i < m->n_pages; i++)
        deck[i] = i;
    for (i64 i = m->n_pages - 1; i > 0; i--) {
        const i64 j = below(seed, i + 1), x = deck[i];
        deck[i] = deck[j], deck[j] = x;
    }
    for (i32 b = 0; b < m->c.batch; b++)
        for (i64 column = 0; column < width; column++)
            ids[b * width + column] = column < ceil_to(m->c.kv_lens[b], m->c.page_size) ? deck[next++] : TABLE_TAIL;
    free(deck);
}

static struct tensor_spec make_table(struct made_case *m, const i64 *ids, i64 width)
{
    const struct problem_case *c = &m->c;
    const enum dtype dtype = c->ids_are_i64 ? DTYPE_I64 : DTYPE_I32;
    if (!c->csr) {
        struct tensor_spec t = compact(&m->twin, dtype, 2, (i64[]){ c->batch, width });
        for (i64 i = 0; i < c->batch * width; i++)
            put_index(&t, m->twin.host, i, ids[i]);
        return t;
    }
    i64 n = 0;
    for (i32 b = 0; b < c->batch; b++)
        n += ceil_to(c->kv_lens[b], c->page_size);
    m->kv_indptr = compact(&m->twin, c->lens_are_i64 ? DTYPE_I64 : DTYPE_I32, 1, (i64[]){ c->batch + 1 });
    struct tensor_spec t = compact(&m->twin, dtype, 1, (i64[]){ n + 1 });
    n = 0;
    for (i32 b = 0; b < c->batch; b++) {
        put_index(&m->kv_indptr, m->twin.host, b, n);
        for (i64 column = 0; column < ceil_to(c->kv_lens[b], c->page_size); column++)
            put_index(&t, m->twin.host, n++, ids[b * width + column]);
    }
    put_index(&m->kv_indptr, m->twin.host, c->batch, n);
    put_index(&t, m->twin.host, n, TABLE_TAIL);
    return t;
}

static void make_pages(struct made_case *m, u64 *seed)
{
    const struct problem_case *c = &m->c;
    const i64 width = ceil_to(max_of(c->kv_lens, c->batch), c->page_size) + 3;
    i64 *ids = malloc((size_t)(c->batch * width + 1) * sizeof *ids);
    m->k = pages_spec(m, c->d_qk, c->d_v, false);
    m->v = pages_spec(m, c->d_v, c->d_qk, true);
    deal_pages(m, ids, width, seed);
    fill_pages(m, &m->k, ids, width, seed);
    m->table = make_table(m, ids, width);
    if (c->v_table) {
        deal_pages(m, ids, width, seed);
        m->v_table = make_table(m, ids, width);
    }
    fill_pages(m, &m->v, ids, width, seed);
    free(ids);
}

static void make_lengths(struct made_case *m)
{
    const struct problem_case *c = &m->c;
    const enum dtype dtype = c->lens_are_i64 ? DTYPE_I64 : DTYPE_I32;
    i64 at = 0;
    m->kv_lens = compact(&m->twin, dtype, 1, (i64[]){ c->batch });
    if (c->ragged)
        m->q_indptr = compact(&m->twin, dtype, 1, (i64[]){ c->batch + 1 });
    for (i32 b = 0; b < c->batch; b++) {
        put_index(&m->kv_lens, m->twin.host, b, c->kv_lens[b]);
        if (c->ragged)
            put_index(&m->q_indptr, m->twin.host, b, at);
        at += c->q_lens[b];
    }
    if (c->ragged)
        put_index(&m->q_indptr, m->twin.host, c->batch, at);
}

static void make_scores(struct made_case *m, u64 *seed)
{
    const struct problem_case *c = &m->c;
    const i64 heads = c->n_kv_heads * c->group, keys = max_of(c->kv_lens, c->batch) + 5;
    if (c->alibi) {
        m->slopes = compact(&m->twin, DTYPE_F32, 1, &heads);
        fill_floats(&m->slopes, m->twin.host, seed, 0.1f);
    }
    if (c->sinks) {
        m->sinks = compact(&m->twin, DTYPE_F32, 1, &heads);
        fill_floats(&m->sinks, m->twin.host, seed, 1.0f);
    }
    if (c->bias) {
        m->bias = compact(&m->twin, c->bias, 3, (i64[]){ m->n_tokens, c->bias_by_head ? heads : 1, keys });
        fill_floats(&m->bias, m->twin.host, seed, 1.0f);
        for (i64 i = 0; i < m->n_tokens * m->bias.shape[1]; i++)
            for (i64 key = 0; key < keys; key++)
                if (is_removed(c, key))
                    folio__store_float(c->bias, element(&m->bias, m->twin.host, 0, i, key, 0), -INFINITY);
    }
    if (c->mask) {
        m->mask = compact(&m->twin, DTYPE_BOOL, 3, (i64[]){ m->n_tokens, 1, keys });
        u8 *at = m->twin.host + m->mask.offset;
        for (i64 i = 0; i < m->n_tokens * keys; i++)
            at[i] = below(seed, 4) != 0 && i / keys % 7 != 3; /* some rows lose every key */
    }
}

static void make_args(struct made_case *m)
{
    const struct tensor_spec *const specs[14] = { &m->q,       &m->k,        &m->v,    &m->table,    &m->v_table,
                                                  &m->kv_lens, &m->q_indptr, &m->out,  &m->lse,      &m->slopes,
                                                  &m->sinks,   &m->bias,     &m->mask, &m->kv_indptr };
    const struct problem_case *c = &m->c;
    for (i32 side = 0; side < 2; side++) {
        DLTensor *t = side ? m->device : m->host;
        const DLTensor *p[14];
        for (i32 i = 0; i < 14; i++) {
            const bool is_index = i == 3 || i == 4 || i == 5 || i == 6 || i == 13;
            t[i] = side && !(c->host_tables && is_index) ? on_device(specs[i], &m->twin) : on_host(specs[i], &m->twin);
            p[i] = specs[i]->exists ? &t[i] : NULL;
        }
        folio_attend_args args = { .struct_size = sizeof args,
                                   .q = p[0],
                                   .k_pages = p[1],
                                   .v_pages = p[2],
                                   .kv_lens = p[5],
                                   .q_indptr = p[6],
                                   .out = &t[7],
                                   .lse = specs[8]->exists ? &t[8] : NULL,
                                   .alibi_slopes = p[9],
                                   .sinks = p[10],
                                   .bias = p[11],
                                   .mask = p[12],
                                   .scale = c->scale,
                                   .softcap = c->softcap,
                                   .window_left = c->window_left,
                                   .window_right = c->window_right,
                                   .causal = c->causal,
                                   .align = c->align,
                                   .max_kv_len = c->max_kv_len,
                                   .max_q_len = max_of(c->q_lens, c->batch) };
        args.flags = (c->has_scale ? FOLIO_SCALE_IS_SET : 0u) | (c->has_window ? FOLIO_WINDOW_IS_SET : 0u);
        if (c->csr)
            args.kv_indices = p[3], args.kv_indptr = p[13];
        else
            args.page_table = p[3], args.v_page_table = p[4];
        *(side ? &m->device_args : &m->host_args) = args;
    }
}

static size_t case_bytes(const struct made_case *m)
{
    const struct problem_case *c = &m->c;
    const i64 heads = c->n_kv_heads * c->group, keys = max_of(c->kv_lens, c->batch) + 8;
    const i64 pool = m->n_pages * (c->page_size * (c->n_kv_heads * (c->d_qk + c->d_v + 40) + 64) + 80) * 4;
    const i64 rows = m->n_tokens * heads * (c->d_qk + c->d_v + 8 + (c->bias ? keys : 0)) * 4 + m->n_tokens * keys;
    return (size_t)(pool + rows + (c->batch + 2) * (keys / c->page_size + 8) * 32 + (1 << 16));
}

struct problem_case case_plain(i32 batch, u64 seed)
{
    struct problem_case c = { .batch = batch,
                              .group = 4,
                              .n_kv_heads = 2,
                              .d_qk = 128,
                              .d_v = 128,
                              .page_size = 16,
                              .q_dtype = DTYPE_BF16,
                              .page_dtype = DTYPE_BF16,
                              .lse = true,
                              .seed = seed };
    for (i32 b = 0; b < batch; b++)
        c.q_lens[b] = 1;
    return c;
}

void case_make(struct rig *rig, struct made_case *m, const struct problem_case *c)
{
    u64 seed = c->seed;
    *m = (struct made_case){ .c = *c };
    m->n_pages = 3;
    for (i32 b = 0; b < c->batch; b++) {
        m->n_tokens += c->q_lens[b];
        m->n_pages += ceil_to(c->kv_lens[b], c->page_size);
    }
    const i64 heads = c->n_kv_heads * c->group;
    m->twin = twin_create(rig, case_bytes(m));
    m->q = compact(&m->twin, c->q_dtype, 3, (i64[]){ m->n_tokens, heads, c->d_qk });
    fill_floats(&m->q, m->twin.host, &seed, c->magnitude != 0 ? c->magnitude : 1.0f);
    make_pages(m, &seed);
    make_lengths(m);
    make_scores(m, &seed);
    m->out = compact(&m->twin, c->q_dtype, 3, (i64[]){ m->n_tokens, heads, c->d_v });
    if (c->lse)
        m->lse = compact(&m->twin, DTYPE_F32, 2, (i64[]){ m->n_tokens, heads });
    make_args(m);
    twin_upload(rig, &m->twin);
}

void case_free(struct rig *rig, struct made_case *m)
{
    twin_destroy(rig, &m->twin);
}

void case_run_cpu(struct rig *rig, struct made_case *m)
{
    MUST(folio_attend(rig->cpu, NULL, &m->host_args, NULL));
}

const char *case_text(const struct problem_case *c)
{
    static char text[512];
    static const char *const layouts[] = { "NHD", "HND", "FLAT", "interleaved", "gaps", "odd" };
    snprintf(text, sizeof text,
             "seed %llu: B%d kv %d.. q %d.. heads %dx%d d %d/%d page %d %s %s/%s%s%s%s%s causal %d align %d window "
             "%d:%lld,%lld cap %g%s%s bias %d%s",
             (unsigned long long)c->seed, c->batch, c->kv_lens[0], c->q_lens[0], c->group, c->n_kv_heads, c->d_qk,
             c->d_v, c->page_size, layouts[c->layout], folio__dtype_name(c->q_dtype), folio__dtype_name(c->page_dtype),
             c->csr ? " csr" : "", c->v_table ? " v_table" : "", c->ragged ? " ragged" : "",
             c->host_tables ? " host tables" : "", c->causal, c->align, c->has_window, (long long)c->window_left,
             (long long)c->window_right, c->softcap, c->alibi ? " alibi" : "", c->sinks ? " sinks" : "", (int)c->bias,
             c->mask ? " mask" : "");
    return text;
}
