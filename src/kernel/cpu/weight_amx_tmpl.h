/* SPDX-License-Identifier: Apache-2.0
 * weight_amx_tmpl.h: from scores to weights in bf16, a row of a strip at a time; tile_amx_tmpl.h draws the arrays. */

#if VEC_TILES
/* Scores of two times 16 columns -> weights. Where m * c is small, fma(s, c, -m * c) is as good as (s - m) * c: its
 * error is the same for all keys, and below 2e-6 in the logarithm. Beyond, 1e30 - 1e30 must stay 0. */
INLINE void amx_weigh_columns(bool small, const float *s, u16 *p, vec base, vec slope, vec sums[2])
{
    UNROLL(2)
    for (i32 i = 0; i < 2; i++) {
        const vec x = vec_load(s + 16 * i);
        const vec w = vec_exp2_near(small ? vec_fma(x, slope, base) : vec_mul(vec_sub(x, base), slope));
        sums[i] = vec_add(sums[i], w);
        vec_store_rounded(p + 16 * i, w);
    }
}

/* A row whose maximum is known. */
struct amx_row {
    float *m, *l; /* [1], [16] lane sums */
    float factor; /* for what was summed before, mostly 1 */
    bool small;   /* m * c */
    vec base;     /* m, or -m * c */
    vec sums[2];
};

static inline struct amx_row amx_row_begin(vec top, float c, float *m, float *l)
{
    struct amx_row row = { .m = m, .l = l, .factor = 1.0f, .sums = { vec_load(l), vec_zero() } };
    const float highest = vec_max_lane(top);
    if ((highest - *m) * c > RESCALE_ABOVE) {
        if (*m != -INFINITY) { /* else all that was summed is 0 */
            row.factor = vec_max_lane(vec_exp2(vec_set1((*m - highest) * c)));
            row.sums[0] = vec_mul(row.sums[0], vec_set1(row.factor));
        }
        *m = highest;
    }
    const float base = *m == -INFINITY ? 0.0f : *m;
    row.small = fabsf(base * c) <= 64.0f;
    row.base = vec_set1(row.small ? -base * c : base);
    return row;
}

static inline void amx_row_end(struct amx_row *row)
{
    vec_store(row->l, vec_add(row->sums[0], row->sums[1]));
}

/* Columns of p, multiples of 32, from scores in columns [lo, hi) of s; the rest of weight_row. */
static float amx_weight_row(float *s, u16 *p, struct keys columns, i32 lo, i32 hi, float c, float *m, float *l)
{
    const i32 begin = lo / 32 * 32, end = padded_32(hi);
    const vec none = vec_set1(-INFINITY), slope = vec_set1(c);
    vec top[2] = { none, none };
    for (i32 col = begin; col < end; col += 32) {
        const bool ragged = col < lo || col + 32 > hi;
        UNROLL(2)
        for (i32 i = 0; i < 2; i++) {
            const i32 at = col + 16 * i;
            vec x = vec_load(s + at);
            if (ragged) {
                const i32 from = (i32)clamp_i64(lo - at, 0, 16), to = (i32)clamp_i64(hi - at, 0, 16);
                x = vec_select(vec_mask_range(from < to ? from : to, to), x, none);
                vec_store(s + at, x);
            }
            top[i] = vec_max(x, top[i]);
        }
    }
    struct amx_row row = amx_row_begin(vec_max(top[0], top[1]), c, m, l);
    memset(p + columns.begin, 0, (size_t)(begin - columns.begin) * sizeof *p);
    for (i32 col = begin; row.small && col < end; col += 32)
        amx_weigh_columns(true, s + col, p + col, row.base, slope, row.sums);
    for (i32 col = begin; !row.small && col < end; col += 32)
        amx_weigh_columns(false, s + col, p + col, row.base, slope, row.sums);
    memset(p + end, 0, (size_t)(columns.end - end) * sizeof *p);
    amx_row_end(&row);
    return row.factor;
}

/* Two rows of a strip. */
struct amx_two {
    float *s; /* [2][s_stride] */
    u16 *p;   /* [2][p_stride] */
    i64 s_stride, p_stride;
};

/* The same for two rows whose keys are all columns: what one waits for, the other fills. The same bits. */
static void amx_weight_two(const struct amx_two *two, struct keys columns, float c, float *m, float *l,
                           float factors[2])
{
    const i64 s_stride = two->s_stride, p_stride = two->p_stride;
    const float *s = two->s;
    u16 *p = two->p;
    const vec none = vec_set1(-INFINITY), slope = vec_set1(c);
    const i32 begin = (i32)columns.begin, end = (i32)columns.end;
    vec top[4] = { none, none, none, none };
    for (i32 col = begin; col < end; col += 32) {
        top[0] = vec_max(vec_load(s + col), top[0]);
        top[1] = vec_max(vec_load(s + col + 16), top[1]);
        top[2] = vec_max(vec_load(s + s_stride + col), top[2]);
        top[3] = vec_max(vec_load(s + s_stride + col + 16), top[3]);
    }
    struct amx_row a = amx_row_begin(vec_max(top[0], top[1]), c, m, l);
    struct amx_row b = amx_row_begin(vec_max(top[2], top[3]), c, m + 1, l + 16);
    if (a.small && b.small)
        for (i32 col = begin; col < end; col += 32) {
            amx_weigh_columns(true, s + col, p + col, a.base, slope, a.sums);
            amx_weigh_columns(true, s + s_stride + col, p + p_stride + col, b.base, slope, b.sums);
        }
    else
        for (i32 col = begin; col < end; col += 32) {
            amx_weigh_columns(a.small, s + col, p + col, a.base, slope, a.sums);
            amx_weigh_columns(b.small, s + s_stride + col, p + p_stride + col, b.base, slope, b.sums);
        }
    amx_row_end(&a);
    amx_row_end(&b);
    factors[0] = a.factor;
    factors[1] = b.factor;
}

/* Do two rows see the strip's keys from its first column on, as under a causal mask? Then scores behind their last key
 * become -inf, and both are as rows that see all: the same bits. */
static bool amx_two_from_begin(const struct tile_pass *pass, const struct strip *strip, i32 packed, float *s,
                               i64 s_stride)
{
    const struct attend_item *item = pass->item;
    if (strip->begin % 32 || packed + 2 > pass->n_rows)
        return false;
    const i64 begin = strip->key + strip->begin, end = strip->key + strip->end;
    i32 last[2];
    for (i32 i = 0; i < 2; i++) {
        const struct keys keys =
            keys_within(keys_of_row(pass->args, item, item->row_begin + (packed + i) / pass->args->group), begin, end);
        if (keys.begin > begin || keys.begin >= keys.end)
            return false;
        last[i] = (i32)(keys.end - strip->key);
    }
    const vec none = vec_set1(-INFINITY);
    for (i32 i = 0; i < 2; i++)
        for (i32 col = last[i] / 16 * 16; col < padded_32(strip->end); col += 16) {
            float *at = s + i * s_stride + col;
            const i32 seen = last[i] > col ? last[i] - col : 0;
            vec_store(at, vec_select(vec_mask_first(seen), vec_load(at), none));
        }
    return true;
}
#endif
