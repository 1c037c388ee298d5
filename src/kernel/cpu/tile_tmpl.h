/* SPDX-License-Identifier: Apache-2.0
 * tile_tmpl.h: many query vectors a kv head (prefill, chunks): a tile of K and V is packed to f32 once and used by all.
 *
 *   packed rows = (query row, member of the group), in strips of STRIP
 *   K tile  [keys / 16][d][16]     transposed while packing, so that lanes are keys
 *   V tile  [dv / 16][keys][16]
 *   Q strip [d][STRIP]
 *
 *   for each tile of keys: pack K, V
 *     for each strip: s = Q K ─► weights ─► o += w V      s [STRIP][keys] stays in L1
 *
 * A strip computes only the keys that any of its rows may see. Sums run over d and over keys in order, one fma each, so the
 * register blocking is free to differ from level to level. */

enum { STRIP = 12, TILE_KEYS = 128, S_STRIDE = TILE_KEYS + 16, PACKED_ROWS = 384 };

struct tile_pass {
    const struct attend_args *args;
    const struct attend_item *item;
    struct score_rule rule;
    i32 head;                 /* kv head */
    i32 n_rows, n_padded;     /* packed rows; a multiple of 4 */
    i32 d, dv, v_pad;         /* head dims */
    i32 tile_keys;            /* <= TILE_KEYS, a multiple of 16 */
    float *q;                 /* [n_padded / STRIP, rounded up][d][STRIP] */
    float *k, *v;             /* as drawn */
    float *s;                 /* [STRIP][S_STRIDE] */
    float *o, *total;         /* [n_padded][v_pad] */
    float *m, *l;             /* [n_padded], [n_padded][16] */
    float *total_m, *total_l; /* [n_padded] */
    struct keys all_keys;     /* of any row */
    struct mod_runner *mods;  /* NULL = none */
};

/* Fewer keys a tile for larger heads: K and V tiles share the second-level cache with o. */
static i32 tile_keys_of(const struct attend_args *args)
{
    const i32 d = args->k.head_dim > args->v.head_dim ? args->k.head_dim : args->v.head_dim;
    return d <= 128 ? TILE_KEYS : d <= 256 ? TILE_KEYS / 2 : TILE_KEYS / 4;
}

static i32 tile_rows_of(const struct attend_args *args)
{
    return args->group >= PACKED_ROWS ? 1 : PACKED_ROWS / args->group;
}

static i32 padded_packed(i32 n_rows)
{
    return (n_rows + 3) / 4 * 4;
}

static size_t tile_scratch_bytes(const struct attend_args *args)
{
    const i64 rows = (padded_packed(tile_rows_of(args) * args->group) + STRIP - 1) / STRIP * STRIP;
    const i64 keys = tile_keys_of(args), d = args->k.head_dim, v_pad = padded_dim(args->v.head_dim);
    const i64 floats = rows * d + keys * d + keys * v_pad + STRIP * S_STRIDE + rows * (2 * v_pad + 16 + 3);
    const i64 packed = (i64)tile_rows_of(args) * args->group;
    const size_t mods = mod_is_used(args) ? folio__mod_scratch_bytes(args, 1, packed, TILE_KEYS) : 0;
    return (size_t)floats * sizeof(float) + 16 * 64 + mods;
}

/* ---- a tile of keys */

static void tile_pack(const struct tile_pass *pass, const struct block *block)
{
    const struct attend_args *args = pass->args;
    const u8 *k[BLOCK_KEYS], *v[BLOCK_KEYS];
    const i32 n = block->n;
    for (i32 i = 0; i < n; i++) {
        k[i] = block->k[i] + pass->head * args->k.head_stride;
        v[i] = block->v[i] + pass->head * args->v.head_stride;
    }
    for (i32 i = 0; i < n; i += 16)
        pack_k((enum dtype)args->k.dtype, pass->k + (i64)i * pass->d, k + i, n - i < 16 ? n - i : 16, pass->d);
    pack_v((enum dtype)args->v.dtype, pass->v, v, n, pass->dv, (i64)pass->tile_keys * 16);
}

/* Rows of the block that comes next, asked for a line at a time while this one is used. */
struct tile_ahead {
    const struct block *block;
    i64 k_offset, v_offset; /* of the kv head */
    i64 k_bytes, v_bytes;   /* of a row */
    i64 at;                 /* bytes of row `key` done, K first */
    i32 key, n_lines;       /* n_lines at once */
};

