/* SPDX-License-Identifier: Apache-2.0
 * rows_pass_tmpl.h: what one item of the rows family works with: its scratch and its query vectors. */

enum { MAX_ROWS = 24, STATE_BYTES = 256 * 1024, ROWS_KEYS = 128 };

/* Scratch of one pass over n_heads kv heads. */
struct rows_pass {
    const struct attend_args *args;
    const struct attend_item *item;
    struct score_rule rule;
    i32 head_begin, n_heads;
    i32 n_rows, n_padded; /* packed rows a head; 1, 2 or a multiple of 4 */
    i32 k_pad, v_pad;     /* head dims, padded to 16 */
    float *q;             /* [n_heads][n_padded][k_pad] */
    float *o, *total;     /* [n_heads][n_padded][v_pad] of this split; of the splits before */
    float *m, *l;         /* [n_heads][n_padded], [n_heads][n_padded][16] */
    float *total_m, *total_l;
    float *s;                   /* [n_padded][s_stride], of one head at a time or, in order, of all */
    i64 s_head;                 /* floats from one head's to the next's; 0 = the same */
    i32 s_stride;               /* CHUNK, or ROWS_KEYS for bytes */
    float *k_scales, *v_scales; /* [n_heads][ROWS_KEYS] of the block at work; NULL = all are 1 */
    i32 chunk;                  /* keys a chunk */
    bool heads_together;        /* pages hold all heads of a slot together */
    bool by_slot;               /* so, and not in vectors of bytes: blocks are of one chunk */
    bool in_order;              /* all heads of a slot are walked together, rows_chunk_tmpl.h */
    bool careful;               /* keys that a row weighs 0 are left out, aside_tmpl.h */
    struct keys row_keys[MAX_ROWS];
    struct keys all_keys;     /* of any row */
    struct mod_runner *mods;  /* NULL = none */
    struct rows_amx *amx;     /* NULL = not in tiles of bf16 */
    struct rows_i8 *i8;       /* NULL = not in tiles of bytes */
    struct rows_bytes *bytes; /* NULL = not in vectors of bytes */
};

/* A chunk of a block, as one kv head of the pass sees it. */
struct rows_step {
    const struct block *block, *after; /* after: the block that comes next */
    i32 head, at, n;                   /* keys at .. at + n of the block */
};

/* o += w * v for a step's keys, with nothing to fetch meanwhile. */
static struct weigh weigh_of_step(const struct rows_pass *pass, const struct rows_step *step)
{
    const struct attend_args *args = pass->args;
    return (struct weigh){ .w = pass->s + step->head * pass->s_head,
                           .n_padded = pass->n_padded,
                           .d = args->v.head_dim,
                           .v = step->block->v + step->at,
                           .offset = (pass->head_begin + step->head) * args->v.head_stride,
                           .begin = (i32)max_i64(pass->all_keys.begin - step->block->key - step->at, 0),
                           .end = step->n,
                           .visit = CHUNK,
                           .n_heads = 1,
                           .head_stride = args->v.head_stride,
                           .o = pass->o + (i64)step->head * pass->n_padded * pass->v_pad,
                           .stride = pass->v_pad };
}

/* The same in tiles, rows_tiles_tmpl.h. False, or nothing to do: vectors. */
static i64 rows_tiles_floats(const struct attend_args *args, i32 n_heads, i32 n_padded);
static void rows_tiles_begin(struct rows_pass *pass, i32 n_heads, float **scratch);
static void rows_tiles_end(const struct rows_pass *pass);
static bool rows_tiles_load_q(const struct rows_pass *pass, i32 head, i32 row, const u8 *src);
static void rows_tiles_block(const struct rows_pass *pass, const struct block *block);
static bool rows_tiles_chunk(const struct rows_pass *pass, const struct rows_step *step);
static void rows_tiles_in_order(const struct rows_pass *pass);

