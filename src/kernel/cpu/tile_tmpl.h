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

enum { STRIP = 12, TILE_KEYS = 128, S_STRIDE = TILE_KEYS + 16, PACKED_ROWS = 192 };

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

/* ---- packing */

/* 16 rows of 16 elements each at byte `at` of rows [16] -> transposed; rows from n on are zeros. */
INLINE void load_transposed(enum dtype dtype, vec x[16], const u8 *const *rows, i64 at, i32 n, i32 n_elements)
{
    for (i32 i = 0; i < 16; i++)
        x[i] = i >= n             ? vec_zero()
               : n_elements == 16 ? load_16(dtype, rows[i] + at)
                                  : load_n(dtype, rows[i] + at, n_elements);
    vec_transpose(x);
}

INLINE void pack_k_of(enum dtype dtype, float *dst, const u8 *const *rows, i32 n, i32 d)
{
    const i32 bytes = element_bytes(dtype);
    vec x[16];
    for (i32 c = 0; c < d; c += 16) {
        const i32 left = d - c < 16 ? d - c : 16;
        if (n == 16 && left == 16)
            load_transposed(dtype, x, rows, (i64)c * bytes, 16, 16);
        else
            load_transposed(dtype, x, rows, (i64)c * bytes, n, left);
        for (i32 i = 0; i < left; i++)
            vec_store(dst + (c + i) * 16, x[i]);
    }
}

/* n <= 16 rows of K -> one panel [d][16]. */
static void pack_k(enum dtype dtype, float *dst, const u8 *const *rows, i32 n, i32 d)
{
    if (dtype == DTYPE_F32)
        pack_k_of(DTYPE_F32, dst, rows, n, d);
    else if (dtype == DTYPE_F16)
        pack_k_of(DTYPE_F16, dst, rows, n, d);
    else
        pack_k_of(DTYPE_BF16, dst, rows, n, d);
}

INLINE void pack_v_of(enum dtype dtype, float *dst, const u8 *const *rows, i32 n, i32 d, i64 panel)
{
    const i32 bytes = element_bytes(dtype);
    for (i32 t = 0; t < n; t++) {
        i32 c = 0;
        for (; c + 16 <= d; c += 16)
            vec_store(dst + c / 16 * panel + t * 16, load_16(dtype, rows[t] + (i64)c * bytes));
        if (c < d)
            vec_store(dst + c / 16 * panel + t * 16, load_n(dtype, rows[t] + (i64)c * bytes, d - c));
    }
}

/* n rows of V -> the same rows of panels [dv / 16][.][16], `panel` floats apart. */
static void pack_v(enum dtype dtype, float *dst, const u8 *const *rows, i32 n, i32 d, i64 panel)
{
    if (dtype == DTYPE_F32)
        pack_v_of(DTYPE_F32, dst, rows, n, d, panel);
    else if (dtype == DTYPE_F16)
        pack_v_of(DTYPE_F16, dst, rows, n, d, panel);
    else
        pack_v_of(DTYPE_BF16, dst, rows, n, d, panel);
}

