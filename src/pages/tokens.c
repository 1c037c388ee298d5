/* SPDX-License-Identifier: Apache-2.0
 * tokens.c: shapes of K and V that must agree, and splitting work over tokens. */
#include "pages/tokens.h"

#include "base/bits.h"
#include "base/status.h"

enum { BYTES_PER_PART = 128 * 1024 }; /* a thread that wakes up for less loses */

folio_status folio__pages_pair_read(struct pages_pair *dst, const folio_context *ctx, const struct operand *k_pages,
                                    const struct operand *v_pages)
{
    struct pages_pair p;
    i64 v_page_size;
    i32 v_heads;
    FOLIO_TRY(folio__pages_view_of(&p.k, &p.page_size, &p.n_kv_heads, k_pages->name, &k_pages->t));
    FOLIO_TRY(folio__pages_view_of(&p.v, &v_page_size, &v_heads, v_pages->name, &v_pages->t));
    FOLIO_TRY(folio__require_quantised_here(ctx, k_pages->name, p.k.dtype));
    FOLIO_TRY(folio__require_quantised_here(ctx, v_pages->name, p.v.dtype));
    FOLIO_REQUIRE(p.k.n_pages == p.v.n_pages, FOLIO_EINVAL, "v_pages: %lld pages; must be %lld, as k_pages",
                  (long long)p.v.n_pages, (long long)p.k.n_pages);
    FOLIO_REQUIRE(p.page_size == v_page_size, FOLIO_EINVAL, "v_pages: page_size %lld; must be %lld, as k_pages",
                  (long long)v_page_size, (long long)p.page_size);
    FOLIO_REQUIRE(p.n_kv_heads == v_heads, FOLIO_ENOTSUP,
                  "v_pages: %d heads, k_pages has %d; different head counts of K and V are not supported", v_heads,
                  p.n_kv_heads);
    *dst = p;
    return FOLIO_OK;
}

static bool is_part_of_k(const struct tensor *k, const struct tensor *v)
{
    return v->data == k->data && v->stride[0] == k->stride[0] && v->stride[1] == k->stride[1] &&
           v->stride[2] == k->stride[2];
}

folio_status folio__pages_pair_is_writable(const struct operand *k_pages, const struct operand *v_pages)
{
    FOLIO_TRY(folio__operand_require_disjoint(k_pages));
    FOLIO_TRY(folio__operand_require_disjoint(v_pages));
    return is_part_of_k(&k_pages->t, &v_pages->t) ? FOLIO_OK : folio__operands_require_apart(v_pages, k_pages);
}

folio_status folio__rows_pair_read(struct rows_view *k_rows, struct rows_view *v_rows, i64 *n_tokens,
                                   const struct operand *k, const struct operand *v, const struct pages_pair *pages)
{
    const struct operand *const operands[] = { k, v };
    const struct pages_view *const views[] = { &pages->k, &pages->v };
    struct rows_view *const rows[] = { k_rows, v_rows };
    i64 n[2];
    for (i32 i = 0; i < 2; i++) {
        const char *name = operands[i]->name;
        i32 n_heads;
        FOLIO_TRY(folio__rows_view_of(rows[i], &n[i], &n_heads, name, &operands[i]->t));
        FOLIO_REQUIRE(n_heads == pages->n_kv_heads, FOLIO_EINVAL, "%s: %d heads; must be %d, as %s_pages", name,
                      n_heads, pages->n_kv_heads, name);
        FOLIO_REQUIRE(rows[i]->dim == views[i]->head_dim, FOLIO_EINVAL, "%s: head_dim %d; must be %d, as %s_pages",
                      name, rows[i]->dim, views[i]->head_dim, name);
    }
    FOLIO_REQUIRE(n[0] == n[1], FOLIO_EINVAL, "v: %lld tokens; must be %lld, as k", (long long)n[1], (long long)n[0]);
    *n_tokens = n[0];
    return FOLIO_OK;
}

struct ranges {
    void (*body)(void *arg, i64 begin, i64 end);
    void *arg;
    i64 n;
    i32 n_parts;
};

static void run_part(void *arg, i32 part)
{
    const struct ranges *r = arg;
    const i64 each = r->n / r->n_parts, rest = r->n % r->n_parts;
    const i64 begin = part * each + min_i64(part, rest);
    r->body(r->arg, begin, begin + each + (part < rest));
}

void folio__over_ranges(const folio_context *ctx, void (*body)(void *arg, i64 begin, i64 end), void *arg, i64 n,
                        i64 bytes_each)
{
    i64 n_bytes;
    if (!mul_fits(n, bytes_each, &n_bytes))
        n_bytes = INT64_MAX;
    const i64 n_parts = min_i64(clamp_i64(n_bytes / BYTES_PER_PART, 1, folio__pool_n_threads(ctx->pool)), n);
    struct ranges ranges = { .body = body, .arg = arg, .n = n, .n_parts = (i32)n_parts };
    if (n_parts <= 1)
        body(arg, 0, n);
    else
        folio__pool_run(ctx->pool, run_part, &ranges, ranges.n_parts);
}
