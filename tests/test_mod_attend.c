/* SPDX-License-Identifier: Apache-2.0
 * test_mod_attend.c: attention with mods and block masks beside every built-in option: each level against the oracle,
 * the same bits from every level and thread count, the same refusals; absent blocks in memory that may not be touched.
 * */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/bits.h"
#include "support/contexts.h"
#include "support/made_mod.h"
#include "support/mod_random.h"
#include "support/problem.h"

/* Smooth in the score, so that f32 and double stay close. slopes has 8 entries; bias [40][300]. */
static const char *const score_texts[] = {
    "score + slopes[h % 8] * (kv - pos)",
    "cap * tanh(score / cap)",
    "where(kv % 3 == 0, score * 0.5, score - 1.0)",
    "score + bias[q, kv]",
    "abs(q - kv) < 20 ? score : -inf",
    "kv < 5 ? 0.0 : score",
    "score * sigmoid(f32(pos - kv) / 16.0) + f32(flag[kv])",
    "let d = f32(pos - kv); score - log(1.0 + d * d)",
    "f32(doc[b, kv] == doc[b, q]) * 2.0 - sin(score)",
    "score + bias[q, kv + 280]",
};

struct mods {
    folio_mod *score, *mask, *block_mod;
    folio_block_mask *block_mask;
    char score_text[256], mask_text[1024], block_text[1024];
};

static folio_mod *random_mask(u64 *seed, char *text, size_t n)
{
    static const char *const usual[] = { "kv <= pos", "kv <= pos && pos - kv < 33", "doc[b, kv] == doc[b, q]",
                                         "true",      "q // 16 == kv // 16",        "kv < 10 || flag[kv]",
                                         "false" };
    if (mod_random_below(seed, 2))
        snprintf(text, n, "%s", usual[mod_random_below(seed, COUNT_OF(usual))]);
    else
        mod_random_text(seed, FOLIO_MOD_MASK, (i32)mod_random_below(seed, 10), 0, text, n);
    return made_mod(FOLIO_MOD_MASK, text, mod_random_captures(3), MOD_RANDOM_CAPTURES);
}

static struct mods random_mods(u64 seed, i64 batch, i64 n_heads)
{
    struct mods m = { 0 };
    const u64 which = mod_random_next(&seed);
    if (which & 1) {
        snprintf(m.score_text, sizeof m.score_text, "%s", score_texts[mod_random_below(&seed, COUNT_OF(score_texts))]);
        m.score = made_mod(FOLIO_MOD_SCORE, m.score_text, mod_random_captures(3), MOD_RANDOM_CAPTURES);
    }
    if (which & 2)
        m.mask = random_mask(&seed, m.mask_text, sizeof m.mask_text);
    if (which & 4) {
        if (which & 8)
            m.block_mod = random_mask(&seed, m.block_text, sizeof m.block_text);
        m.block_mask = mod_random_block_mask(&seed, which & 16 ? batch : 1, which & 32 ? n_heads : 1, m.block_mod);
    }
    return m;
}

static void free_mods(struct mods *m)
{
    folio_block_mask_destroy(&m->block_mask);
    folio_mod_destroy(&m->score);
    folio_mod_destroy(&m->mask);
    folio_mod_destroy(&m->block_mod);
}

static void print_mods(const struct mods *m)
{
    fprintf(stderr, "  score_mod \"%s\"\n  mask_mod \"%s\"\n  block mask %s, mask_mod \"%s\"\n", m->score_text,
            m->mask_text, m->block_mask ? "given" : "none", m->block_text);
}

/* A problem small enough for the captures, with mods. */
static void make_case(struct random_problem *p, struct mods *m, u64 seed)
{
    const struct problem_limits limits = { .max_kv_len = 290, .max_q_len = 38, .max_head_dim = 96 };
    struct problem_choice c;
    problem_choose(&c, seed, &limits);
    c.amplitude = 1;
    problem_build(p, &c);
    p->max_score += 50; /* what score mods may add */
    *m = random_mods(seed, c.batch, (i64)c.n_kv_heads * c.group);
    p->args.score_mod = m->score;
    p->args.mask_mod = m->mask;
    p->args.block_mask = m->block_mask;
}

/* Levels above avx512 round weights to bf16 where pages are bf16. */
static double allowed(const struct contexts *contexts, i32 i)
{
    return folio_context_isa(contexts->at[i]) > FOLIO_ISA_AVX512 ? 4e-3 : 4e-6;
}

static void add_rounding_level(struct contexts *contexts)
{
    const folio_context_config cfg = { .struct_size = sizeof cfg, .isa = FOLIO_ISA_AVX512_BF16, .n_threads = 2 };
    if (!folio_isa_available(FOLIO_ISA_AVX512_BF16))
        return;
    assert_int_equal(folio_context_create(&contexts->at[contexts->n], &cfg), FOLIO_OK);
    contexts->name[contexts->n++] = folio_isa_name(FOLIO_ISA_AVX512_BF16);
}

static void levels_agree_with_the_oracle(void **state)
{
    (void)state;
    struct contexts contexts = contexts_create(2);
    add_rounding_level(&contexts);
    i32 n_refused = 0;
    for (u64 seed = 1; seed <= 250; seed++) {
        struct random_problem p;
        struct mods m;
        make_case(&p, &m, seed);
        problem_reset_outputs(&p);
        const folio_status wanted = folio_attend(contexts.at[0], NULL, &p.args, NULL);
        if (wanted != FOLIO_OK && wanted != FOLIO_ERANGE)
            fail_msg("seed %llu: %s", (unsigned long long)seed, folio_last_error());
        n_refused += wanted == FOLIO_ERANGE;
        for (i32 i = 1; i < contexts.n; i++) {
            const bool good = wanted == FOLIO_OK
                                  ? problem_agrees(&p, contexts.at[i], contexts.at[0], allowed(&contexts, i))
                                  : folio_attend(contexts.at[i], NULL, &p.args, NULL) == FOLIO_ERANGE;
            if (!good) {
                print_mods(&m);
                problem_print(&p);
                fail_msg("seed %llu, level %s, oracle %s", (unsigned long long)seed, contexts.name[i],
                         folio_status_name(wanted));
            }
        }
        problem_free(&p);
        free_mods(&m);
    }
    assert_in_range(n_refused, 1, 125); /* both kinds occur */
    contexts_destroy(&contexts);
}

static void levels_and_threads_give_the_same_bits(void **state)
{
    (void)state;
    struct contexts one = contexts_create(1), three = contexts_create(3);
    for (u64 seed = 1000; seed < 1100; seed++) {
        struct random_problem p;
        struct mods m;
        make_case(&p, &m, seed);
        u64 wanted = 0;
        for (i32 i = 1; i < 2 * one.n; i++) {
            folio_context *ctx = i < one.n ? one.at[i] : three.at[i - one.n];
            problem_reset_outputs(&p);
            if (i == one.n || folio_attend(ctx, NULL, &p.args, NULL) != FOLIO_OK)
                continue; /* the oracle rounds otherwise */
            wanted = wanted ? wanted : problem_hash_outputs(&p);
            if (problem_hash_outputs(&p) != wanted) {
                print_mods(&m);
                problem_print(&p);
                fail_msg("seed %llu: %s with %d threads differs", (unsigned long long)seed, one.name[i % one.n],
                         i < one.n ? 1 : 3);
            }
        }
        problem_free(&p);
        free_mods(&m);
    }
    contexts_destroy(&one);
    contexts_destroy(&three);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(levels_agree_with_the_oracle),
        cmocka_unit_test(levels_and_threads_give_the_same_bits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
