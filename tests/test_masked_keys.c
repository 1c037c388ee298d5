/* SPDX-License-Identifier: Apache-2.0
 * test_masked_keys.c: what K and V hold for a key that a row may not see does not reach the row: NaN, infinities and
 * NaN scales there leave its bits as they are, at every level, in both families, for every kind of mask.
 *
 *   keys 3, 20, 37, 54 ...   NaN or infinite; hidden from even rows, or behind what a row sees */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "folio/attend.h"
#include "support/contexts.h"
#include "support/random.h"
#include "support/tensors.h"

enum { PAGE = 16, KV_HEADS = 2, POISON_EVERY = 17, FIRST_POISON = 3 };

enum mask_kind { BY_MASK, BY_BIAS, BY_TEXT, BY_CALLBACK, BY_BLOCKS, BY_CAUSAL, BY_WINDOW, N_KINDS };
static const char *const kind_names[] = { "mask", "bias", "mask_mod", "callback", "block mask", "causal", "window" };

struct case_of {
    enum mask_kind kind;
    enum dtype dtype;
    i64 q_len, kv_len;
    i32 group, d, dv;
    bool softcap, alibi;
};

struct made {
    struct case_of c;
    struct test_tensor q, k, v, table, lens, indptr, out, lse, mask, bias, slopes, k_scale, v_scale, n_blocks, blocks;
    folio_mod *mod;
    folio_block_mask *block_mask;
    folio_attend_args args;
};

static bool is_poisoned(i64 key)
{
    return key % POISON_EVERY == FIRST_POISON;
}

/* Does row i see key j? What follows is built to say the same. */
static bool sees(const struct case_of *c, i64 i, i64 j)
{
    if (c->kind == BY_CAUSAL)
        return j <= i + c->kv_len - c->q_len;
    if (c->kind == BY_WINDOW)
        return i + c->kv_len - c->q_len - j <= 4;
    return !is_poisoned(j) || i % 2;
}

static folio_status hide(void *user, float *keep, const folio_tile *where)
{
    const struct case_of *c = user;
    for (i64 r = 0; r < where->n_rows; r++)
        for (i64 k = 0; k < where->n_keys; k++)
            keep[r * where->row_stride + k] = sees(c, where->q_begin + r, where->kv_begin + k);
    return FOLIO_OK;
}

static void make_masks(struct made *m)
{
    const struct case_of *c = &m->c;
    const i64 shape[] = { c->q_len, 1, c->kv_len };
    static const char text[] = "kv % 17 != 3 || q % 2 != 0";
    if (c->kind == BY_MASK)
        tensor_make(&m->mask, DTYPE_BOOL, 3, shape, NULL, 0, false);
    if (c->kind == BY_BIAS)
        tensor_make(&m->bias, DTYPE_F32, 3, shape, NULL, 0, false);
    for (i64 i = 0; i < c->q_len; i++)
        for (i64 j = 0; j < c->kv_len; j++) {
            if (c->kind == BY_MASK)
                *tensor_at(&m->mask, (i64[]){ i, 0, j }) = sees(c, i, j);
            if (c->kind == BY_BIAS)
                tensor_set(&m->bias, (i64[]){ i, 0, j }, sees(c, i, j) ? 0.25 : -INFINITY);
        }
    if (c->kind == BY_TEXT || c->kind == BY_BLOCKS)
        assert_int_equal(folio_mod_create(&m->mod, FOLIO_MOD_MASK, text, NULL, 0), FOLIO_OK);
    if (c->kind == BY_CALLBACK)
        assert_int_equal(folio_mod_create_callback(&m->mod, FOLIO_MOD_MASK, hide, &m->c, 0), FOLIO_OK);
    if (c->kind == BY_BLOCKS) { /* all blocks partial */
        const i64 rows = ceil_div(c->q_len, 8), cols = ceil_div(c->kv_len, 32);
        tensor_make(&m->n_blocks, DTYPE_I32, 3, (i64[]){ 1, 1, rows }, NULL, 0, false);
        tensor_make(&m->blocks, DTYPE_I32, 4, (i64[]){ 1, 1, rows, cols }, NULL, 0, false);
        for (i64 row = 0; row < rows; row++) {
            tensor_set_index(&m->n_blocks, (i64[]){ 0, 0, row }, cols);
            for (i64 col = 0; col < cols; col++)
                tensor_set_index(&m->blocks, (i64[]){ 0, 0, row, col }, col);
        }
        const folio_block_mask_args blocks = { .struct_size = sizeof blocks,
                                               .kv_num_blocks = &m->n_blocks.dl,
                                               .kv_indices = &m->blocks.dl,
                                               .q_block = 8,
                                               .kv_block = 32,
                                               .mask_mod = m->mod };
        assert_int_equal(folio_block_mask_create(&m->block_mask, &blocks), FOLIO_OK);
    }
}

