/* SPDX-License-Identifier: Apache-2.0
 * export.c: page tables for attention, padded or CSR: only the pages that hold tokens. */
#include <string.h>

#include "cache/cache.h"

folio_status folio__seqs_require(const folio_cache *cache, const folio_seq *seqs, i32 n)
{
    FOLIO_REQUIRE(n >= 0, FOLIO_EINVAL, "n %d: must be >= 0", n);
    FOLIO_REQUIRE(seqs != NULL || n == 0, FOLIO_EINVAL, "seqs: NULL with n %d", n);
    for (i32 i = 0; i < n; i++)
        FOLIO_REQUIRE(seq_find(cache, seqs[i]) != NULL, FOLIO_EHANDLE,
                      "seqs[%d] %#llx: not open; must be a handle of an open sequence", i, (unsigned long long)seqs[i]);
    return FOLIO_OK;
}

static i64 token_pages(const folio_cache *cache, folio_seq handle)
{
    return pages_for(cache, seq_find(cache, handle)->n_tokens);
}

static i64 widest(const folio_cache *cache, const folio_seq *seqs, i32 n)
{
    i64 width = 0;
    for (i32 i = 0; i < n; i++)
        width = max_i64(width, token_pages(cache, seqs[i]));
    return width;
}

static void write_kv_lens(const folio_cache *cache, const folio_seq *seqs, i32 n, i64 *kv_lens)
{
    for (i32 i = 0; i < n && kv_lens; i++)
        kv_lens[i] = seq_find(cache, seqs[i])->n_tokens;
}

/* Copy the row of one sequence to dst and give its width. */
static i64 write_row(const folio_cache *cache, folio_seq handle, i32 *dst)
{
    const struct seq *seq = seq_find(cache, handle);
    const i64 width = pages_for(cache, seq->n_tokens);
    if (width > 0)
        memcpy(dst, seq_row(cache, seq), (size_t)width * sizeof *dst);
    return width;
}

folio_status folio_cache_table_width(const folio_cache *cache, const folio_seq *seqs, int32_t n, int64_t *width)
{
    FOLIO_TRY(cache_require(cache));
    FOLIO_TRY(folio__seqs_require(cache, seqs, n));
    FOLIO_REQUIRE(width != NULL, FOLIO_EINVAL, "width: NULL; must point to an int64");
    *width = widest(cache, seqs, n);
    return FOLIO_OK;
}

folio_status folio_cache_page_table(const folio_cache *cache, const folio_seq *seqs, int32_t n, int32_t *table,
                                    int64_t row_stride, int64_t *kv_lens)
{
    FOLIO_TRY(cache_require(cache));
    FOLIO_TRY(folio__seqs_require(cache, seqs, n));
    const i64 width = widest(cache, seqs, n);
    FOLIO_REQUIRE(row_stride >= width, FOLIO_EINVAL, "row_stride %lld: must be >= %lld, the widest sequence",
                  (long long)row_stride, (long long)width);
    FOLIO_REQUIRE(table != NULL || n == 0 || row_stride == 0, FOLIO_EINVAL, "table: NULL with n %d, row_stride %lld", n,
                  (long long)row_stride);
    for (i32 i = 0; i < n; i++)
        for (i64 column = write_row(cache, seqs[i], table + i * row_stride); column < row_stride; column++)
            table[i * row_stride + column] = -1;
    write_kv_lens(cache, seqs, n, kv_lens);
    return FOLIO_OK;
}

folio_status folio_cache_page_table_csr(const folio_cache *cache, const folio_seq *seqs, int32_t n, int32_t *indptr,
                                        int32_t *indices, int64_t cap, int64_t *kv_lens)
{
    FOLIO_TRY(cache_require(cache));
    FOLIO_TRY(folio__seqs_require(cache, seqs, n));
    FOLIO_REQUIRE(indptr != NULL, FOLIO_EINVAL, "indptr: NULL; must hold n + 1 = %lld entries", n + 1LL);
    i64 n_indices = 0; /* below 2^62 */
    for (i32 i = 0; i < n; i++)
        n_indices += token_pages(cache, seqs[i]);
    FOLIO_REQUIRE(cap >= n_indices, FOLIO_EINVAL, "cap %lld: must be >= %lld, the pages of all sequences",
                  (long long)cap, (long long)n_indices);
    FOLIO_REQUIRE(n_indices <= INT32_MAX, FOLIO_EINVAL, "seqs: %lld pages in all; a 32-bit indptr counts to %d",
                  (long long)n_indices, INT32_MAX);
    FOLIO_REQUIRE(indices != NULL || n_indices == 0, FOLIO_EINVAL, "indices: NULL; must hold %lld entries",
                  (long long)n_indices);
    i64 end = 0;
    for (i32 i = 0; i < n; i++) {
        indptr[i] = (i32)end;
        end += write_row(cache, seqs[i], indices + end);
    }
    indptr[n] = (i32)end;
    write_kv_lens(cache, seqs, n, kv_lens);
    return FOLIO_OK;
}

folio_status folio_cache_kv_lens(const folio_cache *cache, const folio_seq *seqs, int32_t n, int64_t *kv_lens)
{
    FOLIO_TRY(cache_require(cache));
    FOLIO_TRY(folio__seqs_require(cache, seqs, n));
    FOLIO_REQUIRE(kv_lens != NULL || n == 0, FOLIO_EINVAL, "kv_lens: NULL with n %d", n);
    write_kv_lens(cache, seqs, n, kv_lens);
    return FOLIO_OK;
}
