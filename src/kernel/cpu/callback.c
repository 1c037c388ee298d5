/* SPDX-License-Identifier: Apache-2.0
 * callback.c: scores in natural units, in f32, with sums in double. */
#include "kernel/cpu/callback.h"

#include <math.h>
#include <string.h>

#include "base/alloc.h"
#include "base/bits.h"
#include "kernel/cpu/keys.h"
#include "kernel/layout.h"

enum { BLOCK_OF_KEYS = 256, BLOCK_OF_ROWS = 64 };

/* One query head of an item. */
struct pass {
    const struct attend_args *args;
    const struct attend_item *item;
    i32 head;         /* query head */
    i64 n_rows, most; /* rows; keys of the largest block */
    i64 key, n;       /* the block at work: keys [key, key + n) */
    i32 d, dv;
    float *q;          /* [n_rows][d] */
    float *k, *v;      /* [d], [dv]: one key's */
    float *s;          /* [n_rows][most] */
    float *keep[2];    /* [n_rows][most] of mask_mod and of the block mask's, where they are callbacks; else NULL */
    float *w;          /* [most]: one row's weights */
    double *o, *m, *l; /* [n_rows][dv], [n_rows], [n_rows] */
};

struct tiling folio__callback_tiling(const struct attend_args *args)
{
    const struct mod_program *const programs[] = { args->score_mod, args->mask_mod,
                                                   args->block_mask ? args->block_mask->mask_mod : NULL };
    bool whole = false;
    for (size_t i = 0; i < COUNT_OF(programs); i++)
        whole |= programs[i] && programs[i]->tile && programs[i]->tile_is_whole;
    return (struct tiling){ .max_packed_rows = 0,
                            .tile_rows = whole ? INT32_MAX : BLOCK_OF_ROWS,
                            .rows_split_tokens = INT64_MAX,
                            .tile_split_tokens = INT64_MAX };
}

static const struct mod_program *mask_callback(const struct attend_args *args, i32 which)
{
    const struct mod_program *mod = which == 0 ? args->mask_mod : args->block_mask ? args->block_mask->mask_mod : NULL;
    return mod && mod->tile ? mod : NULL;
}

static void widen(float *dst, i32 dtype, const u8 *src, i32 n)
{
    for (i32 i = 0; i < n; i++)
        dst[i] = folio__load_float((enum dtype)dtype, src + (i64)i * folio__dtype_bytes((enum dtype)dtype));
}

/* A key's row of K or V, as values. */
static void widen_key(const struct pass *pass, float *dst, const struct pages_view *pages,
                      const struct table_view *table, i64 key)
{
    const i64 page_size = pass->args->page_size, slot = key % page_size, head = pass->head / pass->args->group;
    const i64 page = layout_page(table, pass->item->seq, key / page_size);
    widen(dst, pages->dtype, layout_slot(pages, page, slot, head), pages->head_dim);
    const float scale = pages->scale ? *layout_scale(pages, page, slot, head) : 1.0f;
    for (i32 i = 0; i < pages->head_dim && pages->scale; i++)
        dst[i] *= scale;
}

/* Sixteen sums, so that the compiler may use vectors. */
static float dot(const float *a, const float *b, i32 n)
{
    float sums[16] = { 0 }, sum = 0;
    i32 i = 0;
    for (; i + 16 <= n; i += 16)
        for (i32 lane = 0; lane < 16; lane++)
            sums[lane] += a[i + lane] * b[i + lane];
    for (; i < n; i++)
        sum += a[i] * b[i];
    for (i32 lane = 0; lane < 16; lane++)
        sum += sums[lane];
    return sum;
}

static i64 row_index(const struct pass *pass, i64 r)
{
    return pass->item->row_begin + r;
}

/* Does the block mask have a block there for row r? Callers have cut to causal and window. */
static bool has_block(const struct pass *pass, i64 r, i64 key)
{
    const struct block_mask *mask = pass->args->block_mask;
    return !mask || block_mask_state(mask, pass->item->seq, pass->head, row_index(pass, r) / mask->q_block,
                                     key / mask->kv_block) != KEEP_NONE;
}

static bool sees(const struct pass *pass, i64 r, i64 key)
{
    const struct keys keys = keys_of_row(pass->args, pass->item, row_index(pass, r));
    return key >= keys.begin && key < keys.end && has_block(pass, r, key);
}

static float built_in_score(const struct pass *pass, i64 r, i64 key)
{
    const struct attend_args *args = pass->args;
    const i64 token = pass->item->q_token + row_index(pass, r);
    double score = args->scale * (double)dot(pass->q + r * pass->d, pass->k, pass->d);
    if (args->softcap != 0)
        score = args->softcap * tanh(score / args->softcap);
    if (args->alibi_slopes)
        score +=
            (double)args->alibi_slopes[pass->head] * (double)(key - row_position(args, pass->item, row_index(pass, r)));
    if (args->bias.data) {
        const double bias =
            (double)folio__load_float((enum dtype)args->bias.dtype, layout_score(&args->bias, token, pass->head, key));
        score = bias == -INFINITY ? bias : score + bias; /* NaN - inf is NaN */
    }
    return (float)score;
}

