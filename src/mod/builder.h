/* SPDX-License-Identifier: Apache-2.0
 * builder.h: steps as the parser finds them. Equal steps become one and constants are folded on the way in, so there
 * is no pass for either; what is unused is dropped and the rest sorted by level at the end. */
#ifndef FOLIO_MOD_BUILDER_H
#define FOLIO_MOD_BUILDER_H

#include "mod/program.h"

enum { MOD_BUILDER_STEPS = 2 * FOLIO_MOD_MAX_STEPS }; /* folding leaves unused constants behind */

struct mod_builder {
    const struct mod_capture *captures; /* [n_captures] */
    i32 n_captures;
    i32 n_steps;
    bool full; /* a step was refused */
    struct mod_step steps[MOD_BUILDER_STEPS];
};

/* Each gives the step's index, or -1 when the builder is full. Argument types must fit: typing.h sees to that. */
i32 folio__mod_build(struct mod_builder *builder, enum mod_op op, i32 a, i32 b, i32 c); /* unused: -1 */
i32 folio__mod_build_f32(struct mod_builder *builder, float value);
i32 folio__mod_build_i64(struct mod_builder *builder, i64 value);
i32 folio__mod_build_bool(struct mod_builder *builder, bool value);
i32 folio__mod_build_load(struct mod_builder *builder, i32 capture, const i32 *index /* [ndim] */);

static inline enum mod_type mod_type_of(const struct mod_builder *builder, i32 step)
{
    return builder->steps[step].type;
}

/* Sorts what `result` needs by level into program->steps, and gives it slots. steps has room for FOLIO_MOD_MAX_STEPS.
 * false: there are more. */
bool folio__mod_build_finish(const struct mod_builder *builder, i32 result, struct mod_program *program);

#endif
