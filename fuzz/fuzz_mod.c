/* SPDX-License-Identifier: Apache-2.0
 * fuzz_mod.c: any bytes as the text of a mod. What compiles is run at a few places; interval analysis and the vector
 * runner must agree with the evaluator. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernel/cpu/mod_run.h"

static float slopes_data[8] = { 0.5f, -1, INFINITY, 2, 3, 4, 5, 6 };
static i64 doc_data[2 * 16] = { 0, 0, 1, 1, INT64_MAX, INT64_MIN, -1, 2 };
static int64_t slopes_shape[] = { 8 }, doc_shape[] = { 2, 16 };
static DLTensor slopes = {
    .data = slopes_data, .device = { kDLCPU, 0 }, .ndim = 1, .dtype = { kDLFloat, 32, 1 }, .shape = slopes_shape
};
static DLTensor doc = {
    .data = doc_data, .device = { kDLCPU, 0 }, .ndim = 2, .dtype = { kDLInt, 64, 1 }, .shape = doc_shape
};

static void check_place(const struct mod_program *program, i64 kv, const struct mod_range *ranges)
{
    static struct mod_result results[FOLIO_MOD_MAX_STEPS];
    const struct mod_env env = { .leaf = { 1, 5, 2, 3, kv, 8, 16, 11 }, .score = (float)kv - 3.5f };
    folio__mod_eval(program, &env, results);
    for (i32 i = 0; i < program->n_steps; i++) {
        const struct mod_range *range = &ranges[i];
        const union mod_value value = results[i].value;
        bool holds = range->may_be_poison || !results[i].poison;
        if (program->steps[i].type == MOD_BOOL)
            holds &= (range->truth & (value.i ? MOD_MAY_BE_TRUE : MOD_MAY_BE_FALSE)) != 0;
        else if (program->steps[i].type == MOD_I64)
            holds &= range->lo <= value.i && value.i <= range->hi;
        else
            holds &= isnan(value.f) ? range->may_be_nan : range->flo <= value.f && value.f <= range->fhi;
        if (!holds)
            abort();
    }
}

static u32 bits_of(float x)
{
    u32 bits;
    memcpy(&bits, &x, sizeof bits);
    return isnan(x) ? 0x7fc00000u : bits;
}

/* Row 3 of 8, keys 0 .. 15 of 16, head 5 of 6 over 3 kv heads: as in check_place. */
static void check_runner(const struct mod_program *program)
{
    static struct mod_result results[FOLIO_MOD_MAX_STEPS];
    const bool is_score = program->kind == FOLIO_MOD_SCORE;
    struct mod_failure failure = { .taken = 0 };
    const struct attend_args args = { .n_q_heads = 6,
                                      .n_kv_heads = 3,
                                      .group = 2,
                                      .align = 2,
                                      .score_mod = is_score ? program : NULL,
                                      .mask_mod = is_score ? NULL : program,
                                      .mod_failure = &failure };
    const struct attend_item item = { .q_len = 8,
                                      .kv_len = 16,
                                      .row_begin = 3,
                                      .n_rows = 1,
                                      .n_splits = 1,
                                      .split_tokens = 16,
                                      .seq = 1,
                                      .head_begin = 2,
                                      .n_heads = 1 };
    void *memory = aligned_alloc(64, (folio__mod_scratch_bytes(&args, 1, 2, 16) + 127) / 64 * 64);
    struct mod_runner runner;
    float s[16];
    if (!memory)
        abort();
    folio__mod_bind(&runner, &folio__mod_table_c, &args, &item, 1, 16, memory);
    folio__mod_heads(&runner, 2, 1);
    folio__mod_tile(&runner, 0, 16, KEEP_SOME);
    for (i32 kv = 0; kv < 16; kv++)
        s[kv] = (float)kv - 3.5f;
    folio__mod_row(&runner, 2, 1, 0, 0, 16, s);
    bool poison = false;
    for (i32 kv = 0; kv < 16; kv++) {
        const struct mod_env env = { .leaf = { 1, 5, 2, 3, kv, 8, 16, 11 }, .score = (float)kv - 3.5f };
        const struct mod_result wanted = folio__mod_eval(program, &env, results);
        const float score = is_score ? wanted.value.f : wanted.value.i ? env.score : -INFINITY;
        poison |= wanted.poison;
        if (!wanted.poison && bits_of(s[kv]) != bits_of(score))
            abort();
    }
    if (poison != mod_has_failed(&failure))
        abort();
    free(memory);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct mod_range ranges[FOLIO_MOD_MAX_STEPS];
    static char text[FOLIO_MOD_MAX_TEXT + 16], explanation[512];
    const folio_mod_capture captures[] = { { .name = "slopes", .tensor = &slopes },
                                           { .name = "doc", .tensor = &doc, .flags = FOLIO_CAPTURE_WRAP } };
    if (size == 0 || size > sizeof text - 1)
        return 0;
    const folio_mod_kind kind = data[0] % 2 ? FOLIO_MOD_MASK : FOLIO_MOD_SCORE;
    memcpy(text, data + 1, size - 1);
    text[size - 1] = '\0';
    folio_mod *mod = NULL;
    const folio_status status = folio_mod_create(&mod, kind, text, captures, 2);
    if (folio_mod_explain(kind, text, captures, 2, explanation, 1 + data[0]) != status)
        abort();
    if (status != FOLIO_OK)
        return 0;
    const struct mod_box box = {
        { { 1, 1 }, { 5, 5 }, { 2, 2 }, { 3, 3 }, { 0, 15 }, { 8, 8 }, { 16, 16 }, { 11, 11 } }
    };
    folio__mod_ranges(&mod->program, &box, data[0] & 2, ranges);
    for (i64 kv = 0; kv < 16; kv += 5)
        check_place(&mod->program, kv, ranges);
    check_runner(&mod->program);
    folio_mod_destroy(&mod);
    return 0;
}
