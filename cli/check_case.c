/* SPDX-License-Identifier: Apache-2.0
 * check_case.c: the check's list of attention problems. */
#include "check_case.h"

#include <stdio.h>

#include "folio/attend.h"

/* What every edge starts from: a decode step of one sequence. */
static const struct check_case plain = {
    .q_element = ELEMENT_F32,
    .kv_element = ELEMENT_F32,
    .layout = LAYOUT_NHD,
    .n_kv_heads = 2,
    .group = 3,
    .dim_qk = 64,
    .dim_v = 64,
    .page_size = 16,
    .batch = 1,
    .q_lens = { 1 },
    .kv_lens = { 40 },
};

/* The edges, one after the other: lengths, then shapes, then options. */
static const i64 edge_lengths[][3] = { /* page_size, q_len, kv_len */
                                       { 16, 1, 0 },   { 16, 1, 1 },    { 16, 1, 15 },  { 16, 1, 16 },  { 16, 1, 17 },
                                       { 16, 1, 55 },  { 1, 1, 7 },     { 3, 1, 31 },   { 64, 1, 63 },  { 128, 1, 700 },
                                       { 16, 2, 2 },   { 16, 5, 2 },    { 16, 17, 17 }, { 16, 64, 64 }, { 7, 65, 130 },
                                       { 16, 96, 96 }, { 16, 150, 400 }
};
static const i32 edge_shapes[][4] = { /* n_kv_heads, group, dim_qk, dim_v */
                                      { 1, 1, 1, 1 },      { 1, 1, 7, 5 },      { 3, 3, 64, 64 },   { 2, 4, 128, 128 },
                                      { 1, 8, 80, 80 },    { 4, 1, 96, 32 },    { 1, 5, 192, 128 }, { 1, 2, 256, 256 },
                                      { 1, 16, 576, 512 }, { 1, 1, 1024, 1024 }
};
/* Each with one query row, then on a ragged batch. */
static const struct case_options edge_options[] = {
    { .causal = FOLIO_CAUSAL_TOP_LEFT },
    { .causal = FOLIO_CAUSAL_BOTTOM_RIGHT },
    { .has_window = true, .window_left = 7, .window_right = -1 },
    { .has_window = true, .window_left = -1, .window_right = 3 },
    { .has_window = true, .window_left = 0, .window_right = 0 },
    { .has_window = true, .window_left = 20, .window_right = 5, .align = FOLIO_ALIGN_TOP_LEFT },
    { .has_window = true, .window_left = 17, .window_right = 0, .causal = FOLIO_CAUSAL_BOTTOM_RIGHT },
    { .softcap = 5 },
    { .alibi = true },
    { .alibi = true, .align = FOLIO_ALIGN_TOP_LEFT },
    { .sinks = true },
    { .sinks = true, .causal = FOLIO_CAUSAL_TOP_LEFT },
    { .bias = SCORE_FULL },
    { .bias = SCORE_BY_KEY },
    { .mask = SCORE_FULL },
    { .mask = SCORE_BY_HEAD },
    { .has_scale = true, .scale = 0 },
    { .has_scale = true, .scale = -0.3 },
    { .csr = true },
    { .csr = true, .wide_ids = true },
    { .v_table = true },
    { .gaps = true },
    { .num_splits = 5 },
    { .num_splits = 3, .sinks = true, .alibi = true, .softcap = 9, .bias = SCORE_FULL },
};

i64 case_n_edges(void)
{
    return (i64)(COUNT_OF(edge_lengths) + 2 * COUNT_OF(edge_shapes) + 2 * COUNT_OF(edge_options));
}

static void make_ragged(struct check_case *c)
{
    static const i64 q_lens[] = { 1, 0, 33, 2, 1, 70 }, kv_lens[] = { 100, 9, 33, 1, 0, 210 };
    c->batch = CASE_MAX_BATCH;
    for (i64 i = 0; i < CASE_MAX_BATCH; i++) {
        c->q_lens[i] = q_lens[i];
        c->kv_lens[i] = kv_lens[i];
    }
}

static void make_edge(struct check_case *c, i64 number)
{
    const i64 n_lengths = COUNT_OF(edge_lengths), n_shapes = COUNT_OF(edge_shapes);
    if (number < n_lengths) {
        c->page_size = edge_lengths[number][0];
        c->q_lens[0] = edge_lengths[number][1];
        c->kv_lens[0] = edge_lengths[number][2];
        return;
    }
    number -= n_lengths;
    if (number < 2 * n_shapes) {
        const i32 *shape = edge_shapes[number / 2];
        c->n_kv_heads = shape[0];
        c->group = shape[1];
        c->dim_qk = shape[2];
        c->dim_v = shape[3];
        c->q_lens[0] = number % 2 ? 40 : 1;
        return;
    }
    number -= 2 * n_shapes;
    if (number % 2)
        make_ragged(c);
    c->options = edge_options[number / 2];
}

static i64 pick(u64 *state, i64 n) /* 0 .. n - 1 */
{
    *state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (i64)((*state >> 33) % (u64)n);
}

static bool one_in(u64 *state, i64 n)
{
    return pick(state, n) == 0;
}

