/* SPDX-License-Identifier: Apache-2.0
 * check_scales.c: the scales of quantised pages against the pages. */
#include "base/status.h"
#include "run/check.h"

static folio_status relate(struct pages_view *pages, const struct problem *p, i64 page_size, const folio_context *ctx,
                           const char *name, const DLTensor *src)
{
    if (!src)
        return FOLIO_OK;
    struct tensor t;
    FOLIO_TRY(folio__tensor_read(&t, name, src));
    FOLIO_REQUIRE(p->has_pages, FOLIO_EINVAL, "%s: given without pages; must be NULL", name);
    FOLIO_TRY(folio__pages_scale_of(pages, page_size, p->kernel.n_kv_heads, name, &t));
    return folio__require_device(ctx, name, src);
}

folio_status folio__relate_k_scale(struct problem *p, const folio_context *ctx, const folio_attend_args *args)
{
    return relate(&p->kernel.k, p, p->kernel.page_size, ctx, "k_scale", args->k_scale);
}

folio_status folio__relate_v_scale(struct problem *p, const folio_context *ctx, const folio_attend_args *args)
{
    return relate(&p->kernel.v, p, p->v_page_size, ctx, "v_scale", args->v_scale);
}