/* The block's scores; 0 for keys that no row may read, whose page is left alone. */
static void block_scores(const struct pass *pass)
{
    for (i64 i = 0; i < pass->n; i++) {
        bool read = false;
        for (i64 r = 0; r < pass->n_rows; r++) {
            const bool seen = sees(pass, r, pass->key + i);
            if (seen && !read)
                widen_key(pass, pass->k, &pass->args->k, &pass->args->k_table, pass->key + i);
            read |= seen;
            pass->s[r * pass->most + i] = seen ? built_in_score(pass, r, pass->key + i) : 0;
        }
    }
}

/* false: the call has failed. */
static bool call_back(const struct pass *pass, const struct mod_program *mod, float *tile)
{
    const struct attend_args *args = pass->args;
    const struct attend_item *item = pass->item;
    if (mod_has_failed(args->mod_failure))
        return false;
    const struct mod_env at = folio__mod_place(args, item, pass->head, item->row_begin, pass->key);
    const folio_tile where = { .struct_size = sizeof where,
                               .b = item->seq,
                               .h = pass->head,
                               .hk = pass->head / args->group,
                               .q_begin = item->row_begin,
                               .n_rows = pass->n_rows,
                               .kv_begin = pass->key,
                               .n_keys = pass->n,
                               .q_len = item->q_len,
                               .kv_len = item->kv_len,
                               .pos_begin = row_position(args, item, item->row_begin),
                               .row_stride = pass->most };
    const folio_status status = mod->tile(mod->user, tile, &where);
    if (status != FOLIO_OK)
        folio__mod_fail(args->mod_failure, mod, status, &at);
    return status == FOLIO_OK;
}

static bool run_callbacks(const struct pass *pass)
{
    const struct mod_program *score = pass->args->score_mod;
    if (score && score->tile && !call_back(pass, score, pass->s))
        return false;
    for (i32 which = 0; which < 2; which++) {
        if (!pass->keep[which])
            continue;
        for (i64 i = 0; i < pass->n_rows * pass->most; i++)
            pass->keep[which][i] = 1;
        if (!call_back(pass, mask_callback(pass->args, which), pass->keep[which]))
            return false;
    }
    return true;
}

static bool block_is_partial(const struct pass *pass, i64 r, i64 key)
{
    const struct block_mask *mask = pass->args->block_mask;
    return block_mask_state(mask, pass->item->seq, pass->head, row_index(pass, r) / mask->q_block,
                            key / mask->kv_block) == KEEP_SOME;
}

/* After the callbacks: the score of a key that all masks keep, else -inf. */
static float final_score(const struct pass *pass, i64 r, i64 i)
{
    const struct attend_args *args = pass->args;
    const i64 key = pass->key + i, token = pass->item->q_token + row_index(pass, r), at = r * pass->most + i;
    const struct mod_env place = folio__mod_place(args, pass->item, pass->head, row_index(pass, r), key);
    if (!sees(pass, r, key) || (args->mask.data && !*layout_score(&args->mask, token, pass->head, key)))
        return -INFINITY;
    if ((pass->keep[0] && pass->keep[0][at] == 0) ||
        (pass->keep[1] && pass->keep[1][at] == 0 && block_is_partial(pass, r, key)))
        return -INFINITY;
    return folio__mod_keeps(args, &place) ? (float)folio__mod_score(args, &place, (double)pass->s[at]) : -INFINITY;
}

/* One row's weights over the block, relative to the new maximum, and what is summed already brought to it. */
static void row_weights(struct pass *pass, i64 r)
{
    double top = pass->m[r];
    bool nan = isnan(top);
    for (i64 i = 0; i < pass->n; i++) {
        pass->w[i] = final_score(pass, r, i);
        nan |= isnan(pass->w[i]);
        top = (double)pass->w[i] > top ? (double)pass->w[i] : top;
    }
    top = nan ? NAN : top;
    const double factor = pass->m[r] == -INFINITY ? 0 : exp(pass->m[r] - top);
    pass->l[r] *= factor;
    for (i32 c = 0; c < pass->dv; c++)
        pass->o[r * pass->dv + c] *= factor;
    for (i64 i = 0; i < pass->n; i++) {
        pass->w[i] = pass->w[i] == -INFINITY ? 0 : (float)exp((double)pass->w[i] - top);
        pass->l[r] += (double)pass->w[i];
    }
    pass->m[r] = top;
    memcpy(pass->s + r * pass->most, pass->w, (size_t)pass->n * sizeof *pass->s);
}

