/* SPDX-License-Identifier: Apache-2.0
 * rows_i8_amx_tmpl.h: the rows family's chunk in tiles of bytes, for pages of int8. As in rows_amx_tmpl.h pages feed it
 * as they lie; rows of q and of weights are whole numbers in a unit of their own, signed digits of base 256, and sums
 * of products with each digit are exact. Three digits are 24 bits, all that f32 has; for q they cost nothing. Weights
 * of long sequences are two, whose rounding is lost among many keys:
 *
 *   S^T [16 keys][3 digits of 4 rows]    += K [16 keys][64 dims] * Q^T [16 fours of dims][3 digits of 4 rows]
 *   O   [4 slots of 4 rows][16 dims] x 2 += P [4 slots of 4 rows][16 keys][4] * V [16 keys][16 fours of dims]
 *                                           a digit is alone in its slot of four, so slot j sums dims 4 n + j
 *
 * So o has dims 0, 4, 8 ... of each 64 first until the split is done. A unit of weights is of one row and chunk. */

#if VEC_TILES
enum {
    DIGIT_TILE = 16 * 16, /* words */
    DIGITS = 3,           /* the most */
    DIGITS_MOST = 8355000 /* three reach 8355711 */,
    TWO_DIGITS_MOST = 32639,
    TWO_DIGITS_KEYS = 512 /* from this many on */
};

struct rows_i8 {
    struct tile_regs regs;
    i32 n_blocks;           /* of four rows */
    i32 k_steps, v_steps;   /* head dims / 64, rounded up */
    i32 n_digits;           /* of weights */
    u32 *q;                 /* [n_heads][n_blocks][k_steps][16][DIGITS of 4 rows, last first; 4 zeros] */
    float *q_unit;          /* [n_heads][n_blocks * 4] */
    i32 *s[2];              /* [n_blocks][CHUNK][16] as q's columns, by turns */
    float *scale[2];        /* [K, V][CHUNK] of the same steps */
    i32 slot;               /* of s and scale, for the step at work */
    struct amx_values left; /* of a whole step: scores made, weights and values still to do */
    i32 sum_head;           /* of sums that are still to be added to o */
    bool is_left, is_sum;
    i32 whole_begin, whole_end;    /* keys of the block at work that all rows see, where rows fill blocks; else none */
    u32 *p;                        /* [n_blocks][GROUPS][DIGITS][4 slots][4 rows][16], last digit first */
    float *p_unit;                 /* [n_blocks * 4] */
    i32 *sums;                     /* [n_blocks][v_steps][DIGITS][4 slots][4 rows][16] */
    u8 *k_copy, *v_copy;           /* [GROUPS][16][k_steps * 64], [GROUPS][16][v_steps * 64] */
    bool k_follow[ROWS_KEYS / 16]; /* do rows 16 i .. 16 i + 15 of the block at work follow each other in memory? */
    bool v_follow[ROWS_KEYS / 16];
};

static i64 rows_i8_floats(const struct attend_args *args, i32 n_heads, i32 n_padded)
{
    const i64 n_blocks = ceil_div(n_padded, 4), k_steps = padded_64(args->k.head_dim) / 64,
              v_steps = padded_64(args->v.head_dim) / 64;
    const i64 tiles = n_heads * n_blocks * k_steps + n_blocks * (GROUPS * (DIGITS + 2) + v_steps * DIGITS) +
                      GROUPS * (v_steps + k_steps);
    return (i64)sizeof(struct rows_i8) / 4 + tiles * DIGIT_TILE + (n_heads + 1) * n_blocks * 4 + 4 * CHUNK + 12 * 16;
}

