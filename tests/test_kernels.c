/* SPDX-License-Identifier: Apache-2.0
 * test_kernels.c: attention kernels of every level this machine has: c against ref in double, each level the same bits
 * as c, however the work is cut. A failure prints the case, ready to paste. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <malloc.h>
#include <stdlib.h>
#include <string.h>

#include "support/kernel_case.h"
#include "support/strided.h"

static const struct kernels *level(folio_isa isa)
{
    return folio_isa_available(isa) ? folio__select_cpu(isa) : NULL;
}

static const folio_isa isas[] = { FOLIO_ISA_AVX2, FOLIO_ISA_AVX512, FOLIO_ISA_AVX512_BF16, FOLIO_ISA_AMX,
                                  FOLIO_ISA_AMX_EMULATED };

/* Out and lse of one run, as bytes. */
struct result {
    u8 *out;
    float *lse;
    size_t out_bytes, lse_bytes;
};

static struct result run(struct kernel_memory *memory, const struct kernels *kernels, const struct kernel_cut *cut)
{
    if (!kernel_memory_run(memory, kernels, cut))
        fail_msg("%s wrote outside its memory", kernels->name);
    struct result r = { .out_bytes = kernel_memory_out(memory, NULL), .lse_bytes = kernel_memory_lse(memory, NULL) };
    r.out = malloc(r.out_bytes + 1);
    r.lse = malloc(r.lse_bytes + 1);
    kernel_memory_out(memory, r.out);
    kernel_memory_lse(memory, r.lse);
    return r;
}

static void result_free(struct result *r)
{
    free(r->out);
    free(r->lse);
}

/* Half a unit in the last place of a stored number, relative. */
static double half_ulp(enum dtype dtype)
{
    return dtype == DTYPE_F32 ? 0x1p-24 : dtype == DTYPE_F16 ? 0x1p-11 : 0x1p-8;
}

/* Pairs and tiles of bf16: each weight is rounded to 8 bits. Weights sum to 1, and |v| <= 6 (random_normal). */
static bool rounds_weights(const struct kernel_case *c, const struct kernels *kernels)
{
    return kernels->isa >= FOLIO_ISA_AVX512_BF16 && c->q_dtype == DTYPE_BF16 && c->kv_dtype == DTYPE_BF16;
}

/* c's arithmetic is f32: 2e-6 of the values' size (6 at most) holds for normal data, plus the rounding of out. */
static void check_near(const struct kernel_case *c, const struct kernels *kernels, const struct result *got,
                       const struct result *want)
{
    const double weights = rounds_weights(c, kernels) ? 6.0 * 0x1p-9 : 0.0;
    const i64 bytes = folio__dtype_bytes(c->q_dtype);
    const double magnitude = fmin(fmax(1.0, fabs(c->scale)), 30.0); /* of the logits; larger ones pick one key */
    for (size_t i = 0; i < got->out_bytes / (size_t)bytes; i++) {
        const double x = (double)folio__load_float(c->q_dtype, got->out + (i64)i * bytes);
        const double y = (double)folio__load_float(c->q_dtype, want->out + (i64)i * bytes);
        const double allowed = weights + 1e-5 * magnitude + 2.0 * half_ulp(c->q_dtype) * fabs(y);
        if (!(fabs(x - y) <= allowed))
            fail_msg("%s: out[%zu] %.9g, ref %.9g, allowed %.3g: %s", kernels->name, i, x, y, allowed,
                     kernel_case_text(c));
    }
    for (size_t i = 0; i < got->lse_bytes / sizeof(float); i++) {
        const double x = (double)got->lse[i], y = (double)want->lse[i];
        if (!(x == y || fabs(x - y) <= 1e-5 * magnitude + 1e-6 * fabs(y)))
            fail_msg("%s: lse[%zu] %.9g, ref %.9g: %s", kernels->name, i, x, y, kernel_case_text(c));
    }
}

