/* SPDX-License-Identifier: Apache-2.0
 * check_options.c: the arguments that are plain numbers. */
#include <math.h>

#include "base/status.h"
#include "run/problem.h"

/* Causal fixes where rows stand; align may only say it again. */
static folio_status resolve_align(struct attend_args *kernel, i32 causal, i32 align)
{
    FOLIO_REQUIRE(causal >= FOLIO_CAUSAL_NONE && causal <= FOLIO_CAUSAL_BOTTOM_RIGHT, FOLIO_EINVAL,
                  "causal %d: allowed 0 (none) 1 (top-left) 2 (bottom-right)", (int)causal);
    FOLIO_REQUIRE(align >= FOLIO_ALIGN_AUTO && align <= FOLIO_ALIGN_BOTTOM_RIGHT, FOLIO_EINVAL,
                  "align %d: allowed 0 (auto) 1 (top-left) 2 (bottom-right)", (int)align);
    FOLIO_REQUIRE(align == FOLIO_ALIGN_AUTO || causal == FOLIO_CAUSAL_NONE || align == causal, FOLIO_EINVAL,
                  "align %d: contradicts causal %d; must be 0 (auto) or the same", (int)align, (int)causal);
    kernel->causal = causal;
    kernel->align = align ? align : causal ? causal : ALIGN_BOTTOM_RIGHT;
    return FOLIO_OK;
}

static folio_status check_scores(struct attend_args *kernel, const folio_attend_args *args)
{
    if (args->flags & FOLIO_SCALE_IS_SET) {
        FOLIO_REQUIRE(isfinite(args->scale), FOLIO_EINVAL, "scale %g: must be finite", args->scale);
        kernel->scale = args->scale;
    }
    FOLIO_REQUIRE(isfinite(args->softcap) && args->softcap >= 0, FOLIO_EINVAL, "softcap %g: must be finite and >= 0",
                  args->softcap);
    kernel->softcap = args->softcap;
    kernel->window_left = kernel->window_right = -1;
    if (!(args->flags & FOLIO_WINDOW_IS_SET))
        return FOLIO_OK;
    FOLIO_REQUIRE(args->window_left >= -1, FOLIO_EINVAL, "window_left %lld: must be >= -1 (-1 = none)",
                  (long long)args->window_left);
    FOLIO_REQUIRE(args->window_right >= -1, FOLIO_EINVAL, "window_right %lld: must be >= -1 (-1 = none)",
                  (long long)args->window_right);
    kernel->window_left = args->window_left;
    kernel->window_right = args->window_right;
    return FOLIO_OK;
}

folio_status folio__check_options(struct problem *p, const folio_context *ctx, const folio_attend_args *args)
{
    const u32 known = FOLIO_SCALE_IS_SET | FOLIO_WINDOW_IS_SET | FOLIO_CASCADE;
    FOLIO_REQUIRE(!(args->flags & ~known), FOLIO_EINVAL, "flags 0x%x: unknown bits 0x%x; known 0x%x",
                  (unsigned)args->flags, (unsigned)(args->flags & ~known), (unsigned)known);
    FOLIO_REQUIRE(!(args->flags & FOLIO_CASCADE) || ctx->backend != FOLIO_BACKEND_CUDA, FOLIO_ENOTSUP,
                  "flags: FOLIO_CASCADE is not on the CUDA backend");
    FOLIO_TRY(resolve_align(&p->kernel, args->causal, args->align));
    FOLIO_TRY(check_scores(&p->kernel, args));
    FOLIO_REQUIRE(args->num_splits >= 0 && args->num_splits <= FOLIO_MAX_SPLITS, FOLIO_EINVAL,
                  "num_splits %d: allowed 0 (automatic) .. %d", (int)args->num_splits, FOLIO_MAX_SPLITS);
    FOLIO_REQUIRE(args->max_q_len >= 0, FOLIO_EINVAL, "max_q_len %lld: must be >= 0 (0 = from the shapes)",
                  (long long)args->max_q_len);
    FOLIO_REQUIRE(args->max_kv_len >= 0, FOLIO_EINVAL, "max_kv_len %lld: must be >= 0 (0 = from the shapes)",
                  (long long)args->max_kv_len);
    p->num_splits = args->num_splits;
    p->cascade = args->flags & FOLIO_CASCADE;
    p->has_max_kv_len = args->max_kv_len > 0;
    return FOLIO_OK;
}
