/* SPDX-License-Identifier: Apache-2.0
 * ref_attend.c: attention as it is written down, one row and one key at a time, in double.
 *
 *   score = scale * (q . k)     softcap c > 0: c * tanh(score / c)
 *         + slope * (j - p) + bias     score_mod     -inf where causal, window or a mask remove key j
 *   out = sum e^score v / (sum e^score + e^sink)      lse = log of that denominator */
#include <math.h>

#include "kernel/cpu/callback.h"
#include "kernel/layout.h"
#include "kernel/ref/ref.h"

enum { MAX_HEAD_DIM = 1024 };

/* One query vector and what has been summed for it: the sums are relative to e^max. */
struct row {
    i64 index;    /* within the sequence */
    i64 position; /* p: where the row stands among the keys */
    i64 token;
    i32 head; /* query head */
    double max, sum;
    double q[MAX_HEAD_DIM];   /* [head_dim_qk] */
    double out[MAX_HEAD_DIM]; /* [head_dim_v] */
};

static double load(i32 dtype, const u8 *vector, i64 i)
{
    return (double)folio__load_float((enum dtype)dtype, vector + i * folio__dtype_bytes((enum dtype)dtype));
}

static double scale_at(const struct pages_view *pages, i64 page, i64 slot, i64 head)
{
    return pages->scale ? (double)*layout_scale(pages, page, slot, head) : 1;
}

static bool is_kept(const struct attend_args *args, const struct attend_item *item, const struct row *row, i64 key)
{
    if (args->causal == CAUSAL_TOP_LEFT && key > row->index)
        return false;
    if (args->causal == CAUSAL_BOTTOM_RIGHT && key > row->index + item->kv_len - item->q_len)
        return false;
    if (args->window_left >= 0 && row->position - key > args->window_left)
        return false;
    if (args->window_right >= 0 && key - row->position > args->window_right)
        return false;
    return !args->mask.data || *layout_score(&args->mask, row->token, row->head, key) != 0;
}

static double score_of(const struct attend_args *args, const struct row *row, i64 key, const u8 *k, double k_scale)
{
    double dot = 0;
    for (i32 d = 0; d < args->k.head_dim; d++)
        dot += row->q[d] * load(args->k.dtype, k, d);
    double score = args->scale * (dot * k_scale);
    if (args->softcap > 0)
        score = args->softcap * tanh(score / args->softcap);
    if (args->alibi_slopes)
        score += (double)args->alibi_slopes[row->head] * (double)(key - row->position);
    const double bias =
        args->bias.data ? load(args->bias.dtype, layout_score(&args->bias, row->token, row->head, key), 0) : 0;
    return bias == -INFINITY ? bias : score + bias; /* NaN - inf is NaN */
}

/* Everything summed so far was relative to the old maximum. */
static void raise_max(struct row *row, double max, i32 head_dim_v)
{
    const double factor = row->max == -INFINITY ? 0 : exp(row->max - max);
    row->sum *= factor;
    for (i32 d = 0; d < head_dim_v; d++)
        row->out[d] *= factor;
    row->max = max;
}

static void add_key(const struct attend_args *args, struct row *row, double score, const u8 *v, double v_scale)
{
    if (score == -INFINITY)
        return;
    if (score > row->max)
        raise_max(row, score, args->v.head_dim);
    const double weight = exp(score - row->max);
    row->sum += weight;
    for (i32 d = 0; d < args->v.head_dim; d++)
        row->out[d] += weight * (load(args->v.dtype, v, d) * v_scale);
}

/* +inf takes everything, -inf nothing. */
static void add_sink(struct row *row, double sink, i32 head_dim_v)
{
    if (sink == -INFINITY)
        return;
    if (sink > row->max)
        raise_max(row, sink, head_dim_v);
    row->sum += sink == row->max ? 1 : exp(sink - row->max);
}

static void store(const struct attend_args *args, const struct row *row)
{
    const bool empty = row->max == -INFINITY && row->sum == 0;
    u8 *out = layout_token(&args->out, &args->out_runs, row->token, row->head);
    for (i32 d = 0; d < args->out.dim; d++)
        folio__store_double((enum dtype)args->out.dtype, out + d * folio__dtype_bytes((enum dtype)args->out.dtype),
                            empty ? 0 : row->out[d] / row->sum);
    if (args->lse) {
        u8 *lse = (u8 *)args->lse + row->token * args->lse_token_stride + row->head * args->lse_head_stride;
        folio__store_double(DTYPE_F32, lse, empty ? -INFINITY : row->max + log(row->sum));
    }
}

static void attend_row(const struct attend_args *args, const struct attend_item *item, struct row *row)
{
    row->token = item->q_token + row->index;
    row->position = args->align == ALIGN_TOP_LEFT ? row->index : row->index + item->kv_len - item->q_len;
    row->max = -INFINITY;
    row->sum = 0;
    for (i32 d = 0; d < args->q.dim; d++)
        row->q[d] = load(args->q.dtype, layout_token(&args->q, &args->q_runs, row->token, row->head), d);
    for (i32 d = 0; d < args->v.head_dim; d++)
        row->out[d] = 0;
    const i32 kv_head = row->head / args->group;
    for (i64 key = 0; key < item->kv_len; key++) {
        const struct mod_env place = folio__mod_place(args, item, row->head, row->index, key);
        if (!is_kept(args, item, row, key) || (mod_is_used(args) && !folio__mod_keeps(args, &place)))
            continue;
        const i64 column = key / args->page_size, slot = key % args->page_size;
        const i64 k_page = layout_page(&args->k_table, item->seq, column);
        const i64 v_page = layout_page(&args->v_table, item->seq, column);
        const u8 *k = layout_slot(&args->k, k_page, slot, kv_head), *v = layout_slot(&args->v, v_page, slot, kv_head);
        const double score = score_of(args, row, key, k, scale_at(&args->k, k_page, slot, kv_head));
        add_key(args, row, folio__mod_score(args, &place, score), v, scale_at(&args->v, v_page, slot, kv_head));
    }
    if (args->sinks)
        add_sink(row, (double)args->sinks[row->head], args->v.head_dim);
    store(args, row);
}

void folio__ref_attend(const struct attend_args *args, const struct attend_item *item, void *scratch)
{
    (void)scratch;
    assert(item->partial < 0);
    if (mod_uses_callback(args)) {
        folio__attend_callback(args, item);
        return;
    }
    struct row row;
    for (row.index = item->row_begin; row.index < item->row_begin + item->n_rows; row.index++)
        for (row.head = item->head_begin * args->group; row.head < (item->head_begin + item->n_heads) * args->group;
             row.head++)
            attend_row(args, item, &row);
}
