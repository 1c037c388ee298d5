/* SPDX-License-Identifier: Apache-2.0
 * test_quantised.c: quantised pages are their dequantised values, at every level. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "support/open_context.h"
#include "support/problem.h"

static const enum dtype dtypes[] = { DTYPE_I8, DTYPE_E4M3, DTYPE_E5M2 };
static const folio_isa levels[] = { FOLIO_ISA_C,           FOLIO_ISA_AVX2, FOLIO_ISA_AVX512,
                                    FOLIO_ISA_AVX512_BF16, FOLIO_ISA_AMX,  FOLIO_ISA_AMX_EMULATED };
enum { N_LEVELS = sizeof levels / sizeof *levels, N_DTYPES = 3 };
enum scale_kind { SCALE_NONE, SCALE_ONE, SCALE_BY_HEAD, SCALE_BY_SLOT, N_SCALE_KINDS };

/* ---- K or V of a problem, quantised; the problem gets the values that come of it */

struct quantised {
    struct test_tensor pages, scale;
};

static double largest(const struct test_tensor *t, i64 page, i64 slot, i64 head)
{
    double most = 0;
    for (i64 d = 0; d < t->shape[3]; d++)
        most = fmax(most, fabs(tensor_get(t, (i64[]){ page, slot, head, d })));
    return most;
}

static void make_scale(struct test_tensor *scale, enum scale_kind kind, const i64 *shape)
{
    const i64 strides[] = { shape[1] * (shape[2] + 1), shape[2] + 1, 1 },
              turned[] = { 2 * shape[1] * shape[2], 1, 2 * shape[1] };
    *scale = (struct test_tensor){ 0 };
    if (kind == SCALE_ONE)
        tensor_make(scale, DTYPE_F32, 1, (i64[]){ 1 }, NULL, 1, false);
    if (kind == SCALE_BY_HEAD)
        tensor_make(scale, DTYPE_F32, 1, (i64[]){ shape[2] }, (i64[]){ 3 }, 0, false);
    if (kind == SCALE_BY_SLOT)
        tensor_make(scale, DTYPE_F32, 3, shape, shape[1] % 2 ? strides : turned, 0, false);
    for (i64 head = 0; head < shape[2] && kind != SCALE_BY_SLOT && kind != SCALE_NONE; head++)
        tensor_set(scale, &(i64){ kind == SCALE_ONE ? 0 : head }, 0.03 + 0.01 * (double)head);
}

static void quantised_free(struct quantised *q)
{
    tensor_free(&q->pages);
    tensor_free(&q->scale);
}

static double scale_at(const struct quantised *q, enum scale_kind kind, i64 page, i64 slot, i64 head)
{
    return kind == SCALE_NONE      ? 1
           : kind == SCALE_ONE     ? tensor_get(&q->scale, &(i64){ 0 })
           : kind == SCALE_BY_HEAD ? tensor_get(&q->scale, &head)
                                   : tensor_get(&q->scale, (i64[]){ page, slot, head });
}

/* Slots of NaN keep NaN scales, or, where a scale is shared, bytes that are NaN or large. */
static void quantise(struct quantised *q, const struct test_tensor *from, enum dtype dtype, enum scale_kind kind,
                     bool hnd)
{
    const i64 *n = from->shape, d = n[3] + 5;
    const i64 by_slot[] = { n[1] * n[2] * d + 7, n[2] * d, d, 1 }, by_head[] = { n[1] * n[2] * d, d, n[1] * d, 1 };
    tensor_make(&q->pages, dtype, 4, n, hnd ? by_head : by_slot, 3, false);
    make_scale(&q->scale, kind, n);
    for (i64 page = 0; page < n[0]; page++)
        for (i64 slot = 0; slot < n[1]; slot++)
            for (i64 head = 0; head < n[2]; head++) {
                if (isnan(tensor_get(from, (i64[]){ page, slot, head, 0 })))
                    continue;
                if (kind == SCALE_BY_SLOT)
                    tensor_set(&q->scale, (i64[]){ page, slot, head },
                               fmax(largest(from, page, slot, head), 1e-3) / (double)folio__dtype_max(dtype));
                const double scale = scale_at(q, kind, page, slot, head);
                for (i64 i = 0; i < n[3]; i++) {
                    const i64 at[] = { page, slot, head, i };
                    tensor_set(&q->pages, at, (double)((float)tensor_get(from, at) / (float)scale));
                    tensor_set(from, at, tensor_get(&q->pages, at) * scale);
                }
            }
}

