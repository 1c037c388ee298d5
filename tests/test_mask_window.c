/* SPDX-License-Identifier: Apache-2.0
 * test_mask_window.c: which mask mods are windows, and that a block mask said to be one keeps exactly its keys,
 * whatever its lists of blocks. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "base/bits.h"
#include "mod/eval.h"
#include "mod/mask_window.h"
#include "support/made_mod.h"
#include "support/mod_random.h"

enum { Q_LEN = 21, KV_LEN = 37, Q_BLOCK = 4, KV_BLOCK = 8, ROWS = 6, COLS = 5, HEADS = 2 };

/* A mask over [1][HEADS] with lists that a test may change. */
struct lists {
    i32 counts[2][HEADS * ROWS], indices[2][HEADS * ROWS * COLS];
};

static bool mod_keeps(const struct mod_program *mod, i64 h, i64 q, i64 kv)
{
    static struct mod_result results[FOLIO_MOD_MAX_STEPS];
    const struct mod_env env = { .leaf = { 0, h, h, q, kv, Q_LEN, KV_LEN, q } };
    return folio__mod_eval(mod, &env, results).value.i;
}

/* The lists that say what the mod does: kept in part, kept whole, or in neither. */
static void classify(struct lists *lists, const struct mod_program *mod)
{
    memset(lists, 0, sizeof *lists);
    for (i64 h = 0; h < HEADS; h++)
        for (i64 row = 0; row < ROWS; row++)
            for (i64 col = 0; col < COLS; col++) {
                i64 kept = 0, all = 0;
                for (i64 q = row * Q_BLOCK; q < min_i64((row + 1) * Q_BLOCK, Q_LEN); q++)
                    for (i64 kv = col * KV_BLOCK; kv < min_i64((col + 1) * KV_BLOCK, KV_LEN); kv++, all++)
                        kept += mod_keeps(mod, h, q, kv);
                const i64 at = h * ROWS + row, kind = kept == all;
                if (kept)
                    lists->indices[kind][at * COLS + lists->counts[kind][at]++] = (i32)col;
            }
}

static folio_block_mask *make(struct lists *lists, const folio_mod *mod)
{
    i64 counts_shape[] = { 1, HEADS, ROWS }, indices_shape[] = { 1, HEADS, ROWS, COLS };
    DLTensor t[4];
    for (i32 i = 0; i < 4; i++)
        t[i] = (DLTensor){ .data = i % 2 ? (void *)lists->indices[i / 2] : (void *)lists->counts[i / 2],
                           .device = { kDLCPU, 0 },
                           .ndim = i % 2 ? 4 : 3,
                           .dtype = { kDLInt, 32, 1 },
                           .shape = i % 2 ? indices_shape : counts_shape };
    const folio_block_mask_args args = { .struct_size = sizeof args,
                                         .kv_num_blocks = &t[0],
                                         .kv_indices = &t[1],
                                         .full_kv_num_blocks = &t[2],
                                         .full_kv_indices = &t[3],
                                         .q_block = Q_BLOCK,
                                         .kv_block = KV_BLOCK,
                                         .q_len = Q_LEN,
                                         .kv_len = KV_LEN,
                                         .mask_mod = mod };
    folio_block_mask *made = NULL;
    assert_int_equal(folio_block_mask_create(&made, &args), FOLIO_OK);
    return made;
}

static folio_mod *mod_of(const char *text)
{
    return made_mod(FOLIO_MOD_MASK, text, mod_random_captures(5), MOD_RANDOM_CAPTURES);
}

