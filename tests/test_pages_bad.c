/* SPDX-License-Identifier: Apache-2.0
 * test_pages_bad.c: one table of malformed calls of pages.h. Each starts as a good call and has one thing broken; it
 * must get the class, name the argument, what was got and what is allowed, and leave every byte of memory as it was. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "bad_pages.h"
#include "folio/pages.h"
#include "support/contexts.h"
#include "support/strided.h"

static struct contexts contexts;

struct call {
    struct arena arena;
    folio_context *ctx;
    struct strided t[N_TENSORS];
    const DLTensor *at[N_TENSORS]; /* what is passed: &t[i].dl or NULL */
    size_t struct_size;
    u32 flags;
    i64 kv_len;
    bool with_scales, without_args;
};

static folio_status append(call *c)
{
    const folio_append_args args = { .struct_size = c->struct_size ? c->struct_size - 1 : sizeof args,
                                     .k = c->at[K],
                                     .v = c->at[V],
                                     .k_pages = c->at[K_PAGES],
                                     .v_pages = c->at[V_PAGES],
                                     .slots = c->at[SLOTS],
                                     .k_scale = c->with_scales ? c->at[K] : NULL,
                                     .flags = c->flags };
    return folio_pages_append(c->ctx, c->without_args ? NULL : &args, NULL);
}

static folio_status gather(call *c)
{
    const folio_gather_args args = { .struct_size = c->struct_size ? c->struct_size - 1 : sizeof args,
                                     .k_pages = c->at[K_PAGES],
                                     .v_pages = c->at[V_PAGES],
                                     .page_row = c->at[PAGE_ROW],
                                     .kv_len = c->kv_len,
                                     .k = c->at[K],
                                     .v = c->at[V],
                                     .k_scale = c->with_scales ? c->at[K] : NULL,
                                     .flags = c->flags };
    return folio_pages_gather(c->ctx, c->without_args ? NULL : &args, NULL);
}

static folio_status copy(call *c)
{
    return folio_pages_copy(c->ctx, c->at[K_PAGES], c->at[V_PAGES], c->at[COPIES], NULL);
}

static folio_status cut(call *c)
{
    return folio_pages_from_contiguous(c->ctx, c->at[PAGES], c->at[TABLE], c->at[X], NULL);
}

static void fill_ids(struct strided *t, const i64 *ids)
{
    memcpy(t->dl.data, ids, (size_t)(t->shape[0] * (t->dl.ndim == 2 ? 2 : 1)) * sizeof *ids);
}

static void make(call *c)
{
    *c = (call){ .arena = arena_create(1 << 15), .ctx = contexts.at[0], .kv_len = 5 };
    static const struct {
        enum dtype dtype;
        i32 ndim;
        i64 shape[4];
    } of[N_TENSORS] = {
        [K] = { DTYPE_F32, 3, { 5, 2, 6 } },
        [V] = { DTYPE_F32, 3, { 5, 2, 5 } },
        [K_PAGES] = { DTYPE_F32, 4, { 8, 4, 2, 6 } },
        [V_PAGES] = { DTYPE_F32, 4, { 8, 4, 2, 5 } },
        [SLOTS] = { DTYPE_I64, 1, { 5 } },
        [PAGE_ROW] = { DTYPE_I64, 1, { 4 } },
        [COPIES] = { DTYPE_I64, 2, { 3, 2 } },
        [PAGES] = { DTYPE_F32, 4, { 4, 4, 2, 6 } },
        [TABLE] = { DTYPE_I32, 2, { 2, 2 } },
        [X] = { DTYPE_F32, 4, { 2, 2, 7, 6 } },
    };
    u64 random = random_seed();
    for (i32 i = 0; i < N_TENSORS; i++) {
        strided_compact(&c->t[i], &c->arena, of[i].dtype, of[i].ndim, of[i].shape);
        if (of[i].dtype == DTYPE_F32)
            strided_fill(&c->t[i], &random);
        c->at[i] = &c->t[i].dl;
    }
    fill_ids(&c->t[SLOTS], (i64[]){ 17, 31, -1, 0, 9 });
    fill_ids(&c->t[PAGE_ROW], (i64[]){ 3, 7, -1, 99 });
    fill_ids(&c->t[COPIES], (i64[]){ 1, 2, 2, 5, 5, 1 });
}