static void compare(const struct random_problem *p, const float *wanted, double tolerance, const char *what)
{
    i64 at = 0;
    for (i64 token = 0; token < p->n_tokens; token++)
        for (i64 head = 0; head < p->t[T_OUT].shape[1]; head++)
            for (i64 d = 0; d < p->t[T_OUT].shape[2]; d++, at++) {
                const double x = tensor_get(&p->t[T_OUT], (i64[]){ token, head, d });
                if (fabs(x - (double)wanted[at]) <= tolerance)
                    continue;
                fprintf(stderr, "%s: out[%lld, %lld, %lld] = %.9g, wanted %.9g: ", what, (long long)token,
                        (long long)head, (long long)d, x, (double)wanted[at]);
                problem_print(p);
                fail();
            }
}

static float *copy_out(const struct random_problem *p)
{
    const i64 n_heads = p->t[T_OUT].shape[1], n_dims = p->t[T_OUT].shape[2];
    float *copy = calloc((size_t)(p->n_tokens * n_heads * n_dims) + 1, sizeof *copy);
    assert_non_null(copy);
    for (i64 i = 0; i < p->n_tokens * n_heads * n_dims; i++)
        copy[i] = (float)tensor_get(&p->t[T_OUT], (i64[]){ i / n_dims / n_heads, i / n_dims % n_heads, i % n_dims });
    return copy;
}

/* Levels avx512_bf16 and amx round weights, by block, to 16 bits where sequences are long, the first q too: what a row
 * that sees few keys can tell. */
static double allowed(const struct random_problem *p, folio_isa level, enum dtype dtype)
{
    bool is_long = false;
    for (i32 b = 0; b < p->c.batch; b++)
        is_long = is_long || p->c.kv_lens[b] >= 512;
    return is_long && dtype == DTYPE_I8 && level >= FOLIO_ISA_AVX512_BF16 ? 2e-5 : 2e-6;
}

/* Oracle on dequantised f32 pages = oracle on quantised pages = every level; levels with the same bits agree to the
 * bit. */
static void check_choice(const struct problem_choice *c, enum dtype dtype, folio_context *ref,
                         folio_context *const *ctx)
{
    const u64 seed = c->seed;
    struct random_problem p;
    problem_build(&p, c);
    struct quantised k, v;
    quantise(&k, &p.t[T_K], dtype, (enum scale_kind)(seed / 3 % N_SCALE_KINDS), seed & 1);
    quantise(&v, &p.t[T_V], dtype, (enum scale_kind)(seed / 12 % N_SCALE_KINDS), seed & 2);
    problem_reset_outputs(&p);
    assert_true(problem_run(&p, ref, NULL));
    float *wanted = copy_out(&p);
    p.args.k_pages = &k.pages.dl;
    p.args.v_pages = &v.pages.dl;
    p.args.k_scale = tensor_there(&k.scale) ? &k.scale.dl : NULL;
    p.args.v_scale = tensor_there(&v.scale) ? &v.scale.dl : NULL;
    problem_reset_outputs(&p);
    assert_true(problem_run(&p, ref, NULL));
    /* Dequantised K was rounded to f32, which moves scores by their size. */
    compare(&p, wanted, 2e-8 * p.max_value * fmax(10, p.max_score), "the oracle");
    u64 bits = 0;
    for (i32 i = 0; i < N_LEVELS; i++) {
        if (!ctx[i])
            continue;
        if (!problem_agrees(&p, ctx[i], ref, allowed(&p, levels[i], dtype)))
            fail_msg("seed %llu, %s, level %d", (unsigned long long)seed, folio__dtype_name(dtype), (int)levels[i]);
        problem_reset_outputs(&p);
        assert_true(problem_run(&p, ctx[i], NULL));
        if (levels[i] == FOLIO_ISA_C)
            bits = problem_hash_outputs(&p);
        else if (levels[i] <= FOLIO_ISA_AVX512)
            assert_int_equal(problem_hash_outputs(&p), bits);
    }
    free(wanted);
    quantised_free(&k);
    quantised_free(&v);
    problem_free(&p);
}

