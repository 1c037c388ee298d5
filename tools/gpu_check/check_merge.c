/* SPDX-License-Identifier: Apache-2.0
 * check_merge.c: merge on the device agrees with the CPU, empties among the parts. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "rig.h"

static void check_case(struct rig *rig, i64 parts, i64 tokens, i64 heads, i64 dim, enum dtype dtype)
{
    u64 seed = (u64)(parts * 1000 + tokens);
    struct twin twin = twin_create(rig, 16u << 20);
    const struct tensor_spec outs = compact(&twin, dtype, 4, (i64[]){ parts, tokens, heads, dim });
    const struct tensor_spec lses = compact(&twin, DTYPE_F32, 3, (i64[]){ parts, tokens, heads });
    const struct tensor_spec out = compact(&twin, dtype, 3, (i64[]){ tokens, heads, dim });
    const struct tensor_spec lse = compact(&twin, DTYPE_F32, 2, (i64[]){ tokens, heads });
    for (i64 i = 0; i < parts * tokens * heads; i++) {
        const bool is_empty = below(&seed, 4) == 0;
        const float x = is_empty ? -INFINITY : normal(&seed) * 5;
        memcpy(twin.host + lses.offset + (size_t)i * 4, &x, 4);
        for (i64 d = 0; d < dim; d++)
            folio__store_float(dtype, twin.host + outs.offset + (size_t)((i * dim + d) * folio__dtype_bytes(dtype)),
                               is_empty ? 0.0f : normal(&seed));
    }
    twin_upload(rig, &twin);
    for (i32 side = 0; side < 2; side++) {
        DLTensor (*at)(const struct tensor_spec *, const struct twin *) = side ? on_device : on_host;
        DLTensor t[] = { at(&outs, &twin), at(&lses, &twin), at(&out, &twin), at(&lse, &twin) };
        const folio_merge_args args = {
            .struct_size = sizeof args, .outs = &t[0], .lses = &t[1], .out = &t[2], .lse = &t[3]
        };
        MUST(folio_merge(side ? rig->gpu : rig->cpu, &args, rig->stream));
    }
    u8 *got = malloc(twin.bytes);
    twin_download(rig, &twin, got);
    double worst = 0, want_at = 0, have_at = 0;
    for (i64 i = 0; i < tokens * heads * (dim + 1); i++) {
        const bool is_lse = i >= tokens * heads * dim;
        const size_t at = is_lse ? lse.offset + (size_t)(i - tokens * heads * dim) * 4
                                 : out.offset + (size_t)(i * folio__dtype_bytes(dtype));
        const double want = folio__load_float(is_lse ? DTYPE_F32 : dtype, twin.host + at);
        const double have = folio__load_float(is_lse ? DTYPE_F32 : dtype, got + at);
        const double unit = is_lse || dtype == DTYPE_F32 ? 1e-5 : dtype == DTYPE_F16 ? 1e-3 : 8e-3;
        const double apart = want == have ? 0 : fabs(want - have) / unit / fmax(1, fabs(want));
        if (apart <= worst)
            continue;
        worst = isnan(apart) ? INFINITY : apart;
        want_at = want, have_at = have;
    }
    expect(rig, worst <= 1,
           "merge of %lld parts, %lld tokens, %lld heads, dim %lld, %s: %g of the tolerance (%g, got %g)",
           (long long)parts, (long long)tokens, (long long)heads, (long long)dim, folio__dtype_name(dtype), worst,
           want_at, have_at);
    rig->worst = fmax(rig->worst, worst);
    free(got);
    twin_destroy(rig, &twin);
}

static void run(struct rig *rig)
{
    static const enum dtype dtypes[] = { DTYPE_F32, DTYPE_F16, DTYPE_BF16 };
    for (i32 i = 0; i < 3; i++) {
        check_case(rig, 1, 3, 2, 128, dtypes[i]);
        check_case(rig, 2, 50, 8, 64, dtypes[i]);
        check_case(rig, 9, 7, 3, 33, dtypes[i]);
    }
}

const struct check check_merge = { "merge", "merge of partial results against the CPU", run };
