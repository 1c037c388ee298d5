/* SPDX-License-Identifier: Apache-2.0
 * mod_bind.c: a program -> codes for one item: what is narrow, what may be out of range, where every value lies. */
#include <string.h>

#include "base/bits.h"
#include "kernel/cpu/mod_run.h"

enum { WIDE_BYTES = 8, CODES_A_STEP = 2 }; /* a step and its poison */

/* Memory is laid out twice: from 0 on, to know its size, and for good. */
static void *take(uintptr_t *next, i64 n_bytes)
{
    void *taken = (void *)*next;
    *next += round_up((size_t)n_bytes, 64);
    return taken;
}

/* Lays a part out from *next on; with a NULL part, only moves *next. */
static void part_take(struct mod_part *part, const struct mod_program *program, i64 n_heads, i64 n_rows, i64 n_lanes,
                      uintptr_t *next)
{
    const i64 n_steps = program->n_steps, n_scalars = program->n_scalar_slots, n_vectors = program->n_vector_slots;
    struct mod_part unused;
    part = part ? part : &unused;
    part->ranges = take(next, n_steps * (i64)sizeof(struct mod_range));
    part->steps = take(next, n_steps * (i64)sizeof(struct mod_result));
    part->scalars = take(next, n_heads * n_rows * n_scalars * (i64)sizeof(struct mod_result));
    part->now = take(next, n_scalars * (i64)sizeof(struct mod_result));
    part->vectors = take(next, n_vectors * n_lanes * WIDE_BYTES);
    part->poison = take(next, n_vectors * n_lanes * (i64)sizeof(i32));
    part->codes = take(next, CODES_A_STEP * n_steps * (i64)sizeof(struct mod_code));
    part->uses = take(next, (3 * n_steps + 1) * (i64)sizeof(struct mod_use));
}

static const struct mod_program *block_mod(const struct attend_args *args)
{
    return args->block_mask ? args->block_mask->mask_mod : NULL;
}

size_t folio__mod_scratch_bytes(const struct attend_args *args, i64 n_heads, i64 n_rows, i64 n_lanes)
{
    const struct mod_program *const programs[] = { args->score_mod, args->mask_mod, block_mod(args) };
    uintptr_t end = 0;
    for (size_t i = 0; i < COUNT_OF(programs); i++)
        if (programs[i])
            part_take(NULL, programs[i], n_heads, n_rows, n_lanes, &end);
    for (size_t i = 1; i < COUNT_OF(programs); i++) /* the masks' */
        if (programs[i])
            take(&end, programs[i]->n_steps * (i64)sizeof(struct mod_range));
    take(&end, n_lanes * (i64)sizeof(i32));
    return (size_t)end;
}

/* Everywhere that the item's steps may run. */
static struct mod_box box_of(const struct mod_runner *runner)
{
    const struct attend_args *args = runner->args;
    const struct attend_item *item = runner->item;
    const i64 key_begin = item->split_begin * item->split_tokens;
    const i64 key_end = min_i64(item->kv_len, (item->split_begin + item->n_splits) * item->split_tokens);
    const i64 hk = item->head_begin, hk_last = hk + item->n_heads - 1, row_last = item->row_begin + item->n_rows - 1;
    const i64 at[][2] = {
        { item->seq, item->seq },
        { hk * args->group, hk_last * args->group + args->group - 1 },
        { hk, hk_last },
        { item->row_begin, row_last },
        { key_begin, max_i64(key_end - 1, key_begin) },
        { item->q_len, item->q_len },
        { item->kv_len, item->kv_len },
        { item->row_begin + runner->keep.pos_offset, row_last + runner->keep.pos_offset },
    };
    struct mod_box box;
    for (size_t i = 0; i < COUNT_OF(at); i++) {
        box.leaf[i].lo = at[i][0];
        box.leaf[i].hi = at[i][1];
    }
    return box;
}

static bool fits_narrow(const struct mod_program *program, const struct mod_range *ranges)
{
    for (i32 i = 0; i < program->n_steps; i++)
        if (program->steps[i].type == MOD_I64 && (ranges[i].lo < INT32_MIN || ranges[i].hi > INT32_MAX))
            return false;
    return true;
}

static bool is_vector(const struct mod_program *program, i32 step)
{
    return step >= program->level_begin[MOD_LEVEL_TILE];
}

static i32 *poison_slot(const struct mod_part *part, i32 step, i64 n_lanes)
{
    if (!is_vector(part->program, step) || !part->ranges[step].may_be_poison)
        return NULL;
    return part->poison + part->program->steps[step].slot * n_lanes;
}

/* Where step `arg`'s value is read from, as operand k of codes[at]. */
static void bind_operand(struct mod_part *part, i32 at, i32 k, i32 arg, i64 n_lanes)
{
    struct mod_code *code = &part->codes[at];
    const struct mod_step *step = &part->program->steps[arg];
    code->poison_from[k] = poison_slot(part, arg, n_lanes);
    if (!is_vector(part->program, arg)) {
        code->from[k] = &part->now[step->slot];
        return;
    }
    code->is_vector |= (u8)(1 << k);
    code->from[k] = part->vectors + step->slot * n_lanes * WIDE_BYTES;
    if (step->op == MOD_SCORE)
        part->uses[part->n_uses++] = (struct mod_use){ at, k };
}

