/* SPDX-License-Identifier: Apache-2.0
 * rows_amx_tmpl.h: the rows family's chunk in tiles. Row-major pages feed it as they lie, 16 keys at a time:
 *
 *   S^T [16 keys][rows] += K [16 keys][32 dims] * Q^T [16 pairs of dims][rows]     K rows are the A operand
 *   O   [rows][16 dims] += P [rows][16 keys][2] * V [16 keys][16 pairs of dims]    V rows are the B operand, twice:
 *                                 with weights in the first slot of each pair for even dims, in the second for odd ones
 *
 * So o has the even dims of each 32 before the odd ones until the split is done. Keys whose rows do not follow each
 * other in memory (a page ends), rows that end inside a tile, and values that no row sees go through a copy.
 * One tile configuration serves both products; a second one a chunk would cost 3 to 16 points of bandwidth.
 *
 * Of a pair of dims of V both are multiplied, one with zero: a value that is not finite makes its neighbour NaN. A
 * split that has such a result is done again, with vectors and in dims' own order (aside_tmpl.h). */

#if VEC_TILES
/* 16 rows of an operand: the first, and bytes to the next. */
struct amx_rows {
    const void *at;
    i64 stride;
};

/* V of a step, in groups of 16 keys from `first` on. */
struct amx_values {
    i32 head, first, last;
    struct amx_rows v[GROUPS];
};

struct rows_amx {
    struct tile_regs regs;
    i32 n_blocks, n_rows;          /* of rows; rows a block, <= 16 */
    i32 k_steps, v_steps;          /* head dims / 32, rounded up */
    u32 *q;                        /* [n_heads][n_blocks][k_steps][16][n_rows] pairs */
    float *s;                      /* [CHUNK][n_rows] of a block */
    i32 whole_begin, whole_end;    /* keys of the block at work that all rows see, where rows go by fours; else none */
    u32 *p;                        /* [2 slots][GROUPS][n_blocks * n_rows][16] */
    u16 *k_copy, *v_copy;          /* [GROUPS][16][k_steps * 32], [GROUPS][16][v_steps * 32] */
    bool k_follow[ROWS_KEYS / 16]; /* do rows 16 i .. 16 i + 15 of the block at work follow each other in memory? */
    bool v_follow[ROWS_KEYS / 16];
};

static i64 rows_amx_floats(const struct attend_args *args, i32 n_heads, i32 n_padded)
{
    const i64 k = padded_32(args->k.head_dim), v = padded_32(args->v.head_dim);
    const i64 arrays =
        (i64)n_heads * n_padded * k / 2 + CHUNK * n_padded + 2 * GROUPS * 16 * n_padded + GROUPS * 8 * (k + v);
    return (i64)sizeof(struct rows_amx) / 4 + arrays + 6 * 16;
}

static struct rows_amx *rows_amx_begin(const struct attend_args *args, i32 n_heads, i32 n_padded, float **scratch)
{
    struct rows_amx *amx = (void *)take(scratch, (i64)sizeof *amx / 4 + 1);
    amx->n_blocks = n_padded <= TILE_ROWS ? 1 : 2;
    amx->n_rows = n_padded / amx->n_blocks;
    amx->k_steps = padded_32(args->k.head_dim) / 32;
    amx->v_steps = padded_32(args->v.head_dim) / 32;
    amx->q = (void *)take(scratch, (i64)n_heads * n_padded * amx->k_steps * 16);
    amx->s = take(scratch, CHUNK * amx->n_rows);
    amx->p = (void *)take(scratch, 2 * GROUPS * 16 * n_padded);
    amx->k_copy = (void *)take(scratch, GROUPS * 8 * amx->k_steps * 32);
    amx->v_copy = (void *)take(scratch, GROUPS * 8 * amx->v_steps * 32);
    memset(amx->p, 0, (size_t)(2 * GROUPS * 16 * n_padded) * sizeof *amx->p);