static void rows_i8_begin(struct rows_pass *pass, i32 n_heads, float **scratch)
{
    const struct attend_args *args = pass->args;
    struct rows_i8 *i8 = (void *)take(scratch, (i64)sizeof *i8 / 4 + 1);
    pass->i8 = i8;
    i8->n_blocks = (pass->n_padded + 3) / 4;
    i8->k_steps = padded_64(args->k.head_dim) / 64;
    i8->v_steps = padded_64(args->v.head_dim) / 64;
    i8->n_digits = pass->item->kv_len < TWO_DIGITS_KEYS ? 3 : 2;
    const i64 n_q = (i64)n_heads * i8->n_blocks * i8->k_steps * DIGIT_TILE,
              n_p = (i64)i8->n_blocks * GROUPS * DIGITS * DIGIT_TILE;
    i8->q = (void *)take(scratch, n_q);
    i8->q_unit = take(scratch, (i64)n_heads * i8->n_blocks * 4);
    for (i32 i = 0; i < 2; i++) {
        i8->s[i] = (void *)take(scratch, (i64)i8->n_blocks * CHUNK * 16);
        i8->scale[i] = take(scratch, 2 * CHUNK);
        for (i32 key = 0; key < 2 * CHUNK; key++)
            i8->scale[i][key] = 1.0f;
    }
    i8->slot = 0;
    i8->is_left = i8->is_sum = false;
    i8->p = (void *)take(scratch, n_p);
    i8->p_unit = take(scratch, (i64)i8->n_blocks * 4);
    i8->sums = (void *)take(scratch, (i64)i8->n_blocks * i8->v_steps * DIGITS * DIGIT_TILE);
    i8->k_copy = (void *)take(scratch, (i64)i8->k_steps * GROUPS * DIGIT_TILE);
    i8->v_copy = (void *)take(scratch, (i64)i8->v_steps * GROUPS * DIGIT_TILE);
    memset(i8->q, 0, (size_t)n_q * sizeof *i8->q);
    memset(i8->p, 0, (size_t)n_p * sizeof *i8->p);
    const struct tile_shapes shapes = tile_shapes_full();
    tile_config(&i8->regs, &shapes);
}

static inline float digits_most(i32 n_digits)
{
    return n_digits == 2 ? (float)TWO_DIGITS_MOST : (float)DIGITS_MOST;
}

/* x in whole numbers of n_digits: what to multiply by, and the unit that it makes. 0 and NaN stay what they are. */
static inline float unit_of(float largest, i32 n_digits, float *factor)
{
    *factor = largest > 0.0f ? digits_most(n_digits) / largest : 0.0f;
    return largest / digits_most(n_digits);
}

/* A query vector of kv head `head` of the pass into its columns of Q^T. */
static void rows_i8_load_q(const struct rows_pass *pass, i32 head, i32 row, const u8 *src)
{
    const struct rows_i8 *i8 = pass->i8;
    const i32 n_blocks = i8->n_blocks, d = pass->args->k.head_dim;
    float x[256], factor;
    widen_row((enum dtype)pass->args->q.dtype, x, src, d, pass->rule.q_factor);
    vec top = vec_zero(), nothing = vec_zero();
    for (i32 c = 0; c < d; c += 16) {
        top = vec_max(vec_abs(vec_load(x + c)), top);
        nothing = vec_add(nothing, vec_nothing_of(vec_load(x + c)));
    }
    i8->q_unit[head * n_blocks * 4 + row] = unit_of(vec_max_lane(top), DIGITS, &factor) + vec_sum(nothing);
    u32 *q = i8->q + ((i64)head * n_blocks + row / 4) * i8->k_steps * DIGIT_TILE + row % 4;
    for (i32 c = 0; c < d; c += 16) {
        u32 fours[DIGITS][4];
        vec_store_digits((u8 *)fours, vec_mul(vec_load(x + c), vec_set1(factor)));
        for (i32 i = 0; i < 4; i++)
            for (i32 digit = 0; digit < DIGITS; digit++)
                q[(c / 4 + i) * 16 + digit * 4] = fours[digit][i];
    }
}

/* Once a block, for all heads. */
static void rows_i8_block(const struct rows_pass *pass, const struct block *block)
{
    struct rows_i8 *i8 = pass->i8;
    const struct attend_args *args = pass->args;
    rows_find_runs(i8->k_follow, block->k, block->n, args->k.slot_stride, args->k.head_dim);
    rows_find_runs(i8->v_follow, block->v, block->n, args->v.slot_stride, args->v.head_dim);
    const struct keys whole = rows_seen_by_all(pass, block);
    i8->whole_begin = pass->n_rows % 4 == 0 && pass->rule.plain && !pass->careful ? (i32)whole.begin : block->n;
    i8->whole_end = (i32)whole.end;
}

/* Scales that the block after needs, a share of them at every step. */
static void rows_i8_fetch_scales(const struct rows_pass *pass, const struct rows_step *step,
                                 const struct pages_view *pages, const struct table_view *table)
{
    const struct block *after = step->after;
    const i32 n_steps = pass->n_heads * ((step->block->n + CHUNK - 1) / CHUNK);
    const i32 now = (step->head * step->block->n + step->at) / CHUNK;
    const i64 page_size = pass->args->page_size;
    const i32 begin = now * after->n / n_steps, end = (now + 1) * after->n / n_steps;
    i64 column = (after->key + begin) / page_size, slot = (after->key + begin) % page_size;
    for (i32 i = begin; i < end; column++, slot = 0) {
        const i64 page = layout_page(table, pass->item->seq, column);
        for (; i < end && slot < page_size; i++, slot++)
            __builtin_prefetch(layout_scale(pages, page, slot, pass->head_begin), 0, 3);
    }
}

