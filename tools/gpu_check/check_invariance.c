/* SPDX-License-Identifier: Apache-2.0
 * check_invariance.c: a sequence's bits depend on nothing but the sequence: not on batch mates, not on the order,
 * not on repetition, not on how many rows the longest mate has. */
#include <stdlib.h>
#include <string.h>

#include "case.h"
#include "run/folio_plan.h"
#include "run/plan_cuda.h"

/* Attend over chosen sequences of a made case: their rows of the table and lengths are gathered into new host
 * arrays, which the library copies. out [n][heads][d_v] is read back. */
static void attend_some(struct rig *rig, struct made_case *m, const i32 *which, i32 n, u8 *out, u8 *lse)
{
    const struct problem_case *c = &m->c;
    const i64 width = m->table.shape[1], heads = m->q.shape[1], bytes = folio__dtype_bytes(c->q_dtype);
    i32 *table = malloc((size_t)(n * width) * 4), lens[MAX_BATCH];
    const size_t row = (size_t)(heads * c->d_qk * bytes), out_row = (size_t)(heads * c->d_v * bytes);
    cu_ptr memory;
    MUST_CU(rig, mem_alloc, (&memory, (row + out_row + (size_t)heads * 4) * (size_t)n + 1024));
    for (i32 i = 0; i < n; i++) {
        memcpy(table + i * width, m->twin.host + m->table.offset + (size_t)(which[i] * width) * 4, (size_t)width * 4);
        lens[i] = c->kv_lens[which[i]];
        MUST_CU(rig, to_device,
                (memory + row * (size_t)i, m->twin.host + m->q.offset + row * (size_t)which[i], row, rig->stream));
    }
    folio_attend_args args = m->device_args;
    DLTensor q = *args.q, o = *args.out, l = *args.lse, t = *args.page_table, k = *args.kv_lens;
    i64 q_shape[] = { n, heads, c->d_qk }, o_shape[] = { n, heads, c->d_v }, l_shape[] = { n, heads };
    i64 t_shape[] = { n, width }, k_shape[] = { n };
    const cu_ptr out_at = memory + row * (u64)n, lse_at = (out_at + out_row * (u64)n + 255) / 256 * 256;
    q.data = (void *)(uintptr_t)memory, q.shape = q_shape, q.strides = NULL, q.byte_offset = 0;
    o.data = (void *)(uintptr_t)out_at, o.shape = o_shape, o.strides = NULL, o.byte_offset = 0;
    l.data = (void *)(uintptr_t)lse_at, l.shape = l_shape, l.strides = NULL, l.byte_offset = 0;
    t.data = table, t.shape = t_shape, t.strides = NULL, t.byte_offset = 0;
    k.data = lens, k.shape = k_shape, k.strides = NULL, k.byte_offset = 0;
    t.device = k.device = (DLDevice){ .device_type = kDLCPU };
    args.q = &q, args.out = &o, args.lse = &l, args.page_table = &t, args.kv_lens = &k;
    args.max_q_len = 0;
    MUST(folio_attend(rig->gpu, NULL, &args, rig->stream));
    MUST_CU(rig, to_host, (out, out_at, out_row * (size_t)n, rig->stream));
    MUST_CU(rig, to_host, (lse, lse_at, (size_t)(heads * n) * 4, rig->stream));
    MUST_CU(rig, stream_synchronize, (rig->stream));
    MUST_CU(rig, mem_free, (memory));
    free(table);
}

static void check_mates(struct rig *rig, struct problem_case *c)
{
    u64 seed = c->seed;
    struct made_case m;
    case_make(rig, &m, c);
    const size_t row = (size_t)(m.out.shape[1] * c->d_v * folio__dtype_bytes(c->q_dtype));
    const size_t lse_row = (size_t)m.out.shape[1] * 4;
    u8 *all = malloc(row * MAX_BATCH), *some = malloc(row * MAX_BATCH), *lse = malloc(lse_row * MAX_BATCH * 2);
    i32 which[MAX_BATCH];
    for (i32 i = 0; i < c->batch; i++)
        which[i] = i;
    attend_some(rig, &m, which, c->batch, all, lse);
    for (i32 round = 0; round < 4 + c->batch; round++) {
        const i32 n = round < c->batch ? 1 : (i32)between(&seed, 1, c->batch);
        for (i32 i = 0; i < n; i++)
            which[i] = round < c->batch ? round : (i32)below(&seed, c->batch);
        attend_some(rig, &m, which, n, some, lse + lse_row * MAX_BATCH);
        i32 n_same = 0;
        for (i32 i = 0; i < n; i++)
            n_same += memcmp(some + row * (size_t)i, all + row * (size_t)which[i], row) == 0 &&
                      memcmp(lse + lse_row * (MAX_BATCH + (size_t)i), lse + lse_row * (size_t)which[i], lse_row) == 0;
        expect(rig, n_same == n, "%s: %d of %d sequences have the bits they have in the whole batch (first: %d)",
               case_text(c), n_same, n, which[0]);
    }
    free(all), free(some), free(lse);
    case_free(rig, &m);
}

