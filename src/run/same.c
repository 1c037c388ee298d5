/* SPDX-License-Identifier: Apache-2.0
 * same.c: does a problem have the shapes, strides, dtypes and options of another? (But for out, lse, scale.). */
#include <string.h>

#include "base/status.h"
#include "run/folio_plan.h"

static folio_status same_pages(const char *name, struct pages_view a, struct pages_view b)
{
    a.data = b.data = NULL;
    FOLIO_REQUIRE(!a.scale == !b.scale && a.scale_page_stride == b.scale_page_stride &&
                      a.scale_slot_stride == b.scale_slot_stride && a.scale_head_stride == b.scale_head_stride,
                  FOLIO_EINVAL, "%c_scale: %s, strides %lld %lld %lld bytes; the plan has %s, %lld %lld %lld", name[0],
                  a.scale ? "given" : "NULL", (long long)a.scale_page_stride, (long long)a.scale_slot_stride,
                  (long long)a.scale_head_stride, b.scale ? "one" : "none", (long long)b.scale_page_stride,
                  (long long)b.scale_slot_stride, (long long)b.scale_head_stride);
    a.scale = b.scale = NULL;
    FOLIO_REQUIRE(
        memcmp(&a, &b, sizeof a) == 0, FOLIO_EINVAL,
        "%s: [%lld pages, ..., %d] %s with strides %lld %lld %lld bytes; the plan has [%lld pages, ..., %d] %s "
        "with %lld %lld %lld",
        name, (long long)a.n_pages, (int)a.head_dim, folio__dtype_name((enum dtype)a.dtype), (long long)a.page_stride,
        (long long)a.slot_stride, (long long)a.head_stride, (long long)b.n_pages, (int)b.head_dim,
        folio__dtype_name((enum dtype)b.dtype), (long long)b.page_stride, (long long)b.slot_stride,
        (long long)b.head_stride);
    return FOLIO_OK;
}

static folio_status same_table(const char *name, struct table_view a, struct table_view b, i64 columns,
                               i64 plan_columns)
{
    FOLIO_REQUIRE(columns == plan_columns && a.row_stride == b.row_stride && a.ids_are_i64 == b.ids_are_i64,
                  FOLIO_EINVAL, "%s: %lld columns, row stride %lld, %s; the plan has %lld, %lld, %s", name,
                  (long long)columns, (long long)a.row_stride, a.ids_are_i64 ? "i64" : "i32", (long long)plan_columns,
                  (long long)b.row_stride, b.ids_are_i64 ? "i64" : "i32");
    return FOLIO_OK;
}

static folio_status same_score(const char *name, struct score_view a, struct score_view b)
{
    a.data = b.data = NULL;
    FOLIO_REQUIRE(memcmp(&a, &b, sizeof a) == 0, FOLIO_EINVAL,
                  "%s: strides %lld %lld %lld bytes, dtype %s; the plan has %lld %lld %lld, %s", name,
                  (long long)a.token_stride, (long long)a.head_stride, (long long)a.key_stride,
                  folio__dtype_name((enum dtype)a.dtype), (long long)b.token_stride, (long long)b.head_stride,
                  (long long)b.key_stride, folio__dtype_name((enum dtype)b.dtype));
    return FOLIO_OK;
}

static folio_status same_presence(const char *name, bool here, bool there)
{
    FOLIO_REQUIRE(here == there, FOLIO_EINVAL, "%s: %s; the plan has %s", name, here ? "given" : "NULL",
                  there ? "one" : "none");
    return FOLIO_OK;
}

/* What is there at all. A tensor may be there without data, so dtypes tell. */
static folio_status same_parts(const struct problem *a, const struct problem *b)
{
    const struct attend_args *x = &a->kernel, *y = &b->kernel;
    FOLIO_TRY(same_presence("k_pages", a->has_pages, b->has_pages));
    FOLIO_TRY(same_presence("kv_indptr", a->is_csr, b->is_csr));
    FOLIO_TRY(same_presence("v_page_table", a->has_v_table, b->has_v_table));
    FOLIO_TRY(same_presence("q_indptr", a->has_q_indptr, b->has_q_indptr));
    FOLIO_TRY(same_presence("alibi_slopes", a->has_alibi_slopes, b->has_alibi_slopes));
    FOLIO_TRY(same_presence("sinks", a->has_sinks, b->has_sinks));
    FOLIO_TRY(same_presence("bias", x->bias.dtype, y->bias.dtype));
    return same_presence("mask", x->mask.dtype, y->mask.dtype);
}

