/* SPDX-License-Identifier: Apache-2.0
 * explain.c: what an attend would do, or every reason why it can't. */
#include <stdarg.h>
#include <stdio.h>

#include "base/status.h"
#include "mod/block_mask.h"
#include "run/backend.h"

struct writer {
    char *text; /* [n] */
    size_t n, used;
};

__attribute__((format(printf, 2, 3))) static void print(struct writer *w, const char *format, ...)
{
    const size_t room = w->used < w->n ? w->n - w->used : 0;
    va_list args;
    va_start(args, format);
    const int length = vsnprintf(room ? w->text + w->used : NULL, room, format, args);
    va_end(args);
    w->used += length > 0 ? (size_t)length : 0;
}

/* All the checks of a stage; those of the next mean something only if these pass. Returns the first failure. */
static folio_status explain_refusals(struct writer *w, const folio_context *ctx, const folio_attend_args *args)
{
    struct problem p = { 0 };
    folio_status first = FOLIO_OK;
    for (i32 i = 0; i < folio__n_problem_checks; i++) {
        const struct problem_check *check = &folio__problem_checks[i];
        if (first != FOLIO_OK && check->stage > folio__problem_checks[i - 1].stage)
            break;
        const folio_status status = check->run(&p, ctx, args);
        if (status == FOLIO_OK)
            continue;
        print(w, "%s: %s\n", folio_status_name(status), folio_last_error());
        if (first == FOLIO_OK)
            first = status;
    }
    return first;
}

static void explain_kernels(struct writer *w, const folio_context *ctx, const folio_plan *plan)
{
    const struct problem *p = &plan->problem;
    static const char *const aligns[] = { "none", "top-left", "bottom-right" };
    const struct attend_args *kernel = &p->kernel;
    if (ctx->backend == FOLIO_BACKEND_CUDA)
        print(w, "kernel: %s\n", folio__cuda_kernel_name(plan));
    else
        print(w, "kernels: %s, %d threads\n", ctx->kernels->name, (int)folio__pool_n_threads(ctx->pool));
    print(w, "q: %lld tokens, %d heads, head_dim %d, %s; batch %lld\n", (long long)p->n_tokens, (int)kernel->n_q_heads,
          (int)kernel->q.dim, folio__dtype_name((enum dtype)kernel->q.dtype), (long long)p->batch);
    print(w, "pages: %lld of %lld tokens, %d kv heads, head_dim %d and %d, %s; group %d\n",
          (long long)kernel->k.n_pages, (long long)kernel->page_size, (int)kernel->n_kv_heads, (int)kernel->k.head_dim,
          (int)kernel->v.head_dim, folio__dtype_name((enum dtype)kernel->k.dtype), (int)kernel->group);
    print(w, "scale %g, softcap %g, causal %s, window %lld %lld, rows stand %s\n", kernel->scale, kernel->softcap,
          aligns[kernel->causal], (long long)kernel->window_left, (long long)kernel->window_right,
          aligns[kernel->align]);
}

static void explain_mod(struct writer *w, const char *name, const struct mod_program *mod)
{
    if (mod && mod->tile)
        print(w, "%s: a callback%s; a plain body for it runs, not the kernels\n", name,
              mod->tile_is_whole ? " of whole sequences" : "");
    else if (mod)
        print(w, "%s: %d steps, of which %d a key\n", name, (int)mod->n_steps,
              (int)(mod->n_steps - mod->level_begin[MOD_LEVEL_KEY]));
}

static void explain_mods(struct writer *w, const struct problem *p)
{
    const struct attend_args *kernel = &p->kernel;
    const struct block_mask *blocks = p->block_mask;
    explain_mod(w, "score_mod", kernel->score_mod);
    explain_mod(w, "mask_mod", kernel->mask_mod);
    if (!blocks)
        return;
    print(w, "block_mask: %lld x %lld blocks of %lld rows x %lld keys\n", (long long)blocks->n_rows,
          (long long)blocks->n_cols, (long long)blocks->q_block, (long long)blocks->kv_block);
    explain_mod(w, "block_mask.mask_mod", blocks->mask_mod);
    if (!kernel->block_mask)
        print(w, "block_mask: keeps what window %lld %lld from the top left does: that runs instead\n",
              (long long)blocks->window_left, (long long)blocks->window_right);
}

