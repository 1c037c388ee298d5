/* SPDX-License-Identifier: Apache-2.0
 * test_block_mask_pages.c: pages that a block mask, a mask mod or a window leaves out are not touched: they lie in
 * memory without access. And what sizes of block masks a call refuses, and which index a mod's error names. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <cmocka.h>

#include "base/bits.h"
#include "folio/attend.h"
#include "support/contexts.h"
#include "support/made_mod.h"

/* A page of 16 tokens x 2 kv heads x 32 f32 is exactly one page of the machine. */
enum { PAGE = 16, HEADS = 2, DIM = 32, GROUP = 2, PAGES = 40, KV_LEN = PAGES * PAGE - 3, Q_LEN = 33, MAPPED = 4096 };

struct pool {
    u8 *k, *v; /* [PAGES] pages each */
};

static void pool_create(struct pool *pool)
{
    const size_t n = (size_t)PAGES * MAPPED;
    pool->k = mmap(NULL, 2 * n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(pool->k != MAP_FAILED);
    pool->v = pool->k + n;
    float *x = (float *)(void *)pool->k;
    for (size_t i = 0; i < 2 * n / sizeof *x; i++)
        x[i] = (float)((i * 2654435761u >> 8) % 1000) / 500 - 1;
}

static void pool_allow(const struct pool *pool, i32 page, bool allowed)
{
    const int access = allowed ? PROT_READ | PROT_WRITE : PROT_NONE;
    assert_int_equal(mprotect(pool->k + (size_t)page * MAPPED, MAPPED, access), 0);
    assert_int_equal(mprotect(pool->v + (size_t)page * MAPPED, MAPPED, access), 0);
}

static void pool_destroy(struct pool *pool)
{
    munmap(pool->k, 2 * (size_t)PAGES * MAPPED);
}

/* One sequence over the pool, page i of the sequence being page (7 * i) % PAGES of the pool. */
struct call {
    float q[Q_LEN * HEADS * GROUP * DIM], out[2][Q_LEN * HEADS * GROUP * DIM];
    i32 table[PAGES], lens[1], indptr[2];
    i64 q_shape[3], k_shape[4], table_shape[2], lens_shape[1], indptr_shape[1];
    DLTensor q_tensor, k_tensor, v_tensor, table_tensor, lens_tensor, indptr_tensor, out_tensor;
    folio_attend_args args;
};

static DLTensor tensor(void *data, DLDataTypeCode code, i32 ndim, i64 *shape)
{
    return (DLTensor){ data, { kDLCPU, 0 }, ndim, { (u8)code, 32, 1 }, shape, NULL, 0 };
}

static void call_init(struct call *call, const struct pool *pool, i64 q_len)
{
    for (i32 i = 0; i < PAGES; i++)
        call->table[i] = 7 * i % PAGES;
    for (size_t i = 0; i < COUNT_OF(call->q); i++)
        call->q[i] = (float)((i * 40503u) % 1000) / 500 - 1;
    call->lens[0] = KV_LEN;
    call->indptr[0] = 0;
    call->indptr[1] = (i32)q_len;
    memcpy(call->q_shape, (i64[]){ q_len, HEADS * GROUP, DIM }, sizeof call->q_shape);
    memcpy(call->k_shape, (i64[]){ PAGES, PAGE, HEADS, DIM }, sizeof call->k_shape);
    memcpy(call->table_shape, (i64[]){ 1, PAGES }, sizeof call->table_shape);
    call->lens_shape[0] = 1;
    call->indptr_shape[0] = 2;
    call->q_tensor = tensor(call->q, kDLFloat, 3, call->q_shape);
    call->k_tensor = tensor(pool->k, kDLFloat, 4, call->k_shape);
    call->v_tensor = tensor(pool->v, kDLFloat, 4, call->k_shape);
    call->table_tensor = tensor(call->table, kDLInt, 2, call->table_shape);
    call->lens_tensor = tensor(call->lens, kDLInt, 1, call->lens_shape);
    call->indptr_tensor = tensor(call->indptr, kDLInt, 1, call->indptr_shape);
    call->out_tensor = tensor(call->out[0], kDLFloat, 3, call->q_shape);
    call->args = (folio_attend_args){ .struct_size = sizeof call->args,
                                      .q = &call->q_tensor,
                                      .k_pages = &call->k_tensor,
                                      .v_pages = &call->v_tensor,
                                      .page_table = &call->table_tensor,
                                      .kv_lens = &call->lens_tensor,
                                      .q_indptr = &call->indptr_tensor,
                                      .out = &call->out_tensor };
}

/* Once with all pages there, once without those that masks leave out: the same bits. kept [PAGES] by logical page. */
static void check_untouched(struct call *call, const struct pool *pool, folio_context *ctx, const bool *kept,
                            const char *what)
{
    for (i32 run = 0; run < 2; run++) {
        call->out_tensor.data = call->out[run];
        for (i32 i = 0; i < PAGES && run; i++)
            pool_allow(pool, call->table[i], kept[i]);
        if (folio_attend(ctx, NULL, &call->args, NULL) != FOLIO_OK) /* a touched page ends the program here */
            fail_msg("%s: %s", what, folio_last_error());
        for (i32 i = 0; i < PAGES && run; i++)
            pool_allow(pool, call->table[i], true);
    }
    assert_memory_equal(call->out[0], call->out[1], (size_t)call->indptr[1] * HEADS * GROUP * DIM * sizeof(float));
}

/* Blocks of 48 keys (3 pages) x 64 rows: of every 4 the first is partial, the second full, the others absent. */
static folio_block_mask *every_other_block(i64 kv_block, const folio_mod *mask_mod)
{
    static i32 counts[2], indices[2][64];
    const i64 n_cols = ceil_div(KV_LEN, kv_block);
    i64 counts_shape[] = { 1, 1, 1 }, indices_shape[] = { 1, 1, 1, n_cols };
    counts[0] = counts[1] = 0;
    for (i32 col = 0; col < n_cols; col++)
        if (col % 4 < 2)
            indices[col % 4][counts[col % 4]++] = col;
    const DLTensor tensors[] = { tensor(&counts[0], kDLInt, 3, counts_shape),
                                 tensor(indices[0], kDLInt, 4, indices_shape),
                                 tensor(&counts[1], kDLInt, 3, counts_shape),
                                 tensor(indices[1], kDLInt, 4, indices_shape) };
    const folio_block_mask_args args = { .struct_size = sizeof args,
                                         .kv_num_blocks = &tensors[0],
                                         .kv_indices = &tensors[1],
                                         .full_kv_num_blocks = &tensors[2],
                                         .full_kv_indices = &tensors[3],
                                         .q_block = 64,
                                         .kv_block = kv_block,
                                         .mask_mod = mask_mod };
    folio_block_mask *made = NULL;
    assert_int_equal(folio_block_mask_create(&made, &args), FOLIO_OK);
    return made;
}

static void absent_blocks_are_not_touched(void **state)
{
    (void)state;
    static struct call call;
    struct contexts contexts = contexts_create(2);
    struct pool pool;
    pool_create(&pool);
    static const i64 block_pages[] = { 1, 3, 5, 9 };
    for (i32 i = 0; i < contexts.n; i++)
        for (i64 q_len = 1; q_len <= Q_LEN; q_len += 8)
            for (size_t b = 0; b < COUNT_OF(block_pages); b++) {
                folio_mod *mod = b % 2 ? made_mod(FOLIO_MOD_MASK, "(kv + q) % 5 != 0", NULL, 0) : NULL;
                folio_block_mask *blocks = every_other_block(block_pages[b] * PAGE, mod);
                bool kept[PAGES];
                for (i32 page = 0; page < PAGES; page++)
                    kept[page] = page / block_pages[b] % 4 < 2;
                call_init(&call, &pool, q_len);
                call.args.block_mask = blocks;
                check_untouched(&call, &pool, contexts.at[i], kept, contexts.name[i]);
                folio_block_mask_destroy(&blocks);
                folio_mod_destroy(&mod);
            }
    pool_destroy(&pool);
    contexts_destroy(&contexts);
}

/* Mask mods skip in steps of 128 keys, 8 pages. */
static void what_a_mask_mod_drops_is_not_touched(void **state)
{
    (void)state;
    static struct call call;
    struct contexts contexts = contexts_create(2);
    struct pool pool;
    pool_create(&pool);
    folio_mod *mod =
        made_mod(FOLIO_MOD_MASK, "kv >= 256 && kv < 384 || kv == 0 || kv // 512 == 1 && kv < 520", NULL, 0);
    bool kept[PAGES];
    for (i32 page = 0; page < PAGES; page++)
        kept[page] = page / 8 == 0 || page / 8 == 2 || page / 8 == 4;
    for (i32 i = 0; i < contexts.n; i++)
        for (i64 q_len = 1; q_len <= Q_LEN; q_len += 16) {
            call_init(&call, &pool, q_len);
            call.args.mask_mod = mod;
            check_untouched(&call, &pool, contexts.at[i], kept, contexts.name[i]);
        }
    folio_mod_destroy(&mod);
    pool_destroy(&pool);
    contexts_destroy(&contexts);
}

static void check_status(struct call *call, folio_context *ctx, folio_status status, const char *part)
{
    assert_int_equal(folio_attend(ctx, NULL, &call->args, NULL), status);
    if (!strstr(folio_last_error(), part))
        fail_msg("got \"%s\", expected \"%s\" in it", folio_last_error(), part);
}

static folio_block_mask *empty_mask(i64 b, i64 h, i64 q_len, i64 kv_len)
{
    static i32 counts[64], indices[64];
    i64 counts_shape[] = { b, h, 1 }, indices_shape[] = { b, h, 1, 1 };
    const DLTensor tensors[] = { tensor(counts, kDLInt, 3, counts_shape), tensor(indices, kDLInt, 4, indices_shape) };
    const folio_block_mask_args args = { .struct_size = sizeof args,
                                         .kv_num_blocks = &tensors[0],
                                         .kv_indices = &tensors[1],
                                         .q_block = q_len,
                                         .kv_block = kv_len };
    folio_block_mask *made = NULL;
    assert_int_equal(folio_block_mask_create(&made, &args), FOLIO_OK);
    return made;
}

static void masks_and_mods_of_another_call_are_refused(void **state)
{
    (void)state;
    static struct call call;
    struct contexts contexts = contexts_create(1);
    struct pool pool;
    pool_create(&pool);
    static const struct {
        i64 b, h, q_len, kv_len;
        const char *text; /* NULL = fine */
    } masks[] = {
        { 1, 1, 9, KV_LEN, NULL },
        { 1, 4, 9, KV_LEN, NULL },
        { 2, 1, 9, KV_LEN, "block_mask: batch 2; must be 1 or the call's, 1" },
        { 1, 2, 9, KV_LEN, "block_mask: 2 heads; must be 1 or the call's query heads, 4" },
        { 1, 1, 8, KV_LEN, "block_mask: made for 8 query rows; a sequence has 9" },
        { 1, 1, 9, KV_LEN - 1, "block_mask: made for 636 keys; a sequence has 637" },
    };
    folio_mod *score = NULL, *mask = made_mod(FOLIO_MOD_MASK, "true", NULL, 0);
    assert_int_equal(folio_mod_create(&score, FOLIO_MOD_SCORE, "score", NULL, 0), FOLIO_OK);
    call_init(&call, &pool, 9);
    for (size_t i = 0; i < COUNT_OF(masks); i++) {
        folio_block_mask *blocks = empty_mask(masks[i].b, masks[i].h, masks[i].q_len, masks[i].kv_len);
        call.args.block_mask = blocks;
        check_status(&call, contexts.at[1], masks[i].text ? FOLIO_EINVAL : FOLIO_OK,
                     masks[i].text ? masks[i].text : "");
        folio_block_mask_destroy(&blocks);
    }
    call.args.block_mask = NULL;
    call.args.score_mod = mask;
    check_status(&call, contexts.at[1], FOLIO_EINVAL, "score_mod: a mask mod; must be a score mod");
    call.args.score_mod = NULL;
    call.args.mask_mod = score;
    check_status(&call, contexts.at[1], FOLIO_EINVAL, "mask_mod: a score mod; must be a mask mod");
    folio_mod_destroy(&score);
    folio_mod_destroy(&mask);
    pool_destroy(&pool);
    contexts_destroy(&contexts);
}

static void errors_name_capture_index_and_place(void **state)
{
    (void)state;
    static struct call call;
    struct contexts contexts = contexts_create(2);
    struct pool pool;
    float table[40] = { 0 };
    i64 shape[] = { 4, 10 };
    const DLTensor tensor_of = tensor(table, kDLFloat, 2, shape);
    const folio_mod_capture capture = { .name = "rel", .tensor = &tensor_of };
    folio_mod *mod = NULL;
    assert_int_equal(folio_mod_create(&mod, FOLIO_MOD_SCORE, "score + rel[h, pos - kv]", &capture, 1), FOLIO_OK);
    pool_create(&pool);
    call_init(&call, &pool, 1);
    call.args.score_mod = mod;
    for (i32 i = 0; i < contexts.n; i++) {
        check_status(&call, contexts.at[i], FOLIO_ERANGE, "score_mod: capture rel: index 1 is ");
        assert_non_null(strstr(folio_last_error(), "its extent is 10 (sequence 0, head "));
        call.args.flags = FOLIO_WINDOW_IS_SET; /* now only keys for which the index is inside are kept */
        call.args.window_left = 9;
        check_status(&call, contexts.at[i], FOLIO_OK, "");
        call.args.window_left = 10;
        check_status(&call, contexts.at[i], FOLIO_ERANGE, "index 1 is 10; its extent is 10");
        call.args.flags = 0;
    }
    folio_mod_destroy(&mod);
    pool_destroy(&pool);
    contexts_destroy(&contexts);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(absent_blocks_are_not_touched),
        cmocka_unit_test(what_a_mask_mod_drops_is_not_touched),
        cmocka_unit_test(masks_and_mods_of_another_call_are_refused),
        cmocka_unit_test(errors_name_capture_index_and_place),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
