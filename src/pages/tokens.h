/* SPDX-License-Identifier: Apache-2.0
 * tokens.h: what append, gather and the copies share: pairs of K and V pages, ranges of work for threads. */
#ifndef FOLIO_PAGES_TOKENS_H
#define FOLIO_PAGES_TOKENS_H

#include "pages/operand.h"

/* K and V side by side: the same pages, slots and heads. */
struct pages_pair {
    struct pages_view k, v;
    i64 page_size;
    i32 n_kv_heads;
};
folio_status folio__pages_pair_read(struct pages_pair *dst, const folio_context *ctx, const struct operand *k_pages,
                                    const struct operand *v_pages);
/* For calls that write them: each apart from itself and from the other. V that starts where K does, with K's strides,
 * is a part of K's own slots (one latent vector as both): fine. */
folio_status folio__pages_pair_is_writable(const struct operand *k_pages, const struct operand *v_pages);

/* Contiguous K and V [n_tokens, n_kv_heads, head_dim] that fit a pair's heads and dims. */
folio_status folio__rows_pair_read(struct rows_view *k_rows, struct rows_view *v_rows, i64 *n_tokens,
                                   const struct operand *k, const struct operand *v, const struct pages_pair *pages);

/* body(arg, begin, end) over ranges that make up 0 .. n-1, on as many threads as n * bytes_each are worth. */
void folio__over_ranges(const folio_context *ctx, void (*body)(void *arg, i64 begin, i64 end), void *arg, i64 n,
                        i64 bytes_each);

static inline i64 row_bytes(i32 dtype, i32 dim)
{
    return (i64)dim * folio__dtype_bytes((enum dtype)dtype);
}

#endif