static struct tile_ahead tile_look_ahead(const struct tile_pass *pass, const struct block *after)
{
    const struct attend_args *args = pass->args;
    struct tile_ahead ahead = { .block = after,
                                .k_offset = pass->head * args->k.head_stride,
                                .v_offset = pass->head * args->v.head_stride,
                                .k_bytes = (i64)pass->d * element_bytes((enum dtype)args->k.dtype),
                                .v_bytes = (i64)pass->dv * element_bytes((enum dtype)args->v.dtype) };
    const i64 lines = (ceil_div(ahead.k_bytes, 64) + ceil_div(ahead.v_bytes, 64)) * after->n;
    const i64 n_strips = ceil_div(pass->n_padded, STRIP), a_strip = pass->tile_keys / 16 + pass->v_pad / 16;
    ahead.n_lines = (i32)ceil_div(lines * VEC_TILE_COLS, n_strips * a_strip);
    return ahead;
}

static void tile_fetch(struct tile_ahead *ahead)
{
    for (i32 i = 0; i < ahead->n_lines && ahead->key < ahead->block->n; i++) {
        const bool is_k = ahead->at < ahead->k_bytes;
        const u8 *row = is_k ? ahead->block->k[ahead->key] + ahead->k_offset
                             : ahead->block->v[ahead->key] + ahead->v_offset - ahead->k_bytes;
        __builtin_prefetch(row + ahead->at, 0, 2);
        ahead->at += 64;
        if (is_k && ahead->at > ahead->k_bytes)
            ahead->at = ahead->k_bytes;
        if (ahead->at >= ahead->k_bytes + ahead->v_bytes) {
            ahead->at = 0;
            ahead->key++;
        }
    }
}

static struct score_place tile_place(const struct tile_pass *pass, i32 packed)
{
    const struct attend_args *args = pass->args;
    const i64 row = pass->item->row_begin + packed / args->group;
    return (struct score_place){ .token = pass->item->q_token + row,
                                 .position = row_position(args, pass->item, row),
                                 .head = pass->head * args->group + packed % args->group };
}

static void tile_load_q(const struct tile_pass *pass)
{
    const struct attend_args *args = pass->args;
    const enum dtype dtype = (enum dtype)args->q.dtype;
    const i64 bytes = element_bytes(dtype);
    const u8 *rows[16];
    vec x[16];
    for (i32 strip = 0; strip < pass->n_rows; strip += STRIP) {
        const i32 n = pass->n_rows - strip < STRIP ? pass->n_rows - strip : STRIP;
        for (i32 i = 0; i < n; i++) {
            const struct score_place at = tile_place(pass, strip + i);
            rows[i] = layout_row(&args->q, at.token, at.head);
        }
        float *dst = pass->q + (i64)strip * pass->d;
        for (i32 c = 0; c < pass->d; c += 16) {
            const i32 left = pass->d - c < 16 ? pass->d - c : 16;
            load_transposed(dtype, x, rows, c * bytes, n, left);
            for (i32 i = 0; i < left; i++)
                vec_store_n(dst + (c + i) * STRIP, vec_mul(x[i], vec_set1(pass->rule.q_factor)), STRIP);
        }
    }
}

/* ---- products: n_rows x n_cols vectors, everything in registers */

/* s [row][S_STRIDE] = q [d][STRIP] * k [col][d][16] */
INLINE void score_block(i32 n_rows, i32 n_cols, const float *q, const float *k, i32 d, float *s)
{
    vec acc[VEC_TILE_ROWS * VEC_TILE_COLS], b[VEC_TILE_COLS];
    UNROLL(24)
    for (i32 i = 0; i < n_rows * n_cols; i++)
        acc[i] = vec_zero();
    for (i32 i = 0; i < d; i++) {
        UNROLL(2)
        for (i32 j = 0; j < n_cols; j++)
            b[j] = vec_load(k + (j * d + i) * 16);
        UNROLL(12)
        for (i32 r = 0; r < n_rows; r++) {
            const vec a = vec_set1(q[i * STRIP + r]);
            UNROLL(2)
            for (i32 j = 0; j < n_cols; j++)
                acc[r * n_cols + j] = vec_fma(a, b[j], acc[r * n_cols + j]);
        }
    }
    UNROLL(12)
    for (i32 r = 0; r < n_rows; r++)
        UNROLL(2)
    for (i32 j = 0; j < n_cols; j++)
        vec_store(s + r * S_STRIDE + j * 16, acc[r * n_cols + j]);
}