static void explain_work(struct writer *w, const folio_plan *plan)
{
    const struct plan_shape *shape = &plan->shape;
    const i64 rows_up_to = shape->tiling.max_packed_rows / shape->group;
    print(w, "family: rows up to %lld query rows a sequence, else tiles of %d\n", (long long)rows_up_to,
          (int)shape->tiling.tile_rows);
    for (i32 family = ATTEND_ROWS; family <= ATTEND_TILE; family++) {
        const i64 split_tokens = folio__plan_split_tokens(shape, family, shape->max_kv_len);
        if (split_tokens == INT64_MAX)
            print(w, "splits, %s: none\n", family == ATTEND_ROWS ? "rows" : "tile");
        else
            print(w, "splits, %s: %lld tokens each%s\n", family == ATTEND_ROWS ? "rows" : "tile",
                  (long long)split_tokens, shape->num_splits ? " at max_kv_len" : "");
    }
    print(w, "workspace: %zu bytes\n", plan->workspace_bytes);
    if (plan->is_updated && w->used < w->n)
        w->used += folio__plan_dump(&plan->work, w->text + w->used, w->n - w->used);
}

/* The bytes of K and V that the masks save. */
static folio_status explain_reads(struct writer *w, const folio_plan *plan)
{
    const struct attend_args *kernel = &plan->problem.kernel;
    struct plan_shape bare = plan->shape;
    bare.mask_mod = NULL;
    bare.block_mask = NULL;
    const struct block_mask *blocks = plan->problem.block_mask;
    if (blocks && !kernel->block_mask && (blocks->window_left >= 0 || blocks->window_right >= 0))
        bare.window_left = bare.window_right = -1; /* the mask's */
    bare.may_share = false;
    bare.tables = NULL;
    struct plan_work unmasked;
    FOLIO_TRY(folio__plan_work_create(&unmasked, &bare));
    folio__plan_make(&unmasked, &bare, plan->q_begin, plan->kv_lens);
    const i64 key_bytes = kernel->k.head_dim * folio__dtype_bytes((enum dtype)kernel->k.dtype) +
                          kernel->v.head_dim * folio__dtype_bytes((enum dtype)kernel->v.dtype);
    const i64 all = folio__plan_reads(&unmasked, &bare), kept = folio__plan_reads(&plan->work, &plan->shape);
    print(w, "masks: %lld of %lld bytes of K and V are read, %lld are not\n", (long long)(kept * key_bytes),
          (long long)(all * key_bytes), (long long)((all - kept) * key_bytes));
    folio__plan_work_destroy(&unmasked);
    return FOLIO_OK;
}

static folio_status explain(struct writer *w, folio_context *ctx, const folio_attend_args *args)
{
    struct problem p;
    FOLIO_TRY(explain_refusals(w, ctx, args));
    FOLIO_TRY(folio__problem_read(&p, ctx, args));
    folio_plan *plan;
    folio_status status = folio__plan_new(&plan, ctx, &p, args);
    if (status != FOLIO_OK) {
        print(w, "%s: %s\n", folio_status_name(status), folio_last_error());
        return status;
    }
    explain_kernels(w, ctx, plan);
    explain_mods(w, &p);
    if (ctx->backend == FOLIO_BACKEND_CUDA) {
        print(w, "workspace: %zu bytes of device memory\n", plan->workspace_bytes);
        folio_plan_destroy(&plan);
        return FOLIO_OK;
    }
    if (p.kv_lens.data) {
        status = folio__backend_of(ctx)->update(plan, &p, NULL);
        plan->is_updated = status == FOLIO_OK;
        if (status != FOLIO_OK)
            print(w, "%s: %s\n", folio_status_name(status), folio_last_error());
    }
    if (plan->is_updated && (plan->shape.mask_mod || plan->problem.block_mask))
        status = explain_reads(w, plan);
    explain_work(w, plan);
    folio_plan_destroy(&plan);
    return FOLIO_OK; /* as plan_create: lengths are update's business */
}

folio_status folio_explain(folio_context *ctx, const folio_attend_args *args, char *text, size_t n)
{
    FOLIO_REQUIRE(text && n > 0, FOLIO_EINVAL, "text: %s", text ? "n is 0" : "NULL");
    text[0] = 0;
    struct writer w = { .text = text, .n = n };
    folio_status status = folio__context_require(ctx);
    folio_attend_args a;
    if (status == FOLIO_OK)
        status = folio__read_struct("args", &a, sizeof a, args);
    if (status == FOLIO_OK)
        return explain(&w, ctx, &a);
    print(&w, "%s: %s\n", folio_status_name(status), folio_last_error());
    return status;
}