static void make_args(struct made *m)
{
    const struct case_of *c = &m->c;
    m->args = (folio_attend_args){ .struct_size = sizeof m->args,
                                   .q = &m->q.dl,
                                   .k_pages = &m->k.dl,
                                   .v_pages = &m->v.dl,
                                   .page_table = &m->table.dl,
                                   .kv_lens = &m->lens.dl,
                                   .q_indptr = &m->indptr.dl,
                                   .out = &m->out.dl,
                                   .lse = &m->lse.dl,
                                   .mask = c->kind == BY_MASK ? &m->mask.dl : NULL,
                                   .bias = c->kind == BY_BIAS ? &m->bias.dl : NULL,
                                   .mask_mod = c->kind == BY_TEXT || c->kind == BY_CALLBACK ? m->mod : NULL,
                                   .block_mask = m->block_mask,
                                   .alibi_slopes = c->alibi ? &m->slopes.dl : NULL,
                                   .softcap = c->softcap ? 5 : 0,
                                   .causal = c->kind == BY_CAUSAL ? FOLIO_CAUSAL_BOTTOM_RIGHT : FOLIO_CAUSAL_NONE,
                                   .window_left = 4,
                                   .window_right = -1,
                                   .flags = c->kind == BY_WINDOW ? FOLIO_WINDOW_IS_SET : 0 };
    if (folio__dtype_bytes(c->dtype) == 1) {
        m->args.k_scale = &m->k_scale.dl;
        m->args.v_scale = &m->v_scale.dl;
    }
}

static void fill(const struct test_tensor *t, struct rng *rng, i64 n_slots)
{
    for (i64 slot = 0; slot < n_slots; slot++)
        for (i64 head = 0; head < t->shape[2]; head++)
            for (i64 d = 0; d < t->shape[3]; d++)
                tensor_set(t, (i64[]){ slot / PAGE, slot % PAGE, head, d },
                           rng_normal(rng) * (t->dl.dtype.bits == 8 ? 20 : 1));
}

/* Pages in order: what lies where is not the matter here. */
static void make(struct made *m, const struct case_of *c)
{
    *m = (struct made){ .c = *c };
    struct rng rng = { 5 };
    const i64 n_pages = ceil_div(c->kv_len, PAGE), n_heads = (i64)KV_HEADS * c->group;
    const enum dtype q_dtype = folio__dtype_bytes(c->dtype) == 1 ? DTYPE_F32 : c->dtype;
    const i64 scales[] = { n_pages, PAGE, KV_HEADS };
    tensor_make(&m->q, q_dtype, 3, (i64[]){ c->q_len, n_heads, c->d }, NULL, 0, false);
    tensor_make(&m->out, q_dtype, 3, (i64[]){ c->q_len, n_heads, c->dv }, NULL, 0, true);
    tensor_make(&m->lse, DTYPE_F32, 2, (i64[]){ c->q_len, n_heads }, NULL, 0, true);
    tensor_make(&m->k, c->dtype, 4, (i64[]){ n_pages, PAGE, KV_HEADS, c->d }, NULL, 0, false);
    tensor_make(&m->v, c->dtype, 4, (i64[]){ n_pages, PAGE, KV_HEADS, c->dv }, NULL, 0, false);
    tensor_make(&m->k_scale, DTYPE_F32, 3, scales, NULL, 0, false);
    tensor_make(&m->v_scale, DTYPE_F32, 3, scales, NULL, 0, false);
    tensor_make(&m->table, DTYPE_I32, 2, (i64[]){ 1, n_pages }, NULL, 0, false);
    tensor_make(&m->lens, DTYPE_I32, 1, (i64[]){ 1 }, NULL, 0, false);
    tensor_make(&m->indptr, DTYPE_I32, 1, (i64[]){ 2 }, NULL, 0, false);
    tensor_make(&m->slopes, DTYPE_F32, 1, &n_heads, NULL, 0, false);
    for (i64 i = 0; i < c->q_len * n_heads * c->d; i++)
        tensor_set(&m->q, (i64[]){ i / c->d / n_heads, i / c->d % n_heads, i % c->d }, rng_normal(&rng));
    fill(&m->k, &rng, c->kv_len);
    fill(&m->v, &rng, c->kv_len);
    for (i64 slot = 0; slot < n_pages * PAGE * KV_HEADS; slot++) {
        const i64 at[] = { slot / KV_HEADS / PAGE, slot / KV_HEADS % PAGE, slot % KV_HEADS };
        tensor_set(&m->k_scale, at, 0.05);
        tensor_set(&m->v_scale, at, 0.05);
    }
    for (i64 page = 0; page < n_pages; page++)
        tensor_set_index(&m->table, (i64[]){ 0, page }, page);
    tensor_set_index(&m->lens, &(i64){ 0 }, c->kv_len);
    tensor_set_index(&m->indptr, &(i64){ 0 }, 0);
    tensor_set_index(&m->indptr, &(i64){ 1 }, c->q_len);
    for (i64 head = 0; head < n_heads; head++)
        tensor_set(&m->slopes, &head, 0.1);
    make_masks(m);
    make_args(m);
}

