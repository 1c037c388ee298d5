/* SPDX-License-Identifier: Apache-2.0
 * check_scores.c: slopes, sinks, bias and mask: what is spread over [n_tokens, n_q_heads, keys]. */
#include "base/status.h"
#include "run/check.h"

static folio_status check_vector(const char *name, const DLTensor *src, i32 n_q_heads)
{
    FOLIO_REQUIRE(!src || src->shape[0] == n_q_heads, FOLIO_EINVAL, "%s: %lld entries; must be one a query head, %d",
                  name, (long long)src->shape[0], (int)n_q_heads);
    return FOLIO_OK;
}

folio_status folio__spread_vectors(struct problem *p, const folio_context *ctx, const folio_attend_args *args)
{
    (void)ctx;
    FOLIO_TRY(check_vector("alibi_slopes", args->alibi_slopes, p->kernel.n_q_heads));
    return check_vector("sinks", args->sinks, p->kernel.n_q_heads);
}

/* Broadcast as NumPy does: aligned at the last dim, extents of 1 spread. The last dim covers the keys that exist, which
 * only the lengths tell. */
static folio_status read_spread(struct score_view *dst, i64 *n_keys, const struct problem *p, const char *name,
                                const struct tensor *t)
{
    FOLIO_REQUIRE(t->ndim <= 3, FOLIO_EINVAL, "%s: %d dims; must spread over [n_tokens, n_q_heads, keys]", name,
                  (int)t->ndim);
    i64 extent[3] = { 1, 1, 1 }, stride[3] = { 0 };
    for (i32 i = 0; i < t->ndim; i++) {
        extent[3 - t->ndim + i] = t->shape[i];
        stride[3 - t->ndim + i] = t->stride[i];
    }
    FOLIO_REQUIRE((extent[0] == 1 || extent[0] == p->n_tokens) && (extent[1] == 1 || extent[1] == p->kernel.n_q_heads),
                  FOLIO_EINVAL, "%s: [%lld, %lld, %lld] does not spread over [%lld tokens, %d query heads, keys]", name,
                  (long long)extent[0], (long long)extent[1], (long long)extent[2], (long long)p->n_tokens,
                  (int)p->kernel.n_q_heads);
    *dst = (struct score_view){
        .data = t->data, .token_stride = stride[0], .head_stride = stride[1], .key_stride = stride[2], .dtype = t->dtype
    };
    *n_keys = extent[2] == 1 ? INT64_MAX : extent[2];
    return FOLIO_OK;
}

folio_status folio__spread_bias(struct problem *p, const folio_context *ctx, const folio_attend_args *args)
{
    struct tensor t;
    p->bias_keys = INT64_MAX;
    FOLIO_TRY(folio__tensor_read(&t, "bias", args->bias));
    if (!args->bias)
        return FOLIO_OK;
    FOLIO_REQUIRE_TYPE(dtype_is_float(t.dtype), "bias: dtype %s; allowed f32 f16 bf16", folio__dtype_name(t.dtype));
    FOLIO_TRY(folio__require_device(ctx, "bias", args->bias));
    return read_spread(&p->kernel.bias, &p->bias_keys, p, "bias", &t);
}

folio_status folio__spread_mask(struct problem *p, const folio_context *ctx, const folio_attend_args *args)
{
    struct tensor t;
    p->mask_keys = INT64_MAX;
    FOLIO_TRY(folio__tensor_read(&t, "mask", args->mask));
    if (!args->mask)
        return FOLIO_OK;
    FOLIO_REQUIRE_TYPE(t.dtype == DTYPE_BOOL, "mask: dtype %s; must be bool (true = keep)", folio__dtype_name(t.dtype));
    FOLIO_TRY(folio__require_device(ctx, "mask", args->mask));
    return read_spread(&p->kernel.mask, &p->mask_keys, p, "mask", &t);
}
