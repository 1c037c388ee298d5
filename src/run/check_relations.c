/* SPDX-License-Identifier: Apache-2.0
 * check_relations.c: the tensors of an attend against each other. */
#include "base/bits.h"
#include "base/status.h"
#include "run/check.h"

static const char *dtype_name(i32 dtype)
{
    return folio__dtype_name((enum dtype)dtype);
}

folio_status folio__relate_dtypes(struct problem *p, const folio_context *ctx, const folio_attend_args *args)
{
    (void)ctx;
    (void)args;
    const i32 q = p->kernel.q.dtype, k = p->kernel.k.dtype, v = p->kernel.v.dtype, out = p->kernel.out.dtype;
    if (p->has_pages) {
        FOLIO_REQUIRE_TYPE(q == k || q == DTYPE_F32 || dtype_is_quantised((enum dtype)k),
                           "q: dtype %s with k_pages of %s; must be the same, or q f32", dtype_name(q), dtype_name(k));
        FOLIO_REQUIRE_TYPE(v == k, "v_pages: dtype %s; must be k_pages', %s", dtype_name(v), dtype_name(k));
    }
    FOLIO_REQUIRE_TYPE(out == q, "out: dtype %s; must be q's, %s", dtype_name(out), dtype_name(q));
    return FOLIO_OK;
}

folio_status folio__relate_head_dims(struct problem *p, const folio_context *ctx, const folio_attend_args *args)
{
    (void)ctx;
    (void)args;
    const struct attend_args *kernel = &p->kernel;
    if (!p->has_pages)
        return FOLIO_OK;
    FOLIO_REQUIRE(kernel->k.head_dim == kernel->q.dim, FOLIO_EINVAL, "k_pages: head_dim %d; must be q's, %d",
                  (int)kernel->k.head_dim, (int)kernel->q.dim);
    FOLIO_REQUIRE(kernel->out.dim == kernel->v.head_dim, FOLIO_EINVAL, "out: head_dim %d; must be v_pages', %d",
                  (int)kernel->out.dim, (int)kernel->v.head_dim);
    return FOLIO_OK;
}

folio_status folio__relate_heads(struct problem *p, const folio_context *ctx, const folio_attend_args *args)
{
    (void)ctx;
    (void)args;
    const struct attend_args *kernel = &p->kernel;
    if (!p->has_pages)
        return FOLIO_OK;
    FOLIO_REQUIRE(p->n_v_heads == kernel->n_kv_heads, FOLIO_ENOTSUP,
                  "v_pages: %d kv heads with %d in k_pages; different numbers are not supported", (int)p->n_v_heads,
                  (int)kernel->n_kv_heads);
    FOLIO_REQUIRE(kernel->n_q_heads % kernel->n_kv_heads == 0, FOLIO_EINVAL,
                  "q: %d heads; must be a multiple of the %d kv heads", (int)kernel->n_q_heads,
                  (int)kernel->n_kv_heads);
    return FOLIO_OK;
}

folio_status folio__relate_pages(struct problem *p, const folio_context *ctx, const folio_attend_args *args)
{
    (void)ctx;
    (void)args;
    if (!p->has_pages)
        return FOLIO_OK;
    FOLIO_REQUIRE(p->v_page_size == p->kernel.page_size, FOLIO_EINVAL,
                  "v_pages: page_size %lld; must be k_pages', %lld", (long long)p->v_page_size,
                  (long long)p->kernel.page_size);
    FOLIO_REQUIRE(p->has_v_table || p->kernel.v.n_pages == p->kernel.k.n_pages, FOLIO_EINVAL,
                  "v_pages: %lld pages; must be k_pages', %lld, unless v_page_table is given",
                  (long long)p->kernel.v.n_pages, (long long)p->kernel.k.n_pages);
    return FOLIO_OK;
}

folio_status folio__relate_batch(struct problem *p, const folio_context *ctx, const folio_attend_args *args)
{
    (void)ctx;
    (void)args;
    p->batch = p->has_q_indptr ? p->q_indptr.n - 1 : p->n_tokens;
    const char *source = p->has_q_indptr ? "q_indptr has batch + 1 entries" : "without q_indptr it is q's n_tokens";
    FOLIO_REQUIRE(p->batch < INT32_MAX, FOLIO_EINVAL, "batch %lld: must be below %d", (long long)p->batch, INT32_MAX);
    FOLIO_REQUIRE(p->kv_lens.n == p->batch, FOLIO_EINVAL, "kv_lens: %lld entries; batch is %lld (%s)",
                  (long long)p->kv_lens.n, (long long)p->batch, source);
    if (p->is_csr)
        FOLIO_REQUIRE(p->table_rows == p->batch, FOLIO_EINVAL, "kv_indptr: %lld entries; must be batch + 1, %lld",
                      (long long)p->kv_indptr.n, (long long)p->batch + 1);
    else
        FOLIO_REQUIRE(p->table_rows == p->batch, FOLIO_EINVAL, "page_table: %lld rows; batch is %lld (%s)",
                      (long long)p->table_rows, (long long)p->batch, source);
    FOLIO_REQUIRE(!p->has_v_table || p->v_table_rows == p->batch, FOLIO_EINVAL,
                  "v_page_table: %lld rows; batch is %lld (%s)", (long long)p->v_table_rows, (long long)p->batch,
                  source);
    return FOLIO_OK;
}

folio_status folio__relate_outputs(struct problem *p, const folio_context *ctx, const folio_attend_args *args)
{
    (void)ctx;
    const i32 n_heads = p->kernel.n_q_heads;
    FOLIO_REQUIRE(p->out_tokens == p->n_tokens && p->n_out_heads == n_heads, FOLIO_EINVAL,
                  "out: [%lld, %d, %d]; must be q's [%lld, %d] by head_dim_v", (long long)p->out_tokens,
                  (int)p->n_out_heads, (int)p->kernel.out.dim, (long long)p->n_tokens, (int)n_heads);
    FOLIO_REQUIRE(!args->lse || (p->lse_shape[0] == p->n_tokens && p->lse_shape[1] == n_heads), FOLIO_EINVAL,
                  "lse: [%lld, %lld]; must be q's [%lld, %d]", (long long)p->lse_shape[0], (long long)p->lse_shape[1],
                  (long long)p->n_tokens, (int)n_heads);
    return FOLIO_OK;
}
