/* SPDX-License-Identifier: Apache-2.0
 * bench_mods.c: a user's score or mask function beside the built-in option that says the same, measured in turn. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "bench_attend.h"

enum { WINDOW = 1024, DOCUMENT = 1000, SHORT_KV = 4096, LONG_KV = 32768, TURNS = 2 };

const char *const bench_mods_operations[] = {
    "ALiBi, 1 on 4096",
    "ALiBi, 512 on 4096",
    "soft cap 30, 1 on 4096",
    "soft cap 30, 512 on 4096",
    "window 1024, 1 on 4096",
    "window 1024, 512 on 4096",
    "window 1024, 1 on 32768",
    "window 1024, 512 on 32768",
    "documents against mask=, 1 on 4096",
    "documents against mask=, 512 on 4096",
    NULL,
};

/* What each of them is. */
static const struct {
    i64 q_len, kv_len;
    folio_mod_kind kind;
    const char *text;
} mods[] = {
    { 1, SHORT_KV, FOLIO_MOD_SCORE, "score + slopes[h] * (kv - pos)" },
    { 512, SHORT_KV, FOLIO_MOD_SCORE, "score + slopes[h] * (kv - pos)" },
    { 1, SHORT_KV, FOLIO_MOD_SCORE, "30 * tanh(score / 30)" },
    { 512, SHORT_KV, FOLIO_MOD_SCORE, "30 * tanh(score / 30)" },
    { 1, SHORT_KV, FOLIO_MOD_MASK, "pos - kv < 1024" },
    { 512, SHORT_KV, FOLIO_MOD_MASK, "pos - kv < 1024" },
    { 1, LONG_KV, FOLIO_MOD_MASK, "pos - kv < 1024" },
    { 512, LONG_KV, FOLIO_MOD_MASK, "pos - kv < 1024" },
    { 1, SHORT_KV, FOLIO_MOD_MASK, "doc[kv] == doc[pos]" },
    { 512, SHORT_KV, FOLIO_MOD_MASK, "doc[kv] == doc[pos]" },
};
enum { N_MODS = COUNT_OF(mods) };
_Static_assert(COUNT_OF(bench_mods_operations) == N_MODS + 1, "each has a name");

struct mod_bench {
    struct attend_bench built_in, with_mod;
    folio_mod *mod;
    float *slope_data; /* [n_q_heads] */
    i32 *doc_data;     /* [kv_len]: tokens of one document follow each other */
    u8 *mask_data;     /* [q_len][1][kv_len] */
    struct tensor slopes, doc, mask;
};

static bool fill_arrays(struct mod_bench *m, const struct bench_case *c)
{
    const i64 heads = c->shape.n_q_heads;
    m->slope_data = malloc((size_t)heads * sizeof(*m->slope_data));
    m->doc_data = malloc((size_t)c->kv_len * sizeof(*m->doc_data));
    m->mask_data = malloc((size_t)(c->q_len * c->kv_len));
    if (!m->slope_data || !m->doc_data || !m->mask_data)
        return false;
    for (i64 h = 0; h < heads; h++)
        m->slope_data[h] = exp2f(-8.0f * (float)(h + 1) / (float)heads);
    for (i64 kv = 0; kv < c->kv_len; kv++)
        m->doc_data[kv] = (i32)(kv / DOCUMENT);
    for (i64 q = 0; q < c->q_len; q++)
        for (i64 kv = 0; kv < c->kv_len; kv++)
            m->mask_data[q * c->kv_len + kv] = m->doc_data[q + c->kv_len - c->q_len] == m->doc_data[kv];
    tensor_init(&m->slopes, m->slope_data, type_of_element(ELEMENT_F32), 1, &heads);
    tensor_init(&m->doc, m->doc_data, type_of_ints(32), 1, &c->kv_len);
    tensor_init(&m->mask, m->mask_data, (DLDataType){ kDLBool, 8, 1 }, 3, (const i64[]){ c->q_len, 1, c->kv_len });
    return true;
}

/* The built-in option that says what mods[which] says. */
static void set_built_in(struct mod_bench *m, i64 which)
{
    folio_attend_args *args = &m->built_in.args;
    switch (bench_mods_operations[which][0]) {
    case 'A':
        args->alibi_slopes = &m->slopes.dl;
        break;
    case 's':
        args->softcap = 30;
        break;
    case 'd':
        args->mask = &m->mask.dl;
        break;
    default:
        args->window_left = WINDOW - 1;
        args->flags |= FOLIO_WINDOW_IS_SET;
        break;
    }
}

static bool set_mod(struct mod_bench *m, i64 which)
{
    const folio_mod_capture captures[] = { { .name = "slopes", .tensor = &m->slopes.dl },
                                           { .name = "doc", .tensor = &m->doc.dl } };
    if (folio_mod_create(&m->mod, mods[which].kind, mods[which].text, captures, COUNT_OF(captures)))
        return false;
    const folio_mod **place =
        mods[which].kind == FOLIO_MOD_SCORE ? &m->with_mod.args.score_mod : &m->with_mod.args.mask_mod;
    *place = m->mod;
    return true;
}

static bool make_plan(struct attend_bench *a)
{
    return !folio_plan_create(&a->plan, a->ctx, &a->args) && !folio_plan_update(a->plan, &a->args, NULL);
}

/* Both in turn, so that what disturbs the machine disturbs both. */
static bool time_in_turn(const struct bench *bench, struct bench_row *row, struct mod_bench *m)
{
    struct bench_row built_in = *row, with_mod = *row;
    double sums[2] = { 0, 0 };
    for (i32 turn = 0; turn < TURNS; turn++) {
        if (!bench_time(bench, &built_in, attend_bench_once, &m->built_in, 1) ||
            !bench_time(bench, &with_mod, attend_bench_once, &m->with_mod, 1))
            return false;
        sums[0] += built_in.median_s;
        sums[1] += with_mod.median_s;
    }
    *row = with_mod;
    row->median_s = sums[1] / TURNS;
    row->built_in_s = sums[0] / TURNS;
    return true;
}

static void close_all(struct mod_bench *m)
{
    attend_bench_close(&m->built_in);
    attend_bench_close(&m->with_mod);
    folio_mod_destroy(&m->mod);
    free(m->slope_data);
    free(m->doc_data);
    free(m->mask_data);
}

bool bench_mods(const struct bench *bench, struct bench_row *row, char *error, size_t n)
{
    i64 which = 0;
    while (bench_mods_operations[which] != row->c.what)
        which++;
    row->c.batch = 1;
    row->c.q_len = mods[which].q_len;
    row->c.kv_len = mods[which].kv_len;
    struct mod_bench m = { 0 };
    bool ok = attend_bench_open(&m.built_in, bench, &row->c) && attend_bench_open(&m.with_mod, bench, &row->c) &&
              fill_arrays(&m, &row->c);
    if (!ok) {
        attend_bench_why_not(&m.built_in, bench, error, n);
    } else {
        set_built_in(&m, which);
        ok = set_mod(&m, which) && make_plan(&m.built_in) && make_plan(&m.with_mod) && time_in_turn(bench, row, &m);
        if (!ok)
            snprintf(error, n, "%s", folio_last_error());
    }
    close_all(&m);
    return ok;
}