/* A key that no row weighs is not read. */
static void block_values(const struct pass *pass)
{
    for (i64 i = 0; i < pass->n; i++) {
        bool read = false;
        for (i64 r = 0; r < pass->n_rows; r++) {
            const float weight = pass->s[r * pass->most + i];
            if (weight == 0)
                continue;
            if (!read)
                widen_key(pass, pass->v, &pass->args->v, &pass->args->v_table, pass->key + i);
            read = true;
            for (i32 c = 0; c < pass->dv; c++)
                pass->o[r * pass->dv + c] += (double)weight * (double)pass->v[c];
        }
    }
}

static void store_row(const struct pass *pass, i64 r)
{
    const struct attend_args *args = pass->args;
    const i64 token = pass->item->q_token + row_index(pass, r);
    const double sink = args->sinks ? (double)args->sinks[pass->head] : -INFINITY;
    const double m = pass->m[r], top = m > sink || isnan(m) ? m : sink;
    const bool empty = top == -INFINITY;
    const double of_keys = m == -INFINITY ? 0 : exp(m - top);
    const double of_sink = sink == -INFINITY ? 0 : sink == top ? 1 : exp(sink - top); /* inf - inf is NaN */
    const double sum = pass->l[r] * of_keys + of_sink;
    u8 *out = layout_token(&args->out, &args->out_runs, token, pass->head);
    for (i32 c = 0; c < args->out.dim; c++)
        folio__store_double((enum dtype)args->out.dtype, out + (i64)c * folio__dtype_bytes((enum dtype)args->out.dtype),
                            empty ? 0 : pass->o[r * pass->dv + c] * of_keys / sum);
    if (args->lse) {
        u8 *lse = (u8 *)args->lse + token * args->lse_token_stride + pass->head * args->lse_head_stride;
        folio__store_double(DTYPE_F32, lse, empty ? -INFINITY : top + log(sum));
    }
}

static void attend_head(struct pass *pass)
{
    const struct attend_args *args = pass->args;
    for (i64 r = 0; r < pass->n_rows; r++) {
        widen(pass->q + r * pass->d, args->q.dtype,
              layout_token(&args->q, &args->q_runs, pass->item->q_token + row_index(pass, r), pass->head), pass->d);
        pass->m[r] = -INFINITY;
        pass->l[r] = 0;
        memset(pass->o + r * pass->dv, 0, (size_t)pass->dv * sizeof *pass->o);
    }
    for (pass->key = 0; pass->key < pass->item->kv_len; pass->key += pass->most) {
        pass->n = min_i64(pass->most, pass->item->kv_len - pass->key);
        block_scores(pass);
        if (!run_callbacks(pass))
            return;
        for (i64 r = 0; r < pass->n_rows; r++)
            row_weights(pass, r);
        block_values(pass);
    }
    for (i64 r = 0; r < pass->n_rows; r++)
        store_row(pass, r);
}

static float *take_floats(float **next, i64 n)
{
    float *taken = *next;
    *next += n;
    return taken;
}

/* One block of memory for everything; NULL when there is none. */
static void *allocate(struct pass *pass)
{
    const i64 rows = pass->n_rows, tile = rows * pass->most;
    const bool callback[] = { mask_callback(pass->args, 0) != NULL, mask_callback(pass->args, 1) != NULL };
    const i64 n_doubles = rows * (pass->dv + 2), n_tiles = 1 + callback[0] + callback[1];
    const i64 n_floats = rows * pass->d + pass->d + pass->dv + n_tiles * tile + pass->most;
    double *memory = folio__alloc((size_t)n_doubles * sizeof(double) + (size_t)n_floats * sizeof(float));
    if (!memory)
        return NULL;
    pass->o = memory;
    pass->m = pass->o + rows * pass->dv;
    pass->l = pass->m + rows;
    float *next = (float *)(void *)(pass->l + rows);
    pass->q = take_floats(&next, rows * pass->d);
    pass->k = take_floats(&next, pass->d);
    pass->v = take_floats(&next, pass->dv);
    pass->s = take_floats(&next, tile);
    for (i32 which = 0; which < 2; which++)
        pass->keep[which] = callback[which] ? take_floats(&next, tile) : NULL;
    pass->w = take_floats(&next, pass->most);
    return memory;
}

void folio__attend_callback(const struct attend_args *args, const struct attend_item *item)
{
    const bool whole = folio__callback_tiling(args).tile_rows == INT32_MAX;
    struct pass pass = { .args = args,
                         .item = item,
                         .n_rows = item->n_rows,
                         .most = whole ? max_i64(item->kv_len, 1) : BLOCK_OF_KEYS,
                         .d = args->q.dim,
                         .dv = args->v.head_dim };
    assert(item->partial < 0);
    if (mod_has_failed(args->mod_failure))
        return;
    void *memory = allocate(&pass);
    if (!memory) {
        const struct mod_env at = folio__mod_place(args, item, item->head_begin * args->group, item->row_begin, 0);
        folio__mod_fail(args->mod_failure, NULL, FOLIO_ENOMEM, &at);
        return;
    }
    const i32 end = (item->head_begin + item->n_heads) * args->group;
    for (pass.head = item->head_begin * args->group; pass.head < end; pass.head++)
        attend_head(&pass);
    folio__free(memory);
}
