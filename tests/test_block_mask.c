/* SPDX-License-Identifier: Apache-2.0
 * test_block_mask.c: block masks read and refused; what folio__keep_next skips is dropped by every row, and no absent
 * block is ever in a piece. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "base/alloc.h"
#include "base/bits.h"
#include "mod/keep.h"
#include "support/mod_random.h"

enum { B = 2, H = 3, ROWS = 4, COLS = 5 };

/* The four arrays as a test fills them: everything absent at first. */
struct arrays {
    i32 counts[2][B * H * ROWS];
    i32 indices[2][B * H * ROWS * COLS];
    i64 counts_shape[3], indices_shape[4];
    DLTensor tensors[4];
    folio_block_mask_args args;
};

static void arrays_init(struct arrays *a, i64 b, i64 h)
{
    memset(a, 0, sizeof *a);
    memcpy(a->counts_shape, (i64[]){ b, h, ROWS }, sizeof a->counts_shape);
    memcpy(a->indices_shape, (i64[]){ b, h, ROWS, COLS }, sizeof a->indices_shape);
    for (i32 kind = 0; kind < 2; kind++) {
        memset(a->indices[kind], 0x7f, sizeof a->indices[kind]); /* entries past the count may hold anything */
        const DLTensor counts = { .data = a->counts[kind],
                                  .device = { kDLCPU, 0 },
                                  .ndim = 3,
                                  .dtype = { kDLInt, 32, 1 },
                                  .shape = a->counts_shape };
        const DLTensor indices = { .data = a->indices[kind],
                                   .device = { kDLCPU, 0 },
                                   .ndim = 4,
                                   .dtype = { kDLInt, 32, 1 },
                                   .shape = a->indices_shape };
        a->tensors[2 * kind] = counts;
        a->tensors[2 * kind + 1] = indices;
    }
    a->args = (folio_block_mask_args){ .struct_size = sizeof a->args,
                                       .kv_num_blocks = &a->tensors[0],
                                       .kv_indices = &a->tensors[1],
                                       .full_kv_num_blocks = &a->tensors[2],
                                       .full_kv_indices = &a->tensors[3],
                                       .q_block = 16,
                                       .kv_block = 32 };
}

static void add(struct arrays *a, i32 kind, i64 at /* (b * H + h) * ROWS + row */, i32 col)
{
    a->indices[kind][at * COLS + a->counts[kind][at]++] = col;
}

static void states_are_what_the_lists_say(void **state)
{
    (void)state;
    struct arrays a;
    arrays_init(&a, B, H);
    const i64 row = (1 * H + 2) * ROWS + 3;
    add(&a, 0, row, 4);
    add(&a, 0, row, 1);
    add(&a, 0, row, 1);
    add(&a, 1, row, 2);
    add(&a, 1, row, 1); /* partial and full: full */
    folio_block_mask *made = NULL;
    const struct block_mask *mask;
    assert_int_equal(folio_block_mask_create(&made, &a.args), FOLIO_OK);
    assert_int_equal(folio__block_mask_require(&mask, made), FOLIO_OK);
    static const enum mod_keep expected[COLS + 1] = { KEEP_NONE, KEEP_ALL, KEEP_ALL, KEEP_NONE, KEEP_SOME, KEEP_NONE };
    for (i64 col = 0; col <= COLS; col++) {
        assert_int_equal(block_mask_state(mask, 1, 2, 3, col), expected[col]);
        assert_int_equal(block_mask_state(mask, 0, 2, 3, col), KEEP_NONE);
    }
    folio_block_mask_destroy(&made);
    assert_null(made);
    folio_block_mask_destroy(&made);
    folio_block_mask_destroy(NULL);
}

static void check_refused(const folio_block_mask_args *args, folio_status expected, const char *part)
{
    folio_block_mask *made = NULL;
    assert_int_equal(folio_block_mask_create(&made, args), expected);
    assert_null(made);
    if (!strstr(folio_last_error(), part))
        fail_msg("got \"%s\", expected \"%s\" in it", folio_last_error(), part);
}

