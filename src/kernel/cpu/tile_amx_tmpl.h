/* SPDX-License-Identifier: Apache-2.0
 * tile_amx_tmpl.h: the tile family in AMX tiles, for bf16.
 *
 *   Q  [rows][dims]                    strips of 32 rows are A operands
 *   K  [keys / 16][dims / 2][16][2]    panels of 16 keys, packed at use: B operands
 *   V  [dims / 16][keys / 2][16][2]    panels of 16 dims, packed at use: B operands
 *   S  [32][keys] f32, P [32][keys] bf16, O [rows][dims] f32
 *
 * Here strip by strip: scores S = Q K, weights P = exp2, values O += P V; where scores are plain dot products, all at
 * once: flow_amx_tmpl.h. Rows of all arrays but K and V are an odd number of cache lines apart. */

#if VEC_TILES
enum { AMX_STRIP = 32, AMX_KEYS = 256, AMX_ROWS = 1024, FLOW_KEYS = 64, FLOW_STRIDE = FLOW_KEYS + 16 };

struct tile_amx {
    struct tile_regs regs;
    i32 d, dv;                        /* head dims, padded to 32 */
    i32 q_stride, s_stride, p_stride; /* elements */
    u16 *q;                           /* [n_padded][q_stride] */
    float *s;                         /* [AMX_STRIP][s_stride] of a strip */
    float *ring[2];                   /* [AMX_STRIP][FLOW_STRIDE] of a turn, by turns */
    u16 *p[2];                        /* [AMX_STRIP][p_stride] of two strips */
};

static i32 amx_keys_of(const struct attend_args *args)
{
    return args->k.head_dim <= 256 && args->v.head_dim <= 256 ? AMX_KEYS : AMX_KEYS / 2;
}

/* Packed rows a tile: Q and O share the second-level cache with K and V. */
static i32 amx_rows_of(const struct attend_args *args)
{
    const i32 d = args->v.head_dim;
    return d <= 128 ? AMX_ROWS : d <= 256 ? AMX_ROWS / 2 : AMX_ROWS / 4;
}

static i32 amx_tile_rows_of(const struct attend_args *args)
{
    const i32 rows = amx_rows_of(args);
    return args->group >= rows ? 1 : rows / args->group;
}

static i32 amx_v_pad(const struct attend_args *args)
{
    return padded_32(args->v.head_dim) + 16;
}

static i64 amx_padded_rows(i64 n_rows)
{
    return (n_rows + AMX_STRIP - 1) / AMX_STRIP * AMX_STRIP;
}

static size_t amx_scratch_bytes(const struct attend_args *args)
{
    const i64 packed = (i64)amx_tile_rows_of(args) * args->group, rows = amx_padded_rows(packed);
    const i64 keys = amx_keys_of(args), d = padded_32(args->k.head_dim), dv = padded_32(args->v.head_dim);
    const i64 floats = rows * (d + 32) / 2 + keys * d / 2 + keys * dv / 2 + AMX_STRIP * (keys + 16) +
                       2 * AMX_STRIP * FLOW_STRIDE + AMX_STRIP * (keys + 32) + rows * (2 * amx_v_pad(args) + 16 + 3) +
                       (i64)sizeof(struct tile_amx) / 4;
    const size_t mods = mod_is_used(args) ? folio__mod_scratch_bytes(args, 1, packed, AMX_KEYS) : 0;
    return (size_t)floats * sizeof(float) + 16 * 64 + mods;
}

