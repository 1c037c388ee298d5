/* SPDX-License-Identifier: Apache-2.0
 * test_pages_memory.c: folio_pages_alloc: aligned, zeroed, writable to the last byte, or nothing at all. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "base/alloc.h"
#include "folio/pages.h"
#include "support/open_context.h"
#include "base/types.h"

static void memory_is_aligned_zeroed_and_there(void **state)
{
    (void)state;
    enum { HUGE_PAGE = 2 << 20 };
    static const size_t sizes[] = { 1, 4096, HUGE_PAGE - 1, HUGE_PAGE, HUGE_PAGE + 1, 7 * HUGE_PAGE + 12345 };
    for (i32 n_threads = 1; n_threads <= 3; n_threads++) {
        folio_context *ctx = open_context(FOLIO_BACKEND_CPU, FOLIO_ISA_AUTO, n_threads);
        for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
            void *memory = NULL;
            assert_int_equal(folio_pages_alloc(ctx, sizes[i], &memory), FOLIO_OK);
            assert_int_equal((uintptr_t)memory % HUGE_PAGE, 0);
            const u8 *bytes = memory;
            for (size_t at = 0; at < sizes[i]; at += at + 64 < sizes[i] ? 64 : 1)
                assert_int_equal(bytes[at], 0);
            memset(memory, 0xff, sizes[i]);
            folio_pages_free(&memory);
            assert_null(memory);
        }
        folio_context_destroy(&ctx);
    }
}

static void memory_outlives_its_context(void **state)
{
    (void)state;
    folio_context *ctx = open_context(FOLIO_BACKEND_CPU, FOLIO_ISA_AUTO, 2);
    void *memory = NULL;
    assert_int_equal(folio_pages_alloc(ctx, 100, &memory), FOLIO_OK);
    folio_context_destroy(&ctx);
    memset(memory, 1, 100);
    folio_pages_free(&memory);
    folio_pages_free(&memory);
    folio_pages_free(NULL);
}

static void a_failing_call_changes_nothing(void **state)
{
    (void)state;
    folio_context *ctx = open_context(FOLIO_BACKEND_CPU, FOLIO_ISA_AUTO, 1);
    void *memory = &ctx;
    assert_int_equal(folio_pages_alloc(NULL, 1, &memory), FOLIO_EINVAL);
    assert_int_equal(folio_pages_alloc(ctx, 1, NULL), FOLIO_EINVAL);
    assert_int_equal(folio_pages_alloc(ctx, 0, &memory), FOLIO_EINVAL);
    assert_non_null(strstr(folio_last_error(), "bytes 0"));
    assert_int_equal(folio_pages_alloc(ctx, SIZE_MAX, &memory), FOLIO_ENOMEM);
    assert_int_equal(folio_pages_alloc(ctx, SIZE_MAX / 2, &memory), FOLIO_ENOMEM);
    folio__alloc_fail_at(1);
    assert_int_equal(folio_pages_alloc(ctx, 1, &memory), FOLIO_ENOMEM);
    folio__alloc_fail_at(0);
    assert_ptr_equal(memory, &ctx);
    folio_context_destroy(&ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(memory_is_aligned_zeroed_and_there),
        cmocka_unit_test(memory_outlives_its_context),
        cmocka_unit_test(a_failing_call_changes_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
