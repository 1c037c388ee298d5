/* SPDX-License-Identifier: Apache-2.0
 * test_pages_overlap.c: what folio__require_disjoint and folio__require_apart let pass shares no byte, and what they
 * refuse of the layouts that they know exactly does share one: random small tensors against marked bytes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "pages/view.h"
#include "support/strided.h"

enum { N_BYTES = 1 << 14 };

static _Alignas(64) u8 memory[N_BYTES];

/* Count every byte of the tensor once more. */
static void mark(const struct strided *t, u8 *marks)
{
    i64 e[4] = { 1, 1, 1, 1 };
    for (i32 i = 0; i < t->dl.ndim; i++)
        e[i] = t->shape[i];
    for (i64 a = 0; a < e[0]; a++)
        for (i64 b = 0; b < e[1]; b++)
            for (i64 c = 0; c < e[2]; c++)
                for (i64 d = 0; d < e[3]; d++) {
                    const i64 at = (u8 *)strided_at(t, a, b, c, d) - memory;
                    for (i64 byte = 0; byte < folio__dtype_bytes(t->dtype); byte++)
                        marks[at + byte]++;
                }
}

static bool shares_with_itself(const struct strided *t)
{
    static u8 marks[N_BYTES];
    memset(marks, 0, sizeof marks);
    mark(t, marks);
    for (i32 i = 0; i < N_BYTES; i++)
        if (marks[i] > 1)
            return true;
    return false;
}

static bool shares(const struct strided *a, const struct strided *b)
{
    static u8 in_a[N_BYTES], in_b[N_BYTES];
    memset(in_a, 0, sizeof in_a);
    memset(in_b, 0, sizeof in_b);
    mark(a, in_a);
    mark(b, in_b);
    for (i32 i = 0; i < N_BYTES; i++)
        if (in_a[i] && in_b[i])
            return true;
    return false;
}

/* Four dims in random order of width. is_nested: each stride holds what is inside, perhaps with a gap; else any. */
static void random_tensor(struct strided *t, u64 *random, bool is_nested)
{
    i64 shape[4], strides[4];
    i64 inner = 1;
    const i64 first = random_below(random, 4);
    for (i64 i = 0; i < 4; i++) {
        const i64 dim = i == 0 ? 3 : (first + i) % 3;
        shape[dim] = random_below(random, 4);
        shape[dim] += shape[dim] == 0 && random_below(random, 8) > 0;
        strides[dim] = is_nested ? inner + random_below(random, 3) : random_below(random, 24);
        inner = strides[dim] * (shape[dim] > 0 ? shape[dim] : 1);
    }
    strided_init(t, DTYPE_F16, 4, shape, strides, memory + 4096 + 2 * random_below(random, 200));
}

static void what_passes_as_disjoint_is(void **state)
{
    (void)state;
    u64 random = random_seed();
    i32 n_passed = 0, n_refused = 0;
    for (i32 round = 0; round < 4000; round++) {
        const u64 seed = random;
        const bool is_nested = round & 1;
        struct strided t;
        random_tensor(&t, &random, is_nested);
        const bool passes = folio__require_disjoint("t", &t.dl) == FOLIO_OK;
        if (passes ? shares_with_itself(&t) : is_nested)
            fail_msg("round %d, seed %llu: disjoint %s", round, (unsigned long long)seed,
                     passes ? "passed" : "refused");
        n_passed += passes;
        n_refused += !passes;
    }
    assert_true(n_passed > 500 && n_refused > 500);
}

static void what_passes_as_apart_is(void **state)
{
    (void)state;
    u64 random = random_seed();
    i32 n_passed = 0, n_refused = 0;
    for (i32 round = 0; round < 6000; round++) {
        const u64 seed = random;
        struct strided a, b;
        random_tensor(&a, &random, round % 3 > 0);
        random_tensor(&b, &random, round % 3 > 0);
        if (round % 3 == 2) /* the same tensor, moved: refused if and only if they meet */
            strided_init(&b, a.dtype, 4, a.shape, a.strides, b.dl.data);
        const bool passes = folio__require_apart("a", &a.dl, "b", &b.dl) == FOLIO_OK, meet = shares(&a, &b);
        if (passes ? meet : round % 3 == 2 && !meet)
            fail_msg("round %d, seed %llu: apart %s", round, (unsigned long long)seed, passes ? "passed" : "refused");
        n_passed += passes;
        n_refused += !passes;
    }
    assert_true(n_passed > 500 && n_refused > 500);
}

/* K and V in one buffer, side by side at every level: fine; one element further: not. */
static void k_and_v_in_one_buffer_are_apart(void **state)
{
    (void)state;
    static const i64 offsets[] = { 6, 3 * 11, 4 * 3 * 11 };
    for (size_t level = 0; level < COUNT_OF(offsets); level++)
        for (i64 more = -1; more < 1; more++) {
            const i64 head = level == 0 ? 11 : 6, slot = level == 1 ? 2 * 3 * 11 : 3 * head;
            const i64 page = level == 2 ? 2 * 4 * 3 * 11 : 4 * slot;
            struct strided k, v;
            strided_init(&k, DTYPE_F32, 4, (i64[]){ 5, 4, 3, 6 }, (i64[]){ page, slot, head, 1 }, memory);
            strided_init(&v, DTYPE_F32, 4, (i64[]){ 5, 4, 3, 5 }, (i64[]){ page, slot, head, 1 },
                         memory + 4 * (offsets[level] + more));
            assert_int_equal(folio__require_apart("v", &v.dl, "k", &k.dl) != FOLIO_OK, shares(&k, &v));
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_passes_as_disjoint_is),
        cmocka_unit_test(what_passes_as_apart_is),
        cmocka_unit_test(k_and_v_in_one_buffer_are_apart),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