static void amx_begin(struct tile_pass *pass, float **scratch)
{
    const struct attend_args *args = pass->args;
    struct tile_amx *amx = (void *)take(scratch, (i64)sizeof *amx / 4 + 1);
    pass->amx = amx;
    pass->n_padded = (i32)amx_padded_rows(pass->n_rows);
    pass->v_pad = amx_v_pad(args);
    pass->tile_keys = amx_keys_of(args);
    amx->d = padded_32(args->k.head_dim);
    amx->dv = padded_32(args->v.head_dim);
    amx->q_stride = amx->d + 32;
    amx->s_stride = pass->tile_keys + 16;
    amx->p_stride = pass->tile_keys + 32;
    amx->q = (void *)take(scratch, (i64)pass->n_padded * amx->q_stride / 2);
    pass->k = take(scratch, (i64)pass->tile_keys * amx->d / 2);
    pass->v = take(scratch, (i64)pass->tile_keys * amx->dv / 2);
    amx->s = take(scratch, AMX_STRIP * amx->s_stride);
    for (i32 i = 0; i < 2; i++) {
        amx->ring[i] = take(scratch, AMX_STRIP * FLOW_STRIDE);
        amx->p[i] = (void *)take(scratch, AMX_STRIP * amx->p_stride / 2);
    }
    /* Dims between a head dim and the next multiple of 32 are never packed. */
    memset(pass->k, 0, (size_t)pass->tile_keys * (size_t)amx->d * sizeof(u16));
    memset(pass->v, 0, (size_t)pass->tile_keys * (size_t)amx->dv * sizeof(u16));
    const struct tile_shapes shapes = tile_shapes_full();
    tile_config(&amx->regs, &shapes);
}

static void amx_end(const struct tile_pass *pass)
{
    tile_release(&pass->amx->regs);
}

static void amx_load_q(const struct tile_pass *pass)
{
    const struct tile_amx *amx = pass->amx;
    const struct attend_args *args = pass->args;
    const float sign = pass->rule.q_factor;
    const i32 first = sign == 0.0f || args->k.head_dim < amx->d ? 0 : pass->n_rows; /* of rows with zeros */
    memset(amx->q + (i64)first * amx->q_stride, 0,
           (size_t)(pass->n_padded - first) * (size_t)amx->q_stride * sizeof *amx->q);
    for (i32 r = 0; sign != 0.0f && r < pass->n_rows; r++) {
        const struct score_place at = tile_place(pass, r);
        u16 *q = amx->q + (i64)r * amx->q_stride;
        memcpy(q, layout_token(&args->q, &args->q_runs, at.token, at.head), (size_t)args->k.head_dim * sizeof *q);
        for (i32 i = 0; sign < 0.0f && i < args->k.head_dim; i++)
            q[i] ^= 0x8000u;
    }
}

/* 16 rows of d pairs, a multiple of 16 -> a panel. */
static void amx_pack_k(float *dst, const u8 *const rows[16], i32 d)
{
    vec x[16];
    for (i32 c = 0; c < d; c += 16) {
        UNROLL(16)
        for (i32 i = 0; i < 16; i++)
            x[i] = vec_load((const float *)(const void *)(rows[i] + (i64)c * 4));
        vec_transpose(x);
        UNROLL(16)
        for (i32 i = 0; i < 16; i++)
            vec_store(dst + (c + i) * 16, x[i]);
    }
}

static void amx_pack(struct tile_pass *pass, const struct block *block)
{
    const struct attend_args *args = pass->args;
    const struct tile_amx *amx = pass->amx;
    const i64 panel = (i64)pass->tile_keys * 8;
    const u8 *k[BLOCK_KEYS], *v[BLOCK_KEYS];
    const i32 n = block->n;
    for (i32 i = 0; i < n; i++) {
        k[i] = block->k[i] + pass->head * args->k.head_stride;
        v[i] = block->v[i] + pass->head * args->v.head_stride;
    }
    i32 i = 0;
    for (; i + 16 <= n && args->k.head_dim % 32 == 0; i += 16)
        amx_pack_k(pass->k + (i64)i * amx->d / 2, k + i, args->k.head_dim / 2);
    for (; i < n; i += 16)
        pack_k_of(DTYPE_PAIR, pass->k + (i64)i * amx->d / 2, k + i, NULL, n - i < 16 ? n - i : 16,
                  args->k.head_dim / 2);
    if (!pack_v_pairs(pass->v, v, n, args->v.head_dim, panel))
        tile_set_aside(pass, v, NULL, n);
    const i32 first = (n + 1) / 2, last = padded_32(n) / 2; /* pairs behind the last key: weights there are zeros */
    for (i32 j = 0; first < last && j < amx->dv / 16; j++)
        memset(pass->v + j * panel + first * 16, 0, (size_t)(last - first) * 64);
}