static void unmake(struct made *m)
{
    struct test_tensor *const all[] = { &m->q,      &m->k,       &m->v,       &m->table,    &m->lens,
                                        &m->indptr, &m->out,     &m->lse,     &m->mask,     &m->bias,
                                        &m->slopes, &m->k_scale, &m->v_scale, &m->n_blocks, &m->blocks };
    for (size_t i = 0; i < COUNT_OF(all); i++)
        tensor_free(all[i]);
    folio_block_mask_destroy(&m->block_mask);
    folio_mod_destroy(&m->mod);
}

/* Of i8 only scales can be NaN. One element of V is enough: all others of the row are as they were. */
static void poison(const struct made *m)
{
    const struct case_of *c = &m->c;
    for (i64 key = FIRST_POISON; key < c->kv_len; key += POISON_EVERY)
        for (i64 head = 0; head < KV_HEADS; head++) {
            const double worst = key / POISON_EVERY % 2 ? NAN : INFINITY;
            if (folio__dtype_bytes(c->dtype) == 1) {
                tensor_set(&m->k_scale, (i64[]){ key / PAGE, key % PAGE, head }, worst);
                tensor_set(&m->v_scale, (i64[]){ key / PAGE, key % PAGE, head }, worst);
            }
            if (c->dtype == DTYPE_I8)
                continue;
            for (i64 d = 0; d < c->d; d++)
                tensor_set(&m->k, (i64[]){ key / PAGE, key % PAGE, head, d }, d % 2 ? worst : -worst);
            tensor_set(&m->v, (i64[]){ key / PAGE, key % PAGE, head, key % c->dv }, worst);
        }
}

static void run(struct made *m, folio_context *ctx, u8 *out)
{
    if (folio_attend(ctx, NULL, &m->args, NULL) != FOLIO_OK)
        fail_msg("%s", folio_last_error());
    assert_true(tensor_gaps_intact(&m->out) && tensor_gaps_intact(&m->lse));
    const i64 n = m->out.shape[0] * m->out.shape[1], bytes = folio__dtype_bytes((enum dtype)DTYPE_F32);
    for (i64 i = 0; i < n * m->c.dv; i++) {
        const float x = (float)tensor_get(
            &m->out, (i64[]){ i / m->c.dv / m->out.shape[1], i / m->c.dv % m->out.shape[1], i % m->c.dv });
        memcpy(out + i * bytes, &x, sizeof x);
    }
    for (i64 i = 0; i < n; i++) {
        const float x = (float)tensor_get(&m->lse, (i64[]){ i / m->lse.shape[1], i % m->lse.shape[1] });
        memcpy(out + (n * m->c.dv + i) * bytes, &x, sizeof x);
    }
}

static bool row_is_clean(const struct case_of *c, i64 row)
{
    bool clean = true;
    for (i64 key = FIRST_POISON; key < c->kv_len; key += POISON_EVERY)
        clean = clean && !sees(c, row, key);
    return clean;
}

/* before, after [q_len][n_heads][dv], then [q_len][n_heads]. near: tiles of bf16 do a split again with vectors. */
static i64 compare(const struct made *m, const char *name, const float *before, const float *after, bool near)
{
    const struct case_of *c = &m->c;
    const i64 n_heads = (i64)KV_HEADS * c->group, n_out = c->q_len * n_heads * c->dv;
    i64 n_clean = 0;
    for (i64 i = 0; i < n_out + c->q_len * n_heads; i++) {
        const i64 row = i < n_out ? i / c->dv / n_heads : (i - n_out) / n_heads;
        if (!row_is_clean(c, row))
            continue;
        n_clean++;
        const double allowed = near ? 0x1p-6 : 0.0;
        if (!(fabs((double)after[i] - (double)before[i]) <= allowed || before[i] == after[i]))
            fail_msg("%s, %s, %s: q_len %lld kv_len %lld group %d d %d dv %d: number %lld of row %lld is %g, was %g",
                     name, kind_names[c->kind], folio__dtype_name(c->dtype), (long long)c->q_len, (long long)c->kv_len,
                     (int)c->group, (int)c->d, (int)c->dv, (long long)i, (long long)row, (double)after[i],
                     (double)before[i]);
    }
    return n_clean;
}

