/* SPDX-License-Identifier: Apache-2.0
 * check_lengths.c: kv_lens, q_indptr and kv_indptr, once their values can be read. */
#include "base/bits.h"
#include "base/status.h"
#include "kernel/layout.h"
#include "mod/block_mask.h"
#include "run/problem.h"

static i64 at(const struct index_view *view, i64 i)
{
    return layout_index(view->data, view->are_i64, i);
}

/* [batch + 1] offsets: from 0, never falling. */
static folio_status check_indptr(const char *name, const struct index_view *indptr)
{
    FOLIO_REQUIRE(indptr->data, FOLIO_EINVAL, "%s: data is NULL", name);
    FOLIO_REQUIRE(at(indptr, 0) == 0, FOLIO_EINVAL, "%s[0] = %lld; must be 0", name, (long long)at(indptr, 0));
    for (i64 i = 1; i < indptr->n; i++)
        FOLIO_REQUIRE(at(indptr, i) >= at(indptr, i - 1), FOLIO_EINVAL,
                      "%s[%lld] = %lld; must be >= the one before, %lld", name, (long long)i, (long long)at(indptr, i),
                      (long long)at(indptr, i - 1));
    return FOLIO_OK;
}

static folio_status check_q_indptr(const struct problem *p, struct lengths *lengths)
{
    lengths->max_q_len = min_i64(p->batch, 1);
    if (p->has_q_indptr) {
        FOLIO_TRY(check_indptr("q_indptr", &p->q_indptr));
        FOLIO_REQUIRE(at(&p->q_indptr, p->batch) == p->n_tokens, FOLIO_EINVAL,
                      "q_indptr[%lld] = %lld, its end; must be q's n_tokens, %lld", (long long)p->batch,
                      (long long)at(&p->q_indptr, p->batch), (long long)p->n_tokens);
        lengths->max_q_len = 0;
        for (i64 seq = 0; seq < p->batch; seq++)
            lengths->max_q_len = max_i64(lengths->max_q_len, at(&p->q_indptr, seq + 1) - at(&p->q_indptr, seq));
    }
    FOLIO_REQUIRE(lengths->max_q_len <= p->max_q_len, FOLIO_EINVAL,
                  "q_indptr: a sequence of %lld query rows; max_q_len is %lld", (long long)lengths->max_q_len,
                  (long long)p->max_q_len);
    return FOLIO_OK;
}

static folio_status check_kv_indptr(const struct problem *p)
{
    if (!p->is_csr)
        return FOLIO_OK;
    FOLIO_TRY(check_indptr("kv_indptr", &p->kv_indptr));
    FOLIO_REQUIRE(at(&p->kv_indptr, p->batch) <= p->kv_indices.n, FOLIO_EINVAL,
                  "kv_indptr[%lld] = %lld, its end; kv_indices has %lld", (long long)p->batch,
                  (long long)at(&p->kv_indptr, p->batch), (long long)p->kv_indices.n);
    return FOLIO_OK;
}

/* kv_len tokens need ceil(kv_len / page_size) entries of a row with `columns`. */
static folio_status check_capacity(const struct problem *p, i64 seq, i64 kv_len, i64 columns, const char *table)
{
    const i64 page_size = p->kernel.page_size;
    FOLIO_REQUIRE(ceil_div(kv_len, page_size) <= columns, FOLIO_ERANGE,
                  "kv_lens[%lld] = %lld: row %lld of the page table (%s) holds %lld pages of %lld tokens",
                  (long long)seq, (long long)kv_len, (long long)seq, table, (long long)columns, (long long)page_size);
    return FOLIO_OK;
}

static folio_status check_kv_len(const struct problem *p, i64 seq, i64 kv_len)
{
    const long long row = (long long)seq, n = (long long)kv_len;
    FOLIO_REQUIRE(kv_len >= 0, FOLIO_EINVAL, "kv_lens[%lld] = %lld; must be >= 0", row, n);
    if (kv_len == 0)
        return FOLIO_OK;
    FOLIO_REQUIRE(p->has_pages, FOLIO_EINVAL, "k_pages: NULL, as v_pages, with kv_lens[%lld] = %lld", row, n);
    const i64 columns = p->is_csr ? at(&p->kv_indptr, seq + 1) - at(&p->kv_indptr, seq) : p->k_columns;
    FOLIO_TRY(check_capacity(p, seq, kv_len, columns, p->is_csr ? "kv_indices" : "page_table"));
    if (p->has_v_table)
        FOLIO_TRY(check_capacity(p, seq, kv_len, p->v_columns, "v_page_table"));
    FOLIO_REQUIRE(kv_len <= p->max_kv_len, FOLIO_EINVAL, "kv_lens[%lld] = %lld; max_kv_len is %lld", row, n,
                  (long long)p->max_kv_len);
    FOLIO_REQUIRE(kv_len <= p->bias_keys, FOLIO_EINVAL, "bias: covers %lld keys; kv_lens[%lld] = %lld",
                  (long long)p->bias_keys, row, n);
    FOLIO_REQUIRE(kv_len <= p->mask_keys, FOLIO_EINVAL, "mask: covers %lld keys; kv_lens[%lld] = %lld",
                  (long long)p->mask_keys, row, n);
    return FOLIO_OK;
}

static folio_status check_block_mask(const struct problem *p, const struct lengths *lengths)
{
    const struct block_mask *mask = p->block_mask;
    if (!mask)
        return FOLIO_OK;
    FOLIO_REQUIRE(lengths->max_q_len <= mask->q_len, FOLIO_EINVAL,
                  "block_mask: made for %lld query rows; a sequence has %lld", (long long)mask->q_len,
                  (long long)lengths->max_q_len);
    FOLIO_REQUIRE(lengths->max_kv_len <= mask->kv_len, FOLIO_EINVAL,
                  "block_mask: made for %lld keys; a sequence has %lld", (long long)mask->kv_len,
                  (long long)lengths->max_kv_len);
    return FOLIO_OK;
}

static void copy_lengths(const struct problem *p, const struct lengths *to)
{
    for (i64 seq = 0; seq < p->batch; seq++)
        to->kv_lens[seq] = at(&p->kv_lens, seq);
    for (i64 seq = 0; seq <= p->batch; seq++) {
        to->q_begin[seq] = p->has_q_indptr ? at(&p->q_indptr, seq) : seq;
        to->kv_begin[seq] = p->is_csr ? at(&p->kv_indptr, seq) : 0;
    }
}

folio_status folio__problem_lengths(const struct problem *p, struct lengths *lengths)
{
    FOLIO_TRY(check_q_indptr(p, lengths));
    FOLIO_TRY(check_kv_indptr(p));
    FOLIO_REQUIRE(p->kv_lens.data || p->batch == 0, FOLIO_EINVAL, "kv_lens: data is NULL with %lld sequences",
                  (long long)p->batch);
    lengths->max_kv_len = 0;
    for (i64 seq = 0; seq < p->batch; seq++) {
        const i64 kv_len = at(&p->kv_lens, seq);
        FOLIO_TRY(check_kv_len(p, seq, kv_len));
        lengths->max_kv_len = max_i64(lengths->max_kv_len, kv_len);
    }
    FOLIO_TRY(check_block_mask(p, lengths));
    if (lengths->kv_lens)
        copy_lengths(p, lengths);
    return FOLIO_OK;
}
