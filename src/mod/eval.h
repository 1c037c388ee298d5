/* SPDX-License-Identifier: Apache-2.0
 * eval.h: the language's meaning, one value at a time. Constant folding, the scalar steps of vector runners and the
 * reference backend all come here; vector runners must give the same bits. */
#ifndef FOLIO_MOD_EVAL_H
#define FOLIO_MOD_EVAL_H

#include "mod/program.h"

/* Where one score lies. */
struct mod_env {
    i64 leaf[MOD_POS - MOD_B + 1]; /* b h hk q kv q_len kv_len pos: index op - MOD_B */
    float score;
};

/* A step's value, and whether it came from an index out of range (then the index was clamped). Poison spreads to what
 * uses it, save through a branch not taken or an && or || that the other side decides. */
struct mod_result {
    union mod_value value;
    bool poison;
};

static inline i64 mod_leaf(const struct mod_env *env, enum mod_op op)
{
    return env->leaf[op - MOD_B];
}

/* Any op but CONST, SCORE, the leaves and LOAD. args [n_args of op]. */
union mod_value folio__mod_apply(enum mod_op op, const union mod_value *args);

/* The element at index [ndim], wrapped or clamped; *out_of_range as needed is set, never cleared. 0 from an empty
 * array. */
union mod_value folio__mod_load(const struct mod_capture *capture, const i64 *index, bool *out_of_range);

/* Steps [begin, end), the earlier ones already in results [n_steps]. */
void folio__mod_eval_steps(const struct mod_program *program, i32 begin, i32 end, const struct mod_env *env,
                           struct mod_result *results);
/* The whole program at one place. results [n_steps] is scratch. */
struct mod_result folio__mod_eval(const struct mod_program *program, const struct mod_env *env,
                                  struct mod_result *results);

/* exp, exp2, log, tanh as every backend computes them. */
float folio__mod_exp(float x);
float folio__mod_exp2(float x);
float folio__mod_log(float x);
float folio__mod_tanh(float x);
/* Correctly rounded but for rare double roundings: through double precision. */
float folio__mod_sin(float x);
float folio__mod_cos(float x);
float folio__mod_pow(float x, float y);

#endif
