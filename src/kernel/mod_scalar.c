/* SPDX-License-Identifier: Apache-2.0
 * mod_scalar.c: one key of one row: kept or dropped, and its score. */
#include "kernel/mod_scalar.h"

struct mod_env folio__mod_place(const struct attend_args *args, const struct attend_item *item, i32 head, i64 row,
                                i64 key)
{
    const i64 offset = args->align == ALIGN_TOP_LEFT ? 0 : item->kv_len - item->q_len;
    return (struct mod_env){ .leaf = { item->seq, head, head / args->group, row, key, item->q_len, item->kv_len,
                                       row + offset } };
}

static struct mod_result evaluate(const struct mod_program *program, const struct mod_env *at)
{
    struct mod_result results[FOLIO_MOD_MAX_STEPS];
    return folio__mod_eval(program, at, results);
}

/* A mask mod's answer; a poisoned one counts as "kept", for it must be reported. */
static bool keeps(const struct mod_program *program, const struct mod_env *at, const struct mod_program **culprit)
{
    if (!program || program->tile)
        return true;
    const struct mod_result result = evaluate(program, at);
    if (result.poison)
        *culprit = program;
    return result.poison || result.value.i;
}

bool folio__mod_keeps(const struct attend_args *args, const struct mod_env *at)
{
    const struct block_mask *mask = args->block_mask;
    const struct mod_program *culprit = NULL;
    enum mod_keep state = KEEP_ALL;
    if (mask)
        state = block_mask_state(mask, at->leaf[MOD_B - MOD_B], at->leaf[MOD_H - MOD_B],
                                 at->leaf[MOD_Q - MOD_B] / mask->q_block, at->leaf[MOD_KV - MOD_B] / mask->kv_block);
    if (state == KEEP_NONE || !keeps(args->mask_mod, at, &culprit))
        return false;
    if (state == KEEP_SOME && !keeps(mask->mask_mod, at, &culprit))
        return false;
    if (culprit)
        folio__mod_fail(args->mod_failure, culprit, FOLIO_ERANGE, at);
    return true;
}

double folio__mod_score(const struct attend_args *args, const struct mod_env *at, double score)
{
    if (!args->score_mod || args->score_mod->tile)
        return score;
    struct mod_env env = *at;
    env.score = (float)score;
    const struct mod_result result = evaluate(args->score_mod, &env);
    if (result.poison)
        folio__mod_fail(args->mod_failure, args->score_mod, FOLIO_ERANGE, at);
    return (double)result.value.f;
}