/* ---- weights */

/* Row r of a strip: scores -> weights; o rescaled where the maximum moved. */
static void amx_weights(const struct tile_pass *pass, const struct strip *strip, i32 r)
{
    const struct tile_amx *amx = pass->amx;
    const i32 packed = strip->row + r;
    float *s = amx->s + (i64)r * amx->s_stride;
    u16 *p = amx->p[0] + (i64)r * amx->p_stride;
    const struct keys columns = { strip->begin / 32 * 32, padded_32(strip->end) };
    struct keys keys = { 0, 0 };
    if (packed < pass->n_rows)
        keys = keys_within(keys_of_row(pass->args, pass->item, pass->item->row_begin + packed / pass->args->group),
                           strip->key + strip->begin, strip->key + strip->end);
    if (keys.begin >= keys.end) {
        memset(p + columns.begin, 0, (size_t)(columns.end - columns.begin) * sizeof *p);
        return;
    }
    const i32 lo = (i32)(keys.begin - strip->key), hi = (i32)(keys.end - strip->key);
    if (!scores_are_dots(pass->args, &pass->rule, pass->mods)) {
        const struct score_place at = tile_place(pass, packed);
        const struct score_mods mods = { pass->mods, pass->head, packed, 0 };
        score_row(pass->args, &pass->rule, &at, &mods, strip->key, lo, hi, s);
    }
    const float factor = amx_weight_row(s, p, columns, lo, hi, pass->rule.c, &pass->m[packed], pass->l + packed * 16);
    if (factor != 1.0f)
        scale_row(pass->o + (i64)packed * pass->v_pad, amx->dv, factor);
}

/* Rows r and r + 1. */
static void amx_weights_two(const struct tile_pass *pass, const struct strip *strip, i32 r)
{
    const i32 packed = strip->row + r;
    float factors[2];
    const struct tile_amx *amx = pass->amx;
    const struct amx_two two = { .s = amx->s + (i64)r * amx->s_stride,
                                 .p = amx->p[0] + (i64)r * amx->p_stride,
                                 .s_stride = amx->s_stride,
                                 .p_stride = amx->p_stride };
    const bool full = strip->full && strip->begin % 32 == 0 && strip->end % 32 == 0;
    if (!scores_are_dots(pass->args, &pass->rule, pass->mods) ||
        (!full && !amx_two_from_begin(pass, strip, packed, two.s, two.s_stride))) {
        amx_weights(pass, strip, r);
        amx_weights(pass, strip, r + 1);
        return;
    }
    amx_weight_two(&two, (struct keys){ strip->begin, padded_32(strip->end) }, pass->rule.c, pass->m + packed,
                   pass->l + packed * 16, factors);
    for (i32 i = 0; i < 2; i++)
        if (factors[i] != 1.0f)
            scale_row(pass->o + (i64)(packed + i) * pass->v_pad, pass->amx->dv, factors[i]);
}

/* ---- products: two tiles of rows by two of columns. Panels stream by: the first level is for S, P and Q */

#define AMX_STEP(regs, a, a_stride, b, b_next)                    \
    tile_load_once(regs, 2, b, 64);                               \
    tile_load(regs, 0, a, (a_stride)*2);                          \
    tile_load(regs, 1, (a) + (i64)16 * (a_stride), (a_stride)*2); \
    tile_dot_bf16(regs, 4, 0, 2);                                 \
    tile_load_once(regs, 3, b_next, 64);                          \
    tile_dot_bf16(regs, 6, 1, 2);                                 \
    tile_dot_bf16(regs, 5, 0, 3);                                 \
    tile_dot_bf16(regs, 7, 1, 3)