static void bad_masks_are_refused(void **state)
{
    (void)state;
    struct arrays a;
    arrays_init(&a, B, H);
    const folio_block_mask_args good = a.args;
    const i64 row = (1 * H + 2) * ROWS + 3;
#define REFUSED(field, value, status, part)           \
    do {                                              \
        a.args = good;                                \
        a.args.field = value;                         \
        check_refused(&a.args, FOLIO_##status, part); \
    } while (0)
    REFUSED(struct_size, 0, EINVAL, "struct_size");
    REFUSED(kv_num_blocks, NULL, EINVAL, "kv_num_blocks: NULL");
    REFUSED(full_kv_num_blocks, NULL, EINVAL, "full_kv_num_blocks: NULL");
    REFUSED(full_kv_indices, NULL, EINVAL, "full_kv_indices: NULL");
    REFUSED(q_block, 0, EINVAL, "q_block 0");
    REFUSED(kv_block, -1, EINVAL, "kv_block -1");
    REFUSED(kv_block, INT64_MAX, EINVAL, "overflows");
    REFUSED(q_len, 65, EINVAL, "q_len 65: must be 0 .. 64");
    REFUSED(kv_len, -1, EINVAL, "kv_len -1");
    REFUSED(kv_indices, &a.tensors[0], EINVAL, "kv_indices: 3 dims; must have 4");
    a.args = good;
    add(&a, 0, row, COLS);
    check_refused(&a.args, FOLIO_ERANGE, "kv_indices: batch 1, head 2, row 3: entry 0 is block 5; the mask has 5");
    a.args.kv_len = 6 * 32; /* now block 5 is inside */
    folio_block_mask *made;
    assert_int_equal(folio_block_mask_create(&made, &a.args), FOLIO_OK);
    folio_block_mask_destroy(&made);
    a.args.kv_len = 33; /* two blocks */
    a.indices[0][row * COLS] = 2;
    check_refused(&a.args, FOLIO_ERANGE, "is block 2; the mask has 2");
    a.args.kv_len = 0;
    a.indices[0][row * COLS] = -1;
    check_refused(&a.args, FOLIO_ERANGE, "is block -1");
    a.counts[0][row] = COLS + 1;
    check_refused(&a.args, FOLIO_ERANGE, "kv_num_blocks[1, 2, 3] is 6; must be 0 .. 5");
    a.counts[0][row] = -1;
    check_refused(&a.args, FOLIO_ERANGE, "kv_num_blocks[1, 2, 3] is -1");
    a.counts[0][row] = 0;
    a.tensors[3].dtype.code = kDLFloat;
    check_refused(&a.args, FOLIO_EINVAL, "full_kv_indices: dtype f32");
    assert_int_equal(folio_last_error_kind(), FOLIO_ERROR_TYPE);
    a.tensors[3].dtype.code = kDLInt;
    folio_mod *score = NULL;
    assert_int_equal(folio_mod_create(&score, FOLIO_MOD_SCORE, "score", NULL, 0), FOLIO_OK);
    REFUSED(mask_mod, score, EINVAL, "mask_mod: a score mod; must be a mask mod");
    folio_mod_destroy(&score);
}

static void no_memory_is_enomem(void **state)
{
    (void)state;
    struct arrays a;
    arrays_init(&a, 1, 1);
    for (i64 nth = 1; nth <= 2; nth++) {
        folio_block_mask *made = NULL;
        folio__alloc_fail_at(nth);
        assert_int_equal(folio_block_mask_create(&made, &a.args), FOLIO_ENOMEM);
        folio__alloc_fail_at(0);
        assert_null(made);
    }
}

/* ---- pieces */

static struct keep random_keep(u64 *seed, const struct mod_program *mod, const struct block_mask *blocks,
                               struct mod_range *ranges)
{
    struct keep keep = { .mask_mod = mod, .block_mask = blocks, .ranges = ranges, .group = 2 };
    keep.b = mod_random_below(seed, 2);
    keep.captures_are_fixed = mod_random_below(seed, 2);
    keep.q_len = 1 + mod_random_below(seed, MOD_RANDOM_ROWS);
    keep.kv_len = 1 + mod_random_below(seed, MOD_RANDOM_KEYS);
    keep.pos_offset = mod_random_below(seed, 2) ? keep.kv_len - keep.q_len : 0;
    keep.row_begin = mod_random_below(seed, keep.q_len);
    keep.row_end = keep.row_begin + 1 + mod_random_below(seed, min_i64(keep.q_len - keep.row_begin, 8));
    keep.head_begin = mod_random_below(seed, 4);
    keep.head_end = keep.head_begin + 1 + mod_random_below(seed, 4 - keep.head_begin);
    return keep;
}

static bool mod_keeps(const struct keep *keep, i64 h, i64 q, i64 kv)
{
    static struct mod_result results[FOLIO_MOD_MAX_STEPS];
    const struct mod_env env = { .leaf = { keep->b, h, h / keep->group, q, kv, keep->q_len, keep->kv_len,
                                           q + keep->pos_offset } };
    const struct mod_result result = folio__mod_eval(keep->mask_mod, &env, results);
    return result.poison || result.value.i; /* a poisoned one must be looked at, to be reported */
}

/* What becomes of key kv: may any row and head keep it, do all, and has any a block there? */
static void look_at_key(const struct keep *keep, i64 kv, bool *any, bool *all_by_mod, bool *has_block)
{
    *any = *has_block = false;
    *all_by_mod = true;
    for (i64 h = keep->head_begin; h < keep->head_end; h++)
        for (i64 q = keep->row_begin; q < keep->row_end; q++) {
            const bool by_mod = mod_keeps(keep, h, q, kv);
            const bool block =
                !keep->block_mask || block_mask_state(keep->block_mask, keep->b, h, q / keep->block_mask->q_block,
                                                      kv / keep->block_mask->kv_block) != KEEP_NONE;
            *all_by_mod &= by_mod;
            *has_block |= block;
            *any |= by_mod && block;
        }
}

static void check_pieces(const struct keep *keep, i64 begin, i64 end, i64 quantum, const char *text)
{
    struct keep_piece piece = { 0, begin, KEEP_NONE };
    i64 kv = begin;
    while (piece.end < end) {
        const i64 at = piece.end;
        if (!folio__keep_next(keep, at, end, quantum, &piece))
            piece = (struct keep_piece){ end, end, KEEP_NONE };
        assert_true(piece.begin >= at && piece.end <= end && (piece.end > piece.begin || piece.end == end));
        for (; kv < piece.end; kv++) {
            bool any, all_by_mod, has_block;
            look_at_key(keep, kv, &any, &all_by_mod, &has_block);
            if (kv < piece.begin ? any : !has_block || (piece.mod_state == KEEP_ALL && !all_by_mod))
                fail_msg(
                    "%s: rows %lld..%lld of %lld, heads %lld..%lld, b %lld, kv_len %lld: key %lld in piece %lld..%lld "
                    "state %d: any %d all %d block %d",
                    text, (long long)keep->row_begin, (long long)keep->row_end, (long long)keep->q_len,
                    (long long)keep->head_begin, (long long)keep->head_end, (long long)keep->b, (long long)keep->kv_len,
                    (long long)kv, (long long)piece.begin, (long long)piece.end, (int)piece.mod_state, (int)any,
                    (int)all_by_mod, (int)has_block);
        }
    }
}

/* Does the block mask, its own mask mod included, keep key kv for row q of head h? */
static bool block_keeps(const struct keep *keep, i64 h, i64 q, i64 kv)
{
    const struct block_mask *mask = keep->block_mask;
    if (!mask)
        return true;
    const enum mod_keep state = block_mask_state(mask, keep->b, h, q / mask->q_block, kv / mask->kv_block);
    struct keep inside = *keep;
    inside.mask_mod = mask->mask_mod;
    return state == KEEP_ALL || (state == KEEP_SOME && (!inside.mask_mod || mod_keeps(&inside, h, q, kv)));
}

/* A row's piece is cut only where both drop, and what is said to keep all does. */
static void check_trim(const struct keep *keep, i64 begin, i64 end, const char *text)
{
    struct keep_piece piece = { begin, end, KEEP_SOME };
    enum mod_keep blocks = KEEP_ALL;
    if (!folio__keep_trim(keep, 16, &piece, &blocks))
        piece.begin = piece.end = end;
    assert_true(begin <= piece.begin && piece.begin <= piece.end && piece.end <= end);
    for (i64 kv = begin; kv < end; kv++)
        for (i64 h = keep->head_begin; h < keep->head_end; h++)
            for (i64 q = keep->row_begin; q < keep->row_end; q++) {
                const bool by_mod = mod_keeps(keep, h, q, kv), by_block = block_keeps(keep, h, q, kv);
                const bool is_in = kv >= piece.begin && kv < piece.end;
                if (is_in ? (piece.mod_state == KEEP_ALL && !by_mod) || (blocks == KEEP_ALL && !by_block)
                          : by_mod && by_block)
                    fail_msg("%s: head %lld row %lld key %lld, piece %lld..%lld of %lld..%lld, states %d %d: kept by "
                             "the mod %d, by blocks %d",
                             text, (long long)h, (long long)q, (long long)kv, (long long)piece.begin,
                             (long long)piece.end, (long long)begin, (long long)end, (int)piece.mod_state, (int)blocks,
                             (int)by_mod, (int)by_block);
            }
}

/* What plans make room for: no kept key is outside, and what is surely dropped at the ends is. */
static void check_hull(const struct keep *keep, i64 begin, i64 end, i64 quantum, const char *text)
{
    i64 first = end, last = end;
    if (!folio__keep_hull(keep, begin, end, quantum, &first, &last))
        first = last = end;
    assert_true(begin <= first && first <= last && last <= end);
    for (i64 kv = begin; kv < end; kv++) {
        bool any, all_by_mod, has_block;
        look_at_key(keep, kv, &any, &all_by_mod, &has_block);
        if (any && (kv < first || kv >= last))
            fail_msg("%s: key %lld is outside of the hull %lld..%lld", text, (long long)kv, (long long)first,
                     (long long)last);
        if (first < last && !has_block)
            assert_true(kv != first && kv != last - 1);
    }
}

static void pieces_hold_what_is_kept_and_no_absent_block(void **state)
{
    (void)state;
    static struct mod_range ranges[FOLIO_MOD_MAX_STEPS], block_ranges[FOLIO_MOD_MAX_STEPS];
    u64 seed = 3;
    char text[2048];
    for (i32 round = 0; round < 3000; round++) {
        folio_mod *mod = NULL;
        if (round % 3 == 0)
            strcpy(text, round % 2 ? "kv <= pos && pos - kv < 40" : "true");
        else
            mod_random_text(&seed, FOLIO_MOD_MASK, (i32)mod_random_below(&seed, 8), 0, text, sizeof text);
        assert_int_equal(folio_mod_create(&mod, FOLIO_MOD_MASK, text, mod_random_captures(9), MOD_RANDOM_CAPTURES),
                         FOLIO_OK);
        const i64 n_heads = mod_random_below(&seed, 2) ? 4 : 1;
        folio_block_mask *blocks = round % 2 ? mod_random_block_mask(&seed, 1 + mod_random_below(&seed, 2), n_heads,
                                                                     round % 4 == 1 ? mod : NULL)
                                             : NULL;
        struct keep keep = random_keep(&seed, &mod->program, blocks ? &blocks->mask : NULL, ranges);
        keep.block_ranges = block_ranges;
        const i64 begin = mod_random_below(&seed, keep.kv_len);
        const i64 quantum = INT64_C(16) << mod_random_below(&seed, 4);
        check_pieces(&keep, begin, keep.kv_len, quantum, text);
        check_hull(&keep, begin, keep.kv_len, quantum, text);
        check_trim(&keep, begin, keep.kv_len, text);
        folio_block_mask_destroy(&blocks);
        folio_mod_destroy(&mod);
    }
}

/* A window over a long sequence: the pieces are near the window, and few questions find them. */
static void a_window_mod_skips_like_a_window(void **state)
{
    (void)state;
    struct mod_range ranges[64];
    folio_mod *mod = NULL;
    assert_int_equal(
        folio_mod_create(&mod, FOLIO_MOD_MASK, "kv <= q + kv_len - q_len && q + kv_len - q_len - kv < 1024", NULL, 0),
        FOLIO_OK);
    const struct keep keep = { .mask_mod = &mod->program,
                               .ranges = ranges,
                               .group = 4,
                               .q_len = 1,
                               .kv_len = 32768,
                               .pos_offset = 32767,
                               .row_end = 1,
                               .head_end = 32 };
    struct keep_piece piece = { 0 };
    i64 kept = 0, first = -1, n_all = 0;
    for (i64 at = 0; folio__keep_next(&keep, at, keep.kv_len, 32, &piece); at = piece.end) {
        first = first < 0 ? piece.begin : first;
        kept += piece.end - piece.begin;
        n_all += piece.mod_state == KEEP_ALL ? piece.end - piece.begin : 0;
    }
    assert_int_equal(kept, 1024);
    assert_int_equal(first, 32768 - 1024);
    assert_int_equal(n_all, 1024);
    i64 last;
    assert_true(folio__keep_hull(&keep, 0, keep.kv_len, 128, &first, &last));
    assert_int_equal(first, 32768 - 1024);
    assert_int_equal(last, 32768);
    folio_mod_destroy(&mod);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(states_are_what_the_lists_say),
        cmocka_unit_test(bad_masks_are_refused),
        cmocka_unit_test(no_memory_is_enomem),
        cmocka_unit_test(pieces_hold_what_is_kept_and_no_absent_block),
        cmocka_unit_test(a_window_mod_skips_like_a_window),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