/* o [row][stride] += w [row][S_STRIDE] * v [col][panel / 16][16], keys [begin, end) */
INLINE void value_block(i32 n_rows, i32 n_cols, const float *w, const float *v, i64 panel, i32 begin, i32 end, float *o,
                        i64 stride)
{
    vec acc[VEC_TILE_ROWS * VEC_TILE_COLS], b[VEC_TILE_COLS];
    UNROLL(12)
    for (i32 r = 0; r < n_rows; r++)
        UNROLL(2)
    for (i32 j = 0; j < n_cols; j++)
        acc[r * n_cols + j] = vec_load(o + r * stride + j * 16);
    for (i32 t = begin; t < end; t++) {
        UNROLL(2)
        for (i32 j = 0; j < n_cols; j++)
            b[j] = vec_load(v + j * panel + t * 16);
        UNROLL(12)
        for (i32 r = 0; r < n_rows; r++) {
            const vec a = vec_set1(w[r * S_STRIDE + t]);
            UNROLL(2)
            for (i32 j = 0; j < n_cols; j++)
                acc[r * n_cols + j] = vec_fma(a, b[j], acc[r * n_cols + j]);
        }
    }
    UNROLL(12)
    for (i32 r = 0; r < n_rows; r++)
        UNROLL(2)
    for (i32 j = 0; j < n_cols; j++)
        vec_store(o + r * stride + j * 16, acc[r * n_cols + j]);
}

/* Columns [first, last) in panels of 16 for n_rows rows. */
INLINE void score_rows(i32 n_rows, const struct tile_pass *pass, const float *q, i32 first, i32 last, float *s,
                       struct tile_ahead *ahead)
{
    i32 j = first;
    for (; j + VEC_TILE_COLS <= last; j += VEC_TILE_COLS) {
        tile_fetch(ahead);
        score_block(n_rows, VEC_TILE_COLS, q, pass->k + (i64)j * 16 * pass->d, pass->d, s + j * 16);
    }
    for (; j < last; j++)
        score_block(n_rows, 1, q, pass->k + (i64)j * 16 * pass->d, pass->d, s + j * 16);
}

INLINE void value_rows(i32 n_rows, const struct tile_pass *pass, const float *w, i32 begin, i32 end, float *o,
                       struct tile_ahead *ahead)
{
    const i64 panel = (i64)pass->tile_keys * 16;
    const i32 n_panels = pass->v_pad / 16;
    i32 j = 0;
    for (; j + VEC_TILE_COLS <= n_panels; j += VEC_TILE_COLS) {
        tile_fetch(ahead);
        value_block(n_rows, VEC_TILE_COLS, w, pass->v + j * panel, panel, begin, end, o + j * 16, pass->v_pad);
    }
    for (; j < n_panels; j++)
        value_block(n_rows, 1, w, pass->v + j * panel, panel, begin, end, o + j * 16, pass->v_pad);
}

/* ---- a strip against a tile */

struct strip {
    i32 row, n_rows; /* packed rows; n_rows a multiple of 4 */
    i64 key;         /* of the tile's first column */
    i32 begin, end;  /* columns that any row may see */
    struct tile_ahead *ahead;
};

static void strip_scores(const struct tile_pass *pass, const struct strip *strip)
{
    const float *q = pass->q + (i64)strip->row * pass->d;
    const i32 first = strip->begin / 16, last = (strip->end + 15) / 16;
    i32 r = 0;
    for (; r + VEC_TILE_ROWS <= strip->n_rows; r += VEC_TILE_ROWS)
        score_rows(VEC_TILE_ROWS, pass, q + r, first, last, pass->s + r * S_STRIDE, strip->ahead);
    for (; r + 4 <= strip->n_rows; r += 4)
        score_rows(4, pass, q + r, first, last, pass->s + r * S_STRIDE, strip->ahead);
    for (; r < strip->n_rows; r += 2)
        score_rows(2, pass, q + r, first, last, pass->s + r * S_STRIDE, strip->ahead);
}