/* K and V of keys [key, key + n), n <= BLOCK_KEYS. */
static void tile_pack(const struct tile_pass *pass, i64 key, i32 n)
{
    const struct attend_args *args = pass->args;
    struct block block;
    block_find(&block, args, pass->item->seq, key, key + n, BLOCK_KEYS);
    for (i32 i = 0; i < n; i++) {
        block.k[i] += pass->head * args->k.head_stride;
        block.v[i] += pass->head * args->v.head_stride;
    }
    for (i32 i = 0; i < n; i += 16)
        pack_k((enum dtype)args->k.dtype, pass->k + (i64)i * pass->d, block.k + i, n - i < 16 ? n - i : 16, pass->d);
    pack_v((enum dtype)args->v.dtype, pass->v, block.v, n, pass->dv, (i64)pass->tile_keys * 16);
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
INLINE void score_rows(i32 n_rows, const struct tile_pass *pass, const float *q, i32 first, i32 last, float *s)
{
    i32 j = first;
    for (; j + VEC_TILE_COLS <= last; j += VEC_TILE_COLS)
        score_block(n_rows, VEC_TILE_COLS, q, pass->k + (i64)j * 16 * pass->d, pass->d, s + j * 16);
    for (; j < last; j++)
        score_block(n_rows, 1, q, pass->k + (i64)j * 16 * pass->d, pass->d, s + j * 16);
}

INLINE void value_rows(i32 n_rows, const struct tile_pass *pass, const float *w, i32 begin, i32 end, float *o)
{
    const i64 panel = (i64)pass->tile_keys * 16;
    const i32 n_panels = pass->v_pad / 16;
    i32 j = 0;
    for (; j + VEC_TILE_COLS <= n_panels; j += VEC_TILE_COLS)
        value_block(n_rows, VEC_TILE_COLS, w, pass->v + j * panel, panel, begin, end, o + j * 16, pass->v_pad);
    for (; j < n_panels; j++)
        value_block(n_rows, 1, w, pass->v + j * panel, panel, begin, end, o + j * 16, pass->v_pad);
}

/* ---- a strip against a tile */

struct strip {
    i32 row, n_rows; /* packed rows; n_rows a multiple of 4 */
    i64 key;         /* of the tile's first column */
    i32 begin, end;  /* columns that any row may see */
};

static void strip_scores(const struct tile_pass *pass, const struct strip *strip)
{
    const float *q = pass->q + (i64)strip->row * pass->d;
    const i32 first = strip->begin / 16, last = (strip->end + 15) / 16;
    i32 r = 0;
    for (; r + VEC_TILE_ROWS <= strip->n_rows; r += VEC_TILE_ROWS)
        score_rows(VEC_TILE_ROWS, pass, q + r, first, last, pass->s + r * S_STRIDE);
    for (; r + 4 <= strip->n_rows; r += 4)
        score_rows(4, pass, q + r, first, last, pass->s + r * S_STRIDE);
    for (; r < strip->n_rows; r += 2)
        score_rows(2, pass, q + r, first, last, pass->s + r * S_STRIDE);
}

static void strip_values(const struct tile_pass *pass, const struct strip *strip)
{
    float *o = pass->o + (i64)strip->row * pass->v_pad;
    i32 r = 0;
    for (; r + VEC_TILE_ROWS <= strip->n_rows; r += VEC_TILE_ROWS)
        value_rows(VEC_TILE_ROWS, pass, pass->s + r * S_STRIDE, strip->begin, strip->end, o + r * pass->v_pad);
    for (; r + 4 <= strip->n_rows; r += 4)
        value_rows(4, pass, pass->s + r * S_STRIDE, strip->begin, strip->end, o + r * pass->v_pad);
    for (; r < strip->n_rows; r += 2)
        value_rows(2, pass, pass->s + r * S_STRIDE, strip->begin, strip->end, o + r * pass->v_pad);
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

static void tile_use(const struct tile_pass *pass, i64 key, i32 n, enum mod_keep state)
{
    const bool whole = !pass->mods || (state == KEEP_ALL && !pass->args->block_mask);
    if (pass->mods)
        folio__mod_tile(pass->mods, key, n, state);
    for (i32 row = 0; row < pass->n_padded; row += STRIP) {
        const i32 n_rows = pass->n_padded - row < STRIP ? pass->n_padded - row : STRIP;
        const struct keys keys = keys_within(strip_keys(pass, row, n_rows), key, key + n);
        if (keys.begin >= keys.end)
            continue;
        const struct strip strip = { row, n_rows, key, (i32)(keys.begin - key), (i32)(keys.end - key) };
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

static void tile_piece(const struct tile_pass *pass, const struct keep_piece *piece)
{
    for (i64 key = piece->begin; key < piece->end; key += pass->tile_keys) {
        const i32 n = (i32)min_i64(pass->tile_keys, piece->end - key);
        tile_pack(pass, key, n);
        tile_use(pass, key, n, piece->mod_state);
    }
}

static void tile_split(const struct tile_pass *pass, i64 split)
{
    const i64 begin = split * pass->item->split_tokens;
    const struct keys keys = keys_within(pass->all_keys, begin, begin + pass->item->split_tokens);
    rows_clear(pass->o, pass->m, pass->l, pass->n_padded, pass->v_pad, 16);
    if (keys.begin >= keys.end)
        return;
    const i64 first = keys.begin - (keys.begin - begin) % pass->tile_keys;
    struct keep_piece piece = { first, keys.end, KEEP_ALL };
    if (!pass->mods) {
        tile_piece(pass, &piece);
        return;
    }
    for (i64 at = first; folio__mod_next(pass->mods, at, keys.end, pass->tile_keys, &piece); at = piece.end)
        tile_piece(pass, &piece);
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