#define SAME_NUMBER(name, x, y) \
    FOLIO_REQUIRE((x) == (y), FOLIO_EINVAL, "%s %lld; the plan has %lld", name, (long long)(x), (long long)(y))

static folio_status same_options(const struct problem *a, const struct problem *b)
{
    const struct attend_args *x = &a->kernel, *y = &b->kernel;
    SAME_NUMBER("causal", x->causal, y->causal);
    SAME_NUMBER("align", x->align, y->align);
    SAME_NUMBER("window_left", x->window_left, y->window_left);
    SAME_NUMBER("window_right", x->window_right, y->window_right);
    SAME_NUMBER("flags: FOLIO_CASCADE", a->cascade, b->cascade);
    SAME_NUMBER("num_splits", a->num_splits, b->num_splits);
    SAME_NUMBER("max_q_len", a->max_q_len, b->max_q_len);
    SAME_NUMBER("max_kv_len", a->max_kv_len, b->max_kv_len);
    SAME_NUMBER("batch", a->batch, b->batch);
    return FOLIO_OK;
}

static folio_status same_q(const struct problem *a, const struct problem *b)
{
    const struct attend_args *x = &a->kernel, *y = &b->kernel;
    FOLIO_REQUIRE(a->n_tokens == b->n_tokens && x->n_q_heads == y->n_q_heads && x->q.dim == y->q.dim &&
                      x->q.dtype == y->q.dtype && x->q.token_stride == y->q.token_stride &&
                      x->q.head_stride == y->q.head_stride && x->q_runs.n == y->q_runs.n &&
                      x->q_runs.stride == y->q_runs.stride,
                  FOLIO_EINVAL,
                  "q: [%lld, %d, %d] %s with strides %lld %lld bytes; the plan has [%lld, %d, %d] %s with %lld %lld",
                  (long long)a->n_tokens, (int)x->n_q_heads, (int)x->q.dim, folio__dtype_name((enum dtype)x->q.dtype),
                  (long long)x->q.token_stride, (long long)x->q.head_stride, (long long)b->n_tokens, (int)y->n_q_heads,
                  (int)y->q.dim, folio__dtype_name((enum dtype)y->q.dtype), (long long)y->q.token_stride,
                  (long long)y->q.head_stride);
    return FOLIO_OK;
}

/* The plan skips what its masks drop, and makes room for its mods' programs. */
static folio_status same_mods(const struct problem *a, const struct problem *b)
{
    const struct attend_args *x = &a->kernel, *y = &b->kernel;
    FOLIO_REQUIRE(x->score_mod == y->score_mod, FOLIO_EINVAL, "score_mod: not the plan's");
    FOLIO_REQUIRE(x->mask_mod == y->mask_mod, FOLIO_EINVAL, "mask_mod: not the plan's");
    FOLIO_REQUIRE(a->block_mask == b->block_mask, FOLIO_EINVAL, "block_mask: not the plan's");
    return FOLIO_OK;
}

folio_status folio__same_problem(const struct problem *a, const struct problem *b)
{
    const struct attend_args *x = &a->kernel, *y = &b->kernel;
    FOLIO_TRY(same_parts(a, b));
    FOLIO_TRY(same_q(a, b));
    FOLIO_TRY(same_mods(a, b)); /* before windows, which a block mask may have set */
    FOLIO_TRY(same_options(a, b));
    FOLIO_REQUIRE(x->page_size == y->page_size && x->n_kv_heads == y->n_kv_heads, FOLIO_EINVAL,
                  "k_pages: page_size %lld, %d kv heads; the plan has %lld, %d", (long long)x->page_size,
                  (int)x->n_kv_heads, (long long)y->page_size, (int)y->n_kv_heads);
    FOLIO_TRY(same_pages("k_pages", x->k, y->k));
    FOLIO_TRY(same_pages("v_pages", x->v, y->v));
    FOLIO_TRY(same_table(a->is_csr ? "kv_indices" : "page_table", x->k_table, y->k_table, a->k_columns, b->k_columns));
    FOLIO_TRY(same_table("v_page_table", x->v_table, y->v_table, a->v_columns, b->v_columns));
    SAME_NUMBER("bias: keys", a->bias_keys, b->bias_keys);
    SAME_NUMBER("mask: keys", a->mask_keys, b->mask_keys);
    FOLIO_TRY(same_score("bias", x->bias, y->bias));
    return same_score("mask", x->mask, y->mask);
}