static void check_same(const struct kernel_case *c, const char *what, const struct result *got,
                       const struct result *want)
{
    if (memcmp(got->out, want->out, got->out_bytes) || memcmp(got->lse, want->lse, got->lse_bytes)) {
        const i64 bytes = folio__dtype_bytes(c->q_dtype);
        for (size_t i = 0; i < got->out_bytes / (size_t)bytes; i++)
            if (memcmp(got->out + i * (size_t)bytes, want->out + i * (size_t)bytes, (size_t)bytes))
                fail_msg("%s: out[%zu] %.9g, not %.9g: %s", what, i,
                         (double)folio__load_float(c->q_dtype, got->out + i * (size_t)bytes),
                         (double)folio__load_float(c->q_dtype, want->out + i * (size_t)bytes), kernel_case_text(c));
        fail_msg("%s: lse differs: %s", what, kernel_case_text(c));
    }
}

static void check_same_bits(const struct kernel_case *c, struct kernel_memory *memory, const struct kernels *kernels,
                            const struct kernel_cut *cut, const struct result *want)
{
    struct result got = run(memory, kernels, cut);
    check_same(c, kernels->name, &got, want);
    result_free(&got);
}

/* A level: the bits of c, or near ref where it rounds weights; and the same bits however the work is cut. */
static void check_level(const struct kernel_case *c, struct kernel_memory *memory, const struct kernels *kernels,
                        const struct kernel_cut *whole, const struct result *want, const struct result *base)
{
    struct result got = run(memory, kernels, whole);
    if (rounds_weights(c, kernels))
        check_near(c, kernels, &got, want);
    else
        check_same(c, kernels->name, &got, base);
    struct kernel_cut cut = *whole;
    cut.through_memory = true;
    cut.n_kv_heads_once = 2;
    check_same_bits(c, memory, kernels, &cut, &got);
    result_free(&got);
}

/* ref, c near it, every level equal to c, every cut equal to none. */
static void check_once(const struct kernel_case *c)
{
    struct kernel_memory *memory = kernel_memory_create(c);
    const i64 split = c->kv_len > 40 ? 40 + c->kv_len / 5 : 0;
    const struct kernel_cut whole = { .family = -1, .split_tokens = split };
    struct result want = run(memory, &folio__kernels_ref, &(struct kernel_cut){ .family = -1 });
    struct result base = run(memory, &folio__kernels_c, &whole);
    check_near(c, &folio__kernels_c, &base, &want);
    check_same_bits(
        c, memory, &folio__kernels_c,
        &(struct kernel_cut){ .family = -1, .split_tokens = split, .through_memory = true, .n_kv_heads_once = 1 },
        &base);
    for (size_t i = 0; i < COUNT_OF(isas); i++)
        if (level(isas[i]))
            check_level(c, memory, level(isas[i]), &whole, &want, &base);
    result_free(&want);
    result_free(&base);
    kernel_memory_destroy(memory);
}

/* One case; an f32 one in bf16 too, which some levels multiply in other ways. */
static void check(const struct kernel_case *c)
{
    check_once(c);
    if (c->q_dtype != DTYPE_F32 || c->kv_dtype != DTYPE_F32)
        return;
    struct kernel_case bf16 = *c;
    bf16.q_dtype = bf16.kv_dtype = DTYPE_BF16;
    check_once(&bf16);
}

static struct kernel_case plain(i32 q_len, i32 kv_len)
{
    return (struct kernel_case){ .q_len = q_len,
                                 .kv_len = kv_len,
                                 .group = 2,
                                 .n_kv_heads = 2,
                                 .d = 32,
                                 .dv = 32,
                                 .page_size = 16,
                                 .q_dtype = DTYPE_F32,
                                 .kv_dtype = DTYPE_F32,
                                 .seed = 1 };
}

static void lengths(void **state)
{
    (void)state;
    static const i32 kv_lens[] = { 0, 1, 2, 15, 16, 17, 31, 32, 33, 63, 65, 127, 128, 129, 200 };
    static const i32 q_lens[] = { 1, 2, 3, 12, 13, 25, 31 };
    for (size_t i = 0; i < COUNT_OF(kv_lens); i++)
        for (size_t j = 0; j < COUNT_OF(q_lens); j++) {
            struct kernel_case c = plain(q_lens[j], kv_lens[i]);
            c.causal = (i32)(i + j) % 3;
            check(&c);
        }
}

