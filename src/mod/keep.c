/* SPDX-License-Identifier: Apache-2.0
 * keep.c: big aligned ranges are asked first and halved only where the answer is "some", so a window over a long
 * sequence costs a few dozen questions. */
#include "mod/keep.h"

#include "base/bits.h"

static enum mod_keep keep_by(const struct keep *keep, const struct mod_program *mod, struct mod_range *ranges,
                             i64 begin, i64 end)
{
    if (!mod)
        return KEEP_ALL;
    if (mod->tile)
        return KEEP_SOME;
    const struct mod_box box = { {
        { keep->b, keep->b },
        { keep->head_begin, keep->head_end - 1 },
        { keep->head_begin / keep->group, (keep->head_end - 1) / keep->group },
        { keep->row_begin, keep->row_end - 1 },
        { begin, end - 1 },
        { keep->q_len, keep->q_len },
        { keep->kv_len, keep->kv_len },
        { keep->row_begin + keep->pos_offset, keep->row_end - 1 + keep->pos_offset },
    } };
    folio__mod_ranges(mod, &box, keep->captures_are_fixed, ranges);
    const struct mod_range *result = &ranges[mod->result];
    if (result->may_be_poison || result->truth == (MOD_MAY_BE_TRUE | MOD_MAY_BE_FALSE))
        return KEEP_SOME;
    return result->truth == MOD_MAY_BE_FALSE ? KEEP_NONE : KEEP_ALL;
}

enum mod_keep folio__keep_mod(const struct keep *keep, i64 begin, i64 end)
{
    return keep_by(keep, keep->mask_mod, keep->ranges, begin, end);
}

/* The states that block `col` has for any row or head, as bits 1 << state. */
static u32 states_of_block(const struct keep *keep, i64 col)
{
    const struct block_mask *mask = keep->block_mask;
    const i64 last_row = (keep->row_end - 1) / mask->q_block;
    const i64 head_end = mask->n_heads == 1 ? keep->head_begin + 1 : keep->head_end;
    u32 states = 0;
    for (i64 h = keep->head_begin; h < head_end; h++)
        for (i64 row = keep->row_begin / mask->q_block; row <= last_row; row++)
            states |= 1u << block_mask_state(mask, keep->b, h, row, col);
    return states;
}

/* Does any row or head have block `col`? */
static bool any_has_block(const struct keep *keep, i64 col)
{
    return states_of_block(keep, col) != 1u << KEEP_NONE;
}

enum mod_keep folio__keep_blocks(const struct keep *keep, i64 begin, i64 end)
{
    const struct block_mask *mask = keep->block_mask;
    if (!mask)
        return KEEP_ALL;
    u32 states = 0;
    for (i64 col = begin / mask->kv_block; col * mask->kv_block < end; col++)
        states |= states_of_block(keep, col);
    if (states == 1u << KEEP_NONE || states == 1u << KEEP_ALL)
        return states == 1u << KEEP_ALL ? KEEP_ALL : KEEP_NONE;
    const enum mod_keep inside = keep_by(keep, mask->mask_mod, keep->block_ranges, begin, end);
    if (inside == KEEP_ALL && !(states & 1u << KEEP_NONE))
        return KEEP_ALL;
    return inside == KEEP_NONE && !(states & 1u << KEEP_ALL) ? KEEP_NONE : KEEP_SOME;
}

/* The first run of present blocks in [at, end); begin == end when there is none. It ends at a multiple of quantum when
 * it is longer than that, so that looking does not cost more than using. */
static void next_run(const struct keep *keep, i64 at, i64 end, i64 quantum, i64 *run_begin, i64 *run_end)
{
    *run_begin = at;
    *run_end = end;
    if (!keep->block_mask)
        return;
    const i64 kv_block = keep->block_mask->kv_block;
    i64 col = at / kv_block;
    while (col * kv_block < end && !any_has_block(keep, col))
        col++;
    *run_begin = min_i64(max_i64(at, col * kv_block), end);
    const i64 enough = (*run_begin / quantum + 1) * quantum;
    while (col * kv_block < end && col * kv_block < enough && any_has_block(keep, col))
        col++;
    const i64 present = col * kv_block; /* keys below are present */
    *run_end = max_i64(*run_begin, min_i64(end, present > enough ? present / quantum * quantum : present));
}

