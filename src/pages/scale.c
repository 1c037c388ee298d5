/* SPDX-License-Identifier: Apache-2.0
 * scale.c: the scales of quantised pages. One for all slots, one a head, or one a slot and head. */
#include <math.h>

#include "base/status.h"
#include "kernel/layout.h"
#include "pages/operand.h"

folio_status folio__require_quantised_here(const folio_context *ctx, const char *name, i32 dtype)
{
    FOLIO_REQUIRE(ctx->backend != FOLIO_BACKEND_CUDA || !dtype_is_quantised((enum dtype)dtype), FOLIO_ENOTSUP,
                  "%s: dtype %s: quantised pages are not on the CUDA backend; allowed f32 f16 bf16", name,
                  folio__dtype_name((enum dtype)dtype));
    return FOLIO_OK;
}

folio_status folio__pages_scale_of(struct pages_view *pages, i64 page_size, i32 n_kv_heads, const char *name,
                                   const struct tensor *t)
{
    if (tensor_is_absent(t))
        return FOLIO_OK;
    FOLIO_REQUIRE(dtype_is_quantised((enum dtype)pages->dtype), FOLIO_EINVAL,
                  "%s: given with pages of %s; only e4m3 e5m2 i8 have scales", name,
                  folio__dtype_name((enum dtype)pages->dtype));
    FOLIO_REQUIRE_TYPE(t->dtype == DTYPE_F32, "%s: dtype %s; must be f32", name, folio__dtype_name(t->dtype));
    FOLIO_REQUIRE(t->ndim <= 1 || t->ndim == 3, FOLIO_EINVAL, "%s: %d dims; must be " SCALE_SHAPE, name, (int)t->ndim);
    pages->scale = (float *)(void *)t->data;
    pages->scale_page_stride = pages->scale_slot_stride = pages->scale_head_stride = 0;
    if (t->ndim == 3) {
        FOLIO_REQUIRE(t->shape[0] == pages->n_pages && t->shape[1] == page_size && t->shape[2] == n_kv_heads,
                      FOLIO_EINVAL, "%s: [%lld, %lld, %lld]; must be the pages' [%lld, %lld, %d], [1] or [%d]", name,
                      (long long)t->shape[0], (long long)t->shape[1], (long long)t->shape[2], (long long)pages->n_pages,
                      (long long)page_size, (int)n_kv_heads, (int)n_kv_heads);
        /* Of one page, or none, any stride will do but 0: that says one scale for all slots. */
        pages->scale_page_stride = t->shape[0] <= 1 ? (i64)sizeof(float) : t->stride[0];
        pages->scale_slot_stride = t->stride[1];
        pages->scale_head_stride = t->stride[2];
        return FOLIO_OK;
    }
    FOLIO_REQUIRE(t->ndim == 0 || t->shape[0] == 1 || t->shape[0] == n_kv_heads, FOLIO_EINVAL,
                  "%s: %lld elements; must be 1, or one for each of the %d kv heads", name, (long long)t->shape[0],
                  (int)n_kv_heads);
    if (t->ndim == 1 && t->shape[0] > 1)
        pages->scale_head_stride = t->stride[0];
    return FOLIO_OK;
}

folio_status folio__pages_scale_require(const char *name, const struct pages_view *pages, i32 n_kv_heads)
{
    if (!pages->scale || pages->scale_page_stride != 0 || pages->scale_slot_stride != 0)
        return FOLIO_OK;
    for (i32 head = 0; head < n_kv_heads; head++) {
        const float scale = *layout_scale(pages, 0, 0, head);
        FOLIO_REQUIRE(isfinite(scale) && scale > 0, FOLIO_EINVAL, "%s[%d]: %g; must be positive and finite", name,
                      (int)head, (double)scale);
    }
    return FOLIO_OK;
}
