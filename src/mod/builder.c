/* SPDX-License-Identifier: Apache-2.0
 * builder.c: hash-free value numbering, folding, and the final order and slots. */
#include "mod/builder.h"

#include <string.h>

#include "mod/eval.h"

#define INFO(name, n_args, type, arg_type, text) { text, n_args, MOD_##type, MOD_##arg_type },
const struct mod_op_info folio__mod_ops[MOD_N_OPS] = { MOD_OP_MAP(INFO) };
#undef INFO

static u8 deps_of_leaf(enum mod_op op)
{
    switch (op) {
    case MOD_H:
    case MOD_HK:
        return MOD_DEP_HEAD;
    case MOD_Q:
    case MOD_POS:
        return MOD_DEP_ROW;
    case MOD_KV:
        return MOD_DEP_KV;
    case MOD_SCORE:
        return MOD_DEP_SCORE;
    default:
        return 0;
    }
}

static bool steps_equal(const struct mod_step *a, const struct mod_step *b)
{
    return a->op == b->op && a->type == b->type && a->capture == b->capture && a->value.i == b->value.i &&
           memcmp(a->arg, b->arg, sizeof a->arg) == 0;
}

static i32 add(struct mod_builder *builder, struct mod_step step)
{
    step.deps = deps_of_leaf(step.op);
    for (i32 i = 0; i < step.n_args; i++)
        step.deps |= builder->steps[step.arg[i]].deps;
    for (i32 i = 0; i < builder->n_steps; i++)
        if (steps_equal(&builder->steps[i], &step))
            return i;
    builder->full |= builder->n_steps == MOD_BUILDER_STEPS;
    if (builder->full)
        return -1;
    builder->steps[builder->n_steps] = step;
    return builder->n_steps++;
}

static i32 add_constant(struct mod_builder *builder, enum mod_type type, union mod_value value)
{
    struct mod_step step = { .op = MOD_CONST, .type = (u8)type };
    if (type == MOD_F32)
        memcpy(&step.value, &value.f, sizeof value.f); /* upper half stays zero, for comparison */
    else
        step.value.i = value.i;
    return add(builder, step);
}

i32 folio__mod_build_f32(struct mod_builder *builder, float value)
{
    return add_constant(builder, MOD_F32, (union mod_value){ .f = value });
}

i32 folio__mod_build_i64(struct mod_builder *builder, i64 value)
{
    return add_constant(builder, MOD_I64, (union mod_value){ .i = value });
}

i32 folio__mod_build_bool(struct mod_builder *builder, bool value)
{
    return add_constant(builder, MOD_BOOL, (union mod_value){ .i = value });
}

static bool is_constant(const struct mod_builder *builder, i32 step)
{
    return builder->steps[step].op == MOD_CONST;
}

/* The step that a partly constant one equals, or -1: a constant condition, or one side of && or ||. */
static i32 simplify(const struct mod_builder *builder, const struct mod_step *step)
{
    if (step->op >= MOD_SELECT_F && step->op <= MOD_SELECT_B) {
        if (step->arg[1] == step->arg[2] && is_constant(builder, step->arg[1]))
            return step->arg[1];
        return is_constant(builder, step->arg[0]) ? step->arg[builder->steps[step->arg[0]].value.i ? 1 : 2] : -1;
    }
    if (step->op != MOD_AND_B && step->op != MOD_OR_B)
        return -1;
    const i64 absorbing = step->op == MOD_OR_B;
    for (i32 side = 0; side < 2; side++)
        if (is_constant(builder, step->arg[side]))
            return builder->steps[step->arg[side]].value.i == absorbing ? step->arg[side] : step->arg[1 - side];
    return step->arg[0] == step->arg[1] ? step->arg[0] : -1;
}

i32 folio__mod_build(struct mod_builder *builder, enum mod_op op, i32 a, i32 b, i32 c)
{
    const struct mod_op_info *info = &folio__mod_ops[op];
    const i32 from[] = { a, b, c };
    struct mod_step step = { .op = (u8)op, .type = info->type, .n_args = info->n_args };
    union mod_value args[3] = { { 0 } };
    bool all_constant = info->n_args > 0;
    for (i32 i = 0; i < info->n_args; i++) {
        if (from[i] < 0)
            return -1;
        step.arg[i] = (i16)from[i];
        args[i] = builder->steps[from[i]].value;
        all_constant &= is_constant(builder, from[i]);
    }
    if (all_constant)
        return add_constant(builder, info->type, folio__mod_apply(op, args));
    const i32 same = simplify(builder, &step);
    return same >= 0 ? same : add(builder, step);
}