/* And in bytes, rows_bytes_tmpl.h; used where uses_bytes says so. */
static bool uses_bytes(const struct attend_args *args, i64 kv_len, i32 n_padded);
static i64 rows_bytes_floats(const struct attend_args *args, i32 n_heads, i32 n_padded);
static struct rows_bytes *rows_bytes_begin(const struct attend_args *args, i32 n_heads, i32 n_padded, float **scratch);
static void rows_bytes_load_q(const struct rows_pass *pass, i64 row, const float *x);
static void rows_bytes_chunk(const struct rows_pass *pass, const struct rows_step *step);
static void rows_bytes_in_order(const struct rows_pass *pass);

static i32 padded_rows(i32 n_rows)
{
    return n_rows <= 2 ? n_rows : (n_rows + 3) / 4 * 4;
}

static i32 padded_dim(i32 d)
{
    return (d + 15) / 16 * 16;
}

/* Of o. */
static i32 rows_v_pad(const struct attend_args *args)
{
    return uses_i8_tiles(args) ? padded_64(args->v.head_dim)
           : uses_tiles(args)  ? padded_32(args->v.head_dim)
                               : padded_dim(args->v.head_dim);
}

/* Floats of scratch for one kv head. */
static i64 rows_state_floats(const struct attend_args *args, i32 n_padded)
{
    return (i64)n_padded * (padded_dim(args->k.head_dim) + 2 * rows_v_pad(args) + 1 + 16 + 2);
}

static i32 rows_heads_a_pass(const struct attend_args *args, i32 n_padded)
{
    const i64 fit = STATE_BYTES / (i64)sizeof(float) / rows_state_floats(args, n_padded);
    return (i32)clamp_i64(fit, 1, args->n_kv_heads);
}

static size_t rows_scratch_bytes(const struct attend_args *args)
{
    size_t most = 0;
    for (i32 n = 1; n <= MAX_ROWS; n++) {
        const i32 n_padded = padded_rows(n);
        const i32 n_heads = rows_heads_a_pass(args, n_padded);
        const i64 floats = n_heads * (rows_state_floats(args, n_padded) + n_padded * CHUNK) + 2 * n_heads * ROWS_KEYS;
        const i64 mods = mod_is_used(args) ? (i64)folio__mod_scratch_bytes(args, n_heads, n, ROWS_KEYS) : 0;
        const i64 others = rows_tiles_floats(args, n_heads, n_padded) + rows_bytes_floats(args, n_heads, n_padded);
        most = (size_t)max_i64((i64)most, (floats + others) * (i64)sizeof(float) + mods);
    }
    return most + 16 * 64;
}

static float *take(float **scratch, i64 n)
{
    float *taken = *scratch;
    *scratch += (n + 15) / 16 * 16;
    return taken;
}

/* Keys a chunk. 16-bit K and smaller: 8 KB of it, measured best: shorter costs more softmax, longer runs out of L1 with
 * the whole chunk that is fetched ahead; f32 is fetched less far ahead (rows_lead). A power of two in 8 .. CHUNK; mods
 * want whole vectors. */
static i32 chunk_keys(const struct attend_args *args)
{
    const i64 row_bytes = (i64)args->k.head_dim * element_bytes((enum dtype)args->k.dtype);
    i32 keys = CHUNK;
    while (args->k.dtype != DTYPE_F32 && keys > (mod_is_used(args) || uses_tiles(args) ? 16 : 8) &&
           keys * row_bytes > 8192)
        keys /= 2;
    return keys;
}

static void rows_scales_begin(struct rows_pass *pass, i32 n_heads, bool always, float **scratch);

