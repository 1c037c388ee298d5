/* SPDX-License-Identifier: Apache-2.0
 * check_tensors.c: each tensor of an attend by itself: DLTensor -> view. */
#include "base/bits.h"
#include "base/status.h"
#include "run/check.h"

static folio_status check_head_dim(const char *name, i32 head_dim)
{
    FOLIO_REQUIRE(head_dim <= FOLIO_MAX_HEAD_DIM, FOLIO_ENOTSUP, "%s: head_dim %d; the maximum is %d", name,
                  (int)head_dim, FOLIO_MAX_HEAD_DIM);
    return FOLIO_OK;
}

static folio_status require_runs_here(const folio_context *ctx, const char *name, const struct token_runs *runs)
{
    FOLIO_REQUIRE(ctx->backend != FOLIO_BACKEND_CUDA || runs->n == 0, FOLIO_ENOTSUP,
                  "%s: 4 dims, and no view of 3; the CUDA backend takes [n_tokens, n_heads, dim]", name);
    return FOLIO_OK;
}

folio_status folio__read_q(struct problem *p, const folio_context *ctx, const folio_attend_args *args)
{
    FOLIO_TRY(
        folio__tokens_view_read(&p->kernel.q, &p->kernel.q_runs, &p->n_tokens, &p->kernel.n_q_heads, "q", args->q));
    FOLIO_TRY(check_head_dim("q", p->kernel.q.dim));
    FOLIO_TRY(require_runs_here(ctx, "q", &p->kernel.q_runs));
    return folio__require_device(ctx, "q", args->q);
}

folio_status folio__read_k_pages(struct problem *p, const folio_context *ctx, const folio_attend_args *args)
{
    p->has_pages = args->k_pages || args->v_pages;
    if (!p->has_pages)
        return FOLIO_OK;
    struct attend_args *kernel = &p->kernel;
    FOLIO_TRY(folio__pages_view_read(&kernel->k, &kernel->page_size, &kernel->n_kv_heads, "k_pages", args->k_pages));
    FOLIO_TRY(check_head_dim("k_pages", kernel->k.head_dim));
    FOLIO_TRY(folio__require_quantised_here(ctx, "k_pages", kernel->k.dtype));
    return folio__require_device(ctx, "k_pages", args->k_pages);
}

folio_status folio__read_v_pages(struct problem *p, const folio_context *ctx, const folio_attend_args *args)
{
    if (!args->k_pages && !args->v_pages)
        return FOLIO_OK;
    FOLIO_TRY(folio__pages_view_read(&p->kernel.v, &p->v_page_size, &p->n_v_heads, "v_pages", args->v_pages));
    FOLIO_TRY(check_head_dim("v_pages", p->kernel.v.head_dim));
    FOLIO_TRY(folio__require_quantised_here(ctx, "v_pages", p->kernel.v.dtype));
    return folio__require_device(ctx, "v_pages", args->v_pages);
}

/* Lengths and tables: where the context works, or, for CUDA, on the host. */
static folio_status require_index_device(struct problem *p, enum problem_part part, const folio_context *ctx,
                                         const char *name, const DLTensor *src)
{
    if (ctx->backend == FOLIO_BACKEND_CUDA && folio__is_host_memory(src->device)) {
        p->on_host |= part;
        return FOLIO_OK;
    }
    return folio__require_device(ctx, name, src);
}

/* Padded: [rows, columns], rows any stride. */
static folio_status read_table(struct table_view *dst, i64 *rows, i64 *columns, const char *name, const DLTensor *src)
{
    struct tensor t;
    FOLIO_TRY(folio__tensor_read(&t, name, src));
    FOLIO_REQUIRE_TYPE(dtype_is_index(t.dtype), "%s: dtype %s; allowed i32 i64", name, folio__dtype_name(t.dtype));
    FOLIO_REQUIRE(t.ndim == 2, FOLIO_EINVAL, "%s: %d dims; must have 2: [batch, max_pages]", name, (int)t.ndim);
    const i64 element = folio__dtype_bytes(t.dtype);
    FOLIO_REQUIRE(t.shape[1] <= 1 || t.stride[1] == element || folio__tensor_count(&t) == 0, FOLIO_EINVAL,
                  "%s: stride of the last dim is %lld elements; must be 1", name, (long long)(t.stride[1] / element));
    *dst =
        (struct table_view){ .ids = t.data, .row_stride = t.stride[0] / element, .ids_are_i64 = t.dtype == DTYPE_I64 };
    *rows = t.shape[0];
    *columns = t.shape[1];
    return FOLIO_OK;
}

static folio_status read_csr(struct problem *p, const folio_context *ctx, const folio_attend_args *args)
{
    FOLIO_REQUIRE(!args->page_table, FOLIO_EINVAL, "page_table: given beside kv_indptr; give one of them");
    FOLIO_REQUIRE(args->kv_indptr && args->kv_indices, FOLIO_EINVAL, "%s: NULL beside %s; must both be given",
                  args->kv_indptr ? "kv_indices" : "kv_indptr", args->kv_indptr ? "kv_indptr" : "kv_indices");
    FOLIO_TRY(folio__index_view_read(&p->kv_indptr, "kv_indptr", args->kv_indptr));
    FOLIO_TRY(folio__index_view_read(&p->kv_indices, "kv_indices", args->kv_indices));
    FOLIO_TRY(require_index_device(p, PROBLEM_KV_INDPTR, ctx, "kv_indptr", args->kv_indptr));
    FOLIO_TRY(require_index_device(p, PROBLEM_K_TABLE, ctx, "kv_indices", args->kv_indices));
    p->kernel.k_table = (struct table_view){ .ids = p->kv_indices.data,
                                             .indptr = p->kv_indptr.data,
                                             .ids_are_i64 = p->kv_indices.are_i64,
                                             .indptr_is_i64 = p->kv_indptr.are_i64 };
    p->table_rows = p->kv_indptr.n - 1;
    p->k_columns = p->kv_indices.n;
    return FOLIO_OK;
}

