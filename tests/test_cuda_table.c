/* SPDX-License-Identifier: Apache-2.0
 * test_cuda_table.c: rows of the CUDA kernels' table compile, without spills, for the oldest and the newest
 * architecture. Needs NVRTC, no GPU; without NVRTC it says so and skips. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "folio/folio.h"

enum { REPORT_BYTES = 1 << 14 };

static void names_are_distinct(void **state)
{
    (void)state;
    assert_true(folio_cuda_n_kernels() > 0);
    for (int32_t i = 0; i < folio_cuda_n_kernels(); i++)
        for (int32_t j = 0; j < i; j++)
            assert_string_not_equal(folio_cuda_kernel_name(i), folio_cuda_kernel_name(j));
    assert_null(folio_cuda_kernel_name(-1));
    assert_null(folio_cuda_kernel_name(folio_cuda_n_kernels()));
}

static void bad_rows_are_refused(void **state)
{
    (void)state;
    char report[16];
    assert_int_equal(folio_cuda_compile(-1, 90, NULL, 0, report, sizeof report), FOLIO_EINVAL);
    assert_int_equal(folio_cuda_compile(folio_cuda_n_kernels(), 90, NULL, 0, report, sizeof report), FOLIO_EINVAL);
    assert_int_equal(folio_cuda_compile(0, 75, NULL, 0, report, sizeof report), FOLIO_ENOTSUP);
    assert_non_null(strstr(folio_last_error(), "75"));
}

/* All rows take minutes (tools/cuda-rows; here FOLIO_CUDA_ROWS=all): every small row, and of the decode kernel a sample
 * that holds every value of every axis. FOLIO_CUDA_ROWS=few, beside tools/cuda-rows: the first. */
static bool is_in_sample(int32_t row, int32_t arch)
{
    const char *rows = getenv("FOLIO_CUDA_ROWS"), *name = folio_cuda_kernel_name(row);
    if (rows && !strcmp(rows, "few"))
        return row == 0;
    if ((rows && !strcmp(rows, "all")) || strncmp(name, "decode", 6) != 0)
        return true;
    return row % 13 == 0 && (arch == 90 || row % 2 == 0);
}

static void rows_compile(void **state)
{
    (void)state;
    static char report[REPORT_BYTES];
    static const int32_t archs[] = { 80, 90 };
    int32_t n_failed = 0;
    for (int32_t row = 0; row < folio_cuda_n_kernels(); row++)
        for (size_t a = 0; a < sizeof archs / sizeof archs[0]; a++) {
            if (!is_in_sample(row, archs[a]))
                continue;
            const folio_status status = folio_cuda_compile(row, archs[a], NULL, 0, report, sizeof report);
            if (status == FOLIO_ENOTSUP && strstr(folio_last_error(), "no libnvrtc")) {
                print_message("skip: %d rows not compiled: %s\n", (int)folio_cuda_n_kernels(), folio_last_error());
                skip();
            }
            if (status == FOLIO_ENOTSUP && archs[a] != 90) /* a row for Hopper alone */
                continue;
            if (status != FOLIO_OK)
                print_error("%s, sm_%d: %s\n%s\n", folio_cuda_kernel_name(row), (int)archs[a], folio_last_error(),
                            report);
            n_failed += status != FOLIO_OK;
        }
    assert_int_equal(n_failed, 0);
}

static void description_names_what_was_searched(void **state)
{
    (void)state;
    static char text[REPORT_BYTES];
    folio_cuda_describe(text, sizeof text);
    assert_non_null(strstr(text, "driver: "));
    assert_non_null(strstr(text, "NVRTC: "));
    assert_non_null(strstr(text, "ld.so"));
    char small[8] = "xxxxxxx";
    folio_cuda_describe(small, sizeof small);
    assert_int_equal(strlen(small), sizeof small - 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_are_distinct),
        cmocka_unit_test(bad_rows_are_refused),
        cmocka_unit_test(rows_compile),
        cmocka_unit_test(description_names_what_was_searched),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
