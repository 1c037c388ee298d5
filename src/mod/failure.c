/* SPDX-License-Identifier: Apache-2.0
 * failure.c: the first failure, and its message. */
#include "mod/failure.h"

#include <stdio.h>

#include "base/status.h"

void folio__mod_fail(struct mod_failure *failure, const struct mod_program *program, folio_status status,
                     const struct mod_env *where)
{
    if (!failure || atomic_exchange(&failure->taken, 1))
        return;
    failure->status = status;
    failure->program = program;
    failure->where = *where;
}

/* The first step there whose own index is outside; -1 when the score itself decides. */
static i32 find_load(const struct mod_program *program, const struct mod_env *where, i32 *dim, i64 *index)
{
    static _Thread_local struct mod_result results[FOLIO_MOD_MAX_STEPS];
    folio__mod_eval(program, where, results);
    for (i32 i = 0; i < program->n_steps; i++) {
        const struct mod_step *step = &program->steps[i];
        const struct mod_capture *capture = &program->captures[step->capture];
        for (*dim = 0; step->op == MOD_LOAD && *dim < step->n_args; ++*dim) {
            *index = results[step->arg[*dim]].value.i;
            if (*index < (capture->wraps ? -capture->shape[*dim] : 0) || *index >= capture->shape[*dim])
                return i;
        }
    }
    return -1;
}

folio_status folio__mod_failure_report(struct mod_failure *failure)
{
    if (!mod_has_failed(failure))
        return FOLIO_OK;
    const struct mod_program *program = failure->program;
    if (!program)
        return folio__fail(failure->status, "no memory for the tiles of a callback");
    const char *what = program->kind == FOLIO_MOD_SCORE ? "score_mod" : "mask_mod";
    const i64 *at = failure->where.leaf;
    char place[128];
    snprintf(place, sizeof place, "sequence %lld, head %lld, row %lld, key %lld", (long long)at[MOD_B - MOD_B],
             (long long)at[MOD_H - MOD_B], (long long)at[MOD_Q - MOD_B], (long long)at[MOD_KV - MOD_B]);
    if (program->tile) {
        const bool known = failure->status < 0 && failure->status >= FOLIO_ECORRUPT;
        return folio__fail(known ? failure->status : FOLIO_EINVAL, "%s: the callback returned %d (%s) at %s", what,
                           (int)failure->status, folio_status_name(failure->status), place);
    }
    i32 dim = 0;
    i64 index = 0;
    const i32 load = find_load(program, &failure->where, &dim, &index);
    if (load < 0)
        return folio__fail(FOLIO_ERANGE, "%s: an index that depends on the score is out of range at %s", what, place);
    const struct mod_capture *capture = &program->captures[program->steps[load].capture];
    return folio__fail(FOLIO_ERANGE, "%s: capture %s: index %d is %lld; its extent is %lld (%s)", what, capture->name,
                       (int)dim, (long long)index, (long long)capture->shape[dim], place);
}