INLINE void amx_zero(struct tile_regs *regs)
{
    (void)regs;
    tile_zero(regs, 4);
    tile_zero(regs, 5);
    tile_zero(regs, 6);
    tile_zero(regs, 7);
}

/* c [32][stride], of which 32 columns. */
INLINE void amx_load(struct tile_regs *regs, const float *c, i64 stride)
{
    (void)regs;
    tile_load(regs, 4, c, stride * 4);
    tile_load(regs, 5, c + 16, stride * 4);
    tile_load(regs, 6, c + 16 * stride, stride * 4);
    tile_load(regs, 7, c + 16 * stride + 16, stride * 4);
}

static void amx_store(struct tile_regs *regs, float *c, i64 stride)
{
    (void)regs;
    tile_store(regs, 4, c, stride * 4);
    tile_store(regs, 5, c + 16, stride * 4);
    tile_store(regs, 6, c + 16 * stride, stride * 4);
    tile_store(regs, 7, c + 16 * stride + 16, stride * 4);
}

static void amx_scores(const struct tile_pass *pass, const struct strip *strip)
{
    struct tile_amx *amx = pass->amx;
    const u16 *q = amx->q + (i64)strip->row * amx->q_stride;
    const i64 panel = (i64)amx->d * 8;
    for (i32 col = strip->begin / 32 * 32; col < strip->end; col += 32) {
        const float *k = pass->k + col / 16 * panel;
        amx_zero(&amx->regs);
        for (i32 c = 0; c < amx->d / 32; c++) {
            AMX_STEP(&amx->regs, q + 32 * c, amx->q_stride, k + 256 * c, k + panel + 256 * c);
            ahead_fetch(strip->ahead);
        }
        amx_store(&amx->regs, amx->s + col, amx->s_stride);
    }
}

static void amx_values(const struct tile_pass *pass, const struct strip *strip)
{
    struct tile_amx *amx = pass->amx;
    const u16 *p = amx->p[0];
    const i64 panel = (i64)pass->tile_keys * 8, stride = pass->v_pad;
    for (i32 c = 0; c < amx->dv; c += 32) {
        float *o = pass->o + strip->row * stride + c;
        const float *v = pass->v + c / 16 * panel;
        amx_load(&amx->regs, o, stride);
        for (i32 key = strip->begin / 32 * 32; key < strip->end; key += 32) {
            AMX_STEP(&amx->regs, p + key, amx->p_stride, v + key * 8, v + panel + key * 8);
            ahead_fetch(strip->ahead);
        }
        amx_store(&amx->regs, o, stride);
    }
    const struct aside_weights weights = { p, amx->p_stride, true, AMX_STRIP, strip->begin, strip->end };
    aside_add(&pass->aside, DTYPE_BF16, &weights, pass->o + strip->row * stride, stride, pass->dv);
}

static void amx_strip_use(const struct tile_pass *pass, const struct strip *strip)
{
    amx_scores(pass, strip);
    for (i32 r = 0; r < AMX_STRIP; r += 2)
        amx_weights_two(pass, strip, r);
    amx_values(pass, strip);
}
#else
static i32 amx_tile_rows_of(const struct attend_args *args)
{
    (void)args;
    return 1;
}

static size_t amx_scratch_bytes(const struct attend_args *args)
{
    (void)args;
    return 0;
}

static void amx_begin(struct tile_pass *pass, float **scratch)
{
    (void)pass, (void)scratch;
}

static void amx_end(const struct tile_pass *pass)
{
    (void)pass;
}

static void amx_load_q(const struct tile_pass *pass)
{
    (void)pass;
}

static void amx_pack(struct tile_pass *pass, const struct block *block)
{
    (void)pass, (void)block;
}

static void amx_strip_use(const struct tile_pass *pass, const struct strip *strip)
{
    (void)pass, (void)strip;
}
#endif