static i64 check(const struct contexts *contexts, const struct case_of *c)
{
    struct made m;
    make(&m, c);
    const size_t n = (size_t)(c->q_len * KV_HEADS * c->group * (c->dv + 1));
    float *before = calloc(n * MAX_CONTEXTS, sizeof *before), *after = calloc(n, sizeof *after);
    i64 n_clean = 0;
    for (i32 i = 0; i < contexts->n; i++)
        run(&m, contexts->at[i], (u8 *)(before + n * (size_t)i));
    poison(&m);
    for (i32 i = 0; i < contexts->n; i++) {
        run(&m, contexts->at[i], (u8 *)after);
        const bool tiles = !strncmp(contexts->name[i], "amx", 3) && c->dtype == DTYPE_BF16;
        n_clean += compare(&m, contexts->name[i], before + n * (size_t)i, after, tiles);
    }
    free(before);
    free(after);
    unmake(&m);
    return n_clean;
}

static void masked_keys_reach_no_row(void **state)
{
    (void)state;
    static const enum dtype dtypes[] = { DTYPE_F32, DTYPE_F16, DTYPE_BF16, DTYPE_I8, DTYPE_E4M3, DTYPE_E5M2 };
    static const i64 q_lens[] = { 1, 2, 6, 40 }; /* the last in the tile family */
    static const i64 kv_lens[] = { 4, 41, 700 };
    struct contexts contexts = contexts_create_all(1);
    for (i32 kind = 0; kind < N_KINDS; kind++)
        for (size_t type = 0; type < COUNT_OF(dtypes); type++)
            for (size_t q = 0; q < COUNT_OF(q_lens); q++) {
                const size_t pick = ((size_t)kind + type + q) % COUNT_OF(kv_lens);
                const struct case_of c = { .kind = (enum mask_kind)kind,
                                           .dtype = dtypes[type],
                                           .q_len = q_lens[q],
                                           .kv_len = max_i64(kv_lens[pick], q_lens[q]),
                                           .group = 1 + (i32)((type + q) % 4),
                                           .d = q % 2 ? 64 : 24,
                                           .dv = type % 2 ? 32 : 41,
                                           .softcap = pick == 0,
                                           .alibi = pick == 2 };
                const i64 n_clean = check(&contexts, &c);
                if (kind < BY_CAUSAL)
                    assert_true(n_clean > 0);
            }
    for (i32 kind = 0; kind < N_KINDS; kind++) { /* where a level multiplies bytes */
        const struct case_of c = { (enum mask_kind)kind, DTYPE_I8, 2, 700, 4, 64, 64, kind % 2, kind % 3 == 0 };
        assert_true(check(&contexts, &c) > 0 || kind >= BY_CAUSAL);
    }
    contexts_destroy(&contexts);
}

/* A value that a row does weigh is not hidden from it. */
static void seen_keys_do(void **state)
{
    (void)state;
    struct contexts contexts = contexts_create_all(1);
    for (i32 which = 0; which < 4; which++) {
        const struct case_of c = {
            BY_MASK, which & 1 ? DTYPE_BF16 : DTYPE_F32, which & 2 ? 40 : 4, 60, 2, 32, 32, false, false
        };
        struct made m;
        make(&m, &c);
        const size_t n = (size_t)(c.q_len * KV_HEADS * c.group * (c.dv + 1));
        float *out = calloc(n, sizeof *out);
        tensor_set(&m.v, (i64[]){ 0, FIRST_POISON, 1, 7 }, NAN);
        for (i32 i = 0; i < contexts.n; i++) {
            run(&m, contexts.at[i], (u8 *)out);
            for (i64 row = 0; row < c.q_len; row++)
                for (i64 head = 0; head < (i64)KV_HEADS * c.group; head++)
                    for (i64 d = 0; d < c.dv; d++) {
                        const bool is_nan = isnan(out[(row * KV_HEADS * c.group + head) * c.dv + d]);
                        if (is_nan != (row % 2 && head >= c.group && d == 7))
                            fail_msg("%s: row %lld head %lld d %lld: NaN %d", contexts.name[i], (long long)row,
                                     (long long)head, (long long)d, (int)is_nan);
                    }
        }
        free(out);
        unmake(&m);
    }
    contexts_destroy(&contexts);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(masked_keys_reach_no_row),
        cmocka_unit_test(seen_keys_do),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