/* The bound on query rows chooses the kernel: with every bound, the bits of the least one. */
static void check_bounds(struct rig *rig, struct problem_case *c)
{
    static const i32 bounds[] = { 2, 4, 8, 16, 33 };                   /* queries; times a group of 4 */
    const char *const most = c->d_qk == 192 ? "rows=32 " : "rows=16 "; /* beyond that there are more tiles */
    const char *const kernels[] = { "rows=8 ", "rows=16 ", most, most, most };
    struct made_case m;
    case_make(rig, &m, c);
    u8 *first = malloc(m.twin.bytes), *got = malloc(m.twin.bytes);
    must(first && got, "host memory");
    for (size_t i = 0; i < COUNT_OF(bounds); i++) {
        folio_plan *plan = NULL;
        m.device_args.max_q_len = bounds[i];
        twin_upload(rig, &m.twin);
        MUST(folio_plan_create(&plan, rig->gpu, &m.device_args));
        MUST(folio_plan_update(plan, &m.device_args, rig->stream));
        const struct cuda_plan *inner = plan->backend_data;
        const char *name = folio__cuda_plan_kernel(inner);
        MUST(folio_attend(rig->gpu, plan, &m.device_args, rig->stream));
        twin_download(rig, &m.twin, i ? got : first);
        expect(rig, strstr(name, kernels[i]) != NULL, "max_q_len %d runs %s, wanted %s", bounds[i], name, kernels[i]);
        expect(rig, i == 0 || memcmp(first, got, m.twin.used) == 0, "%s: %s: the bits of fewer rows", case_text(c),
               name);
        folio_plan_destroy(&plan);
    }
    free(first), free(got);
    case_free(rig, &m);
}

static struct problem_case causal_case(i32 batch, u64 seed)
{
    struct problem_case c = case_plain(batch, seed);
    c.causal = FOLIO_CAUSAL_BOTTOM_RIGHT;
    return c;
}

static void set_dims(struct problem_case *c, i32 dim, enum dtype dtype)
{
    c->d_qk = c->d_v = dim;
    c->q_dtype = c->page_dtype = dtype;
}

static void check_ragged_bounds(struct rig *rig, i32 i)
{
    static const i32 lengths[] = { 700, 1, 9001, 300, 130 };
    struct problem_case c = causal_case(5, 300 + (u64)i);
    c.d_qk = i % 3 == 2 ? 192 : 128;
    c.page_size = i % 2 ? 9 : 16;
    c.ragged = true;
    c.softcap = i / 3 ? 20 : 0;
    for (i32 b = 0; b < c.batch; b++)
        c.q_lens[b] = b % 3 == 1 ? 1 : 2, c.kv_lens[b] = rig->is_small ? lengths[b] % 900 : lengths[b];
    check_bounds(rig, &c);
}

/* Of many rows: a sequence's rows are its own heads here; cut often, and in whole. */
static void check_wide(struct rig *rig, i32 i)
{
    static const i32 lengths[] = { 9000, 1, 4097, 300, 1500, 2100, 64 };
    struct problem_case c = causal_case(7, 500 + (u64)i);
    c.group = i % 2 ? 70 : 24;
    c.n_kv_heads = i % 2 ? 1 : 2;
    c.page_size = i / 2 ? 9 : 16;
    for (i32 b = 0; b < c.batch; b++)
        c.kv_lens[b] = rig->is_small ? lengths[b] % 1700 : lengths[b];
    check_mates(rig, &c);
}