static void rows_begin(struct rows_pass *pass, const struct attend_args *args, const struct attend_item *item,
                       i32 n_heads, struct mod_runner *mods, void *scratch)
{
    pass->args = args;
    pass->item = item;
    pass->rule = rule_of(args);
    pass->n_rows = (i32)item->n_rows * args->group;
    pass->n_padded = padded_rows(pass->n_rows);
    pass->k_pad = padded_dim(args->k.head_dim);
    pass->v_pad = rows_v_pad(args);
    const bool in_bytes = uses_bytes(args, item->kv_len, pass->n_padded);
    pass->s_stride = in_bytes ? ROWS_KEYS : CHUNK;
    pass->chunk = in_bytes ? ROWS_KEYS : chunk_keys(args);
    pass->heads_together = args->k.head_stride < args->k.slot_stride;
    pass->by_slot = pass->heads_together && !in_bytes;
    const bool short_pages = args->page_size <= 2; /* a head's rows in one are too few to be read as a run */
    pass->in_order = (pass->by_slot || short_pages) && !in_bytes && !uses_tiles(args) && !uses_i8_tiles(args);
    pass->careful = false;
    float *next = scratch;
    const i64 rows = (i64)n_heads * pass->n_padded;
    pass->s_head = pass->in_order ? (i64)pass->n_padded * CHUNK : 0;
    pass->q = take(&next, rows * pass->k_pad);
    pass->o = take(&next, rows * pass->v_pad);
    pass->total = take(&next, rows * pass->v_pad);
    pass->m = take(&next, rows);
    pass->l = take(&next, rows * 16);
    pass->total_m = take(&next, rows);
    pass->total_l = take(&next, rows);
    pass->s = take(&next, (pass->in_order ? rows : pass->n_padded) * pass->s_stride);
    rows_scales_begin(pass, n_heads, in_bytes, &next);
    for (i32 r = 0; r < pass->n_rows; r++)
        pass->row_keys[r] = keys_of_row(args, item, item->row_begin + r / args->group);
    pass->all_keys = keys_of_rows(args, item, item->row_begin, item->row_begin + item->n_rows);
    rows_tiles_begin(pass, n_heads, &next);
    pass->bytes = in_bytes ? rows_bytes_begin(args, n_heads, pass->n_padded, &next) : NULL;
    pass->mods = mod_is_used(args) ? mods : NULL;
    if (pass->mods)
        folio__mod_bind(mods, &VEC_MODS, args, item, n_heads, ROWS_KEYS, next);
}

static struct score_place place_of(const struct attend_args *args, const struct attend_item *item, i32 head, i32 packed)
{
    const i64 row = item->row_begin + packed / args->group;
    return (struct score_place){ .token = row_token(args, item, row),
                                 .position = row_position(args, item, row),
                                 .head = head * args->group + packed % args->group };
}

static void rows_load_q(const struct rows_pass *pass)
{
    const struct attend_args *args = pass->args;
    for (i32 h = 0; h < pass->n_heads; h++)
        for (i32 r = 0; r < pass->n_padded; r++) {
            const u8 *src = NULL; /* rows of padding have no place */
            if (r < pass->n_rows) {
                const struct score_place at = place_of(args, pass->item, pass->head_begin + h, r);
                src = layout_token(&args->q, &args->q_runs, at.token, at.head);
            }
            if (rows_tiles_load_q(pass, h, r, src))
                continue;
            const i64 row = (i64)h * pass->n_padded + r;
            float *q = pass->q + row * pass->k_pad;
            if (src)
                widen_row((enum dtype)args->q.dtype, q, src, args->q.dim, pass->rule.q_factor);
            else
                memset(q, 0, (size_t)pass->k_pad * sizeof *q);
            if (pass->bytes)
                rows_bytes_load_q(pass, row, q);
        }
}

static void rows_clear(float *o, float *m, float *l, i64 n_rows, i32 d, i32 l_width)
{
    memset(o, 0, (size_t)(n_rows * d) * sizeof *o);
    memset(l, 0, (size_t)(n_rows * l_width) * sizeof *l);
    for (i64 r = 0; r < n_rows; r++)
        m[r] = -INFINITY;
}
