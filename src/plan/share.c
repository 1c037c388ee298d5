/* SPDX-License-Identifier: Apache-2.0
 * share.c: which sequences begin with the same pages, long enough that one pass over them pays.
 *
 *   tables   seq 0   7 2 9 4 | 1 8         group 0   members 0, 2   tokens = 4 pages
 *            seq 1   5 6
 *            seq 2   7 2 9 4 | 3
 *
 * Every row of a member sees every shared key, and each member has a key of its own behind them. */
#include "base/bits.h"
#include "base/status.h"
#include "kernel/layout.h"
#include "plan/plan.h"

enum { LEAST_TOKENS = 256, MOST_MEMBERS = 1024 };

static bool same_page(const struct table_view *table, i64 a, i64 b, i64 column)
{
    return layout_page(table, a, column) == layout_page(table, b, column);
}

/* Leading tokens, in whole pages, that a and b have in common; at most `most`. */
static i64 common_tokens(const struct plan_tables *tables, i64 a, i64 b, i64 most)
{
    i64 n = 0;
    while ((n + 1) * tables->page_size <= most && same_page(&tables->k, a, b, n) &&
           (!tables->v.ids || same_page(&tables->v, a, b, n)))
        n++;
    return n * tables->page_size;
}

/* Leading tokens that all rows of a sequence see; 0 where it can't be in a group. */
static i64 shareable_tokens(const struct plan_shape *shape, i64 q_len, i64 kv_len)
{
    if (q_len == 0 || kv_len == 0 || folio__plan_family(shape, q_len) != ATTEND_ROWS)
        return 0;
    const struct plan_keys first = folio__plan_visible_keys(shape, q_len, kv_len, 0, 1);
    const struct plan_keys last = folio__plan_visible_keys(shape, q_len, kv_len, q_len - 1, q_len);
    return first.begin > 0 || last.begin > 0 ? 0 : min_i64(first.end, kv_len - 1);
}

/* The length that saves the most keys: every candidate's is tried. */
static i64 best_length(const i64 *alike, i64 begin, i64 end)
{
    i64 best = 0, best_saved = 0;
    for (i64 i = begin; i < end; i++) {
        if (alike[i] < LEAST_TOKENS || alike[i] == best)
            continue;
        i64 n = 0;
        for (i64 j = begin; j < end; j++)
            n += alike[j] >= alike[i];
        if (n * alike[i] > best_saved) {
            best = alike[i];
            best_saved = n * best;
        }
    }
    return best;
}

static void add_member(struct plan_work *work, struct plan_group *group, i64 seq, i64 q_len)
{
    work->members[work->n_members++] = (i32)seq;
    work->alike[seq] = -1;
    group->n_members++;
    group->n_rows += q_len;
}

/* Sequences from seq + 1 on that begin as seq does: a group with it, or nothing. */
static void find_group(struct plan_work *work, const struct plan_shape *shape, i64 seq, const i64 *q_begin,
                       const i64 *kv_lens)
{
    i64 *alike = work->alike;
    const i64 most = shareable_tokens(shape, q_begin[seq + 1] - q_begin[seq], kv_lens[seq]);
    if (most < LEAST_TOKENS)
        return;
    const i64 end = min_i64(shape->batch, seq + MOST_MEMBERS);
    for (i64 other = seq + 1; other < end; other++)
        if (alike[other] >= 0) {
            const i64 theirs = shareable_tokens(shape, q_begin[other + 1] - q_begin[other], kv_lens[other]);
            alike[other] = common_tokens(shape->tables, seq, other, min_i64(most, theirs));
        }
    const i64 tokens = best_length(alike, seq + 1, end), piece = shape->tiling.tile_split_tokens;
    if (tokens == 0)
        return;
    struct plan_group *group = &work->groups[work->n_groups++];
    *group = (struct plan_group){
        .tokens = tokens,
        .piece_tokens = ceil_div(ceil_div(tokens, PLAN_SHARED_PIECES), piece) * piece,
        .member_begin = (i32)work->n_members,
        .row_begin = work->n_shared_rows,
    };
    add_member(work, group, seq, q_begin[seq + 1] - q_begin[seq]);
    for (i64 other = seq + 1; other < end; other++)
        if (alike[other] >= tokens)
            add_member(work, group, other, q_begin[other + 1] - q_begin[other]);
    work->n_shared_rows += group->n_rows;
}

void folio__plan_find_groups(struct plan_work *work, const struct plan_shape *shape, const i64 *q_begin,
                             const i64 *kv_lens)
{
    work->n_groups = work->n_members = work->n_shared_rows = 0;
    if (!shape->tables || !shape->tables->k.ids)
        return;
    for (i64 seq = 0; seq < shape->batch; seq++)
        work->alike[seq] = 0;
    for (i64 seq = 0; seq + 1 < shape->batch; seq++)
        if (work->alike[seq] >= 0)
            find_group(work, shape, seq, q_begin, kv_lens);
}

bool folio__plan_groups_hold(const struct plan_work *work, const struct plan_tables *tables)
{
    for (const struct plan_group *group = work->groups; group < work->groups + work->n_groups; group++) {
        const i32 *members = work->members + group->member_begin;
        for (i32 i = 1; i < group->n_members; i++)
            if (common_tokens(tables, members[0], members[i], group->tokens) < group->tokens)
                return false;
    }
    return true;
}

folio_status folio__plan_share_bounds(struct plan_bounds *bounds, const struct plan_shape *shape)
{
    const i64 rows_a_seq = max_i64(shape->tiling.max_packed_rows / shape->group, 1);
    i64 n_rows = 0, n_items = 0;
    const bool fits = mul_fits(shape->batch, rows_a_seq, &n_rows) &&
                      mul_fits(min_i64(n_rows, shape->n_tokens), (i64)shape->group * shape->n_kv_heads, &n_rows) &&
                      mul_fits(n_rows, PLAN_SHARED_PIECES + PLAN_OWN_PIECES, &n_rows) &&
                      mul_fits(shape->batch, PLAN_SHARED_PIECES * (i64)shape->n_kv_heads + PLAN_OWN_PIECES, &n_items) &&
                      n_items <= INT32_MAX - bounds->n_items;
    FOLIO_REQUIRE(fits, FOLIO_ENOMEM, "batch %lld with %lld query tokens, cascade: more than 2^31 work items",
                  (long long)shape->batch, (long long)shape->n_tokens);
    bounds->n_items += n_items;
    bounds->n_units += shape->batch;
    bounds->n_partial_rows += n_rows;
    return FOLIO_OK;
}