/* In f32, of usual size; small vectors of neighbouring pages share memory where there are gaps, and are written. */
static struct problem_choice quantisable(u64 seed, const struct problem_limits *limits)
{
    struct problem_choice c;
    problem_choose(&c, seed, limits);
    c.q_dtype = c.kv_dtype = DTYPE_F32;
    c.amplitude = 1;
    if (c.layout == GAPPED)
        c.layout = HND;
    return c;
}

static void open_levels(folio_context **ctx)
{
    for (i32 i = 0; i < N_LEVELS; i++)
        ctx[i] = folio_isa_available(levels[i]) ? open_context(FOLIO_BACKEND_CPU, levels[i], 2) : NULL;
}

static void close_levels(folio_context **ctx)
{
    for (i32 i = 0; i < N_LEVELS; i++)
        folio_context_destroy(&ctx[i]);
}

static void attention_is_that_of_the_dequantised_pages(void **state)
{
    (void)state;
    folio_context *ref = open_context(FOLIO_BACKEND_REF, FOLIO_ISA_AUTO, 2), *ctx[N_LEVELS];
    open_levels(ctx);
    const struct problem_limits limits = { .max_work = 3e5, .max_head_dim = 160 };
    for (u64 seed = 1; seed <= 120; seed++) {
        const struct problem_choice c = quantisable(seed, &limits);
        check_choice(&c, dtypes[seed % N_DTYPES], ref, ctx);
    }
    close_levels(ctx);
    folio_context_destroy(&ref);
}

/* Whole chunks of keys that all rows see have a way of their own in tiles of bytes: every group, shape and page size,
 * up to the last key. */
static void decode_of_bytes_is_that_of_the_dequantised_pages(void **state)
{
    (void)state;
    static const i32 groups[] = { 1, 2, 3, 4, 6, 8, 12, 24 }, dims[] = { 128, 64, 256, 80, 1, 192, 128, 33 };
    static const i64 kv_lens[] = { 32, 31, 33, 64, 200, 513 }, page_sizes[] = { 16, 1, 128, 33 };
    folio_context *ref = open_context(FOLIO_BACKEND_REF, FOLIO_ISA_AUTO, 2), *ctx[N_LEVELS];
    open_levels(ctx);
    for (u64 seed = 0; seed < 48; seed++) {
        const i64 kv_len = kv_lens[seed % 6];
        const i32 group = groups[seed % 8], d = dims[(seed + seed / 8) % 8];
        const struct problem_choice c = { .seed = seed,
                                          .batch = 1,
                                          .q_lens = { 1 },
                                          .kv_lens = { kv_len },
                                          .page_size = page_sizes[(seed + seed / 4) % 4],
                                          .spare_pages = 2,
                                          .n_kv_heads = seed % 5 == 0 ? 3 : 1,
                                          .group = group,
                                          .head_dim_qk = d,
                                          .head_dim_v = seed % 7 == 0 ? 96 : d,
                                          .q_dtype = DTYPE_F32,
                                          .kv_dtype = DTYPE_F32,
                                          .layout = seed & 1 ? HND : NHD,
                                          .decode = true,
                                          .lse = true,
                                          .amplitude = 1,
                                          .scale = seed % 11 == 0 ? -0.3 : 1 / sqrt(d),
                                          .flags = FOLIO_SCALE_IS_SET };
        check_choice(&c, DTYPE_I8, ref, ctx);
    }
    close_levels(ctx);
    folio_context_destroy(&ref);
}