    struct tile_shapes shapes = tile_shapes_full(); /* 0 K, 4 V */
    tile_shape(&shapes, 1, 16, amx->n_rows);        /* Q^T */
    tile_shape(&shapes, 2, 16, amx->n_rows);        /* S^T */
    tile_shape(&shapes, 3, amx->n_rows, 16);        /* P */
    tile_shape(&shapes, 5, amx->n_rows, 16);        /* O, even dims */
    tile_shape(&shapes, 6, amx->n_rows, 16);        /* O, odd dims */
    tile_shape(&shapes, 7, 16, amx->n_rows);        /* S^T of 16 keys more */
    tile_config(&amx->regs, &shapes);
    return amx;
}

/* A query vector of kv head `head` of the pass into its column of Q^T; NULL = zeros. */
static void rows_amx_load_q(const struct rows_pass *pass, i32 head, i32 row, const u8 *src)
{
    const struct rows_amx *amx = pass->amx;
    const i32 d = pass->args->k.head_dim;
    const i32 n_pairs = amx->k_steps * 16, block = row / amx->n_rows, column = row % amx->n_rows;
    u32 *q = amx->q + ((i64)head * amx->n_blocks + block) * n_pairs * amx->n_rows + column;
    const float sign = pass->rule.q_factor; /* 1, -1 or 0 */
    const u32 keep = sign == 0.0f ? 0 : UINT32_MAX, turn = sign < 0.0f ? 0x80008000u : 0;
    const i32 n_there = src ? d / 2 : 0;
    for (i32 i = 0; i < n_there; i++) {
        u32 pair;
        memcpy(&pair, src + 4 * i, sizeof pair);
        q[i * amx->n_rows] = (pair & keep) ^ turn;
    }
    for (i32 i = n_there; i < n_pairs; i++)
        q[i * amx->n_rows] = 0;
}

static bool rows_follow(const u8 *const *rows, i64 stride)
{
    for (i32 i = 1; i < 16; i++)
        if (rows[i] - rows[0] != i * stride)
            return false;
    return true;
}

/* Which groups of 16 keys tiles can load as they lie: of n_bytes a row. */
static void rows_find_runs(bool *follow, const u8 *const *rows, i32 n, i64 stride, i32 n_bytes)
{
    for (i32 i = 0; i < n; i += 16)
        follow[i / 16] = n - i >= 16 && n_bytes % TILE_BYTES == 0 && rows_follow(rows + i, stride);
}

/* What all rows see of a block. */
static struct keys rows_seen_by_all(const struct rows_pass *pass, const struct block *block)
{
    struct keys keys = { 0, block->n };
    for (i32 r = 0; r < pass->n_rows; r++)
        keys = keys_within(keys, pass->row_keys[r].begin - block->key, pass->row_keys[r].end - block->key);
    return keys;
}

/* Once a block, for all heads. */
static void rows_amx_block(const struct rows_pass *pass, const struct block *block)
{
    struct rows_amx *amx = pass->amx;
    const struct attend_args *args = pass->args;
    rows_find_runs(amx->k_follow, block->k, block->n, args->k.slot_stride, 2 * args->k.head_dim);
    rows_find_runs(amx->v_follow, block->v, block->n, args->v.slot_stride, 2 * args->v.head_dim);
    const bool by_fours = pass->n_rows % 4 == 0 && amx->n_blocks == 1 && pass->rule.plain && !pass->careful;
    const struct keys whole = rows_seen_by_all(pass, block);
    amx->whole_begin = by_fours ? (i32)whole.begin : block->n;
    amx->whole_end = (i32)whole.end;
}

