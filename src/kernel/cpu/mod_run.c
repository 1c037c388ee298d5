/* SPDX-License-Identifier: Apache-2.0
 * mod_run.c: the order in which codes run: heads, tiles, rows; and what is done with their results. */
#include "kernel/cpu/mod_run.h"

#include <math.h>
#include <string.h>

#include "base/bits.h"
#include "kernel/layout.h"

enum {
    WHOLE_TILE = 1 << 16, /* more than any tile has: only block masks cut inside */
    TRIM_KEYS = 32,       /* asking about fewer costs more than it saves */
};

static void run_codes(const struct mod_part *part, i32 level, i32 begin, i32 end)
{
    for (i32 i = part->code_begin[level]; i < part->code_begin[level + 1]; i++)
        part->codes[i].run(&part->codes[i], begin, end);
}

/* ---- heads */

static struct mod_env env_of(const struct mod_runner *runner, i32 head, i32 row, i64 key)
{
    const struct attend_args *args = runner->args;
    const struct attend_item *item = runner->item;
    const i64 q = item->row_begin + row / args->group;
    return (struct mod_env){ .leaf = { item->seq, (i64)head * args->group + row % args->group, head, q, key,
                                       item->q_len, item->kv_len, q + runner->keep.pos_offset } };
}

static void part_heads(struct mod_part *part, const struct mod_runner *runner, i32 head_begin, i32 n_heads)
{
    const struct mod_program *program = part->program;
    if (!program)
        return;
    const i32 group = runner->args->group, n_scalars = program->n_scalar_slots;
    const i32 *level = program->level_begin;
    part->tile_head = -1;
    for (i32 head = 0; head < n_heads; head++)
        for (i32 member = 0; member < group; member++)
            for (i32 row = member; row < runner->n_rows; row += group) {
                const struct mod_env env = env_of(runner, head_begin + head, row, 0);
                if (row == member)
                    folio__mod_eval_steps(program, level[MOD_LEVEL_HEAD], level[MOD_LEVEL_ROW], &env, part->steps);
                folio__mod_eval_steps(program, level[MOD_LEVEL_ROW], level[MOD_LEVEL_TILE], &env, part->steps);
                memcpy(part->scalars + ((i64)head * runner->n_rows + row) * n_scalars, part->steps,
                       (size_t)n_scalars * sizeof *part->scalars);
            }
}

void folio__mod_heads(struct mod_runner *runner, i32 head_begin, i32 n_heads)
{
    runner->head_begin = head_begin;
    runner->keep.head_begin = (i64)head_begin * runner->args->group;
    runner->keep.head_end = (i64)(head_begin + n_heads) * runner->args->group;
    part_heads(&runner->score, runner, head_begin, n_heads);
    part_heads(&runner->mask, runner, head_begin, n_heads);
    part_heads(&runner->block, runner, head_begin, n_heads);
}

bool folio__mod_next(const struct mod_runner *runner, i64 at, i64 end, i64 quantum, struct keep_piece *piece)
{
    if (runner->keep.mask_mod || runner->keep.block_mask)
        return folio__keep_next(&runner->keep, at, end, quantum, piece);
    *piece = (struct keep_piece){ at, end, KEEP_ALL };
    return at < end;
}

/* ---- tiles */

void folio__mod_tile(struct mod_runner *runner, i64 key, i32 n, enum mod_keep state)
{
    runner->tile_key = key;
    runner->tile_n = n;
    runner->needs.mask = runner->mask.program && state != KEEP_ALL;
    runner->needs.block = folio__keep_blocks(&runner->keep, key, key + n) != KEEP_ALL;
    runner->score.tile_n = runner->mask.tile_n = runner->block.tile_n = 0;
}

bool folio__mod_next_of_rows(struct mod_runner *runner, i32 head, i32 begin, i32 end_row, i64 at, i64 end,
                             struct keep_piece *piece)
{
    const i64 group = runner->args->group;
    struct keep keep = runner->keep;
    keep.row_begin = runner->item->row_begin + begin / group;
    keep.row_end = runner->item->row_begin + (end_row - 1) / group + 1;
    keep.head_begin = head * group;
    keep.head_end = keep.head_begin + group;
    enum mod_keep blocks;
    do {
        if (!folio__keep_next(&keep, at, end, WHOLE_TILE, piece))
            return false;
        at = piece->end;
        blocks = KEEP_ALL;
    } while ((piece->mod_state != KEEP_ALL || keep.block_mask) && !folio__keep_trim(&keep, TRIM_KEYS, piece, &blocks));
    runner->needs.mask = piece->mod_state != KEEP_ALL;
    runner->needs.block = blocks != KEEP_ALL;
    return true;
}