/* Level avx512_bf16 multiplies bytes: int8, 512 keys, heads of 64, 128, 256, three rows a kv head, and more. */
static void and_that_of_long_sequences_of_int8(void **state)
{
    (void)state;
    folio_context *ref = open_context(FOLIO_BACKEND_REF, FOLIO_ISA_AUTO, 2), *ctx[N_LEVELS];
    open_levels(ctx);
    static const i32 dims[] = { 64, 128, 256 }, groups[] = { 3, 4, 4, 7, 8 };
    static const i64 lens[] = { 511, 512, 513, 640, 700, 1029 };
    for (u64 seed = 1; seed <= 24; seed++) {
        struct problem_choice c = quantisable(seed, NULL);
        c.batch = 2;
        c.decode = c.mask_everything = false;
        c.n_kv_heads = 1 + (i32)(seed % 2);
        c.group = groups[seed % 5];
        c.head_dim_qk = c.layout == INTERLEAVED ? 128 : dims[seed / 5 % 3];
        c.head_dim_v = c.layout == INTERLEAVED ? 128 : dims[seed / 2 % 2];
        for (i32 b = 0; b < c.batch; b++) {
            c.kv_lens[b] = lens[(seed + (u64)b) % 6];
            c.q_lens[b] = 1 + (i32)(seed / 7 + (u64)b) % 2;
        }
        check_choice(&c, DTYPE_I8, ref, ctx);
    }
    close_levels(ctx);
    folio_context_destroy(&ref);
}

/* The stated error, of rows that see many keys: standard normal data, a scale a slot. */
static void the_error_of_int8_at_4096_keys(void **state)
{
    (void)state;
    folio_context *ref = open_context(FOLIO_BACKEND_REF, FOLIO_ISA_AUTO, 2), *ctx[N_LEVELS];
    open_levels(ctx);
    struct problem_choice c;
    c = (struct problem_choice){ .seed = 36,
                                 .batch = 1,
                                 .q_lens = { 1 },
                                 .kv_lens = { 4096 },
                                 .page_size = 16,
                                 .n_kv_heads = 2,
                                 .group = 4,
                                 .head_dim_qk = 128,
                                 .head_dim_v = 128,
                                 .q_dtype = DTYPE_F32,
                                 .kv_dtype = DTYPE_F32,
                                 .layout = HND,
                                 .decode = true,
                                 .amplitude = 1,
                                 .window_left = -1,
                                 .window_right = -1 };
    struct random_problem p;
    struct quantised k, v;
    problem_build(&p, &c);
    quantise(&k, &p.t[T_K], DTYPE_I8, SCALE_BY_SLOT, false);
    quantise(&v, &p.t[T_V], DTYPE_I8, SCALE_BY_SLOT, true);
    p.args.k_pages = &k.pages.dl;
    p.args.v_pages = &v.pages.dl;
    p.args.k_scale = &k.scale.dl;
    p.args.v_scale = &v.scale.dl;
    problem_reset_outputs(&p);
    assert_true(problem_run(&p, ref, NULL));
    float *wanted = copy_out(&p);
    for (i32 i = 0; i < N_LEVELS; i++) {
        if (!ctx[i])
            continue;
        problem_reset_outputs(&p);
        assert_true(problem_run(&p, ctx[i], NULL));
        compare(&p, wanted, 1e-6 * p.max_value, folio_isa_name(levels[i]));
        const u64 bits = problem_hash_outputs(&p);
        folio_context *one = open_context(FOLIO_BACKEND_CPU, levels[i], 1);
        problem_reset_outputs(&p);
        assert_true(problem_run(&p, one, NULL));
        assert_int_equal(problem_hash_outputs(&p), bits); /* threads change no bit */
        folio_context_destroy(&one);
    }
    free(wanted);
    quantised_free(&k);
    quantised_free(&v);
    problem_free(&p);
    close_levels(ctx);
    folio_context_destroy(&ref);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(attention_is_that_of_the_dequantised_pages),
        cmocka_unit_test(decode_of_bytes_is_that_of_the_dequantised_pages),
        cmocka_unit_test(and_that_of_long_sequences_of_int8),
        cmocka_unit_test(the_error_of_int8_at_4096_keys),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