static mod_run_fn step_fn(const struct mod_part *part, enum mod_op op)
{
    const mod_run_fn wide = part->is_wide ? part->table->wide[op] : NULL;
    return wide ? wide : part->table->run[op];
}

static mod_run_fn poison_fn(const struct mod_table *table, enum mod_op op)
{
    if (op >= MOD_SELECT_F && op <= MOD_SELECT_B)
        return table->poison_select;
    return op == MOD_AND_B || op == MOD_OR_B ? table->poison_logic : table->poison;
}

/* The step's code, and behind it the code of its poison if it may have any. LOAD sees to its own. */
static void bind_step(struct mod_part *part, i32 index, i32 *n_codes, i64 n_lanes)
{
    const struct mod_program *program = part->program;
    const struct mod_step *step = &program->steps[index];
    struct mod_code *code = &part->codes[*n_codes];
    *code = (struct mod_code){ .run = step_fn(part, step->op),
                               .to = part->vectors + step->slot * n_lanes * WIDE_BYTES,
                               .poison_to = poison_slot(part, index, n_lanes),
                               .step = step,
                               .part = part,
                               .is_wide = part->is_wide };
    for (i32 k = 0; k < step->n_args && step->op != MOD_LOAD; k++)
        bind_operand(part, *n_codes, k, step->arg[k], n_lanes);
    if (index == program->result && program->kind == FOLIO_MOD_SCORE && index >= program->level_begin[MOD_LEVEL_KEY])
        part->uses[part->n_uses++] = (struct mod_use){ *n_codes, -1 };
    ++*n_codes;
    if (!code->poison_to || step->op == MOD_LOAD)
        return;
    part->codes[*n_codes] = *code;
    part->codes[*n_codes].run = poison_fn(part->table, step->op);
    ++*n_codes;
}

static void bind_part(struct mod_part *part, const struct mod_program *program, const struct mod_runner *runner,
                      const struct mod_table *table, const struct mod_box *box)
{
    struct mod_range *ranges = (struct mod_range *)(uintptr_t)part->ranges;
    folio__mod_ranges(program, box, true, ranges);
    part->program = program;
    part->table = table;
    part->is_wide = !fits_narrow(program, ranges);
    part->may_be_poison = ranges[program->result].may_be_poison;
    part->n_lanes = runner->n_lanes;
    part->tile_head = -1;
    i32 n_codes = 0;
    for (i32 level = MOD_LEVEL_TILE; level < MOD_N_LEVELS; level++) {
        part->code_begin[level - MOD_LEVEL_TILE] = n_codes;
        for (i32 i = program->level_begin[level]; i < program->level_begin[level + 1]; i++)
            if (program->steps[i].op != MOD_SCORE)
                bind_step(part, i, &n_codes, runner->n_lanes);
    }
    part->code_begin[3] = n_codes;
    const struct mod_env env = { .leaf = { runner->item->seq, 0, 0, 0, 0, runner->item->q_len, runner->item->kv_len } };
    folio__mod_eval_steps(program, 0, program->level_begin[MOD_LEVEL_HEAD], &env, part->steps);
}

void folio__mod_bind(struct mod_runner *runner, const struct mod_table *table, const struct attend_args *args,
                     const struct attend_item *item, i64 max_heads, i64 n_lanes, void *memory)
{
    *runner = (struct mod_runner){ .args = args, .item = item, .n_lanes = (i32)n_lanes };
    runner->n_rows = (i32)(item->n_rows * args->group);
    runner->keep = (struct keep){ .mask_mod = args->mask_mod,
                                  .block_mask = args->block_mask,
                                  .captures_are_fixed = true,
                                  .b = item->seq,
                                  .q_len = item->q_len,
                                  .kv_len = item->kv_len,
                                  .group = args->group,
                                  .pos_offset = args->align == ALIGN_TOP_LEFT ? 0 : item->kv_len - item->q_len,
                                  .row_begin = item->row_begin,
                                  .row_end = item->row_begin + item->n_rows };
    const struct mod_program *const programs[] = { args->score_mod, args->mask_mod, block_mod(args) };
    struct mod_part *const parts[] = { &runner->score, &runner->mask, &runner->block };
    const struct mod_box box = box_of(runner);
    uintptr_t next = (uintptr_t)memory;
    for (size_t i = 0; i < COUNT_OF(programs); i++) {
        if (!programs[i])
            continue;
        part_take(parts[i], programs[i], max_heads, runner->n_rows, n_lanes, &next);
        bind_part(parts[i], programs[i], runner, table, &box);
    }
    if (programs[1])
        runner->keep.ranges = take(&next, programs[1]->n_steps * (i64)sizeof(struct mod_range));
    if (programs[2])
        runner->keep.block_ranges = take(&next, programs[2]->n_steps * (i64)sizeof(struct mod_range));
    runner->row_poison = take(&next, n_lanes * (i64)sizeof(i32));
}
