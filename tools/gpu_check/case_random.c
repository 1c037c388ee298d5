/* SPDX-License-Identifier: Apache-2.0
 * case_random.c: any legal case from a seed. */
#include "case.h"

static bool coin(u64 *seed, i64 one_in)
{
    return below(seed, one_in) == 0;
}

static i64 pick(u64 *seed, const i32 *values, i64 n)
{
    return values[below(seed, n)];
}

static void choose_lengths(struct problem_case *c, u64 *seed, i32 size)
{
    static const i32 edges[] = { 0, 1, 2, 15, 16, 17, 63, 64, 65, 127, 128, 129, 255, 256, 257, 511, 512, 513 };
    static const i32 most_keys[] = { 90, 700, 5000 }, most_rows[] = { 5, 40, 80 };
    for (i32 b = 0; b < c->batch; b++) {
        c->kv_lens[b] = coin(seed, 3) ? (i32)pick(seed, edges, 12 + 3 * size) : (i32)below(seed, most_keys[size]);
        c->q_lens[b] = c->ragged ? (coin(seed, 6) ? 0 : (i32)between(seed, 1, coin(seed, 2) ? 4 : most_rows[size])) : 1;
    }
}

static void choose_options(struct problem_case *c, u64 *seed)
{
    c->causal = (i32)below(seed, 3);
    c->align = c->causal == FOLIO_CAUSAL_NONE ? (i32)below(seed, 3) : FOLIO_ALIGN_AUTO;
    c->has_window = coin(seed, 3);
    c->window_left = coin(seed, 3) ? -1 : below(seed, 150);
    c->window_right = coin(seed, 2) ? -1 : below(seed, 30);
    c->softcap = coin(seed, 4) ? (coin(seed, 2) ? 30.0 : 3.0) : 0.0;
    c->has_scale = coin(seed, 3);
    c->scale = 0.3;
    c->alibi = coin(seed, 4);
    c->sinks = coin(seed, 4);
    c->bias = coin(seed, 5) ? (enum dtype)between(seed, DTYPE_F32, DTYPE_BF16) : DTYPE_NONE;
    c->bias_by_head = coin(seed, 2);
    c->mask = coin(seed, 6);
    c->lse = !coin(seed, 5);
}

struct problem_case case_random(u64 seed, i32 size)
{
    static const i32 groups[] = { 1, 4, 8, 2, 3, 5, 7, 16, 32 }, heads[] = { 1, 2, 8, 3, 5 };
    static const i32 dims[] = { 128, 64, 256, 128, 64, 80, 33, 7, 1, 192, 96 };
    static const i32 pages[] = { 16, 1, 64, 8, 128, 3, 17, 32, 256 };
    static const enum dtype pairs[][2] = { { DTYPE_BF16, DTYPE_BF16 },
                                           { DTYPE_F16, DTYPE_F16 },
                                           { DTYPE_F32, DTYPE_F32 },
                                           { DTYPE_F32, DTYPE_BF16 },
                                           { DTYPE_F32, DTYPE_F16 } };
    struct problem_case c = { .seed = seed };
    u64 s = seed;
    const i64 pair = below(&s, 5);
    c.q_dtype = pairs[pair][0], c.page_dtype = pairs[pair][1];
    c.batch = (i32)between(&s, 1, size == 2 ? 4 : 6);
    c.group = (i32)pick(&s, groups, 9);
    c.n_kv_heads = (i32)pick(&s, heads, c.group > 8 ? 2 : 5);
    c.d_qk = (i32)pick(&s, dims, 11);
    c.d_v = coin(&s, 4) ? (i32)pick(&s, dims, 11) : c.d_qk;
    c.page_size = (i32)pick(&s, pages, 9);
    c.layout = coin(&s, 2) ? LAYOUT_NHD : (enum layout)below(&s, N_LAYOUTS);
    c.csr = coin(&s, 4);
    c.v_table = !c.csr && coin(&s, 4);
    c.ids_are_i64 = coin(&s, 3);
    c.lens_are_i64 = coin(&s, 3);
    c.ragged = coin(&s, 2);
    c.host_tables = coin(&s, 6);
    choose_lengths(&c, &s, size);
    choose_options(&c, &s);
    c.magnitude = coin(&s, 5) ? 8.0f : 1.0f;
    return c;
}
