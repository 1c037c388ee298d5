/* SPDX-License-Identifier: Apache-2.0
 * merge.c: folio_merge: partial results over disjoint keys -> one. */
#include "base/status.h"
#include "run/backend.h"

/* Part 0 of [n_parts, ...] as a tensor of its own. */
static DLTensor first_part(const DLTensor *parts)
{
    DLTensor part = *parts;
    part.ndim--;
    part.shape++;
    if (part.strides)
        part.strides++;
    return part;
}

static folio_status read_outs(struct merge_args *m, i64 *n_tokens, const folio_merge_args *args)
{
    struct tensor t;
    FOLIO_REQUIRE(args->outs, FOLIO_EINVAL, "outs: NULL; must be a tensor [n_parts, n_tokens, n_heads, head_dim]");
    FOLIO_TRY(folio__tensor_read(&t, "outs", args->outs));
    FOLIO_REQUIRE(t.ndim == 4, FOLIO_EINVAL, "outs: %d dims; must have 4: [n_parts, n_tokens, n_heads, head_dim]",
                  (int)t.ndim);
    FOLIO_REQUIRE(t.shape[0] >= 1 && t.shape[0] <= INT32_MAX, FOLIO_EINVAL, "outs: %lld parts; must be 1 .. %d",
                  (long long)t.shape[0], INT32_MAX);
    const DLTensor part = first_part(args->outs);
    FOLIO_TRY(folio__rows_view_read(&m->outs, n_tokens, &m->n_heads, "outs", &part));
    m->outs.data = t.data;
    m->outs.token_stride = t.stride[1];
    m->outs.head_stride = t.stride[2];
    m->outs_part_stride = t.stride[0];
    m->n_parts = (i32)t.shape[0];
    return FOLIO_OK;
}

static folio_status read_lses(struct merge_args *m, i64 n_tokens, const folio_merge_args *args)
{
    struct tensor t;
    FOLIO_REQUIRE(args->lses, FOLIO_EINVAL, "lses: NULL; must be a tensor [n_parts, n_tokens, n_heads]");
    FOLIO_TRY(folio__tensor_read(&t, "lses", args->lses));
    FOLIO_REQUIRE_TYPE(t.dtype == DTYPE_F32, "lses: dtype %s; must be f32", folio__dtype_name(t.dtype));
    FOLIO_REQUIRE(t.ndim == 3, FOLIO_EINVAL, "lses: %d dims; must have 3: [n_parts, n_tokens, n_heads]", (int)t.ndim);
    FOLIO_REQUIRE(t.shape[0] == m->n_parts && t.shape[1] == n_tokens && t.shape[2] == m->n_heads, FOLIO_EINVAL,
                  "lses: [%lld, %lld, %lld]; must be outs' [%d, %lld, %d]", (long long)t.shape[0],
                  (long long)t.shape[1], (long long)t.shape[2], (int)m->n_parts, (long long)n_tokens, (int)m->n_heads);
    m->lses = (const float *)(const void *)t.data;
    m->lses_part_stride = t.stride[0];
    m->lses_token_stride = t.stride[1];
    m->lses_head_stride = t.stride[2];
    return FOLIO_OK;
}

static folio_status read_out(struct merge_args *m, i64 n_tokens, const folio_merge_args *args)
{
    i64 out_tokens;
    i32 out_heads;
    FOLIO_TRY(folio__rows_view_read(&m->out, &out_tokens, &out_heads, "out", args->out));
    FOLIO_REQUIRE_TYPE(m->out.dtype == m->outs.dtype, "out: dtype %s; must be outs', %s",
                       folio__dtype_name((enum dtype)m->out.dtype), folio__dtype_name((enum dtype)m->outs.dtype));
    FOLIO_REQUIRE(out_tokens == n_tokens && out_heads == m->n_heads && m->out.dim == m->outs.dim, FOLIO_EINVAL,
                  "out: [%lld, %d, %d]; must be outs' [%lld, %d, %d]", (long long)out_tokens, (int)out_heads,
                  (int)m->out.dim, (long long)n_tokens, (int)m->n_heads, (int)m->outs.dim);
    return folio__require_disjoint("out", args->out);
}

static folio_status read_lse(struct merge_args *m, i64 n_tokens, const folio_merge_args *args)
{
    struct tensor t;
    FOLIO_TRY(folio__tensor_read(&t, "lse", args->lse));
    if (!args->lse)
        return FOLIO_OK;
    FOLIO_REQUIRE_TYPE(t.dtype == DTYPE_F32, "lse: dtype %s; must be f32", folio__dtype_name(t.dtype));
    FOLIO_REQUIRE(t.ndim == 2, FOLIO_EINVAL, "lse: %d dims; must have 2: [n_tokens, n_heads]", (int)t.ndim);
    FOLIO_REQUIRE(t.shape[0] == n_tokens && t.shape[1] == m->n_heads, FOLIO_EINVAL,
                  "lse: [%lld, %lld]; must be outs' [%lld, %d]", (long long)t.shape[0], (long long)t.shape[1],
                  (long long)n_tokens, (int)m->n_heads);
    m->lse = (float *)(void *)t.data;
    m->lse_token_stride = t.stride[0];
    m->lse_head_stride = t.stride[1];
    return folio__require_disjoint("lse", args->lse);
}

static folio_status check_memory(const folio_context *ctx, const folio_merge_args *args)
{
    const struct {
        const char *name;
        const DLTensor *tensor;
    } all[] = { { "outs", args->outs }, { "lses", args->lses }, { "out", args->out }, { "lse", args->lse } };
    for (size_t i = 0; i < COUNT_OF(all); i++) {
        FOLIO_TRY(folio__require_device(ctx, all[i].name, all[i].tensor));
        FOLIO_TRY(folio__require_data(all[i].name, all[i].tensor));
    }
    FOLIO_TRY(folio__require_apart("out", args->out, "outs", args->outs));
    FOLIO_TRY(folio__require_apart("out", args->out, "lses", args->lses));
    FOLIO_TRY(folio__require_apart("lse", args->lse, "outs", args->outs));
    FOLIO_TRY(folio__require_apart("lse", args->lse, "lses", args->lses));
    return folio__require_apart("lse", args->lse, "out", args->out);
}

folio_status folio_merge(folio_context *ctx, const folio_merge_args *args, void *stream)
{
    FOLIO_TRY(folio__context_require(ctx));
    folio_merge_args a;
    struct merge_args m = { 0 };
    i64 n_tokens;
    FOLIO_TRY(folio__read_struct("args", &a, sizeof a, args));
    FOLIO_TRY(read_outs(&m, &n_tokens, &a));
    FOLIO_TRY(read_lses(&m, n_tokens, &a));
    FOLIO_TRY(read_out(&m, n_tokens, &a));
    FOLIO_TRY(read_lse(&m, n_tokens, &a));
    FOLIO_TRY(check_memory(ctx, &a));
    return folio__backend_of(ctx)->merge(ctx, &m, n_tokens, stream);
}