/* Rows [begin, end) of 16, of n_bytes; the others and what lies behind, up to a whole tile, are zeros. */
static struct amx_rows copy_rows(void *copy, const u8 *const *rows, i64 offset, i32 begin, i32 end, i32 n_bytes)
{
    const i32 width = padded_64(n_bytes);
    memset(copy, 0, (size_t)(16 * width));
    for (i32 i = begin; i < end; i++)
        memcpy((u8 *)copy + i * width, rows[i] + offset, (size_t)n_bytes);
    return (struct amx_rows){ copy, width };
}

static struct amx_rows rows_amx_k(const struct rows_pass *pass, const struct rows_step *step, i32 key, i32 group)
{
    const struct pages_view *k = &pass->args->k;
    const u8 *const *rows = step->block->k + key;
    const i64 offset = (pass->head_begin + step->head) * k->head_stride;
    if (pass->amx->k_follow[key / 16])
        return (struct amx_rows){ rows[0] + offset, k->slot_stride };
    u16 *copy = pass->amx->k_copy + (i64)group * 16 * pass->amx->k_steps * 32;
    return copy_rows(copy, rows, offset, 0, 16, 2 * k->head_dim);
}

/* begin, end: of the keys that any row sees, from `key` on. */
static struct amx_rows rows_amx_v(const struct rows_pass *pass, const struct rows_step *step, i32 key, i32 begin,
                                  i32 end, i32 group)
{
    const struct pages_view *v = &pass->args->v;
    const u8 *const *rows = step->block->v + key;
    const i64 offset = (pass->head_begin + step->head) * v->head_stride;
    if (begin <= 0 && end >= 16 && pass->amx->v_follow[key / 16])
        return (struct amx_rows){ rows[0] + offset, v->slot_stride };
    u16 *copy = pass->amx->v_copy + (i64)group * 16 * pass->amx->v_steps * 32;
    return copy_rows(copy, rows, offset, begin > 0 ? begin : 0, end < 16 ? end : 16, 2 * v->head_dim);
}

/* s [rows][CHUNK] from column 16 * group on. */
static void rows_amx_transpose(const struct rows_amx *amx, float *s, i32 group)
{
    vec x[16];
    for (i32 i = 0; i < 16; i++)
        x[i] = vec_load_n(amx->s + (16 * group + i) * amx->n_rows, amx->n_rows);
    vec_transpose(x);
    for (i32 r = 0; r < amx->n_rows; r++)
        vec_store(s + r * CHUNK + 16 * group, x[r]);
}

static void rows_amx_dots(const struct rows_pass *pass, const struct rows_step *step)
{
    struct rows_amx *amx = pass->amx;
    struct amx_ahead ahead;
    rows_amx_look_ahead(&ahead, pass, step, false);
    for (i32 group = 0; group * 16 < step->n; group++) {
        const struct amx_rows k = rows_amx_k(pass, step, step->at + 16 * group, group);
        for (i32 block = 0; block < amx->n_blocks; block++) {
            const i64 q_words = (i64)16 * amx->n_rows;
            const u32 *q = amx->q + ((i64)step->head * amx->n_blocks + block) * amx->k_steps * q_words;
            tile_zero(&amx->regs, 2);
            for (i32 c = 0; c < amx->k_steps; c++) {
                if (block == 0)
                    rows_amx_fetch(&ahead, group, c, amx->k_steps);
                tile_load(&amx->regs, 0, (const u8 *)k.at + 64 * c, k.stride);
                tile_load(&amx->regs, 1, q + c * q_words, 4 * amx->n_rows);
                tile_dot_bf16(&amx->regs, 2, 0, 1);
            }
            tile_store(&amx->regs, 2, amx->s + (i64)16 * group * amx->n_rows, 4 * amx->n_rows);
            rows_amx_transpose(amx, pass->s + (i64)block * amx->n_rows * CHUNK, group);
        }
    }
}

