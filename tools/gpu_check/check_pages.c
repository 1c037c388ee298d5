/* SPDX-License-Identifier: Apache-2.0
 * check_pages.c: append, gather, page copies and contiguous-to-pages on the device do to a twin what the CPU does to
 * it. */
#include <stdlib.h>
#include <string.h>

#include "rig.h"

struct pool_case {
    i64 n_pages, page_size, heads, d_k, d_v, n_tokens;
    enum dtype rows, pages;
    bool hnd, odd;
    u64 seed;
};

static struct tensor_spec pool(struct twin *twin, const struct pool_case *c, i64 dim)
{
    const i64 gap = c->odd ? 1 : 0, s = c->page_size, h = c->heads;
    struct tensor_spec t = { .ndim = 4, .dtype = c->pages, .exists = true, .shape = { c->n_pages, s, h, dim } };
    t.strides[3] = 1;
    t.strides[c->hnd ? 1 : 2] = dim + gap;
    t.strides[c->hnd ? 2 : 1] = (c->hnd ? s : h) * (dim + gap) + gap;
    t.strides[0] = s * h * (dim + gap) + 8 * gap * (s + h);
    t.offset = twin_take(twin, (size_t)(c->n_pages * t.strides[0] * folio__dtype_bytes(c->pages)));
    return t;
}

static void fill(const struct twin *twin, const struct tensor_spec *t, u64 *seed)
{
    for (i64 a = 0; a < t->shape[0]; a++)
        for (i64 b = 0; b < t->shape[1]; b++)
            for (i64 c = 0; c < t->shape[2]; c++)
                for (i64 d = 0; d < (t->ndim > 3 ? t->shape[3] : 1); d++)
                    folio__store_float(t->dtype, element(t, twin->host, a, b, c, d), normal(seed));
}

static void compare(struct rig *rig, const struct twin *twin, const char *what, const struct pool_case *c)
{
    u8 *got = malloc(twin->bytes);
    twin_download(rig, twin, got);
    expect(rig, memcmp(got, twin->host, twin->used) == 0,
           "%s: seed %llu, %lld pages of %lld, %lld heads, d %lld/%lld, %lld tokens, %s into %s%s%s", what,
           (unsigned long long)c->seed, (long long)c->n_pages, (long long)c->page_size, (long long)c->heads,
           (long long)c->d_k, (long long)c->d_v, (long long)c->n_tokens, folio__dtype_name(c->rows),
           folio__dtype_name(c->pages), c->hnd ? " HND" : "", c->odd ? " odd" : "");
    free(got);
}

static void shuffle(i64 *x, i64 n, u64 *seed)
{
    for (i64 i = 0; i < n; i++)
        x[i] = i;
    for (i64 i = n - 1; i > 0; i--) {
        const i64 j = below(seed, i + 1), y = x[i];
        x[i] = x[j], x[j] = y;
    }
}

static void check_append(struct rig *rig, struct twin *twin, const struct pool_case *c, const struct tensor_spec *kp,
                         const struct tensor_spec *vp, u64 *seed)
{
    const struct tensor_spec k = compact(twin, c->rows, 3, (i64[]){ c->n_tokens, c->heads, c->d_k });
    const struct tensor_spec v = compact(twin, c->rows, 3, (i64[]){ c->n_tokens, c->heads, c->d_v });
    const struct tensor_spec slots = compact(twin, DTYPE_I64, 1, &c->n_tokens);
    fill(twin, &k, seed);
    fill(twin, &v, seed);
    i64 *order = malloc((size_t)(c->n_pages * c->page_size) * 8);
    shuffle(order, c->n_pages * c->page_size, seed);
    for (i64 i = 0; i < c->n_tokens; i++)
        if (below(seed, 6) == 0)
            order[i] = -1;
    memcpy(twin->host + slots.offset, order, (size_t)c->n_tokens * 8);
    free(order);
    twin_upload(rig, twin);
    for (i32 side = 0; side < 2; side++) {
        DLTensor (*at)(const struct tensor_spec *, const struct twin *) = side ? on_device : on_host;
        const DLTensor t[] = { at(&k, twin), at(&v, twin), at(kp, twin), at(vp, twin), at(&slots, twin) };
        const folio_append_args args = {
            .struct_size = sizeof args, .k = &t[0], .v = &t[1], .k_pages = &t[2], .v_pages = &t[3], .slots = &t[4]
        };
        MUST(folio_pages_append(side ? rig->gpu : rig->cpu, &args, rig->stream));
    }
    compare(rig, twin, "append", c);
}