static void rows_i8_take_scales(const struct rows_pass *pass, const struct rows_step *step)
{
    const struct attend_args *args = pass->args;
    float *scale = pass->i8->scale[pass->i8->slot];
    if (pass->k_scales) {
        memcpy(scale, rows_k_scale(pass, step), CHUNK * sizeof *scale);
        rows_i8_fetch_scales(pass, step, &args->k, &args->k_table);
    }
    if (pass->v_scales) {
        memcpy(scale + CHUNK, rows_v_scale(pass, step), CHUNK * sizeof *scale);
        rows_i8_fetch_scales(pass, step, &args->v, &args->v_table);
    }
}

/* 16 keys from `key` on, of K or V. */
static struct amx_rows rows_i8_rows(const struct rows_pass *pass, const struct rows_step *step,
                                    const struct pages_view *pages, const u8 *const *rows, bool follow, u8 *copy)
{
    const i64 offset = (pass->head_begin + step->head) * pages->head_stride;
    if (follow)
        return (struct amx_rows){ rows[0] + offset, pages->slot_stride };
    return copy_rows(copy, rows, offset, 0, 16, pages->head_dim);
}

/* Scores of a step: two groups of keys meet a tile of Q^T. */
INLINE void rows_i8_dots(enum amx_fetch how, const struct rows_pass *pass, const struct rows_step *step,
                         struct amx_runs *runs)
{
    struct rows_i8 *i8 = pass->i8;
    struct amx_ahead ahead;
    struct amx_rows k[GROUPS];
    if (how == FETCH_ROWS)
        rows_amx_look_ahead(&ahead, pass, step, false);
    for (i32 g = 0; g < GROUPS; g++) { /* keys behind a block's last are its last again */
        const i32 key = step->at + 16 * g;
        const bool follow = key < step->block->n && i8->k_follow[key / 16];
        k[g] = rows_i8_rows(pass, step, &pass->args->k, step->block->k + key, follow,
                            i8->k_copy + (i64)g * i8->k_steps * DIGIT_TILE * 4);
    }
    const u8 *a = k[0].at, *b = k[1].at;
    const i32 n = i8->k_steps;
    const struct amx_half half = amx_half_of(runs, 0);
    for (i32 block = 0; block < i8->n_blocks; block++) {
        const u32 *q = i8->q + ((i64)step->head * i8->n_blocks + block) * n * DIGIT_TILE;
        i32 *s = i8->s[i8->slot] + (i64)block * CHUNK * 16;
        tile_zero(&i8->regs, 2);
        tile_zero(&i8->regs, 3);
        for (i32 c = 0; c < n; c++) {
            for (i32 g = 0; how == FETCH_ROWS && block == 0 && g < GROUPS; g++)
                rows_amx_fetch(&ahead, g, c, n);
            if (block == 0) {
                amx_fetch_kb(how, runs, &half, 2 * c, c + 1 < n ? a + 64 * (c + 1) : half.a, k[0].stride);
                amx_fetch_later(how, runs, 256 * c, 256 * c + 128);
            }
            tile_load(&i8->regs, 1, q + c * DIGIT_TILE, 64);
            tile_load(&i8->regs, 0, a + 64 * c, k[0].stride);
            tile_dot_i8(&i8->regs, 2, 0, 1);
            if (block == 0) {
                amx_fetch_kb(how, runs, &half, 2 * c + 1, c + 1 < n ? b + 64 * (c + 1) : half.b, k[1].stride);
                amx_fetch_later(how, runs, 256 * c + 128, 256 * c + 256);
            }
            tile_load(&i8->regs, 4, b + 64 * c, k[1].stride);
            tile_dot_i8(&i8->regs, 3, 4, 1);
        }
        tile_store(&i8->regs, 2, s, 64);
        tile_store(&i8->regs, 3, s + DIGIT_TILE, 64);
    }
}

