/* SPDX-License-Identifier: Apache-2.0
 * check_mods.c: score_mod, mask_mod and block_mask: alive, of their kind, of this call's sizes, readable here. */
#include "base/status.h"
#include "mod/block_mask.h"
#include "run/check.h"

/* On the host every captured array must be; a CUDA backend looks at them itself. */
static folio_status check_captures(const folio_context *ctx, const char *name, const struct mod_program *mod)
{
    if (!mod || ctx->backend == FOLIO_BACKEND_CUDA)
        return FOLIO_OK;
    for (i32 i = 0; i < mod->n_captures; i++) {
        const DLDevice device = mod->captures[i].device;
        FOLIO_REQUIRE(device.device_type == kDLCPU || device.device_type == kDLCUDAHost ||
                          device.device_type == kDLCUDAManaged,
                      FOLIO_EINVAL, "%s: capture %s: device type %d, id %d; the context works in host memory", name,
                      mod->captures[i].name, (int)device.device_type, (int)device.device_id);
    }
    return FOLIO_OK;
}

static folio_status check_block_mask(const struct problem *p, const struct block_mask *mask)
{
    if (!mask)
        return FOLIO_OK;
    FOLIO_REQUIRE(mask->n_batch == 1 || mask->n_batch == p->batch, FOLIO_EINVAL,
                  "block_mask: batch %lld; must be 1 or the call's, %lld", (long long)mask->n_batch,
                  (long long)p->batch);
    FOLIO_REQUIRE(mask->n_heads == 1 || mask->n_heads == p->kernel.n_q_heads, FOLIO_EINVAL,
                  "block_mask: %lld heads; must be 1 or the call's query heads, %d", (long long)mask->n_heads,
                  (int)p->kernel.n_q_heads);
    return FOLIO_OK;
}

static bool uses_position(const struct mod_program *mod)
{
    if (!mod)
        return false;
    bool yes = mod->tile;
    for (i32 i = 0; i < mod->n_steps; i++)
        yes |= mod->steps[i].op == MOD_POS;
    return yes;
}

/* A block mask that is a window becomes one: kernels have it built in. Its rows stand at the top left, so nothing else
 * may ask where rows stand, unless it says the same. The oracle keeps the mask. */
static void use_window(struct attend_args *kernel, const folio_context *ctx)
{
    const struct block_mask *mask = kernel->block_mask;
    if (!mask || !mask->is_window || ctx->backend != FOLIO_BACKEND_CPU)
        return;
    if (mask->window_left >= 0 || mask->window_right >= 0) {
        const bool others_ask = kernel->causal || kernel->alibi_slopes || uses_position(kernel->score_mod) ||
                                uses_position(kernel->mask_mod);
        if (kernel->window_left >= 0 || kernel->window_right >= 0 || (kernel->align != ALIGN_TOP_LEFT && others_ask))
            return;
        kernel->align = ALIGN_TOP_LEFT;
        kernel->window_left = mask->window_left;
        kernel->window_right = mask->window_right;
    }
    kernel->block_mask = NULL;
}

folio_status folio__relate_mods(struct problem *p, const folio_context *ctx, const folio_attend_args *args)
{
    struct attend_args *kernel = &p->kernel;
    FOLIO_TRY(folio__mod_require(&kernel->score_mod, "score_mod", args->score_mod, FOLIO_MOD_SCORE));
    FOLIO_TRY(folio__mod_require(&kernel->mask_mod, "mask_mod", args->mask_mod, FOLIO_MOD_MASK));
    FOLIO_TRY(folio__block_mask_require(&p->block_mask, args->block_mask));
    FOLIO_TRY(check_block_mask(p, p->block_mask));
    FOLIO_TRY(check_captures(ctx, "score_mod", kernel->score_mod));
    FOLIO_TRY(check_captures(ctx, "mask_mod", kernel->mask_mod));
    FOLIO_TRY(check_captures(ctx, "block_mask", p->block_mask ? p->block_mask->mask_mod : NULL));
    kernel->block_mask = p->block_mask;
    use_window(kernel, ctx);
    return FOLIO_OK;
}
