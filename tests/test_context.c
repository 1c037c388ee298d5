/* SPDX-License-Identifier: Apache-2.0
 * test_context.c: contexts: defaults, caps, threads, every refusal; what a level's name and availability say. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/alloc.h"
#include "folio/folio.h"
#include "kernel/context.h"
#include "kernel/cpu/isa.h"

static const folio_isa x86_levels[] = { FOLIO_ISA_C, FOLIO_ISA_AVX2, FOLIO_ISA_AVX512, FOLIO_ISA_AVX512_BF16,
                                        FOLIO_ISA_AMX };

static void defaults(void **state)
{
    (void)state;
    folio_context *ctx = NULL;
    assert_int_equal(folio_context_create(&ctx, NULL), FOLIO_OK);
    assert_int_equal(folio_context_backend(ctx), FOLIO_BACKEND_CPU);
    assert_int_equal(folio_context_isa(ctx), folio_isa_best());
    assert_int_equal(folio_context_n_threads(ctx), folio__pool_default_threads());
    folio_context_destroy(&ctx);
    assert_null(ctx);
    folio_context_destroy(&ctx);
    folio_context_destroy(NULL);
}

/* A cap is never exceeded, and the best below it is found. */
static void caps(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(x86_levels); i++) {
        folio_isa expected = FOLIO_ISA_C;
        for (size_t j = 0; j <= i; j++)
            if (folio_isa_available(x86_levels[j]))
                expected = x86_levels[j];
        folio_context *ctx = NULL;
        const folio_context_config cfg = { .struct_size = sizeof cfg, .isa = (int32_t)x86_levels[i], .n_threads = 3 };
        assert_int_equal(folio_context_create(&ctx, &cfg), FOLIO_OK);
        assert_int_equal(folio_context_isa(ctx), expected);
        assert_int_equal(folio_context_n_threads(ctx), 3);
        folio_context_destroy(&ctx);
    }
}

static void levels(void **state)
{
    (void)state;
    assert_int_equal(folio_isa_available(FOLIO_ISA_C), 1);
    assert_int_equal(folio_isa_available(FOLIO_ISA_AUTO), 0);
    assert_int_equal(folio_isa_available((folio_isa)99), 0);
    assert_int_equal(folio_isa_available((folio_isa)-1), 0);
    assert_int_equal(folio_isa_available(folio_isa_best()), 1);
    for (i32 isa = -1; isa <= 8; isa++) {
        const char *missing = folio_isa_missing((folio_isa)isa);
        assert_int_equal(missing == NULL, folio_isa_available((folio_isa)isa));
        assert_true(!missing || strlen(missing) > 10);
    }
    assert_string_equal(folio_isa_name(FOLIO_ISA_AUTO), "auto");
    assert_string_equal(folio_isa_name(FOLIO_ISA_AVX512_BF16), "avx512_bf16");
    assert_string_equal(folio_isa_name(FOLIO_ISA_NEON), "neon");
    assert_string_equal(folio_isa_name((folio_isa)8), "unknown");
    assert_string_equal(folio_isa_name((folio_isa)-1), "unknown");
}

/* The first that says no is named, and nobody else: CPU, operating system, kernel. */
static void tiles_missing(void **state)
{
    (void)state;
    assert_null(folio__tiles_missing(true, true, 0));
    assert_non_null(strstr(folio__tiles_missing(false, true, EPERM), "CPU has no AMX"));
    assert_non_null(strstr(folio__tiles_missing(true, false, EPERM), "does not save"));
    static const int refusals_of[] = { EPERM, EINVAL, ENOSYS, ENOMEM, ENOSPC };
    for (size_t i = 0; i < COUNT_OF(refusals_of); i++) {
        const char *why = folio__tiles_missing(true, true, refusals_of[i]);
        assert_non_null(strstr(why, "the kernel refused arch_prctl"));
        const bool is_stack = refusals_of[i] == ENOMEM || refusals_of[i] == ENOSPC;
        assert_int_equal(strstr(why, "signal stack") != NULL, is_stack);
    }
}

/* Every table does all of its work, and names itself as its level is named. */
static void tables_are_complete(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(x86_levels); i++) {
        if (!folio_isa_available(x86_levels[i]))
            continue;
        const struct kernels *k = folio__select_cpu(x86_levels[i]);
        assert_int_equal(k->isa, x86_levels[i]);
        assert_string_equal(k->name, folio_isa_name(k->isa));
        assert_true(k->append && k->gather && k->tiling && k->scratch_bytes && k->attend && k->fold && k->merge);
    }
}