/* Weights of four rows times scales of V -> digits and units. */
INLINE void rows_i8_four_digits(i32 n_digits, const struct rows_i8 *i8, i32 block, const vec w[8], vec nothing)
{
    vec top = vec_zero();
    UNROLL(8)
    for (i32 i = 0; i < 8; i++)
        top = vec_max(w[i], top);
    top = vec_four_max(top);
    const vec most = vec_set1(digits_most(n_digits));
    const vec factor = vec_select(vec_less(vec_zero(), top), vec_div(most, top), vec_zero());
    vec_store_n(i8->p_unit + 4 * block, vec_add(vec_mul(top, vec_set1(1.0f / digits_most(n_digits))), nothing), 4);
    UNROLL(2)
    for (i32 group = 0; group < GROUPS; group++) {
        vec x[4], rows[4];
        UNROLL(4)
        for (i32 i = 0; i < 4; i++)
            x[i] = vec_mul(w[4 * group + i], factor);
        vec_four_transpose(x, rows);
        u32 *p = i8->p + ((i64)block * GROUPS + group) * DIGITS * DIGIT_TILE;
        UNROLL(4)
        for (i32 r = 0; r < 4; r++)
            vec_store_digit_slots(p + r * 16, rows[r], n_digits);
    }
}

static void rows_i8_four(const struct rows_pass *pass, i32 head, i32 slot, i32 block)
{
    const struct rows_i8 *i8 = pass->i8;
    const i64 row = (i64)head * pass->n_padded + 4 * block;
    const i32 *s = i8->s[slot] + (i64)block * CHUNK * 16;
    const float *scale = i8->scale[slot];
    const vec unit = vec_four_load(i8->q_unit + (head * i8->n_blocks + block) * 4), c = vec_set1(pass->rule.c);
    vec x[8], sums = vec_zero(), top = vec_set1(-INFINITY);
    UNROLL(8)
    for (i32 i = 0; i < 8; i++) {
        x[i] = vec_mul(vec_four_of_digits(s + 64 * i), vec_mul(unit, vec_four_spread(scale + 4 * i)));
        top = vec_max(x[i], top);
    }
    const vec bases = rows_four_follow(pass, row, vec_four_max(top));
    UNROLL(8)
    for (i32 i = 0; i < 8; i++) {
        x[i] = vec_exp2(vec_mul(vec_sub(x[i], bases), c));
        sums = vec_add(sums, x[i]);
        x[i] = vec_mul(x[i], vec_four_spread(scale + CHUNK + 4 * i));
    }
    float sum[16];
    sums = vec_four_sum(sums);
    vec_store(sum, sums);
    for (i32 r = 0; r < 4; r++)
        pass->l[(row + r) * 16] += sum[r];
    if (i8->n_digits == 2)
        rows_i8_four_digits(2, i8, block, x, vec_nothing_of(sums));
    else
        rows_i8_four_digits(3, i8, block, x, vec_nothing_of(sums));
}

/* S^T -> s [rows][CHUNK], dot products as they are. */
static void rows_i8_transpose(const struct rows_pass *pass, const struct rows_step *step)
{
    const struct rows_i8 *i8 = pass->i8;
    for (i32 row = 0; row < pass->n_padded; row += 4) {
        const i32 *s = i8->s[i8->slot] + (i64)row * CHUNK * 4;
        const vec unit = vec_four_load(i8->q_unit + step->head * i8->n_blocks * 4 + row);
        for (i32 group = 0; group * 16 < step->n; group++) {
            vec x[4], rows[4];
            UNROLL(4)
            for (i32 i = 0; i < 4; i++)
                x[i] = vec_mul(vec_four_of_digits(s + (4 * group + i) * 64), unit);
            vec_four_transpose(x, rows);
            for (i32 r = 0; r < 4 && row + r < pass->n_padded; r++)
                vec_store(pass->s + (row + r) * CHUNK + 16 * group, rows[r]);
        }
    }
}

/* Weights of any rows, by V's scales already -> digits and units. */
static void rows_i8_digits(const struct rows_pass *pass, const struct rows_step *step)
{
    const struct rows_i8 *i8 = pass->i8;
    const i32 n_groups = (step->n + 15) / 16;
    for (i32 r = 0; r < pass->n_rows; r++) {
        const float *s = pass->s + r * CHUNK;
        vec top = vec_zero(), nothing = vec_zero();
        float factor;
        for (i32 group = 0; group < n_groups; group++) {
            top = vec_max(vec_load(s + 16 * group), top);
            nothing = vec_add(nothing, vec_nothing_of(vec_load(s + 16 * group)));
        }
        i8->p_unit[r] = unit_of(vec_max_lane(top), i8->n_digits, &factor) + vec_sum(nothing);
        for (i32 group = 0; group < n_groups; group++) {
            u32 *p = i8->p + ((i64)(r / 4) * GROUPS + group) * DIGITS * DIGIT_TILE + r % 4 * 16;
            vec_store_digit_slots(p, vec_mul(vec_load(s + 16 * group), vec_set1(factor)), i8->n_digits);
        }
    }
}
#endif
