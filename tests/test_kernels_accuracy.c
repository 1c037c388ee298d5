/* SPDX-License-Identifier: Apache-2.0
 * test_kernels_accuracy.c: the errors the library states, of every level, against double. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <malloc.h>
#include <stdlib.h>

#include "support/kernel_case.h"

/* Half a unit in the last place of a stored number, relative. */
static double half_ulp(enum dtype dtype)
{
    return dtype == DTYPE_F32 ? 0x1p-24 : 0x1p-8;
}

static u8 *run(struct kernel_memory *memory, const struct kernels *kernels, i64 split_tokens)
{
    assert_true(kernel_memory_run(memory, kernels, &(struct kernel_cut){ .family = -1, .split_tokens = split_tokens }));
    u8 *out = malloc(kernel_memory_out(memory, NULL));
    assert_non_null(out);
    kernel_memory_out(memory, out);
    return out;
}

static void check(const struct kernel_case *c, struct kernel_memory *memory, const u8 *want,
                  const struct kernels *kernels, double bound)
{
    u8 *got = run(memory, kernels, 512);
    const i64 bytes = folio__dtype_bytes(c->q_dtype), n = (i64)kernel_memory_out(memory, NULL) / bytes;
    double worst = 0.0;
    for (i64 i = 0; i < n; i++) {
        const double x = (double)folio__load_float(c->q_dtype, got + i * bytes);
        const double y = (double)folio__load_float(c->q_dtype, want + i * bytes);
        worst = fmax(worst, fabs(x - y) - half_ulp(c->q_dtype) * fabs(y)); /* ref's out was rounded too */
    }
    if (!(n > 0 && worst <= bound))
        fail_msg("%s: off by %.3g, allowed %.3g: %s", kernels->name, worst, bound, kernel_case_text(c));
    free(got);
}

/* Standard normal data, 4096 keys. */
static void accuracy_at_4096_keys(void **state)
{
    (void)state;
    static const struct {
        enum dtype dtype;
        i32 q_len;
        double bound;
    } cases[] = { { DTYPE_F32, 1, 2e-6 }, { DTYPE_F32, 13, 2e-6 }, { DTYPE_BF16, 1, 3e-4 }, { DTYPE_BF16, 13, 3e-4 } };
    static const folio_isa levels[] = { FOLIO_ISA_C,           FOLIO_ISA_AVX2, FOLIO_ISA_AVX512,
                                        FOLIO_ISA_AVX512_BF16, FOLIO_ISA_AMX,  FOLIO_ISA_AMX_EMULATED };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        const struct kernel_case c = { .q_len = cases[i].q_len,
                                       .kv_len = 4096,
                                       .group = 2,
                                       .n_kv_heads = 1,
                                       .d = 128,
                                       .dv = 128,
                                       .page_size = 16,
                                       .q_dtype = cases[i].dtype,
                                       .kv_dtype = cases[i].dtype,
                                       .seed = 1 };
        struct kernel_memory *memory = kernel_memory_create(&c);
        u8 *want = run(memory, &folio__kernels_ref, 0);
        for (size_t j = 0; j < COUNT_OF(levels); j++)
            if (folio_isa_available(levels[j]))
                check(&c, memory, want, folio__select_cpu(levels[j]), cases[i].bound);
        free(want);
        kernel_memory_destroy(memory);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(accuracy_at_4096_keys),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