/* TILE steps at their first use on a tile: a tile that a mask keeps whole never needs them. */
static void part_tile(struct mod_part *part, const struct mod_runner *runner)
{
    part->tile_key = runner->tile_key;
    part->tile_n = runner->tile_n;
    part->tile_head = -1;
    run_codes(part, 0, 0, runner->tile_n);
}

/* ---- rows */

/* Scalars of the row, TILE_HEAD steps if it is another head's, then the KEY steps of lanes [lo, hi). */
static void part_row(struct mod_part *part, const struct mod_runner *runner, i32 head, i32 row, i32 lo, i32 hi,
                     float *s)
{
    const struct mod_program *program = part->program;
    const i32 n_scalars = program->n_scalar_slots, group = runner->args->group;
    memcpy(part->now, part->scalars + ((i64)(head - runner->head_begin) * runner->n_rows + row) * n_scalars,
           (size_t)n_scalars * sizeof *part->now);
    if (part->tile_n == 0)
        part_tile(part, runner);
    if (part->tile_head != head * group + row % group) {
        part->tile_head = head * group + row % group;
        run_codes(part, 1, 0, runner->tile_n);
    }
    for (i32 i = 0; i < part->n_uses; i++) {
        struct mod_code *code = &part->codes[part->uses[i].code];
        if (part->uses[i].arg < 0)
            code->to = s;
        else
            code->from[part->uses[i].arg] = s;
    }
    run_codes(part, 2, lo / 16 * 16, hi);
}

/* A score mod's result into s, where its last step did not put it there. */
static void take_score(const struct mod_part *part, i32 n_lanes, i32 lo, i32 hi, float *s)
{
    const struct mod_program *program = part->program;
    const struct mod_step *result = &program->steps[program->result];
    if (program->result >= program->level_begin[MOD_LEVEL_KEY])
        return;
    if (program->result >= program->level_begin[MOD_LEVEL_TILE]) {
        const float *from = (const float *)(const void *)(part->vectors + (i64)result->slot * n_lanes * 8);
        memcpy(s + lo, from + lo, (size_t)(hi - lo) * sizeof *s);
        return;
    }
    for (i32 i = lo; i < hi; i++)
        s[i] = part->now[result->slot].value.f;
}

/* A mask mod's result: what it drops becomes -inf. */
static void take_mask(const struct mod_part *part, i32 n_lanes, i32 lo, i32 hi, float *s)
{
    const struct mod_program *program = part->program;
    const struct mod_step *result = &program->steps[program->result];
    if (program->result >= program->level_begin[MOD_LEVEL_TILE]) {
        part->table->mask(s, (const i32 *)(const void *)(part->vectors + (i64)result->slot * n_lanes * 8), lo, hi);
        return;
    }
    for (i32 i = lo; i < hi && !part->now[result->slot].value.i; i++)
        s[i] = -INFINITY;
}

/* Is any of the lanes poisoned? They are added to the row's. */
static bool note_poison(const struct mod_part *part, const struct mod_runner *runner, i32 lo, i32 hi)
{
    if (!part->may_be_poison)
        return false;
    const struct mod_program *program = part->program;
    const i64 slot = program->steps[program->result].slot;
    i32 any = 0;
    if (program->result < program->level_begin[MOD_LEVEL_TILE]) {
        any = -(i32)part->now[slot].poison;
        for (i32 i = lo; i < hi; i++)
            runner->row_poison[i] |= any;
        return any;
    }
    const i32 *poison = part->poison + slot * runner->n_lanes;
    for (i32 i = lo; i < hi; i++) {
        any |= poison[i];
        runner->row_poison[i] |= poison[i];
    }
    return any;
}