static void break_tensor(call *c, const struct bad *bad)
{
    DLTensor *dl = &c->t[bad->target].dl;
    switch (bad->what) {
    case GONE:
        c->at[bad->target] = NULL;
        break;
    case NDIM:
        dl->ndim = (i32)bad->value;
        break;
    case SHAPE:
        dl->shape[bad->index] = bad->value;
        break;
    case STRIDE:
        dl->strides[bad->index] = bad->value;
        break;
    case DTYPE:
        dl->dtype = dl_dtype((enum dtype)bad->value);
        break;
    case CODE:
        dl->dtype.code = (u8)bad->value;
        break;
    case LANES:
        dl->dtype.lanes = (u16)bad->value;
        break;
    case NO_DATA:
        dl->data = NULL;
        break;
    case OFFSET:
        dl->byte_offset = (u64)bad->value;
        break;
    case DEVICE:
        dl->device.device_type = (DLDeviceType)bad->value;
        break;
    case ENTRY:
        ((i64 *)dl->data)[bad->index] = bad->value;
        break;
    case ONTO: /* a little behind its beginning */
        dl->data = (u8 *)c->t[bad->value].dl.data + 8;
        break;
    default:
        fail_msg("no such mutation of a tensor");
    }
}

static void break_call(call *c, const struct bad *bad)
{
    switch (bad->what) {
    case STRUCT_SIZE:
        c->struct_size = (size_t)bad->value + 1;
        break;
    case FLAGS:
        c->flags = (u32)bad->value;
        break;
    case SCALES:
        c->with_scales = true;
        break;
    case KV_LEN:
        c->kv_len = bad->value;
        break;
    case NO_CONTEXT:
        c->ctx = NULL;
        break;
    case NO_ARGS:
        c->without_args = true;
        break;
    default:
        break_tensor(c, bad);
    }
}

static void check_bad(size_t row)
{
    const struct bad *bad = &table[row];
    call c;
    make(&c);
    break_call(&c, bad);
    u8 *before = arena_copy(&c.arena);
    const folio_status status = bad->run(&c);
    const char *message = folio_last_error();
    bool says_all = true;
    for (size_t i = 0; i < COUNT_OF(bad->says) && bad->says[i]; i++)
        says_all &= strstr(message, bad->says[i]) != NULL;
    const bool is_unchanged = memcmp(before, c.arena.bytes, (size_t)c.arena.n) == 0;
    if (status != bad->status || folio_last_error_kind() != bad->kind || !says_all || !is_unchanged)
        fail_msg("row %zu (%s ...): status %s, kind %d, memory %s, message: %s", row, bad->says[0],
                 folio_status_name(status), (int)folio_last_error_kind(), is_unchanged ? "unchanged" : "CHANGED",
                 message);
    free(before);
    arena_destroy(&c.arena);
}

static void bad_calls_are_refused_and_change_nothing(void **state)
{
    (void)state;
    for (size_t row = 0; row < COUNT_OF(table); row++)
        check_bad(row);
}

/* The call all rows start from works, so each is refused for what was broken. */
static void the_good_calls_work(void **state)
{
    (void)state;
    folio_status (*const runs[])(call *) = { append, gather, copy, cut };
    for (size_t i = 0; i < COUNT_OF(runs); i++) {
        call c;
        make(&c);
        u8 *before = arena_copy(&c.arena);
        assert_int_equal(runs[i](&c), FOLIO_OK);
        assert_memory_not_equal(before, c.arena.bytes, (size_t)c.arena.n);
        free(before);
        arena_destroy(&c.arena);
    }
}

static void nothing_to_do_is_fine(void **state)
{
    (void)state;
    call c;
    make(&c);
    u8 *before = arena_copy(&c.arena);
    c.kv_len = c.t[K].shape[0] = c.t[V].shape[0] = c.t[SLOTS].shape[0] = c.t[PAGE_ROW].shape[0] = 0;
    c.t[COPIES].shape[0] = c.t[X].shape[0] = c.t[TABLE].shape[0] = 0;
    c.t[K].dl.data = c.t[V].dl.data = c.t[SLOTS].dl.data = c.t[COPIES].dl.data = c.t[X].dl.data = NULL;
    assert_int_equal(append(&c), FOLIO_OK);
    assert_int_equal(gather(&c), FOLIO_OK);
    assert_int_equal(copy(&c), FOLIO_OK);
    assert_int_equal(cut(&c), FOLIO_OK);
    assert_memory_equal(before, c.arena.bytes, (size_t)c.arena.n);
    free(before);
    arena_destroy(&c.arena);
}

static int create_contexts(void **state)
{
    (void)state;
    contexts = contexts_create(1);
    return 0;
}

static int destroy_contexts(void **state)
{
    (void)state;
    contexts_destroy(&contexts);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_good_calls_work),
        cmocka_unit_test(bad_calls_are_refused_and_change_nothing),
        cmocka_unit_test(nothing_to_do_is_fine),
    };
    return cmocka_run_group_tests(tests, create_contexts, destroy_contexts);
}
