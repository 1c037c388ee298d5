/* SPDX-License-Identifier: Apache-2.0
 * tile_amx_tmpl.h: the tile family in AMX tiles, for bf16.
 *
 *   Q  [rows][dims]                    strips of 32 rows are A operands
 *   K  [keys / 16][dims / 2][16][2]    panels of 16 keys, packed at use: B operands
 *   V  [dims / 16][keys / 2][16][2]    panels of 16 dims, packed at use: B operands
 *   S  [32][keys] f32, P [32][keys] bf16, O [rows][dims] f32
 *
 * Three strips are at work at once, because tiles and vectors are different parts of a core:
 *
 *   strip i + 1   scores  S = Q K ────┐ a row of weights of strip i after every few tile products
 *   strip i       weights P = exp2 ◄──┤
 *   strip i - 1   values  O += P V ───┘
 *
 * Rows of all arrays but K and V are an odd number of cache lines apart. */

#if VEC_TILES
enum { AMX_STRIP = 32, AMX_KEYS = 256, AMX_ROWS = 1024 };

struct tile_amx {
    struct tile_regs regs;
    i32 d, dv;                        /* head dims, padded to 32 */
    i32 q_stride, s_stride, p_stride; /* elements */
    u16 *q;                           /* [n_padded][q_stride] */
    float *s[2];                      /* [AMX_STRIP][s_stride] of a strip, by turns */
    u16 *p[2];                        /* [AMX_STRIP][p_stride] */
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
    const i64 floats = rows * (d + 32) / 2 + keys * d / 2 + keys * dv / 2 + 2 * AMX_STRIP * (keys + 16) +
                       AMX_STRIP * (keys + 32) + rows * (2 * amx_v_pad(args) + 16 + 3) +
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
    for (i32 i = 0; i < 2; i++) {
        amx->s[i] = take(scratch, AMX_STRIP * amx->s_stride);
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
    for (i32 i = 0; i < n; i += 16)
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
static void amx_weights(const struct tile_pass *pass, const struct strip *strip, i32 slot, i32 r)
{
    const struct tile_amx *amx = pass->amx;
    const i32 packed = strip->row + r;
    float *s = amx->s[slot] + (i64)r * amx->s_stride;
    u16 *p = amx->p[slot] + (i64)r * amx->p_stride;
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
static void amx_weights_two(const struct tile_pass *pass, const struct strip *strip, i32 slot, i32 r)
{
    const i32 packed = strip->row + r;
    float factors[2];
    const struct tile_amx *amx = pass->amx;
    const struct amx_two two = { .s = amx->s[slot] + (i64)r * amx->s_stride,
                                 .p = amx->p[slot] + (i64)r * amx->p_stride,
                                 .s_stride = amx->s_stride,
                                 .p_stride = amx->p_stride };
    const bool full = strip->full && strip->begin % 32 == 0 && strip->end % 32 == 0;
    if (!scores_are_dots(pass->args, &pass->rule, pass->mods) ||
        (!full && !amx_two_from_begin(pass, strip, packed, two.s, two.s_stride))) {
        amx_weights(pass, strip, slot, r);
        amx_weights(pass, strip, slot, r + 1);
        return;
    }
    amx_weight_two(&two, (struct keys){ strip->begin, padded_32(strip->end) }, pass->rule.c, pass->m + packed,
                   pass->l + packed * 16, factors);
    for (i32 i = 0; i < 2; i++)
        if (factors[i] != 1.0f)
            scale_row(pass->o + (i64)(packed + i) * pass->v_pad, pass->amx->dv, factors[i]);
}

/* Weights of a strip, to be made while tiles multiply. */
struct amx_side {
    const struct tile_pass *pass;
    const struct strip *strip;
    i32 slot, row; /* the next row; AMX_STRIP = all are made */
    i32 due, pace; /* in 1 / 256 rows: to be made by now, and more at every step */
    struct ahead *ahead;
};

INLINE void amx_side_step(struct amx_side *side)
{
    ahead_fetch(side->ahead);
    side->due += side->pace;
    for (; side->due >= 512 && side->row < AMX_STRIP; side->due -= 512, side->row += 2)
        amx_weights_two(side->pass, side->strip, side->slot, side->row);
}

static void amx_side_finish(struct amx_side *side)
{
    for (; side->row < AMX_STRIP; side->row += 2)
        amx_weights_two(side->pass, side->strip, side->slot, side->row);
}

/* ---- products: two tiles of rows by two of columns */

#define AMX_STEP(regs, a, a_stride, b, b_next)                    \
    tile_load(regs, 2, b, 64);                                    \
    tile_load(regs, 0, a, (a_stride)*2);                          \
    tile_load(regs, 1, (a) + (i64)16 * (a_stride), (a_stride)*2); \
    tile_dot_bf16(regs, 4, 0, 2);                                 \
    tile_load(regs, 3, b_next, 64);                               \
    tile_dot_bf16(regs, 6, 1, 2);                                 \
    tile_dot_bf16(regs, 5, 0, 3);                                 \
    tile_dot_bf16(regs, 7, 1, 3)

static void amx_store(struct tile_regs *regs, float *c, i64 stride)
{
    (void)regs;
    tile_store(regs, 4, c, stride * 4);
    tile_store(regs, 5, c + 16, stride * 4);
    tile_store(regs, 6, c + 16 * stride, stride * 4);
    tile_store(regs, 7, c + 16 * stride + 16, stride * 4);
}

static void amx_scores(const struct tile_pass *pass, const struct strip *strip, i32 slot, struct amx_side *side)
{
    struct tile_amx *amx = pass->amx;
    const u16 *q = amx->q + (i64)strip->row * amx->q_stride;
    const i64 panel = (i64)amx->d * 8;
    for (i32 col = strip->begin / 32 * 32; col < strip->end; col += 32) {
        const float *k = pass->k + col / 16 * panel;
        tile_zero(&amx->regs, 4);
        tile_zero(&amx->regs, 5);
        tile_zero(&amx->regs, 6);
        tile_zero(&amx->regs, 7);
        for (i32 c = 0; c < amx->d / 32; c++) {
            AMX_STEP(&amx->regs, q + 32 * c, amx->q_stride, k + 256 * c, k + panel + 256 * c);
            amx_side_step(side);
        }
        amx_store(&amx->regs, amx->s[slot] + col, amx->s_stride);
    }
}

static void amx_values(const struct tile_pass *pass, const struct strip *strip, i32 slot, struct amx_side *side)
{
    struct tile_amx *amx = pass->amx;
    const u16 *p = amx->p[slot];
    const i64 panel = (i64)pass->tile_keys * 8, stride = pass->v_pad;
    for (i32 c = 0; c < amx->dv; c += 32) {
        float *o = pass->o + strip->row * stride + c;
        const float *v = pass->v + c / 16 * panel;
        tile_load(&amx->regs, 4, o, stride * 4);
        tile_load(&amx->regs, 5, o + 16, stride * 4);
        tile_load(&amx->regs, 6, o + 16 * stride, stride * 4);
        tile_load(&amx->regs, 7, o + 16 * stride + 16, stride * 4);
        for (i32 key = strip->begin / 32 * 32; key < strip->end; key += 32) {
            AMX_STEP(&amx->regs, p + key, amx->p_stride, v + key * 8, v + panel + key * 8);
            amx_side_step(side);
        }
        amx_store(&amx->regs, o, stride);
    }
    const struct aside_weights weights = { p, amx->p_stride, true, AMX_STRIP, strip->begin, strip->end };
    aside_add(&pass->aside, DTYPE_BF16, &weights, pass->o + strip->row * stride, stride, pass->dv);
}

static void amx_strip_use(const struct tile_pass *pass, const struct strip *strip)
{
    struct amx_side none = { .row = AMX_STRIP, .ahead = strip->ahead }, all = { .pass = pass, .strip = strip };
    amx_scores(pass, strip, 0, &none);
    amx_side_finish(&all);
    amx_values(pass, strip, 0, &none);
}

/* ---- strips one behind the other */

struct amx_queue {
    struct strip strips[3]; /* by turns */
    i32 n;                  /* begun */
    bool weights, values;   /* of strips n - 1 and n - 2: still to do */
};

/* Scores of `next` (NULL = no more), weights of the strip before, values of the one before that. */
static void amx_advance(const struct tile_pass *pass, struct amx_queue *queue, const struct strip *next,
                        struct ahead *ahead)
{
    const struct tile_amx *amx = pass->amx;
    const i32 n = queue->n;
    const struct strip *weights = queue->weights ? &queue->strips[(n + 2) % 3] : NULL;
    const struct strip *values = queue->values ? &queue->strips[(n + 1) % 3] : NULL;
    i32 n_steps = 1;
    if (next)
        n_steps += (padded_32(next->end) - next->begin / 32 * 32) / 32 * (amx->d / 32);
    if (values)
        n_steps += (padded_32(values->end) - values->begin / 32 * 32) / 32 * (amx->dv / 32);
    struct amx_side side = { .pass = pass,
                             .strip = weights,
                             .slot = (n + 1) % 2,
                             .row = weights ? 0 : AMX_STRIP,
                             .pace = AMX_STRIP * 256 / n_steps,
                             .ahead = ahead };
    if (next)
        amx_scores(pass, next, n % 2, &side);
    if (values)
        amx_values(pass, values, n % 2, &side);
    amx_side_finish(&side);
    if (next)
        queue->strips[n % 3] = *next;
    queue->values = queue->weights;
    queue->weights = next != NULL;
    queue->n++;
}

static void amx_use(const struct tile_pass *pass, const struct cursor_block *at_work, const struct cursor_block *after)
{
    const struct tile_amx *amx = pass->amx;
    const struct block *block = &at_work->block;
    const bool whole = tile_mods_begin(pass, at_work);
    const i64 n_steps = (i64)pass->n_padded / AMX_STRIP * (padded_32(block->n) / 32) * ((amx->d + amx->dv) / 32);
    struct ahead ahead = ahead_start(pass->args, pass->head, &after->block, n_steps);
    struct amx_queue queue = { .n = 0 };
    for (i32 row = 0; row < pass->n_padded; row += AMX_STRIP) {
        struct strip strip;
        if (!strip_of(pass, block, row, AMX_STRIP, &ahead, &strip))
            continue;
        if (whole)
            amx_advance(pass, &queue, &strip, &ahead);
        else
            strip_use_pieces(pass, strip);
    }
    while (queue.weights || queue.values)
        amx_advance(pass, &queue, NULL, &ahead);
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

static void amx_use(const struct tile_pass *pass, const struct cursor_block *at_work, const struct cursor_block *after)
{
    (void)pass, (void)at_work, (void)after;
}
#endif