folio_status folio__read_k_table(struct problem *p, const folio_context *ctx, const folio_attend_args *args)
{
    p->is_csr = args->kv_indptr || args->kv_indices;
    if (p->is_csr)
        return read_csr(p, ctx, args);
    FOLIO_REQUIRE(args->page_table, FOLIO_EINVAL,
                  "page_table: NULL; must be a tensor [batch, max_pages], or give kv_indptr and kv_indices");
    FOLIO_TRY(read_table(&p->kernel.k_table, &p->table_rows, &p->k_columns, "page_table", args->page_table));
    return require_index_device(p, PROBLEM_K_TABLE, ctx, "page_table", args->page_table);
}

folio_status folio__read_v_table(struct problem *p, const folio_context *ctx, const folio_attend_args *args)
{
    p->has_v_table = args->v_page_table != NULL;
    if (!p->has_v_table)
        return FOLIO_OK;
    FOLIO_TRY(read_table(&p->kernel.v_table, &p->v_table_rows, &p->v_columns, "v_page_table", args->v_page_table));
    return require_index_device(p, PROBLEM_V_TABLE, ctx, "v_page_table", args->v_page_table);
}

folio_status folio__read_kv_lens(struct problem *p, const folio_context *ctx, const folio_attend_args *args)
{
    FOLIO_TRY(folio__index_view_read(&p->kv_lens, "kv_lens", args->kv_lens));
    return require_index_device(p, PROBLEM_KV_LENS, ctx, "kv_lens", args->kv_lens);
}

folio_status folio__read_q_indptr(struct problem *p, const folio_context *ctx, const folio_attend_args *args)
{
    p->has_q_indptr = args->q_indptr != NULL;
    if (!p->has_q_indptr)
        return FOLIO_OK;
    FOLIO_TRY(folio__index_view_read(&p->q_indptr, "q_indptr", args->q_indptr));
    FOLIO_REQUIRE(p->q_indptr.n >= 1, FOLIO_EINVAL, "q_indptr: empty; must be [batch + 1]");
    return require_index_device(p, PROBLEM_Q_INDPTR, ctx, "q_indptr", args->q_indptr);
}

/* [n] f32, contiguous. Its length is checked against q's heads later. */
static folio_status read_vector(const float **dst, const char *name, const folio_context *ctx, const DLTensor *src)
{
    struct tensor t;
    FOLIO_TRY(folio__tensor_read(&t, name, src));
    *dst = (const float *)(const void *)t.data;
    if (!src)
        return FOLIO_OK;
    FOLIO_REQUIRE_TYPE(t.dtype == DTYPE_F32, "%s: dtype %s; must be f32", name, folio__dtype_name(t.dtype));
    FOLIO_REQUIRE(t.ndim == 1, FOLIO_EINVAL, "%s: %d dims; must have 1: [n_q_heads]", name, (int)t.ndim);
    FOLIO_REQUIRE(t.shape[0] <= 1 || t.stride[0] == (i64)sizeof(float), FOLIO_EINVAL,
                  "%s: stride %lld elements; must be 1", name, (long long)(t.stride[0] / (i64)sizeof(float)));
    return folio__require_device(ctx, name, src);
}

folio_status folio__read_alibi_slopes(struct problem *p, const folio_context *ctx, const folio_attend_args *args)
{
    p->has_alibi_slopes = args->alibi_slopes != NULL;
    return read_vector(&p->kernel.alibi_slopes, "alibi_slopes", ctx, args->alibi_slopes);
}

folio_status folio__read_sinks(struct problem *p, const folio_context *ctx, const folio_attend_args *args)
{
    p->has_sinks = args->sinks != NULL;
    return read_vector(&p->kernel.sinks, "sinks", ctx, args->sinks);
}

folio_status folio__read_out(struct problem *p, const folio_context *ctx, const folio_attend_args *args)
{
    FOLIO_TRY(folio__tokens_view_read(&p->kernel.out, &p->kernel.out_runs, &p->out_tokens, &p->n_out_heads, "out",
                                      args->out));
    FOLIO_TRY(folio__require_disjoint("out", args->out));
    FOLIO_TRY(require_runs_here(ctx, "out", &p->kernel.out_runs));
    return folio__require_device(ctx, "out", args->out);
}

folio_status folio__read_lse(struct problem *p, const folio_context *ctx, const folio_attend_args *args)
{
    struct tensor t;
    FOLIO_TRY(folio__tensor_read(&t, "lse", args->lse));
    if (!args->lse)
        return FOLIO_OK;
    FOLIO_REQUIRE_TYPE(t.dtype == DTYPE_F32, "lse: dtype %s; must be f32", folio__dtype_name(t.dtype));
    FOLIO_REQUIRE(t.ndim == 2, FOLIO_EINVAL, "lse: %d dims; must have 2: [n_tokens, n_q_heads]", (int)t.ndim);
    FOLIO_TRY(folio__require_disjoint("lse", args->lse));
    p->kernel.lse = (float *)(void *)t.data;
    p->kernel.lse_token_stride = t.stride[0];
    p->kernel.lse_head_stride = t.stride[1];
    p->lse_shape[0] = t.shape[0];
    p->lse_shape[1] = t.shape[1];
    return folio__require_device(ctx, "lse", args->lse);
}