static void check_gather(struct rig *rig, struct twin *twin, const struct pool_case *c, const struct tensor_spec *kp,
                         const struct tensor_spec *vp, u64 *seed)
{
    const i64 n = c->n_pages * c->page_size - below(seed, c->page_size);
    const struct tensor_spec k = compact(twin, c->rows, 3, (i64[]){ n, c->heads, c->d_k });
    const struct tensor_spec v = compact(twin, c->rows, 3, (i64[]){ n, c->heads, c->d_v });
    const struct tensor_spec row = compact(twin, DTYPE_I64, 1, &c->n_pages);
    shuffle((i64 *)(void *)(twin->host + row.offset), c->n_pages, seed);
    twin_upload(rig, twin);
    for (i32 side = 0; side < 2; side++) {
        DLTensor (*at)(const struct tensor_spec *, const struct twin *) = side ? on_device : on_host;
        const DLTensor t[] = { at(&k, twin), at(&v, twin), at(kp, twin), at(vp, twin), at(&row, twin) };
        const folio_gather_args args = { .struct_size = sizeof args,
                                         .k = &t[0],
                                         .v = &t[1],
                                         .k_pages = &t[2],
                                         .v_pages = &t[3],
                                         .page_row = &t[4],
                                         .kv_len = n };
        MUST(folio_pages_gather(side ? rig->gpu : rig->cpu, &args, rig->stream));
    }
    compare(rig, twin, "gather", c);
}

/* Copies that depend on each other, and some that go nowhere. */
static void check_copy(struct rig *rig, struct twin *twin, const struct pool_case *c, const struct tensor_spec *kp,
                       const struct tensor_spec *vp, u64 *seed)
{
    const i64 n = between(seed, 1, 30);
    const struct tensor_spec copies = compact(twin, DTYPE_I64, 2, (i64[]){ n, 2 });
    i64 *pairs = (i64 *)(void *)(twin->host + copies.offset);
    for (i64 i = 0; i < 2 * n; i++)
        pairs[i] = below(seed, c->n_pages);
    twin_upload(rig, twin);
    for (i32 side = 0; side < 2; side++) {
        DLTensor (*at)(const struct tensor_spec *, const struct twin *) = side ? on_device : on_host;
        const DLTensor k = at(kp, twin), v = at(vp, twin), t = at(&copies, twin);
        MUST(folio_pages_copy(side ? rig->gpu : rig->cpu, &k, &v, &t, rig->stream));
    }
    compare(rig, twin, "copy", c);
}

static void check_lay(struct rig *rig, struct twin *twin, const struct pool_case *c, const struct tensor_spec *kp,
                      u64 *seed)
{
    const i64 batch = 2, columns = c->n_pages / batch, tokens = columns * c->page_size - below(seed, c->page_size);
    const struct tensor_spec x = compact(twin, c->pages, 4, (i64[]){ batch, c->heads, tokens, c->d_k });
    const struct tensor_spec table = compact(twin, DTYPE_I32, 2, (i64[]){ batch, columns });
    fill(twin, &x, seed);
    twin_upload(rig, twin);
    for (i32 side = 0; side < 2; side++) {
        DLTensor (*at)(const struct tensor_spec *, const struct twin *) = side ? on_device : on_host;
        const DLTensor p = at(kp, twin), t = at(&table, twin), from = at(&x, twin);
        MUST(folio_pages_from_contiguous(side ? rig->gpu : rig->cpu, &p, &t, &from, rig->stream));
    }
    compare(rig, twin, "from_contiguous", c);
}

static void check_case(struct rig *rig, const struct pool_case *c)
{
    u64 seed = c->seed;
    struct twin twin = twin_create(rig, 48u << 20);
    const struct tensor_spec kp = pool(&twin, c, c->d_k), vp = pool(&twin, c, c->d_v);
    fill(&twin, &kp, &seed);
    fill(&twin, &vp, &seed);
    check_append(rig, &twin, c, &kp, &vp, &seed);
    check_gather(rig, &twin, c, &kp, &vp, &seed);
    check_copy(rig, &twin, c, &kp, &vp, &seed);
    check_lay(rig, &twin, c, &kp, &seed);
    twin_destroy(rig, &twin);
}

static void run(struct rig *rig)
{
    static const enum dtype dtypes[] = { DTYPE_F32, DTYPE_F16, DTYPE_BF16 };
    static const i64 dims[] = { 128, 64, 33, 8, 1 }, pages[] = { 16, 1, 5 };
    for (i32 i = 0; i < (rig->is_small ? 6 : 36); i++) {
        u64 seed = 500 + (u64)i;
        const enum dtype rows = dtypes[i % 3], to = i / 3 % 3 ? rows : dtypes[below(&seed, 3)];
        struct pool_case c = { .n_pages = between(&seed, 2, 40),
                               .page_size = pages[below(&seed, 3)],
                               .heads = between(&seed, 1, 5),
                               .d_k = dims[below(&seed, 5)],
                               .d_v = dims[below(&seed, 5)],
                               .rows = rows,
                               .pages = to,
                               .hnd = below(&seed, 2),
                               .odd = below(&seed, 2),
                               .seed = 500 + (u64)i };
        c.n_tokens = between(&seed, 0, c.n_pages * c.page_size);
        check_case(rig, &c);
    }
}

const struct check check_pages = { "pages", "append, gather, copies against the CPU, byte for byte", run };
