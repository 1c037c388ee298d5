/* SPDX-License-Identifier: Apache-2.0
 * rows_chunk_tmpl.h: a chunk of keys in vectors of f32, and what is fetched meanwhile.
 *
 *   head by head    K of a head, then V; rows of a head lie together, or in runs
 *   in order        where pages hold all heads of a slot together: a few slots at a time with all their heads, K of the
 *                   chunk, then V. A head's own rows would lie 2 or 4 KB apart, in a few sets of the first cache, and
 *                   memory would be read at half its speed
 *
 * Fetched is what will be used `lead` rows (slots, in order) later:  K 0 .. n-1, V 0 .. n-1, the next K 0 .. n-1 */

enum { LEAD_BYTES_F32 = 8 * 1024, LEAD_BYTES_IN_ORDER = 16 * 1024, LEAD_BYTES_BY_SLOT = 24 * 1024 };

struct rows_ahead_of {
    const u8 *k[CHUNK + 16], *v[CHUNK + 16]; /* [n_keys, rounded up to 16] while row t of K, of V is used */
};

/* In order: do heads take turns after one key of K, and a few of V? Memory is read faster so, but q, and o, are read
 * more often. Few rows leave their arithmetic room for it; pages of one slot want to be asked for longer before. */
static bool rows_by_slot(const struct rows_pass *pass)
{
    const enum dtype dtype = (enum dtype)pass->args->k.dtype;
    if (!pass->in_order || pass->n_heads == 1)
        return false;
    if (pass->n_padded >= 4)
        return dtype == DTYPE_F32;
    const bool is_fast = dtype == DTYPE_F32 || (pass->n_padded == 1 && !VEC_HALVES && !dtype_is_quantised(dtype));
    return is_fast && pass->heads_together && pass->args->page_size > 1;
}

/* Keys of V that are used before the next head's turn. All of o is loaded and stored for it, which half as wide vectors
 * feel twice; but what is used and what is fetched of all heads should stay in the first cache, beside o. */
static i32 rows_visit_in_order(const struct rows_pass *pass)
{
    if (!rows_by_slot(pass))
        return VEC_HALVES && pass->args->v.dtype != DTYPE_F32 ? 8 : 4;
    return pass->n_padded < 4 ? 1 : VEC_HALVES ? 4 : 2;
}

/* Rows, or slots, from one that is used to the one that is fetched; at least a chunk: the same of the next chunk. */
static i32 rows_lead(const struct rows_pass *pass)
{
    const struct pages_view *k = &pass->args->k;
    const i64 row_bytes = (i64)k->head_dim * element_bytes((enum dtype)k->dtype);
    const i64 slot_bytes = row_bytes * pass->n_heads;
    if (rows_by_slot(pass))
        return (i32)clamp_i64(LEAD_BYTES_BY_SLOT / slot_bytes, rows_visit_in_order(pass), CHUNK / 2);
    if (pass->in_order) /* no fewer than the keys that dots or weigh use of a head before the next head's turn */
        return (i32)clamp_i64(LEAD_BYTES_IN_ORDER / slot_bytes, pass->n_padded < 4 ? 8 : rows_visit_in_order(pass),
                              CHUNK / 2);
    return k->dtype == DTYPE_F32 ? (i32)max_i64(LEAD_BYTES_F32 / row_bytes, 1) : CHUNK;
}

/* Head by head weigh goes over its keys once for each few columns: over so few that what is fetched is not used at
 * once. */
static i32 rows_visit(const struct rows_pass *pass, i32 n_heads)
{
    const i32 lead = rows_lead(pass);
    return n_heads > 1 ? rows_visit_in_order(pass) : lead < CHUNK ? (lead + 1) / 2 : CHUNK;
}

/* The step that comes next; at the end the same again, which costs nothing. */
static struct rows_step rows_step_after(const struct rows_pass *pass, const struct rows_step *step)
{
    struct rows_step next = *step;
    next.at += pass->chunk;
    if (next.at < step->block->n)
        return next;
    next.at = 0;
    next.head += !pass->in_order;
    if (!pass->in_order && next.head < pass->n_heads)
        return next;
    next.head = 0;
    next.block = step->after;
    return step->after->n > 0 ? next : *step;
}

static void rows_copy(const u8 **dst, const u8 *const *src, i64 offset, i32 n)
{
    for (i32 i = 0; i < n; i++)
        dst[i] = src[i] + offset;
}

static void rows_find_ahead(struct rows_ahead_of *ahead, const struct rows_pass *pass, const struct rows_step *step)
{
    const struct attend_args *args = pass->args;
    const struct rows_step next = rows_step_after(pass, step);
    const u8 *const *k = step->block->k + step->at, *const *v = step->block->v + step->at;
    const u8 *const *next_k = next.block->k + next.at, *const *next_v = next.block->v + next.at;
    const i64 head = pass->head_begin + step->head, next_head = pass->head_begin + next.head;
    const i64 k_offset = head * args->k.head_stride, v_offset = head * args->v.head_stride;
    const i64 next_k_offset = next_head * args->k.head_stride, next_v_offset = next_head * args->v.head_stride;
    const i32 n = (step->n + 15) / 16 * 16, lead = rows_lead(pass), same = step->n - lead;
    if (same <= 0) {
        rows_copy(ahead->k, next_k, next_k_offset, n);
        rows_copy(ahead->v, next_v, next_v_offset, n);
        return;
    }
    rows_copy(ahead->k, k + lead, k_offset, same);
    rows_copy(ahead->k + same, v, v_offset, n - same);
    rows_copy(ahead->v, v + lead, v_offset, same);
    rows_copy(ahead->v + same, next_k, next_k_offset, n - same);
}

/* Of n_heads heads from the step's on. */
static void rows_vectors(const struct rows_pass *pass, const struct rows_step *step, i32 n_heads)
{
    const struct attend_args *args = pass->args;
    const i64 head = pass->head_begin + step->head;
    struct rows_ahead_of ahead;
    rows_find_ahead(&ahead, pass, step);
    dots((enum dtype)args->k.dtype, &(struct dots){ .q = pass->q + (i64)step->head * pass->n_padded * pass->k_pad,
                                                    .stride = pass->k_pad,
                                                    .n_padded = pass->n_padded,
                                                    .d = args->k.head_dim,
                                                    .k = step->block->k + step->at,
                                                    .offset = head * args->k.head_stride,
                                                    .n_heads = n_heads,
                                                    .by_slot = rows_by_slot(pass),
                                                    .head_stride = args->k.head_stride,
                                                    .next = ahead.k,
                                                    .n_keys = step->n,
                                                    .s = pass->s });
    struct rows_step one = *step;
    for (; one.head < step->head + n_heads; one.head++)
        rows_weights(pass, &one);
    struct weigh work = weigh_of_step(pass, step);
    if (!pass->careful) {
        work.next = ahead.v;
        work.n_heads = n_heads;
        work.visit = rows_visit(pass, n_heads);
        weigh((enum dtype)args->v.dtype, &work);
        return;
    }
    for (one.head = step->head; one.head < step->head + n_heads; one.head++) {
        work = weigh_of_step(pass, &one);
        weigh_present((enum dtype)args->v.dtype, pass->n_rows, &work);
    }
}
