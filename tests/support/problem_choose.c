/* SPDX-License-Identifier: Apache-2.0
 * problem_choose.c: a seed -> shapes and options, edges first. */
#include "base/bits.h"
#include "support/problem.h"

static const struct problem_limits everything = {
    .max_work = 3e6, .max_kv_len = 700, .max_q_len = 70, .max_head_dim = 1024
};

static i64 choose_kv_len(struct rng *rng, i64 page_size, i64 max)
{
    const i64 edges[] = { 0,  1,  page_size - 1, page_size, page_size + 1, 3 * page_size + 7, 16, 17, 31, 32,
                          33, 64, 127,           128 };
    const i64 n = rng_one_in(rng, 2) ? RNG_PICK(rng, edges) : rng_range(rng, 0, rng_one_in(rng, 3) ? max : 100);
    return clamp_i64(n, 0, max);
}

static void choose_shapes(struct problem_choice *c, struct rng *rng, const struct problem_limits *limits)
{
    static const i64 page_sizes[] = { 1, 2, 3, 4, 7, 16, 16, 32, 33, 64, 128 };
    static const i32 groups[] = { 1, 1, 2, 3, 4, 4, 5, 7, 8, 16, 71 }, kv_heads[] = { 1, 1, 2, 3, 5, 8 };
    static const i32 dims[] = { 1,  2,  3,  7,  8,  15,  16,  17,  31,  32,  33,  48,
                                64, 64, 64, 80, 96, 127, 128, 128, 192, 256, 576, 1024 };
    c->page_size = RNG_PICK(rng, page_sizes);
    c->spare_pages = rng_range(rng, 0, 3);
    c->group = RNG_PICK(rng, groups);
    c->n_kv_heads = RNG_PICK(rng, kv_heads);
    c->head_dim_qk = c->head_dim_v = (i32)min_i64(RNG_PICK(rng, dims), limits->max_head_dim);
    if (rng_one_in(rng, 3))
        c->head_dim_v = (i32)min_i64(RNG_PICK(rng, dims), limits->max_head_dim);
    c->layout = (enum problem_layout)rng_range(rng, 0, N_LAYOUTS - 1);
    if (c->layout == INTERLEAVED)
        c->head_dim_v = c->head_dim_qk;
}

static void choose_lengths(struct problem_choice *c, struct rng *rng, const struct problem_limits *limits)
{
    static const i64 q_edges[] = { 0, 1, 1, 2, 3, 5, 8, 16, 17, 33, 64, 65 };
    c->batch = (i32)rng_range(rng, rng_one_in(rng, 20) ? 0 : 1, rng_one_in(rng, 3) ? MAX_BATCH : 3);
    c->decode = rng_one_in(rng, 3);
    const double heads = (double)c->n_kv_heads * c->group * (c->head_dim_qk + c->head_dim_v);
    double work = limits->max_work;
    for (i32 b = 0; b < c->batch; b++) {
        c->kv_lens[b] = choose_kv_len(rng, c->page_size, limits->max_kv_len);
        c->q_lens[b] = c->decode ? 1 : min_i64(RNG_PICK(rng, q_edges), limits->max_q_len);
        while (c->kv_lens[b] > 1 && (double)(c->q_lens[b] * c->kv_lens[b]) * heads > work) {
            if (!c->decode && c->q_lens[b] > 1 && rng_one_in(rng, 2))
                c->q_lens[b] /= 2;
            else
                c->kv_lens[b] = c->kv_lens[b] * 2 / 3;
        }
        work -= (double)(c->q_lens[b] * c->kv_lens[b]) * heads;
    }
    c->share_pages = c->batch > 1 && rng_one_in(rng, 4);
}

static void choose_storage(struct problem_choice *c, struct rng *rng, const struct problem_limits *limits)
{
    static const enum dtype dtypes[] = { DTYPE_F32, DTYPE_F16, DTYPE_BF16 };
    c->kv_dtype = limits->plain_dtypes ? DTYPE_F32 : RNG_PICK(rng, dtypes);
    c->q_dtype = rng_one_in(rng, 3) ? DTYPE_F32 : c->kv_dtype;
    c->csr = rng_one_in(rng, 4);
    c->ids_i64 = rng_one_in(rng, 3);
    c->lens_i64 = rng_one_in(rng, 3);
    c->v_table = rng_one_in(rng, 4);
    c->q_gaps = rng_one_in(rng, 3);
    c->out_gaps = rng_one_in(rng, 3);
    c->compact_null_strides = rng_one_in(rng, 2);
    c->lse = !rng_one_in(rng, 4);
}

static void choose_masks(struct problem_choice *c, struct rng *rng)
{
    static const i64 windows[] = { -1, -1, 0, 1, 3, 16, 100, INT64_MAX };
    c->causal = rng_one_in(rng, 2) ? FOLIO_CAUSAL_NONE : (i32)rng_range(rng, 1, 2);
    c->align = FOLIO_ALIGN_AUTO;
    if (rng_one_in(rng, 3))
        c->align = c->causal ? c->causal : (i32)rng_range(rng, 1, 2);
    c->window_left = c->window_right = 0; /* which would count as one, were the flag set */
    if (rng_one_in(rng, 3)) {
        c->flags |= FOLIO_WINDOW_IS_SET;
        c->window_left = RNG_PICK(rng, windows);
        c->window_right = RNG_PICK(rng, windows);
    }
    c->mask = rng_one_in(rng, 4);
    c->mask_everything = c->mask && rng_one_in(rng, 3);
}

static void choose_scores(struct problem_choice *c, struct rng *rng)
{
    static const double scales[] = { 0, -0.5, 0.1, 1.7 }, softcaps[] = { 0.5, 5, 50 };
    static const enum dtype dtypes[] = { DTYPE_F32, DTYPE_F16, DTYPE_BF16 };
    static const i32 splits[] = { 1, 2, 3, 7, 64, FOLIO_MAX_SPLITS };
    if (rng_one_in(rng, 3)) {
        c->flags |= FOLIO_SCALE_IS_SET;
        c->scale = RNG_PICK(rng, scales);
    }
    if (rng_one_in(rng, 4))
        c->softcap = RNG_PICK(rng, softcaps);
    c->alibi = rng_one_in(rng, 4);
    c->sinks = rng_one_in(rng, 4);
    c->bias = rng_one_in(rng, 4);
    c->bias_dtype = RNG_PICK(rng, dtypes);
    c->amplitude = rng_one_in(rng, 12) ? (c->kv_dtype == DTYPE_F16 || c->q_dtype == DTYPE_F16 ? 3e3 : 1e15) : 1;
    c->num_splits = rng_one_in(rng, 3) ? RNG_PICK(rng, splits) : 0;
}

static double or_default(double x, double otherwise)
{
    return x > 0 ? x : otherwise;
}

void problem_choose(struct problem_choice *c, u64 seed, const struct problem_limits *limits)
{
    struct problem_limits l = limits ? *limits : everything;
    l.max_work = or_default(l.max_work, everything.max_work);
    l.max_kv_len = (i64)or_default((double)l.max_kv_len, (double)everything.max_kv_len);
    l.max_q_len = (i64)or_default((double)l.max_q_len, (double)everything.max_q_len);
    l.max_head_dim = (i32)or_default(l.max_head_dim, everything.max_head_dim);
    struct rng rng = { seed };
    *c = (struct problem_choice){ .seed = seed };
    choose_shapes(c, &rng, &l);
    choose_lengths(c, &rng, &l);
    choose_storage(c, &rng, &l);
    choose_masks(c, &rng);
    choose_scores(c, &rng);
}