/* Sequences of few rows and of many in one batch, by two kernels: with every bound, and every mate, the same bits. */
static void check_classes(struct rig *rig, i32 i)
{
    static const i32 lengths[] = { 700, 1, 3001, 300, 130, 1100 };
    struct problem_case c = causal_case(6, 600 + (u64)i);
    c.ragged = true;
    for (i32 b = 0; b < c.batch; b++)
        c.q_lens[b] = b % 3 == 1   ? 9
                      : b % 3 == 2 ? 40
                                   : 2,
        c.kv_lens[b] = rig->is_small ? lengths[b] % 900 : lengths[b];
    struct made_case m;
    case_make(rig, &m, &c);
    u8 *first = malloc(m.twin.bytes), *got = malloc(m.twin.bytes);
    must(first && got, "host memory");
    for (i32 bound = 40; bound < 600; bound *= 3) {
        folio_plan *plan = NULL;
        m.device_args.max_q_len = bound;
        twin_upload(rig, &m.twin);
        MUST(folio_plan_create(&plan, rig->gpu, &m.device_args));
        MUST(folio_plan_update(plan, &m.device_args, rig->stream));
        MUST(folio_attend(rig->gpu, plan, &m.device_args, rig->stream));
        twin_download(rig, &m.twin, bound > 40 ? got : first);
        const char *name = folio__cuda_plan_kernel(plan->backend_data);
        expect(rig, strstr(name, "rows=16 boxes, wide bf16") != NULL, "%s: runs %s", case_text(&c), name);
        expect(rig, bound == 40 || memcmp(first, got, m.twin.used) == 0, "%s: max_q_len %d: the bits of 40",
               case_text(&c), bound);
        folio_plan_destroy(&plan);
    }
    free(first), free(got);
    case_free(rig, &m);
}

static void check_mixed(struct rig *rig, i32 i)
{
    static const i32 heads[] = { 8, 1, 2 }, dims[] = { 128, 64, 256 };
    static const i32 lengths[] = { 20000, 1, 4097, 300, 1500, 9000, 64 };
    struct problem_case c = causal_case(7, 100 + (u64)i);
    c.group = i == 4 ? 1 : 4;
    c.n_kv_heads = heads[i % 3];
    c.page_size = i % 2 ? 16 : 3;
    set_dims(&c, dims[i % 3], i == 5 ? DTYPE_F32 : DTYPE_BF16);
    for (i32 b = 0; b < c.batch; b++)
        c.kv_lens[b] = rig->is_small ? lengths[b] % 900 : lengths[b];
    check_mates(rig, &c);
}

/* Many short ones: 6 leaves each, so that they are claimed one by one; or 6, then 7 and 5 as often: alike only in
 * sum. */
static void check_many(struct rig *rig, bool are_alike)
{
    struct problem_case c = causal_case(rig->is_small ? 12 : 64, are_alike ? 400 : 401);
    c.n_kv_heads = rig->is_small ? 2 : 8;
    for (i32 b = 0; b < c.batch; b++) {
        const bool is_end = b == 0 || b == c.batch - 1;
        c.kv_lens[b] = are_alike || is_end ? 1400 : b < c.batch / 2 ? 1700 : 1100;
    }
    check_mates(rig, &c);
}

/* Some long ones among short ones: most groups begin and end within a long one. */
static void check_short(struct rig *rig)
{
    struct problem_case c = causal_case(rig->is_small ? 12 : 48, 500);
    c.n_kv_heads = rig->is_small ? 2 : 8;
    for (i32 b = 0; b < c.batch; b++)
        c.kv_lens[b] = b % 4 == 1 ? 4500 + (rig->is_small ? 0 : 500 * b) : b * 97 % 450;
    check_mates(rig, &c);
}

/* Long ones that are alike, so that groups may hold whole nodes of theirs; of one head, cut often. */
static void check_long(struct rig *rig, i32 i)
{
    static const i32 long_ones[] = { 32768, 9000, 70000 }, small_ones[] = { 12288, 9000, 5000 };
    struct problem_case c = causal_case(rig->is_small ? 3 : 8, 200 + (u64)i);
    c.group = i == 1 ? 8 : 2;
    c.n_kv_heads = 1;
    set_dims(&c, 64, i == 2 ? DTYPE_F32 : DTYPE_BF16);
    for (i32 b = 0; b < c.batch; b++)
        c.kv_lens[b] = rig->is_small ? small_ones[i] : long_ones[i];
    check_mates(rig, &c);
}

static void run(struct rig *rig)
{
    for (i32 i = 0; i < (rig->is_small ? 2 : 6); i++)
        check_ragged_bounds(rig, i);
    for (i32 i = 0; i < (rig->is_small ? 1 : 6); i++)
        check_mixed(rig, i);
    for (i32 i = 0; i < (rig->is_small ? 1 : 4); i++)
        check_wide(rig, i);
    check_classes(rig, 0);
    check_many(rig, true);
    check_many(rig, false);
    check_short(rig);
    for (i32 i = 0; i < 3; i++)
        check_long(rig, i);
}

const struct check check_invariance = { "invariance", "the same bits alone and with any batch mates", run };