i32 folio__mod_build_load(struct mod_builder *builder, i32 capture, const i32 *index)
{
    const struct mod_capture *source = &builder->captures[capture];
    const enum mod_type type = source->dtype == DTYPE_BOOL     ? MOD_BOOL
                               : dtype_is_index(source->dtype) ? MOD_I64
                                                               : MOD_F32;
    struct mod_step step = { .op = MOD_LOAD, .type = (u8)type, .n_args = (u8)source->ndim, .capture = (i16)capture };
    for (i32 i = 0; i < source->ndim; i++)
        step.arg[i] = (i16)index[i];
    return add(builder, step);
}

static enum mod_level level_of(u8 deps)
{
    if (deps & MOD_DEP_SCORE || (deps & MOD_DEP_ROW && deps & MOD_DEP_KV))
        return MOD_LEVEL_KEY;
    if (deps & MOD_DEP_KV)
        return deps & MOD_DEP_HEAD ? MOD_LEVEL_TILE_HEAD : MOD_LEVEL_TILE;
    return deps & MOD_DEP_ROW ? MOD_LEVEL_ROW : deps & MOD_DEP_HEAD ? MOD_LEVEL_HEAD : MOD_LEVEL_CALL;
}

/* Arguments stand before what uses them, so one backward pass finds all that is needed. */
static void mark_needed(const struct mod_builder *builder, i32 result, bool *needed /* [n_steps] */)
{
    memset(needed, 0, (size_t)builder->n_steps);
    needed[result] = true;
    for (i32 i = result; i >= 0; i--)
        for (i32 a = 0; needed[i] && a < builder->steps[i].n_args; a++)
            needed[builder->steps[i].arg[a]] = true;
}

/* Vectors that outlive a row (TILE and TILE_HEAD) have a slot of their own; those of KEY steps are used again after
 * their last reader. A step never shares a slot with its own arguments. */
static void assign_slots(struct mod_program *program)
{
    i16 last_use[FOLIO_MOD_MAX_STEPS];
    i16 free_slots[FOLIO_MOD_MAX_STEPS];
    i32 n_free = 0, n_vectors = 0, n_scalars = 0;
    const i32 key_begin = program->level_begin[MOD_LEVEL_KEY];
    for (i32 i = 0; i < program->n_steps; i++)
        for (i32 a = 0; a < program->steps[i].n_args; a++)
            last_use[program->steps[i].arg[a]] = (i16)i;
    for (i32 i = 0; i < program->n_steps; i++) {
        struct mod_step *step = &program->steps[i];
        if (i < program->level_begin[MOD_LEVEL_TILE]) {
            step->slot = (i16)n_scalars++;
            continue;
        }
        step->slot = i >= key_begin && n_free > 0 ? free_slots[--n_free] : (i16)n_vectors++;
        for (i32 a = 0; a < step->n_args; a++) {
            const i32 arg = step->arg[a];
            bool seen = false;
            for (i32 earlier = 0; earlier < a; earlier++)
                seen |= step->arg[earlier] == arg;
            if (arg >= key_begin && last_use[arg] == i && !seen)
                free_slots[n_free++] = program->steps[arg].slot;
        }
    }
    program->n_scalar_slots = n_scalars;
    program->n_vector_slots = n_vectors;
}

bool folio__mod_build_finish(const struct mod_builder *builder, i32 result, struct mod_program *program)
{
    bool needed[MOD_BUILDER_STEPS];
    i16 moved_to[MOD_BUILDER_STEPS];
    mark_needed(builder, result, needed);
    program->n_steps = 0;
    for (i32 level = 0; level < MOD_N_LEVELS; level++) {
        program->level_begin[level] = program->n_steps;
        for (i32 i = 0; i <= result; i++) {
            if (!needed[i] || level_of(builder->steps[i].deps) != (enum mod_level)level)
                continue;
            if (program->n_steps == FOLIO_MOD_MAX_STEPS)
                return false;
            struct mod_step *step = &program->steps[program->n_steps];
            *step = builder->steps[i];
            for (i32 a = 0; a < step->n_args; a++)
                step->arg[a] = moved_to[step->arg[a]];
            moved_to[i] = (i16)program->n_steps++;
        }
    }
    program->level_begin[MOD_N_LEVELS] = program->n_steps;
    program->result = moved_to[result];
    assign_slots(program);
    return true;
}
