/* SPDX-License-Identifier: Apache-2.0
 * mod_load_tmpl.h: captured arrays into vectors. Most indices are [.., kv, ..] with the rest the same for all keys: one
 * strided row of the array. Everything else is looked up lane by lane. */
#include <string.h>

#include "base/dtype.h"
#include "kernel/cpu/mod_run.h"

static bool load_index_is_vector(const struct mod_part *part, i32 arg)
{
    return arg >= part->program->level_begin[MOD_LEVEL_TILE];
}

/* The index in lane i, and its poison. */
static i64 load_index(const struct mod_part *part, i32 arg, i32 i, bool *poison)
{
    const i64 slot = part->program->steps[arg].slot;
    if (!load_index_is_vector(part, arg)) {
        *poison |= part->now[slot].poison;
        return part->now[slot].value.i;
    }
    const u8 *vector = part->vectors + slot * part->n_lanes * 8;
    if (part->ranges[arg].may_be_poison)
        *poison |= part->poison[slot * part->n_lanes + i] != 0;
    return part->is_wide ? ((const i64 *)(const void *)vector)[i] : ((const i32 *)(const void *)vector)[i];
}

static void load_lanes(const struct mod_code *code, i32 begin, i32 end)
{
    const struct mod_capture *capture = &code->part->program->captures[code->step->capture];
    for (i32 i = begin; i < end; i++) {
        i64 index[MOD_MAX_ARGS] = { 0 };
        bool poison = false;
        for (i32 dim = 0; dim < code->step->n_args; dim++)
            index[dim] = load_index(code->part, code->step->arg[dim], i, &poison);
        const union mod_value value = folio__mod_load(capture, index, &poison);
        if (code->step->type == MOD_F32)
            ((float *)code->to)[i] = value.f;
        else if (code->step->type == MOD_BOOL)
            ((i32 *)code->to)[i] = -(i32)value.i;
        else if (code->is_wide)
            ((i64 *)code->to)[i] = value.i;
        else
            ((i32 *)code->to)[i] = (i32)value.i;
        if (code->poison_to)
            code->poison_to[i] = -(i32)poison;
    }
}

/* The first element of the strided row that keys from lane 0 on read, when the only index that differs from lane to
 * lane is kv and all are proved to be inside; NULL otherwise. */
static const u8 *load_row(const struct mod_code *code, i64 *stride)
{
    const struct mod_part *part = code->part;
    const struct mod_capture *capture = &part->program->captures[code->step->capture];
    const u8 *row = capture->data;
    bool found = false, unused = false;
    if (code->poison_to)
        return NULL;
    for (i32 dim = 0; dim < code->step->n_args; dim++) {
        const i32 arg = code->step->arg[dim];
        if (load_index_is_vector(part, arg)) {
            if (found || part->program->steps[arg].op != MOD_KV)
                return NULL;
            found = true;
            *stride = capture->stride[dim];
            row += part->tile_key * *stride;
            continue;
        }
        const i64 index = load_index(part, arg, 0, &unused);
        row += (index < 0 ? index + capture->shape[dim] : index) * capture->stride[dim];
    }
    return found ? row : NULL;
}

/* n lanes of one dtype, as the step's type is kept. A stride that is a constant makes these loops vectors. */
#define LOAD_LOOP(type, target, value)          \
    for (i32 i = 0; i < n; i++) {               \
        type x;                                 \
        memcpy(&x, row + i * stride, sizeof x); \
        ((target *)to)[i] = (value);            \
    }
#define LOAD_BOTH(type, target, value)   \
    if (given == (i64)sizeof(type)) {    \
        const i64 stride = sizeof(type); \
        LOAD_LOOP(type, target, value)   \
    } else {                             \
        const i64 stride = given;        \
        LOAD_LOOP(type, target, value)   \
    }                                    \
    break

static float load_bf16(u16 x)
{
    const u32 bits = (u32)x << 16;
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

static void run_LOAD(const struct mod_code *code, i32 begin, i32 end)
{
    i64 given = 0;
    const u8 *row = load_row(code, &given);
    if (!row) {
        load_lanes(code, begin, end);
        return;
    }
    const i32 n = end - begin;
    const struct mod_capture *capture = &code->part->program->captures[code->step->capture];
    void *to = (u8 *)code->to + begin * (code->step->type == MOD_I64 && code->is_wide ? 8 : 4);
    row += begin * given;
    switch (capture->dtype) {
    case DTYPE_F32:
        LOAD_BOTH(float, float, x);
    case DTYPE_F16:
        LOAD_BOTH(u16, float, folio__f16_to_f32(x));
    case DTYPE_BF16:
        LOAD_BOTH(u16, float, load_bf16(x));
    case DTYPE_BOOL:
        LOAD_BOTH(u8, i32, -(x != 0));
    case DTYPE_I64:
        LOAD_BOTH(i64, i64, x);
    default:
        if (code->is_wide) {
            LOAD_BOTH(i32, i64, x);
        }
        LOAD_BOTH(i32, i32, x);
    }
}