static void head_dims(void **state)
{
    (void)state;
    static const i32 dims[][2] = { { 1, 1 },     { 1, 33 },    { 2, 15 },   { 15, 16 },   { 16, 17 },
                                   { 17, 1 },    { 40, 40 },   { 64, 65 },  { 72, 80 },   { 112, 96 },
                                   { 128, 128 }, { 192, 128 }, { 257, 31 }, { 576, 512 }, { 1024, 1024 } };
    for (size_t i = 0; i < COUNT_OF(dims); i++)
        for (i32 many = 0; many < 2; many++) {
            struct kernel_case c = plain(many ? 13 : 1, 37);
            c.d = dims[i][0];
            c.dv = dims[i][1];
            c.n_kv_heads = c.d > 256 ? 1 : 2;
            c.q_dtype = c.kv_dtype = (enum dtype)(DTYPE_F32 + i % 3);
            c.gaps = i & 1;
            c.hnd = i & 2;
            check(&c);
        }
}

static void groups(void **state)
{
    (void)state;
    static const i32 sizes[] = { 1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 17, 24, 25, 71, 200 };
    for (size_t i = 0; i < COUNT_OF(sizes); i++)
        for (i32 q_len = 1; q_len <= 3; q_len += 2) {
            struct kernel_case c = plain(q_len, 50);
            c.group = sizes[i];
            c.n_kv_heads = sizes[i] > 20 ? 1 : 3;
            c.causal = CAUSAL_BOTTOM_RIGHT;
            check(&c);
        }
}

/* Heads that lie together in a slot take turns, several at a time: full sets of them, and what is left. */
static void kv_heads(void **state)
{
    (void)state;
    static const i32 counts[] = { 4, 5, 8, 9, 17 };
    for (size_t i = 0; i < COUNT_OF(counts); i++)
        for (i32 group = 1; group <= 8; group += group < 4 ? 1 : 4) {
            struct kernel_case c = plain(1, 77);
            c.n_kv_heads = counts[i];
            c.group = group;
            c.d = 24 + 16 * (i32)(i % 2);
            c.gaps = i & 1;
            check(&c);
        }
}

static void page_sizes(void **state)
{
    (void)state;
    static const i32 sizes[] = { 1, 2, 3, 5, 16, 31, 32, 33, 128, 1000 };
    for (size_t i = 0; i < COUNT_OF(sizes); i++)
        for (i32 kind = 0; kind < 8; kind++) {
            struct kernel_case c = plain(kind & 1 ? 14 : 1, 83);
            c.page_size = sizes[i];
            c.csr = kind & 2;
            c.ids_are_i64 = kind & 4;
            c.v_table = (kind + (i32)i) % 3 == 0;
            c.hnd = kind & 1;
            c.interleaved = kind == 6;
            check(&c);
        }
}

static void dtypes(void **state)
{
    (void)state;
    static const enum dtype pairs[][2] = { { DTYPE_F32, DTYPE_F32 },
                                           { DTYPE_F16, DTYPE_F16 },
                                           { DTYPE_BF16, DTYPE_BF16 },
                                           { DTYPE_F32, DTYPE_F16 },
                                           { DTYPE_F32, DTYPE_BF16 } };
    for (size_t i = 0; i < COUNT_OF(pairs); i++)
        for (i32 q_len = 1; q_len <= 17; q_len += 8)
            for (i32 group = 1; group <= 5; group += 1) {
                struct kernel_case c = plain(q_len, 70);
                c.q_dtype = pairs[i][0];
                c.kv_dtype = pairs[i][1];
                c.group = group;
                c.d = 48;
                c.dv = 72;
                check(&c);
            }
}

static void windows_and_alignment(void **state)
{
    (void)state;
    static const i64 sides[] = { -1, 0, 1, 20, 1000, INT64_MAX };
    for (size_t left = 0; left < COUNT_OF(sides); left++)
        for (size_t right = 0; right < COUNT_OF(sides); right++)
            for (i32 kind = 0; kind < 4; kind++) {
                struct kernel_case c = plain(kind & 1 ? 15 : 4, kind & 2 ? 9 : 75);
                c.window_is_set = true;
                c.window_left = sides[left];
                c.window_right = sides[right];
                c.causal = (i32)(left + right) % 3;
                c.align = c.causal == CAUSAL_NONE ? 1 + kind % 2 : 0;
                c.d = c.dv = 16;
                check(&c);
            }
}

