/* SPDX-License-Identifier: Apache-2.0
 * mod_random.h: random mod texts, for the tests that compare two ways of computing the same thing. */
#ifndef FOLIO_TESTS_MOD_RANDOM_H
#define FOLIO_TESTS_MOD_RANDOM_H

#include "base/types.h"
#include "folio/mod.h"

/* Captures that the texts use: doc [8][n_keys] i32, wide [4] i64 (wraps), slopes [n_heads] f32, flag [n_keys] bool,
 * bias [n_rows][n_keys] bf16 with gaps, cap rank 0 f16. Filled from the seed. */
enum { MOD_RANDOM_CAPTURES = 6, MOD_RANDOM_KEYS = 300, MOD_RANDOM_ROWS = 40, MOD_RANDOM_HEADS = 8 };
const folio_mod_capture *mod_random_captures(u64 seed);

/* A well-typed text of about `size` operations into text [n]. functions: also exp, tanh ... (else what is exact). */
void mod_random_text(u64 *seed, folio_mod_kind kind, i32 size, int functions, char *text, size_t n);

/* A block mask over MOD_RANDOM_ROWS rows and MOD_RANDOM_KEYS keys; b and h: its batch and heads. */
folio_block_mask *mod_random_block_mask(u64 *seed, i64 b, i64 h, const folio_mod *mask_mod);

u64 mod_random_next(u64 *seed);
i64 mod_random_below(u64 *seed, i64 n);

#endif