/* The largest aligned range that starts at or before `at` and holds at. */
static i64 largest_aligned(i64 at, i64 quantum)
{
    const i64 n = at / quantum;
    return n == 0 ? INT64_MAX / 4 / quantum * quantum : (n & -n) * quantum;
}

bool folio__keep_next(const struct keep *keep, i64 at, i64 end, i64 quantum, struct keep_piece *piece)
{
    while (at < end) {
        i64 begin, stop;
        next_run(keep, at, end, quantum, &begin, &stop);
        if (begin >= end)
            return false;
        const i64 base = begin / quantum * quantum;
        i64 size = min_i64(largest_aligned(begin, quantum), ceil_div(stop - base, quantum) * quantum);
        enum mod_keep state;
        for (;;) {
            state = folio__keep_mod(keep, begin, min_i64(stop, base + size));
            if (state != KEEP_SOME || size <= quantum)
                break;
            size = ceil_div(size / quantum, 2) * quantum;
        }
        at = min_i64(stop, base + size);
        if (state == KEEP_NONE)
            continue;
        *piece = (struct keep_piece){ begin, at, state };
        return true;
    }
    return false;
}

static enum mod_keep least(enum mod_keep a, enum mod_keep b)
{
    return a < b ? a : b;
}

bool folio__keep_trim(const struct keep *keep, i64 quantum, struct keep_piece *piece, enum mod_keep *blocks)
{
    const enum mod_keep of_piece = piece->mod_state;
    struct keep_piece kept = { piece->end, piece->end, KEEP_ALL };
    enum mod_keep mod = KEEP_ALL, block = KEEP_ALL; /* up to the quantum at work, from the first that is kept */
    *blocks = folio__keep_blocks(keep, piece->begin, piece->end);
    if (of_piece == KEEP_ALL && *blocks != KEEP_SOME)
        return *blocks == KEEP_ALL;
    for (i64 at = piece->begin, end; at < piece->end; at = end) {
        end = min_i64((at / quantum + 1) * quantum, piece->end);
        const enum mod_keep by_mod = of_piece == KEEP_ALL ? KEEP_ALL : folio__keep_mod(keep, at, end);
        const enum mod_keep by_block = by_mod == KEEP_NONE ? KEEP_ALL : folio__keep_blocks(keep, at, end);
        const bool drops = by_mod == KEEP_NONE || by_block == KEEP_NONE;
        if (drops && kept.begin == piece->end)
            continue;
        mod = least(mod, by_mod);
        block = least(block, by_block);
        if (drops)
            continue;
        kept.begin = min_i64(kept.begin, at);
        kept.end = end;
        kept.mod_state = mod;
        *blocks = block;
    }
    *piece = kept;
    return kept.begin < kept.end;
}

/* ---- hull */

/* The end of the last quantum of [begin, end) that mask_mod does not surely drop; begin when it drops all. */
static i64 last_by_mod(const struct keep *keep, i64 begin, i64 end, i64 quantum)
{
    while (begin < end) {
        const enum mod_keep state = folio__keep_mod(keep, begin, end);
        if (state == KEEP_NONE)
            return begin;
        if (state == KEEP_ALL || end - begin <= quantum)
            return end;
        const i64 middle = begin + ceil_div(end - begin, 2 * quantum) * quantum;
        if (middle >= end)
            return end;
        const i64 last = last_by_mod(keep, middle, end, quantum);
        if (last > middle)
            return last;
        end = middle;
    }
    return begin;
}

static i64 last_by_blocks(const struct keep *keep, i64 begin, i64 end)
{
    if (!keep->block_mask)
        return end;
    const i64 kv_block = keep->block_mask->kv_block;
    while (end > begin && !any_has_block(keep, (end - 1) / kv_block))
        end = max_i64(begin, (end - 1) / kv_block * kv_block);
    return end;
}

bool folio__keep_hull(const struct keep *keep, i64 begin, i64 end, i64 quantum, i64 *first, i64 *last)
{
    struct keep_piece piece;
    if (!folio__keep_next(keep, begin, end, quantum, &piece))
        return false;
    *first = piece.begin;
    for (*last = end;;) { /* what one mask drops may end where the other has dropped before */
        const i64 by_blocks = last_by_blocks(keep, *first, *last);
        const i64 by_mod = last_by_mod(keep, *first, by_blocks, quantum);
        if (by_mod == *last)
            return true;
        *last = by_mod;
        if (*last == *first)
            return false;
    }
}