static void strip_values(const struct tile_pass *pass, const struct strip *strip)
{
    float *o = pass->o + (i64)strip->row * pass->v_pad;
    i32 r = 0;
    for (; r + VEC_TILE_ROWS <= strip->n_rows; r += VEC_TILE_ROWS)
        value_rows(VEC_TILE_ROWS, pass, pass->s + r * S_STRIDE, strip->begin, strip->end, o + r * pass->v_pad,
                   strip->ahead);
    for (; r + 4 <= strip->n_rows; r += 4)
        value_rows(4, pass, pass->s + r * S_STRIDE, strip->begin, strip->end, o + r * pass->v_pad, strip->ahead);
    for (; r < strip->n_rows; r += 2)
        value_rows(2, pass, pass->s + r * S_STRIDE, strip->begin, strip->end, o + r * pass->v_pad, strip->ahead);
}

static void strip_weights(const struct tile_pass *pass, const struct strip *strip)
{
    const i32 width = (strip->end + 15) / 16 * 16;
    for (i32 r = 0; r < strip->n_rows; r++) {
        float *s = pass->s + r * S_STRIDE;
        const i32 packed = strip->row + r;
        struct keys keys = { 0, 0 };
        if (packed < pass->n_rows)
            keys = keys_within(keys_of_row(pass->args, pass->item, pass->item->row_begin + packed / pass->args->group),
                               strip->key + strip->begin, strip->key + strip->end);
        if (keys.begin >= keys.end) {
            memset(s, 0, (size_t)width * sizeof *s);
            continue;
        }
        const i32 lo = (i32)(keys.begin - strip->key), hi = (i32)(keys.end - strip->key);
        if (!pass->rule.plain) {
            const struct score_place at = tile_place(pass, packed);
            const struct score_mods mods = { pass->mods, pass->head, packed, 0 };
            score_row(pass->args, &pass->rule, &at, &mods, strip->key, lo, hi, s);
        }
        const float factor = weight_row(s, width, lo, hi, pass->rule.c, &pass->m[packed], pass->l + packed * 16);
        if (factor != 1.0f)
            scale_row(pass->o + (i64)packed * pass->v_pad, pass->v_pad, factor);
    }
}

static struct keys strip_keys(const struct tile_pass *pass, i32 row, i32 n_rows)
{
    const i64 group = pass->args->group, begin = pass->item->row_begin;
    const i64 last = min_i64(row + n_rows, pass->n_rows) - 1;
    return keys_of_rows(pass->args, pass->item, begin + row / group, begin + last / group + 1);
}

static void strip_use(const struct tile_pass *pass, const struct strip *strip)
{
    strip_scores(pass, strip);
    strip_weights(pass, strip);
    strip_values(pass, strip);
}

/* Keys of the tile that masks leave to the strip: absent blocks are cut out, so that nothing of theirs is added. */
static void strip_use_pieces(const struct tile_pass *pass, struct strip strip)
{
    const i32 last = (i32)min_i64(strip.row + strip.n_rows, pass->n_rows);
    const i64 end = strip.key + strip.end;
    struct keep_piece piece;
    for (i64 at = strip.key + strip.begin;
         folio__mod_next_of_rows(pass->mods, pass->head, strip.row, last, at, end, &piece); at = piece.end) {
        strip.begin = (i32)(piece.begin - strip.key);
        strip.end = (i32)(piece.end - strip.key);
        strip_use(pass, &strip);
    }
}

static void tile_use(const struct tile_pass *pass, const struct cursor_block *at_work, const struct cursor_block *after)
{
    const struct block *block = &at_work->block;
    const bool whole = !pass->mods || (at_work->state == KEEP_ALL && !pass->args->block_mask);
    if (pass->mods)
        folio__mod_tile(pass->mods, block->key, block->n, at_work->state);
    struct tile_ahead ahead = tile_look_ahead(pass, &after->block);
    for (i32 row = 0; row < pass->n_padded; row += STRIP) {
        const i32 n_rows = pass->n_padded - row < STRIP ? pass->n_padded - row : STRIP;
        const struct keys keys = keys_within(strip_keys(pass, row, n_rows), block->key, block->key + block->n);
        if (keys.begin >= keys.end)
            continue;
        const struct strip strip = { .row = row,
                                     .n_rows = n_rows,
                                     .key = block->key,
                                     .begin = (i32)(keys.begin - block->key),
                                     .end = (i32)(keys.end - block->key),
                                     .ahead = &ahead };
        if (whole)
            strip_use(pass, &strip);
        else
            strip_use_pieces(pass, strip);
    }
}

/* ---- a pass: one kv head */

