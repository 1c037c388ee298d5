/* SPDX-License-Identifier: Apache-2.0
 * tile_pass_tmpl.h: what one item of the tile family works with: its scratch, packed keys and query vectors.
 * tile_tmpl.h draws the arrays. */

struct tile_pass {
    const struct attend_args *args;
    const struct attend_item *item;
    struct score_rule rule;
    i32 head;                 /* kv head */
    i32 n_rows, n_padded;     /* packed rows; a multiple of 4 */
    bool pairs;               /* q, k, v and weights are pairs of bf16: d counts pairs, keys go by two */
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
    struct tile_amx *amx;     /* NULL = vectors */
    struct aside aside;       /* keys whose values are zeros in v */
};

/* The same in tiles, tile_amx_tmpl.h; used where uses_tiles says so. */
struct strip;
static i32 amx_tile_rows_of(const struct attend_args *args);
static size_t amx_scratch_bytes(const struct attend_args *args);
static void amx_begin(struct tile_pass *pass, float **scratch);
static void amx_end(const struct tile_pass *pass);
static void amx_load_q(const struct tile_pass *pass);
static void amx_pack(struct tile_pass *pass, const struct block *block);
static void amx_strip_use(const struct tile_pass *pass, const struct strip *strip);
static void amx_use(const struct tile_pass *pass, const struct cursor_block *at_work, const struct cursor_block *after);

/* Fewer keys a tile for larger heads: K and V tiles share the second-level cache with o. */
static i32 tile_keys_of(const struct attend_args *args)
{
    const i32 d = args->k.head_dim > args->v.head_dim ? args->k.head_dim : args->v.head_dim;
    return d <= 128 ? TILE_KEYS : d <= 256 ? TILE_KEYS / 2 : TILE_KEYS / 4;
}

static i32 tile_rows_of(const struct attend_args *args)
{
    if (uses_tiles(args))
        return amx_tile_rows_of(args);
    const bool is_large = args->k.head_dim > 128 || args->v.head_dim > 128;
    const i32 rows = is_large ? PACKED_ROWS_OF_LARGE_HEADS : PACKED_ROWS;
    return args->group >= rows ? 1 : rows / args->group;
}

static i32 padded_packed(i32 n_rows)
{
    return (n_rows + 3) / 4 * 4;
}

static size_t tile_scratch_bytes(const struct attend_args *args)
{
    if (uses_tiles(args))
        return amx_scratch_bytes(args);
    const i64 rows = (padded_packed(tile_rows_of(args) * args->group) + STRIP - 1) / STRIP * STRIP;
    const i64 keys = tile_keys_of(args), d = args->k.head_dim, v_pad = padded_dim(args->v.head_dim);
    const i64 floats = rows * d + keys * d + keys * v_pad + STRIP * S_STRIDE + rows * (2 * v_pad + 16 + 3);
    const i64 packed = (i64)tile_rows_of(args) * args->group;
    const size_t mods = mod_is_used(args) ? folio__mod_scratch_bytes(args, 1, packed, TILE_KEYS) : 0;
    return (size_t)floats * sizeof(float) + 16 * 64 + mods;
}

/* ---- a tile of keys */

/* Floats from one panel of V to the next. */
static i64 v_panel(const struct tile_pass *pass)
{
    return (i64)pass->tile_keys * (pass->pairs || pass->amx ? 8 : 16);
}

/* Keys whose values are not finite: zeros instead, aside_tmpl.h. v [n], v_scale [n]: of the kv head. */
static void tile_set_aside(struct tile_pass *pass, const u8 *const *v, const float *v_scale, i32 n)
{
    const bool halves = pass->pairs || pass->amx;
    const i64 panel = v_panel(pass);
    aside_find(&pass->aside, (enum dtype)pass->args->v.dtype, v, v_scale, n, pass->dv);
    for (i32 i = 0; i < pass->aside.n; i++) {
        const i32 t = pass->aside.keys[i].column;
        for (i32 c = 0; c < pass->dv; c += 16) {
            float *row = pass->v + c / 16 * panel + (halves ? t / 2 : t) * 16;
            u16 *pairs = (void *)row;
            for (i32 lane = 0; halves && lane < 16; lane++)
                pairs[2 * lane + t % 2] = 0;
            if (!halves)
                vec_store(row, vec_zero());
        }
    }
}

static void tile_pack(struct tile_pass *pass, const struct block *block)
{
    const struct attend_args *args = pass->args;
    const u8 *k[BLOCK_KEYS], *v[BLOCK_KEYS];
    float k_scale[BLOCK_KEYS], v_scale[BLOCK_KEYS];
    const i32 n = block->n;
    pass->aside.n = 0;
    if (pass->amx) {
        amx_pack(pass, block);
        return;
    }
    if (dtype_is_quantised((enum dtype)args->k.dtype)) {
        const i64 seq = pass->item->seq, page_size = args->page_size;
        block_scales(k_scale, &args->k, &args->k_table, seq, page_size, block, pass->head);
        block_scales(v_scale, &args->v, &args->v_table, seq, page_size, block, pass->head);
    }
    for (i32 i = 0; i < n; i++) {
        k[i] = block->k[i] + pass->head * args->k.head_stride;
        v[i] = block->v[i] + pass->head * args->v.head_stride;
    }
    for (i32 i = 0; i < n; i += 16) {
        pack_fetch(k, i + 16, i + 32 < n ? i + 32 : n, (i64)pass->d * element_bytes(k_dtype_of(args)));
        pack_k(k_dtype_of(args), pass->k + (i64)i * pass->d, k + i, k_scale + i, n - i < 16 ? n - i : 16, pass->d);
    }
    if (!pack_v(pass->pairs ? DTYPE_PAIR : (enum dtype)args->v.dtype, pass->v, v, v_scale, n, pass->dv, v_panel(pass)))
        tile_set_aside(pass, v, v_scale, n);
}

static struct score_place tile_place(const struct tile_pass *pass, i32 packed)
{
    const struct attend_args *args = pass->args;
    const i64 row = pass->item->row_begin + packed / args->group;
    return (struct score_place){ .token = row_token(args, pass->item, row),
                                 .position = row_position(args, pass->item, row),
                                 .head = pass->head * args->group + packed % args->group };
}

static void tile_load_q(const struct tile_pass *pass)
{
    if (pass->amx) {
        amx_load_q(pass);
        return;
    }
    const struct attend_args *args = pass->args;
    const enum dtype dtype = pass->pairs ? DTYPE_PAIR : (enum dtype)args->q.dtype;
    const i64 bytes = element_bytes(dtype);
    const u8 *rows[16];
    vec x[16];
    for (i32 strip = 0; strip < pass->n_rows; strip += STRIP) {
        const i32 n = pass->n_rows - strip < STRIP ? pass->n_rows - strip : STRIP;
        for (i32 i = 0; i < n; i++) {
            const struct score_place at = tile_place(pass, strip + i);
            rows[i] = layout_token(&args->q, &args->q_runs, at.token, at.head);
        }
        float *dst = pass->q + (i64)strip * pass->d;
        for (i32 c = 0; c < pass->d; c += 16) {
            const i32 left = pass->d - c < 16 ? pass->d - c : 16;
            load_transposed(dtype, x, rows, NULL, c * bytes, n, left);
            for (i32 i = 0; i < left; i++)
                vec_store_n(dst + (c + i) * STRIP, scale_by_sign(dtype, x[i], pass->rule.q_factor), STRIP);
        }
    }
}