/* Each feature alone and in random company. */
static void features(void **state)
{
    (void)state;
    u64 random = 11;
    for (i32 i = 0; i < 90; i++) {
        struct kernel_case c = plain(1 + (i32)random_below(&random, i % 2 ? 4 : 30), (i32)random_below(&random, 120));
        const i64 pick = i < 16 ? 1 << i / 2 : random_below(&random, 256);
        c.seed = (u64)i;
        c.softcap = pick & 1 ? 3.0 : 0.0;
        c.alibi = pick & 2;
        c.sinks = pick & 4;
        c.bias_dtype = pick & 8 ? (enum dtype)(DTYPE_F32 + random_below(&random, 3)) : DTYPE_NONE;
        c.mask = pick & 16;
        c.bias_strided = pick & 32;
        c.scale_is_set = pick & 64;
        c.scale = -0.3;
        c.empty_mask = pick & 128;
        c.bias_per_key = i % 3 == 0;
        c.mask_per_token = i % 5 == 0;
        c.causal = (i32)random_below(&random, 3);
        c.group = 1 + (i32)random_below(&random, 6);
        c.no_lse = i % 7 == 0;
        check(&c);
    }
}

static void scales(void **state)
{
    (void)state;
    static const double scales[] = { 0.0, -0.0, 1.0, -1.0, 1e-20, 1e-35, -1e-35, 30.0 };
    for (size_t i = 0; i < COUNT_OF(scales); i++)
        for (i32 q_len = 1; q_len <= 13; q_len += 12) {
            struct kernel_case c = plain(q_len, 60);
            c.scale_is_set = true;
            c.scale = scales[i];
            c.magnitude = 0.1f;
            c.sinks = i & 1;
            check(&c);
        }
}

/* An f16 accumulator gives 0.0625 here. */
static void equal_scores_average_exactly(void **state)
{
    (void)state;
    for (i32 q_len = 1; q_len <= 13; q_len += 12) {
        struct kernel_case c = plain(q_len, 32768);
        c.n_kv_heads = c.group = 1;
        c.d = c.dv = 3;
        c.scale_is_set = c.ones = true;
        c.kv_dtype = DTYPE_F16;
        c.page_size = 64;
        struct kernel_memory *memory = kernel_memory_create(&c);
        const struct kernels *const all[] = { &folio__kernels_c, level(FOLIO_ISA_AVX2), level(FOLIO_ISA_AVX512),
                                              level(FOLIO_ISA_AVX512_BF16) };
        for (size_t i = 0; i < COUNT_OF(all); i++) {
            if (!all[i])
                continue;
            struct result r = run(memory, all[i], &(struct kernel_cut){ .family = -1, .split_tokens = 2048 });
            for (size_t j = 0; j < r.out_bytes / sizeof(float); j++)
                assert_true(folio__load_float(DTYPE_F32, r.out + j * sizeof(float)) == 1.0f);
            for (size_t j = 0; j < r.lse_bytes / sizeof(float); j++)
                assert_true(fabsf(r.lse[j] - logf(32768.0f)) < 1e-5f);
            result_free(&r);
        }
        kernel_memory_destroy(memory);
    }
}

/* Only differences of scores reach an exponent: 1e30 - 1e30 is 0, not NaN. */
static void huge_logits(void **state)
{
    (void)state;
    static const double scales[] = { 1e15, -1e15, 1e25 };
    for (size_t i = 0; i < COUNT_OF(scales); i++)
        for (i32 q_len = 1; q_len <= 13; q_len += 12) {
            struct kernel_case c = plain(q_len, 70);
            c.scale_is_set = true;
            c.scale = scales[i];
            c.magnitude = 1e5f;
            c.causal = CAUSAL_TOP_LEFT;
            c.no_lse = true;
            check(&c);
        }
}

int main(void)
{
    mallopt(M_MMAP_THRESHOLD, 1 << 28); /* else every scratch is a mapping, and its page faults take most of the time */
    mallopt(M_TRIM_THRESHOLD, 1 << 28);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lengths),
        cmocka_unit_test(head_dims),
        cmocka_unit_test(groups),
        cmocka_unit_test(kv_heads),
        cmocka_unit_test(page_sizes),
        cmocka_unit_test(dtypes),
        cmocka_unit_test(windows_and_alignment),
        cmocka_unit_test(features),
        cmocka_unit_test(scales),
        cmocka_unit_test(equal_scores_average_exactly),
        cmocka_unit_test(huge_logits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