static void refusals(void **state)
{
    (void)state;
    static const struct {
        folio_context_config cfg;
        folio_status status;
        const char *names;
    } cases[] = {
        { { .struct_size = 0 }, FOLIO_EINVAL, "struct_size" },
        { { .struct_size = sizeof(folio_context_config) + 8 }, FOLIO_EINVAL, "struct_size" },
        { { .struct_size = sizeof(folio_context_config), .backend = 9 }, FOLIO_EINVAL, "backend" },
        { { .struct_size = sizeof(folio_context_config), .backend = -1 }, FOLIO_EINVAL, "backend" },
        { { .struct_size = sizeof(folio_context_config), .isa = 8 }, FOLIO_EINVAL, "isa" },
        { { .struct_size = sizeof(folio_context_config), .isa = -1 }, FOLIO_EINVAL, "isa" },
        { { .struct_size = sizeof(folio_context_config), .isa = FOLIO_ISA_NEON }, FOLIO_ENOTSUP, "neon" },
        { { .struct_size = sizeof(folio_context_config), .n_threads = -1 }, FOLIO_EINVAL, "n_threads" },
        { { .struct_size = sizeof(folio_context_config), .n_threads = 1025 }, FOLIO_EINVAL, "n_threads" },
        { { .struct_size = sizeof(folio_context_config), .device = -1 }, FOLIO_EINVAL, "device" },
        { { .struct_size = sizeof(folio_context_config), .n_lib_dirs = 1 }, FOLIO_EINVAL, "lib_dirs" },
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        folio_context *ctx = NULL;
        assert_int_equal(folio_context_create(&ctx, &cases[i].cfg), cases[i].status);
        assert_null(ctx);
        assert_non_null(strstr(folio_last_error(), cases[i].names));
    }
    assert_int_equal(folio_context_create(NULL, NULL), FOLIO_EINVAL);
    assert_int_equal(folio__context_require(NULL), FOLIO_EINVAL);
    assert_int_equal(folio__context_require(&(folio_context){ .magic = 1 }), FOLIO_EHANDLE);
}

static void no_memory(void **state)
{
    (void)state;
    for (i64 fail_at = 1; fail_at <= 3; fail_at++) {
        folio_context *ctx = NULL;
        folio__alloc_fail_at(fail_at);
        assert_int_equal(folio_context_create(&ctx, NULL), FOLIO_ENOMEM);
        folio__alloc_fail_at(0);
        assert_null(ctx);
    }
}

/* FOLIO_ISA is read once a process: each value gets one. 1 = as expected. */
static int child_sees(const char *text, folio_status status, folio_isa cap)
{
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        setenv("FOLIO_ISA", text, 1);
        folio_context *ctx = NULL;
        if (folio_context_create(&ctx, NULL) != status)
            _exit(0);
        _exit(status != FOLIO_OK || folio_context_isa(ctx) == folio__select_cpu(cap)->isa);
    }
    int result = -1;
    assert_int_equal(waitpid(child, &result, 0), child);
    return WIFEXITED(result) && WEXITSTATUS(result) == 1;
}

static void the_environment_caps(void **state)
{
    (void)state;
    assert_true(child_sees("c", FOLIO_OK, FOLIO_ISA_C));
    assert_true(child_sees("avx2", FOLIO_OK, FOLIO_ISA_AVX2));
    assert_true(child_sees("amx", FOLIO_OK, FOLIO_ISA_AMX));
    assert_true(child_sees("auto", FOLIO_OK, FOLIO_ISA_AMX));
    assert_true(child_sees("", FOLIO_OK, FOLIO_ISA_AMX));
    assert_true(child_sees("sse9", FOLIO_ENOTSUP, FOLIO_ISA_C));
}

int main(void)
{
    unsetenv("FOLIO_ISA");
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_environment_caps), /* first: the parent must not have read the environment yet */
        cmocka_unit_test(defaults),
        cmocka_unit_test(caps),
        cmocka_unit_test(levels),
        cmocka_unit_test(tiles_missing),
        cmocka_unit_test(tables_are_complete),
        cmocka_unit_test(refusals),
        cmocka_unit_test(no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