static void make_random_lengths(struct check_case *c, u64 *state)
{
    static const i64 page_sizes[] = { 1, 2, 5, 8, 16, 16, 32, 33, 64, 128 };
    c->page_size = page_sizes[pick(state, COUNT_OF(page_sizes))];
    c->batch = 1 + pick(state, CASE_MAX_BATCH);
    c->decode = one_in(state, 3);
    for (i64 i = 0; i < c->batch; i++) {
        const i64 near = c->page_size * pick(state, 5) + pick(state, 3) - 1; /* next to a page boundary */
        c->kv_lens[i] = one_in(state, 2) ? max_i64(near, 0) : pick(state, 300);
        c->q_lens[i] = c->decode ? 1 : one_in(state, 2) ? pick(state, 4) : pick(state, 90);
    }
}

static void make_random_shape(struct check_case *c, u64 *state)
{
    static const i32 groups[] = { 1, 1, 2, 3, 4, 5, 8 }, dims[] = { 8, 16, 31, 64, 64, 72, 80, 96, 128 };
    c->n_kv_heads = (i32)(1 + pick(state, 3));
    c->group = groups[pick(state, COUNT_OF(groups))];
    c->dim_qk = dims[pick(state, COUNT_OF(dims))];
    c->dim_v = one_in(state, 4) ? dims[pick(state, COUNT_OF(dims))] : c->dim_qk;
    c->layout = (enum layout)pick(state, 3);
    if (c->dim_v != c->dim_qk)
        c->layout = LAYOUT_SPLIT;
}

static void make_random_options(struct case_options *o, u64 *state)
{
    o->causal = (i32)pick(state, 3);
    o->align = o->causal == FOLIO_CAUSAL_NONE ? (i32)pick(state, 3) : FOLIO_ALIGN_AUTO;
    o->has_window = one_in(state, 3);
    o->window_left = pick(state, 60) - 1;
    o->window_right = pick(state, 20) - 1;
    o->has_scale = one_in(state, 4);
    o->scale = (double)(pick(state, 200) - 100) / 200;
    o->softcap = one_in(state, 4) ? (double)(1 + pick(state, 30)) : 0;
    o->alibi = one_in(state, 4);
    o->sinks = one_in(state, 4);
    o->bias = one_in(state, 4) ? (enum score_input)pick(state, 4) : SCORE_NONE;
    o->mask = one_in(state, 4) ? (enum score_input)pick(state, 4) : SCORE_NONE;
    o->csr = one_in(state, 3);
    o->wide_ids = one_in(state, 2);
    o->v_table = one_in(state, 4);
    o->gaps = one_in(state, 3);
    o->num_splits = one_in(state, 3) ? (i32)pick(state, 9) : 0;
}

static void make_random(struct check_case *c, u64 seed)
{
    u64 state = seed + (u64)c->number * UINT64_C(0x9e3779b97f4a7c15);
    pick(&state, 1);
    make_random_lengths(c, &state);
    make_random_shape(c, &state);
    make_random_options(&c->options, &state);
}

void case_make(struct check_case *c, i64 number, u64 seed)
{
    *c = plain;
    c->number = number;
    c->seed = seed;
    if (number < case_n_edges())
        make_edge(c, number);
    else
        make_random(c, seed);
    if (c->options.csr) /* has one table */
        c->options.v_table = false;
    /* One page holds both K and V only when they have the same rows. */
    if (c->options.v_table || c->dim_qk != c->dim_v)
        c->layout = LAYOUT_SPLIT;
}

static void describe_lengths(const struct check_case *c, char *text, size_t n)
{
    size_t at = 0;
    for (i64 i = 0; i < c->batch && at < n; i++)
        at += (size_t)snprintf(text + at, n - at, "%s%lld/%lld", i ? " " : "", (long long)c->q_lens[i],
                               (long long)c->kv_lens[i]);
}

void case_describe(const struct check_case *c, char *text, size_t n)
{
    const struct case_options *o = &c->options;
    char lengths[160], window[48] = "none", scale[32] = "default";
    describe_lengths(c, lengths, sizeof(lengths));
    if (o->has_window)
        snprintf(window, sizeof(window), "%lld,%lld", (long long)o->window_left, (long long)o->window_right);
    if (o->has_scale)
        snprintf(scale, sizeof(scale), "%g", o->scale);
    snprintf(text, n,
             "q %s, pages %s %s of %lld, heads %d/%d, dims %d/%d, q_len/kv_len %s%s, causal %d align %d window %s "
             "softcap %g scale %s bias %d mask %d splits %d%s%s%s%s%s%s",
             element_names[c->q_element], element_names[c->kv_element], layout_names[c->layout],
             (long long)c->page_size, c->n_kv_heads * c->group, c->n_kv_heads, c->dim_qk, c->dim_v, lengths,
             c->decode ? " (decode)" : "", o->causal, o->align, window, o->softcap, scale, o->bias, o->mask,
             o->num_splits, o->alibi ? " alibi" : "", o->sinks ? " sinks" : "", o->csr ? " csr" : "",
             o->wide_ids ? " i64" : "", o->v_table ? " v_table" : "", o->gaps ? " gaps" : "");
}

i64 case_n_tokens(const struct check_case *c)
{
    i64 n = 0;
    for (i64 i = 0; i < c->batch; i++)
        n += c->q_lens[i];
    return n;
}

i64 case_max_kv_len(const struct check_case *c)
{
    i64 longest = 0;
    for (i64 i = 0; i < c->batch; i++)
        longest = max_i64(longest, c->kv_lens[i]);
    return longest;
}