/* Blocks of one row, by runs of equal state. */
static bool row_blocks(struct mod_runner *runner, i32 head, i32 row, i32 lo, i32 hi, float *s)
{
    bool poison = false;
    const struct block_mask *mask = runner->keep.block_mask;
    const i32 group = runner->args->group;
    const i64 q_row = (runner->item->row_begin + row / group) / mask->q_block, h = (i64)head * group + row % group;
    i64 col = (runner->tile_key + lo) / mask->kv_block;
    enum mod_keep state = block_mask_state(mask, runner->keep.b, h, q_row, col), next = state;
    for (i32 begin = lo, end; begin < hi; begin = end, state = next) {
        do {
            col++;
            end = (i32)min_i64(hi, col * mask->kv_block - runner->tile_key);
            next = end < hi ? block_mask_state(mask, runner->keep.b, h, q_row, col) : state;
        } while (end < hi && next == state);
        for (i32 i = begin; i < end && state == KEEP_NONE; i++)
            s[i] = -INFINITY;
        if (state == KEEP_SOME && runner->block.program) {
            part_row(&runner->block, runner, head, row, begin, end, s);
            take_mask(&runner->block, runner->n_lanes, begin, end, s);
            poison |= note_poison(&runner->block, runner, begin, end);
        }
    }
    return poison;
}

/* ---- indices out of range */

/* Does the program keep the key there, or is it the culprit? */
static bool keeps(const struct mod_part *part, const struct mod_env *env, const struct mod_program **culprit)
{
    if (!part->program)
        return true;
    const struct mod_result result = folio__mod_eval(part->program, env, part->steps);
    if (result.poison)
        *culprit = part->program;
    return result.poison || result.value.i;
}

/* A poisoned value of a key that masks keep fails the call; of one they drop, it does not matter. */
static void check_poison(struct mod_runner *runner, i32 head, i32 row, i32 lo, i32 hi)
{
    const struct attend_args *args = runner->args;
    const struct block_mask *mask = runner->keep.block_mask;
    for (i32 i = lo; i < hi; i++) {
        if (!runner->row_poison[i])
            continue;
        const i64 key = runner->tile_key + i;
        const struct mod_env env = env_of(runner, head, row, key);
        const i64 q = env.leaf[MOD_Q - MOD_B], h = env.leaf[MOD_H - MOD_B];
        const struct mod_program *culprit = args->score_mod;
        enum mod_keep block = KEEP_ALL;
        if (mask)
            block = block_mask_state(mask, runner->keep.b, h, q / mask->q_block, key / mask->kv_block);
        bool kept = !args->mask.data || *layout_score(&args->mask, runner->item->q_token + q, h, key);
        kept = kept && block != KEEP_NONE && keeps(&runner->mask, &env, &culprit);
        kept = kept && (block == KEEP_ALL || keeps(&runner->block, &env, &culprit));
        if (kept) {
            folio__mod_fail(args->mod_failure, culprit, FOLIO_ERANGE, &env);
            return;
        }
    }
}

static void run_row(struct mod_runner *runner, i32 head, i32 row, i32 lo, i32 hi, float *s)
{
    bool poison = false;
    if (runner->score.may_be_poison || runner->mask.may_be_poison || runner->block.may_be_poison)
        memset(runner->row_poison + lo, 0, (size_t)(hi - lo) * sizeof *runner->row_poison);
    if (runner->score.program) {
        part_row(&runner->score, runner, head, row, lo, hi, s);
        take_score(&runner->score, runner->n_lanes, lo, hi, s);
        poison |= note_poison(&runner->score, runner, lo, hi);
    }
    if (runner->needs.mask) {
        part_row(&runner->mask, runner, head, row, lo, hi, s);
        take_mask(&runner->mask, runner->n_lanes, lo, hi, s);
        poison |= note_poison(&runner->mask, runner, lo, hi);
    }
    if (runner->needs.block)
        poison |= row_blocks(runner, head, row, lo, hi, s);
    if (poison)
        check_poison(runner, head, row, lo, hi);
}

void folio__mod_row(struct mod_runner *runner, i32 head, i32 row, i32 lane, i32 lo, i32 hi, float *s)
{
    /* Where lane 0 would be: vectors and scores are then indexed alike. Lanes before s[0] are never touched. */
    float *lane_0 = (float *)((uintptr_t)s - (uintptr_t)lane * sizeof *s);
    run_row(runner, head, row, lane + lo, lane + hi, lane_0);
}