static void mods_that_are_windows(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        i64 left, right; /* -2: not a window */
    } cases[] = {
        { "true", -1, -1 },
        { "kv <= q", -1, 0 },
        { "q >= kv", -1, 0 },
        { "q + 0 >= kv", -1, 0 },
        { "!(kv > q)", -1, 0 },
        { "kv < q + 1", -1, 0 },
        { "kv - q <= 0 && true", -1, 0 },
        { "q + 5 >= kv", -1, 5 },
        { "-3 + kv <= q - -1 + 2", -1, 6 },
        { "q + 35 >= kv", -1, 35 },
        { "q + 36 >= kv", -1, -1 }, /* no key is further away */
        { "kv <= q && q - kv < 8", 7, 0 },
        { "q - kv <= 20 && q - kv >= -3", -1, 3 }, /* no row is further away */
        { "q - kv <= 19 && q - kv >= -3", 19, 3 },
        { "kv == q", 0, 0 },
        { "kv <= q && kv <= q + 3 && kv > q - 2 && kv >= q - 4", 1, 0 },
        { "-q <= -kv", -1, 0 },
        { "kv < q", -2, 0 }, /* windows hold the row's own place */
        { "kv == q + 1", -2, 0 },
        { "kv - q >= 1", -2, 0 },
        { "kv > q && kv < q", -2, 0 },
        { "kv != q", -2, 0 },
        { "kv <= 5", -2, 0 },
        { "q >= 5", -2, 0 },
        { "kv + q <= 9", -2, 0 },
        { "kv <= 2 * q", -2, 0 },
        { "kv + kv <= q + q", -2, 0 },
        { "kv <= q + 9223372036854775807", -2, 0 }, /* wraps */
        { "kv - 4611686018427387904 <= q + 4611686018427387904", -2, 0 },
        { "kv <= q || kv < 4", -2, 0 },
        { "kv <= q && h == 0", -2, 0 },
        { "kv <= pos", -2, 0 },
        { "kv <= q + kv_len - q_len", -2, 0 },
        { "f32(kv) <= f32(q)", -2, 0 },
        { "kv <= q && flag[kv]", -2, 0 },
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        folio_mod *mod = mod_of(cases[i].text);
        struct lists lists;
        classify(&lists, &mod->program);
        folio_block_mask *made = make(&lists, mod);
        const struct block_mask *mask = &made->mask;
        const bool wanted = cases[i].left != -2;
        if (mask->is_window != wanted ||
            (wanted && (mask->window_left != cases[i].left || mask->window_right != cases[i].right)))
            fail_msg("%s: is_window %d, %lld %lld", cases[i].text, mask->is_window, (long long)mask->window_left,
                     (long long)mask->window_right);
        folio_block_mask_destroy(&made);
        folio_mod_destroy(&mod);
    }
}

/* Does the mask, read element by element, keep just the window's keys? */
static bool is_the_window(const struct block_mask *mask, const struct mod_program *mod, i64 left, i64 right)
{
    for (i64 h = 0; h < HEADS; h++)
        for (i64 q = 0; q < Q_LEN; q++)
            for (i64 kv = 0; kv < KV_LEN; kv++) {
                const enum mod_keep block = block_mask_state(mask, 0, h, q / Q_BLOCK, kv / KV_BLOCK);
                const bool keeps = block == KEEP_ALL || (block == KEEP_SOME && mod_keeps(mod, h, q, kv));
                if (keeps != ((left < 0 || kv >= q - left) && (right < 0 || kv <= q + right)))
                    return false;
            }
    return true;
}

/* One block moved from one list to another, or out of both: it is a window exactly if its elements are. */
static void lists_that_say_otherwise_are_no_window(void **state)
{
    (void)state;
    u64 seed = 11;
    i32 n_windows = 0, n_others = 0;
    for (i32 round = 0; round < 3000; round++) {
        char text[64];
        const i64 left = mod_random_below(&seed, Q_LEN), right = mod_random_below(&seed, KV_LEN);
        snprintf(text, sizeof text, "kv <= q + %lld && q - kv <= %lld", (long long)right, (long long)left);
        folio_mod *mod = mod_of(text);
        struct lists lists;
        classify(&lists, &mod->program);
        const i64 at = mod_random_below(&seed, HEADS * ROWS), kind = mod_random_below(&seed, 2);
        i32 *n = &lists.counts[kind][at], *row = &lists.indices[kind][at * COLS];
        if (*n && mod_random_below(&seed, 2)) {
            const i32 col = row[--*n];
            if (mod_random_below(&seed, 2))
                lists.indices[1 - kind][at * COLS + lists.counts[1 - kind][at]++] = col;
        } else if (*n < COLS) {
            row[(*n)++] = (i32)mod_random_below(&seed, COLS);
        }
        folio_block_mask *made = make(&lists, mod);
        const bool wanted = is_the_window(&made->mask, &mod->program, left, right);
        if (made->mask.is_window != wanted)
            fail_msg("round %d, %s, list %lld of row %lld: is_window %d", (int)round, text, (long long)kind,
                     (long long)at, made->mask.is_window);
        n_windows += wanted;
        n_others += !wanted;
        folio_block_mask_destroy(&made);
        folio_mod_destroy(&mod);
    }
    assert_true(n_windows > 200 && n_others > 200);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(mods_that_are_windows),
        cmocka_unit_test(lists_that_say_otherwise_are_no_window),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
