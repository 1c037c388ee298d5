/* SPDX-License-Identifier: Apache-2.0
 * append.c: new tokens into their slots: checks, then the kernel over ranges of tokens. */
#include "base/status.h"
#include "folio/pages.h"
#include "pages/pages_cuda.h"
#include "pages/slots.h"
#include "pages/tokens.h"

struct append_work {
    const struct kernels *kernels;
    struct append_args args;
};

static void append_range(void *arg, i64 begin, i64 end)
{
    const struct append_work *work = arg;
    work->kernels->append(&work->args, begin, end);
}

enum { READ_K, READ_V, READ_SLOTS, N_READ };

struct append_operands {
    struct operand k_pages, v_pages, read[N_READ];
    struct operand scales[2]; /* of k_pages, of v_pages; t absent = NULL */
};

static folio_status read_operands(struct append_operands *dst, const folio_context *ctx, const folio_append_args *a)
{
    FOLIO_TRY(folio__operand_read(&dst->k_pages, ctx, "k_pages", PAGES_SHAPE, a->k_pages));
    FOLIO_TRY(folio__operand_read(&dst->v_pages, ctx, "v_pages", PAGES_SHAPE, a->v_pages));
    FOLIO_TRY(folio__operand_read(&dst->read[READ_K], ctx, "k", ROWS_SHAPE, a->k));
    FOLIO_TRY(folio__operand_read(&dst->read[READ_V], ctx, "v", ROWS_SHAPE, a->v));
    FOLIO_TRY(folio__operand_read(&dst->read[READ_SLOTS], ctx, "slots", INDEX_SHAPE, a->slots));
    dst->scales[0].t = dst->scales[1].t = (struct tensor){ 0 };
    if (a->k_scale)
        FOLIO_TRY(folio__operand_read(&dst->scales[0], ctx, "k_scale", SCALE_SHAPE, a->k_scale));
    if (a->v_scale)
        FOLIO_TRY(folio__operand_read(&dst->scales[1], ctx, "v_scale", SCALE_SHAPE, a->v_scale));
    return FOLIO_OK;
}

/* What is written shares no memory with what is read. */
static folio_status require_apart(const struct append_operands *o)
{
    FOLIO_TRY(folio__pages_pair_is_writable(&o->k_pages, &o->v_pages));
    for (i32 i = 0; i < N_READ; i++) {
        FOLIO_TRY(folio__operands_require_apart(&o->k_pages, &o->read[i]));
        FOLIO_TRY(folio__operands_require_apart(&o->v_pages, &o->read[i]));
    }
    for (i32 i = 0; i < 2; i++) {
        if (tensor_is_absent(&o->scales[i].t))
            continue;
        FOLIO_TRY(folio__operands_require_apart(&o->k_pages, &o->scales[i]));
        FOLIO_TRY(folio__operands_require_apart(&o->v_pages, &o->scales[i]));
    }
    return FOLIO_OK;
}

/* Scales that are computed are outputs: one a slot and head, each with memory of its own. */
static folio_status require_scales_writable(const struct append_operands *o)
{
    for (i32 i = 0; i < 2; i++) {
        const struct operand *scale = &o->scales[i];
        FOLIO_REQUIRE(!tensor_is_absent(&scale->t) && scale->t.ndim == 3, FOLIO_EINVAL,
                      "%c_scale: %s with FOLIO_APPEND_MAKES_SCALES; must be [n_pages, page_size, n_kv_heads]", "kv"[i],
                      tensor_is_absent(&scale->t) ? "NULL" : "not one a slot and head");
        FOLIO_TRY(folio__operand_require_disjoint(scale));
        for (i32 j = 0; j < N_READ; j++)
            FOLIO_TRY(folio__operands_require_apart(scale, &o->read[j]));
    }
    return folio__operands_require_apart(&o->scales[1], &o->scales[0]);
}

