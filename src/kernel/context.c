/* SPDX-License-Identifier: Apache-2.0
 * context.c: where work runs: create, destroy, ask. */
#include "kernel/context.h"

#include "base/alloc.h"
#include "base/status.h"
#include "kernel/cpu/isa.h"
#include "kernel/cuda/device.h"

#define FOLIO__CONTEXT_MAGIC UINT64_C(0x66436f6e74657874) /* "fContext" */

enum { MAX_THREADS = 1024 };

static folio_status check_isa(const folio_context_config *cfg)
{
    FOLIO_REQUIRE(cfg->isa >= FOLIO_ISA_AUTO && cfg->isa <= FOLIO_ISA_AMX_EMULATED, FOLIO_EINVAL,
                  "isa %d: allowed %d .. %d", (int)cfg->isa, FOLIO_ISA_AUTO, FOLIO_ISA_AMX_EMULATED);
    const char *text;
    const folio_isa cap = cfg->isa ? (folio_isa)cfg->isa : folio__isa_cap(&text);
    if (cfg->isa == FOLIO_ISA_AUTO)
        FOLIO_REQUIRE(!text, FOLIO_ENOTSUP,
                      "FOLIO_ISA=%s: allowed auto c avx2 avx512 avx512_bf16 amx neon amx_emulated", text);
    FOLIO_REQUIRE(cap != FOLIO_ISA_NEON, FOLIO_ENOTSUP, "isa neon: this build has no kernels for it; the best is %s",
                  folio_isa_name(folio_isa_best()));
    return FOLIO_OK;
}

static folio_status check_config(const folio_context_config *cfg)
{
    FOLIO_REQUIRE(cfg->backend >= FOLIO_BACKEND_AUTO && cfg->backend <= FOLIO_BACKEND_REF, FOLIO_EINVAL,
                  "backend %d: allowed 0 (auto) 1 (cpu) 2 (cuda) 3 (ref)", (int)cfg->backend);
    FOLIO_REQUIRE(cfg->n_threads >= 0 && cfg->n_threads <= MAX_THREADS, FOLIO_EINVAL, "n_threads %d: allowed 0 .. %d",
                  (int)cfg->n_threads, MAX_THREADS);
    FOLIO_REQUIRE(cfg->device >= 0, FOLIO_EINVAL, "device %d: must be >= 0", (int)cfg->device);
    FOLIO_REQUIRE(cfg->n_lib_dirs >= 0 && (cfg->n_lib_dirs == 0 || cfg->lib_dirs), FOLIO_EINVAL,
                  "n_lib_dirs %d with lib_dirs %p", (int)cfg->n_lib_dirs, (const void *)cfg->lib_dirs);
    return check_isa(cfg);
}

/* Kernels of the host and, for CUDA, the device. */
static folio_status open_backend(folio_context *ctx, const folio_context_config *cfg)
{
    switch (ctx->backend) {
    case FOLIO_BACKEND_REF:
        ctx->kernels = &folio__kernels_ref;
        return FOLIO_OK;
    case FOLIO_BACKEND_CUDA: /* the one place where a device is opened: sets ctx->cuda */
        FOLIO_TRY(folio__cuda_open(&ctx->cuda, cfg));
        break; /* the host's kernels too: small things that stay on the host */
    case FOLIO_BACKEND_CPU:
    case FOLIO_BACKEND_AUTO:
        break;
    }
    ctx->kernels = folio__select_cpu((folio_isa)cfg->isa);
    return FOLIO_OK;
}

static void close_backend(folio_context *ctx)
{
    folio__cuda_close(&ctx->cuda); /* and here it is closed again */
}

folio_status folio_context_create(folio_context **out, const folio_context_config *cfg)
{
    FOLIO_REQUIRE(out, FOLIO_EINVAL, "out: NULL");
    folio_context_config c = { .struct_size = sizeof c };
    if (cfg)
        FOLIO_TRY(folio__read_struct("config", &c, sizeof c, cfg));
    FOLIO_TRY(check_config(&c));

    folio_context *ctx = folio__alloc_zero(sizeof *ctx);
    FOLIO_REQUIRE(ctx, FOLIO_ENOMEM, "no memory for a context");
    ctx->backend = c.backend == FOLIO_BACKEND_AUTO ? FOLIO_BACKEND_CPU : (folio_backend)c.backend;
    folio_status status = open_backend(ctx, &c);
    if (status == FOLIO_OK) {
        const i32 n_threads = c.n_threads ? c.n_threads : folio__pool_default_threads();
        status = folio__pool_create(&ctx->pool, n_threads, c.parallel_for, c.parallel_user);
        if (status != FOLIO_OK)
            close_backend(ctx);
    }
    if (status != FOLIO_OK) {
        folio__free(ctx);
        return status;
    }
    ctx->magic = FOLIO__CONTEXT_MAGIC;
    *out = ctx;
    return FOLIO_OK;
}

void folio_context_destroy(folio_context **ctx)
{
    if (!ctx || !*ctx || (*ctx)->magic != FOLIO__CONTEXT_MAGIC)
        return;
    (*ctx)->magic = 0;
    folio__pool_destroy(&(*ctx)->pool);
    close_backend(*ctx);
    folio__spare_destroy(&(*ctx)->spare);
    folio__free(*ctx);
    *ctx = NULL;
}

folio_status folio__context_require(const folio_context *ctx)
{
    FOLIO_REQUIRE(ctx, FOLIO_EINVAL, "context: NULL");
    FOLIO_REQUIRE(ctx->magic == FOLIO__CONTEXT_MAGIC, FOLIO_EHANDLE, "context %p: destroyed, or never created",
                  (const void *)ctx);
    return FOLIO_OK;
}

folio_backend folio_context_backend(const folio_context *ctx)
{
    return folio__context_require(ctx) == FOLIO_OK ? ctx->backend : FOLIO_BACKEND_AUTO;
}

folio_isa folio_context_isa(const folio_context *ctx)
{
    return folio__context_require(ctx) == FOLIO_OK && ctx->kernels ? ctx->kernels->isa : FOLIO_ISA_AUTO;
}

int32_t folio_context_n_threads(const folio_context *ctx)
{
    return folio__context_require(ctx) == FOLIO_OK ? folio__pool_n_threads(ctx->pool) : 0;
}