/* Weights rounded to bf16, in the first and in the second slot of pairs. */
static void rows_amx_round(const struct rows_pass *pass)
{
    u32 *p = pass->amx->p;
    const i64 slot = (i64)GROUPS * pass->n_padded * 16;
    for (i32 group = 0; group < GROUPS; group++)
        for (i32 r = 0; r < pass->n_rows; r++) {
            u32 *row = p + ((i64)group * pass->n_padded + r) * 16;
            vec_store_slots(row, row + slot, vec_load(pass->s + r * CHUNK + 16 * group));
        }
}

static void rows_amx_weigh(const struct rows_pass *pass, const struct amx_values *values, const struct amx_ahead *ahead)
{
    struct rows_amx *amx = pass->amx;
    const i64 stride = pass->v_pad * (i64)sizeof(float), slot = (i64)GROUPS * pass->n_padded * 16;
    for (i32 c = 0; c < amx->v_steps; c++)
        for (i32 block = 0; block < amx->n_blocks; block++) {
            const i64 row = (i64)block * amx->n_rows;
            float *o = pass->o + ((i64)values->head * pass->n_padded + row) * pass->v_pad + 32 * c;
            tile_load(&amx->regs, 5, o, stride);
            tile_load(&amx->regs, 6, o + 16, stride);
            for (i32 g = values->first; g < values->last; g++) {
                const u32 *p = amx->p + (g * pass->n_padded + row) * 16;
                if (block == 0)
                    rows_amx_fetch(ahead, g, c, amx->v_steps);
                tile_load(&amx->regs, 4, (const u8 *)values->v[g].at + 64 * c, values->v[g].stride);
                tile_load(&amx->regs, 3, p, 64);
                tile_dot_bf16(&amx->regs, 5, 3, 4);
                tile_load(&amx->regs, 3, p + slot, 64);
                tile_dot_bf16(&amx->regs, 6, 3, 4);
            }
            tile_store(&amx->regs, 5, o, stride);
            tile_store(&amx->regs, 6, o + 16, stride);
        }
}

static void rows_amx_find_values(struct amx_values *values, const struct rows_pass *pass, const struct rows_step *step)
{
    const i32 begin = (i32)max_i64(pass->all_keys.begin - step->block->key - step->at, 0);
    values->head = step->head;
    values->first = begin / 16;
    values->last = (step->n + 15) / 16;
    for (i32 g = values->first; g < values->last; g++)
        values->v[g] = rows_amx_v(pass, step, step->at + 16 * g, begin - 16 * g, step->n - 16 * g, g);
}

/* A step of fours of rows that see all its keys; whole_amx_tmpl.h. */
static void rows_amx_whole(const struct rows_pass *pass, const struct rows_step *step);

static void rows_amx_chunk(const struct rows_pass *pass, const struct rows_step *step)
{
    const struct rows_amx *amx = pass->amx;
    if (step->n == CHUNK && step->at >= amx->whole_begin && step->at + CHUNK <= amx->whole_end) {
        rows_amx_whole(pass, step);
        return;
    }
    rows_amx_dots(pass, step);
    rows_weights(pass, step);
    if (pass->careful) {
        const struct weigh work = weigh_of_step(pass, step);
        weigh_present(DTYPE_BF16, pass->n_rows, &work);
        return;
    }
    rows_amx_round(pass);
    struct amx_ahead ahead;
    rows_amx_look_ahead(&ahead, pass, step, true);
    struct amx_values values;
    rows_amx_find_values(&values, pass, step);
    rows_amx_weigh(pass, &values, &ahead);
}

/* The split is done: dims of o in their order. */
static void rows_amx_in_order(const struct rows_pass *pass)
{
    for (i64 row = 0; row < (i64)pass->n_heads * pass->n_padded; row++)
        for (i32 c = 0; c < pass->v_pad; c += 32) {
            float *o = pass->o + row * pass->v_pad + c;
            const vec even = vec_load(o), odd = vec_load(o + 16);
            vec_store(o, vec_zip_lo(even, odd));
            vec_store(o + 16, vec_zip_hi(even, odd));
        }
}
#endif