static folio_status read_scales(struct append_args *dst, const struct append_operands *o, u32 flags)
{
    struct pages_view *const pages[] = { &dst->k_pages, &dst->v_pages };
    static const char *const names[] = { "k_scale", "v_scale" };
    const bool makes_scales = flags & FOLIO_APPEND_MAKES_SCALES;
    for (i32 i = 0; i < 2; i++)
        FOLIO_TRY(folio__pages_scale_of(pages[i], dst->page_size, dst->n_kv_heads, names[i], &o->scales[i].t));
    FOLIO_REQUIRE(!makes_scales || dtype_is_quantised((enum dtype)dst->k_pages.dtype), FOLIO_EINVAL,
                  "flags: FOLIO_APPEND_MAKES_SCALES with pages of %s; only e4m3 e5m2 i8 have scales",
                  folio__dtype_name((enum dtype)dst->k_pages.dtype));
    dst->makes_scales = makes_scales;
    if (makes_scales)
        return require_scales_writable(o);
    for (i32 i = 0; i < 2; i++)
        FOLIO_TRY(folio__pages_scale_require(names[i], pages[i], dst->n_kv_heads));
    return FOLIO_OK;
}

/* Every check but the values of slots, which may live on a device. */
static folio_status read_args(struct append_args *dst, struct index_view *slots, const folio_context *ctx,
                              const folio_append_args *a)
{
    const u32 known = FOLIO_APPEND_MAKES_SCALES;
    FOLIO_REQUIRE(!(a->flags & ~known), FOLIO_EINVAL, "flags %#x: allowed 0 and FOLIO_APPEND_MAKES_SCALES, %#x",
                  (unsigned)a->flags, (unsigned)known);
    struct append_operands o;
    struct pages_pair pages;
    i64 n_tokens;
    FOLIO_TRY(read_operands(&o, ctx, a));
    FOLIO_TRY(folio__pages_pair_read(&pages, ctx, &o.k_pages, &o.v_pages));
    *dst = (struct append_args){ .k_pages = pages.k, .v_pages = pages.v, .page_size = pages.page_size };
    dst->n_kv_heads = pages.n_kv_heads;
    FOLIO_TRY(folio__rows_pair_read(&dst->k, &dst->v, &n_tokens, &o.read[READ_K], &o.read[READ_V], &pages));
    FOLIO_TRY(folio__index_view_of(slots, "slots", &o.read[READ_SLOTS].t));
    FOLIO_REQUIRE(slots->n == n_tokens, FOLIO_EINVAL, "slots: %lld entries; must be %lld, the tokens of k",
                  (long long)slots->n, (long long)n_tokens);
    dst->slots = slots->data;
    dst->slots_are_i64 = slots->are_i64;
    FOLIO_TRY(require_apart(&o));
    return read_scales(dst, &o, a->flags);
}

folio_status folio_pages_append(folio_context *ctx, const folio_append_args *args, void *stream)
{
    FOLIO_TRY(folio__context_require(ctx));
    folio_append_args a;
    FOLIO_TRY(folio__read_struct("args", &a, sizeof a, args));
    struct append_work work = { .kernels = ctx->kernels };
    struct index_view slots;
    FOLIO_TRY(read_args(&work.args, &slots, ctx, &a));
    if (ctx->backend == FOLIO_BACKEND_CUDA)
        return folio__cuda_append(ctx, &work.args, slots.n, stream);
    FOLIO_TRY(folio__slots_require(&slots, work.args.k_pages.n_pages * work.args.page_size));
    if (slots.n == 0)
        return FOLIO_OK;
    const i64 bytes_each = work.args.n_kv_heads * (row_bytes(work.args.k.dtype, work.args.k.dim) +
                                                   row_bytes(work.args.v.dtype, work.args.v.dim));
    folio__over_ranges(ctx, append_range, &work, slots.n, bytes_each);
    return FOLIO_OK;
}
