/* SPDX-License-Identifier: Apache-2.0
 * list.c: a program as text, one step a line: "s3 = add.f32 s1 s2    key". */
#include <stdio.h>

#include "mod/compile.h"

static const char *level_name(const struct mod_program *program, i32 step)
{
    static const char *const names[] = { "call", "head", "row", "tile", "tile and head", "key" };
    i32 level = 0;
    while (step >= program->level_begin[level + 1])
        level++;
    return names[level];
}

static int list_step(const struct mod_program *program, i32 i, char *line, size_t n)
{
    const struct mod_step *step = &program->steps[i];
    char operands[96] = "";
    int used = 0;
    if (step->op == MOD_CONST && step->type == MOD_F32)
        used = snprintf(operands, sizeof operands, " %.9g", (double)step->value.f);
    else if (step->op == MOD_CONST)
        used = snprintf(operands, sizeof operands, " %lld", (long long)step->value.i);
    else if (step->op == MOD_LOAD)
        used = snprintf(operands, sizeof operands, " %s", program->captures[step->capture].name);
    for (i32 a = 0; a < step->n_args && used < (int)sizeof operands; a++)
        used += snprintf(operands + used, sizeof operands - (size_t)used, " s%d", (int)step->arg[a]);
    return snprintf(line, n, "s%d = %s%s    %s%s\n", (int)i, folio__mod_ops[step->op].name, operands,
                    level_name(program, i), i == program->result ? ", the result" : "");
}

void folio__mod_list(const struct mod_program *program, char *text, size_t n)
{
    size_t used = 0;
    text[0] = '\0';
    for (i32 i = 0; i < program->n_steps && used < n; i++) {
        const int wrote = list_step(program, i, text + used, n - used);
        used += wrote > 0 ? (size_t)wrote : 0;
    }
}