static void tile_begin(struct tile_pass *pass, const struct attend_args *args, const struct attend_item *item,
                       struct mod_runner *mods, void *scratch)
{
    pass->args = args;
    pass->item = item;
    pass->rule = rule_of(args);
    pass->n_rows = (i32)item->n_rows * args->group;
    pass->n_padded = padded_packed(pass->n_rows);
    pass->d = args->k.head_dim;
    pass->dv = args->v.head_dim;
    pass->v_pad = padded_dim(pass->dv);
    pass->tile_keys = tile_keys_of(args);
    const i64 rows = (pass->n_padded + STRIP - 1) / STRIP * STRIP;
    float *next = scratch;
    pass->q = take(&next, rows * pass->d);
    pass->k = take(&next, (i64)pass->tile_keys * pass->d);
    pass->v = take(&next, (i64)pass->tile_keys * pass->v_pad);
    pass->s = take(&next, STRIP * S_STRIDE);
    pass->o = take(&next, rows * pass->v_pad);
    pass->total = take(&next, rows * pass->v_pad);
    pass->m = take(&next, rows);
    pass->l = take(&next, rows * 16);
    pass->total_m = take(&next, rows);
    pass->total_l = take(&next, rows);
    pass->all_keys = keys_of_rows(args, item, item->row_begin, item->row_begin + item->n_rows);
    pass->mods = mod_is_used(args) ? mods : NULL;
    if (pass->mods)
        folio__mod_bind(mods, &VEC_MODS, args, item, 1, TILE_KEYS, next);
}

static void tile_split(const struct tile_pass *pass, i64 split)
{
    const i64 begin = split * pass->item->split_tokens;
    const struct keys keys = keys_within(pass->all_keys, begin, begin + pass->item->split_tokens);
    rows_clear(pass->o, pass->m, pass->l, pass->n_padded, pass->v_pad, 16);
    if (keys.begin >= keys.end)
        return;
    struct cursor cursor = {
        .args = pass->args, .item = pass->item, .mods = pass->mods, .quantum = pass->tile_keys, .most = pass->tile_keys
    };
    cursor_start(&cursor, keys.begin - (keys.begin - begin) % pass->tile_keys, keys.end);
    struct cursor_block blocks[2]; /* the one at work and the next, by turns */
    i32 now = 0;
    cursor_next(&cursor, &blocks[now]);
    while (blocks[now].block.n > 0) {
        cursor_next(&cursor, &blocks[1 - now]);
        tile_pack(pass, &blocks[now].block);
        tile_use(pass, &blocks[now], &blocks[1 - now]);
        now = 1 - now;
    }
}

static void tile_split_done(const struct tile_pass *pass, i64 split)
{
    for (i32 r = 0; r < pass->n_rows; r++) {
        const struct row_state done = { pass->o + (i64)r * pass->v_pad, pass->m[r],
                                        vec_sum(vec_load(pass->l + r * 16)) };
        if (pass->item->partial >= 0) {
            partial_write(&pass->args->part, partial_row(pass->args, pass->item, split, pass->head, r), &done,
                          pass->dv);
            continue;
        }
        struct row_state total = { pass->total + (i64)r * pass->v_pad, pass->total_m[r], pass->total_l[r] };
        fold_row(&total, &done, pass->dv, pass->rule.c);
        pass->total_m[r] = total.m;
        pass->total_l[r] = total.l;
    }
}

static void tile_finish(const struct tile_pass *pass)
{
    for (i32 r = 0; r < pass->n_rows; r++) {
        const struct row_state total = { pass->total + (i64)r * pass->v_pad, pass->total_m[r], pass->total_l[r] };
        const struct score_place at = tile_place(pass, r);
        finish_row(pass->args, &pass->rule, at.token, at.head, &total);
    }
}

static void attend_tile(const struct attend_args *args, const struct attend_item *item, void *scratch)
{
    struct tile_pass pass;
    struct mod_runner mods;
    tile_begin(&pass, args, item, &mods, scratch);
    for (i32 h = 0; h < item->n_heads; h++) {
        pass.head = item->head_begin + h;
        tile_load_q(&pass);
        if (pass.mods)
            folio__mod_heads(pass.mods, pass.head, 1);
        rows_clear(pass.total, pass.total_m, pass.total_l, pass.n_padded, pass.v_pad, 1);
        for (i64 split = item->split_begin; split < item->split_begin + item->n_splits; split++) {
            tile_split(&pass, split);
            tile_split_done(&pass, split);
        }
        if (item->partial < 0)
            tile_finish(&pass);
    }
}
