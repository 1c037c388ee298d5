/* SPDX-License-Identifier: Apache-2.0
 * check_pages.c: every page id that some kv_len reaches, at every attend: the loops are made for the good case. */
#include <string.h>

#include "base/bits.h"
#include "base/status.h"
#include "kernel/layout.h"
#include "run/problem.h"

static bool all_below_i32(const i32 *ids, i64 n, i64 n_pages)
{
    const u32 limit = (u32)min_i64(n_pages, (i64)INT32_MAX + 1); /* negative ids are above it */
    u32 bad = 0;
    for (i64 i = 0; i < n; i++)
        bad |= (u32)ids[i] >= limit;
    return !bad;
}

static bool all_below_i64(const i64 *ids, i64 n, i64 n_pages)
{
    u64 bad = 0;
    for (i64 i = 0; i < n; i++)
        bad |= (u64)ids[i] >= (u64)n_pages;
    return !bad;
}

static folio_status refuse(const char *name, const struct table_view *table, i64 begin, i64 n, i64 seq, i64 n_pages)
{
    for (i64 column = 0; column < n; column++) {
        const i64 id = layout_index(table->ids, table->ids_are_i64, begin + column);
        FOLIO_REQUIRE(id >= 0 && id < n_pages, FOLIO_ERANGE, "%s: row %lld, column %lld: page %lld; there are %lld",
                      name, (long long)seq, (long long)column, (long long)id, (long long)n_pages);
    }
    return FOLIO_OK;
}

static folio_status check_table(const char *name, const struct table_view *table, i64 n_pages, i64 page_size, i64 batch,
                                const i64 *kv_lens)
{
    const i64 *row_begin = table->indptr; /* the plan's own copy: i64 */
    for (i64 seq = 0; seq < batch; seq++) {
        const i64 n = ceil_div(kv_lens[seq], page_size);
        if (n == 0)
            continue;
        const i64 begin = row_begin ? row_begin[seq] : seq * table->row_stride;
        const bool good = table->ids_are_i64 ? all_below_i64((const i64 *)table->ids + begin, n, n_pages)
                                             : all_below_i32((const i32 *)table->ids + begin, n, n_pages);
        if (!good)
            return refuse(name, table, begin, n, seq, n_pages);
    }
    return FOLIO_OK;
}

folio_status folio__check_pages(const struct attend_args *args, i64 batch, const i64 *kv_lens)
{
    const char *name = args->k_table.indptr ? "kv_indices" : "page_table";
    const bool same_table = memcmp(&args->v_table, &args->k_table, sizeof args->k_table) == 0;
    const i64 n_pages = same_table ? min_i64(args->k.n_pages, args->v.n_pages) : args->k.n_pages;
    FOLIO_TRY(check_table(name, &args->k_table, n_pages, args->page_size, batch, kv_lens));
    if (same_table)
        return FOLIO_OK;
    return check_table("v_page_table", &args->v_table, args->v.n_pages, args->page_size, batch, kv_lens);
}
