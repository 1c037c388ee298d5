/* SPDX-License-Identifier: Apache-2.0
 * mod_load_tmpl.h: captured arrays into vectors.
 *
 *   bias[b, h, q, kv]    only kv differs from lane to lane, and is proved inside: one strided row
 *   rel[h, pos - kv]     offsets from the lanes' indices, clamped; then element by element */
#include <string.h>

#include "base/dtype.h"
#include "kernel/cpu/mod_run.h"

enum { LOAD_GROUP = 64 };

/* Lanes [begin, begin + n), and where in the array each reads. */
struct load_group {
    i32 begin, n;
    const u8 *base;         /* of the array, uniform indices added */
    i64 offset[LOAD_GROUP]; /* bytes from base */
    i32 poison[LOAD_GROUP]; /* 0 or -1 */
};

static bool load_index_is_vector(const struct mod_part *part, i32 arg)
{
    return arg >= part->program->level_begin[MOD_LEVEL_TILE];
}

static bool load_is_empty(const struct mod_capture *capture)
{
    bool empty = !capture->data;
    for (i32 dim = 0; dim < capture->ndim; dim++)
        empty |= capture->shape[dim] == 0;
    return empty;
}

/* An index that is the same for all lanes. */
static void load_uniform(struct load_group *group, const struct mod_capture *capture, i32 dim,
                         const struct mod_result *index)
{
    const i64 extent = capture->shape[dim];
    const i64 at = capture->wraps && index->value.i < 0 ? index->value.i + extent : index->value.i;
    const i64 inside = at < 0 ? 0 : at >= extent ? extent - 1 : at;
    group->base += inside * capture->stride[dim];
    for (i32 i = 0; i < group->n && (inside != at || index->poison); i++)
        group->poison[i] = -1;
}

/* An index that differs from lane to lane. INDEX(i): lane i's. */
#define LOAD_VARYING(INDEX)                                              \
    for (i32 i = 0; i < group->n; i++) {                                 \
        const i64 given = INDEX(i), at = given + (given < 0 ? wrap : 0); \
        const i64 inside = at < 0 ? 0 : at >= extent ? extent - 1 : at;  \
        group->poison[i] |= -(i32)(inside != at);                        \
        group->offset[i] += inside * stride;                             \
    }

static void load_varying(struct load_group *group, const struct mod_part *part, const struct mod_capture *capture,
                         i32 dim, i32 arg)
{
    const i64 slot = part->program->steps[arg].slot, extent = capture->shape[dim], stride = capture->stride[dim];
    const i64 wrap = capture->wraps ? extent : 0;
    const i32 *narrow = (const i32 *)(const void *)(part->vectors + slot * part->n_lanes * 8) + group->begin;
    const i64 *wide = (const i64 *)(const void *)(part->vectors + slot * part->n_lanes * 8) + group->begin;
    const i32 *poison = part->poison + slot * part->n_lanes + group->begin;
#define NARROW(i) narrow[i]
#define WIDE(i) wide[i]
    if (part->is_wide)
        LOAD_VARYING(WIDE)
    else
        LOAD_VARYING(NARROW)
#undef NARROW
#undef WIDE
    for (i32 i = 0; i < group->n && part->ranges[arg].may_be_poison; i++)
        group->poison[i] |= poison[i];
}

static void load_find(struct load_group *group, const struct mod_code *code)
{
    const struct mod_part *part = code->part;
    const struct mod_capture *capture = &part->program->captures[code->step->capture];
    group->base = capture->data;
    memset(group->offset, 0, sizeof group->offset);
    memset(group->poison, 0, sizeof group->poison);
    for (i32 dim = 0; dim < code->step->n_args; dim++) {
        const i32 arg = code->step->arg[dim];
        if (load_index_is_vector(part, arg))
            load_varying(group, part, capture, dim, arg);
        else
            load_uniform(group, capture, dim, &part->now[part->program->steps[arg].slot]);
    }
}

/* The first element of the strided row that keys from lane 0 on read, when the only index that differs from lane to
 * lane is kv and all are proved to be inside; NULL otherwise. */
static const u8 *load_row(const struct mod_code *code, i64 *stride)
{
    const struct mod_part *part = code->part;
    const struct mod_capture *capture = &part->program->captures[code->step->capture];
    const u8 *row = capture->data;
    bool found = false;
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
        const i64 index = part->now[part->program->steps[arg].slot].value.i;
        row += (index < 0 ? index + capture->shape[dim] : index) * capture->stride[dim];
    }
    return found ? row : NULL;
}

static float load_bf16(u16 x)
{
    const u32 bits = (u32)x << 16;
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

/* n elements at AT(i), as the step's type is kept. */
#define LOAD_LOOP(type, target, AT, value)   \
    for (i32 i = 0; i < n; i++) {            \
        type x;                              \
        memcpy(&x, AT(i), sizeof x);         \
        ((target *)to)[i] = (target)(value); \
    }
#define LOAD_EACH(LOOP)                        \
    switch (dtype) {                           \
    case DTYPE_F32:                            \
        LOOP(float, float, x)                  \
        break;                                 \
    case DTYPE_F16:                            \
        LOOP(u16, float, folio__f16_to_f32(x)) \
        break;                                 \
    case DTYPE_BF16:                           \
        LOOP(u16, float, load_bf16(x))         \
        break;                                 \
    case DTYPE_BOOL:                           \
        LOOP(u8, i32, -(x != 0))               \
        break;                                 \
    case DTYPE_I64:                            \
        if (is_wide) {                         \
            LOOP(i64, i64, x)                  \
        } else {                               \
            LOOP(i64, i32, x)                  \
        }                                      \
        break;                                 \
    default:                                   \
        if (is_wide) {                         \
            LOOP(i32, i64, x)                  \
        } else {                               \
            LOOP(i32, i32, x)                  \
        }                                      \
    }

/* A compact row has a stride that the compiler knows, and its loop becomes vectors. */
static void load_strided(void *to, i32 dtype, bool is_wide, const u8 *row, i64 stride, i32 n)
{
#define STRIDED(i) (row + (i)*stride)
#define COMPACT(i) (row + (i) * (i64)sizeof x)
#define LOOP(type, target, value)               \
    if (stride == (i64)sizeof(type)) {          \
        LOAD_LOOP(type, target, COMPACT, value) \
    } else {                                    \
        LOAD_LOOP(type, target, STRIDED, value) \
    }
    LOAD_EACH(LOOP)
#undef LOOP
}

static void load_gathered(void *to, i32 dtype, bool is_wide, const struct load_group *group)
{
    const i32 n = group->n;
#define GATHERED(i) (group->base + group->offset[i])
#define LOOP(type, target, value) LOAD_LOOP(type, target, GATHERED, value)
    LOAD_EACH(LOOP)
#undef LOOP
}

static void run_LOAD(const struct mod_code *code, i32 begin, i32 end)
{
    const struct mod_capture *capture = &code->part->program->captures[code->step->capture];
    const i64 lane_bytes = code->step->type == MOD_I64 && code->is_wide ? 8 : 4;
    i64 stride = 0;
    const u8 *row = code->poison_to ? NULL : load_row(code, &stride);
    if (row) {
        load_strided((u8 *)code->to + begin * lane_bytes, capture->dtype, code->is_wide, row + begin * stride, stride,
                     end - begin);
        return;
    }
    if (load_is_empty(capture)) {
        memset((u8 *)code->to + begin * lane_bytes, 0, (size_t)((end - begin) * lane_bytes));
        memset(code->poison_to + begin, 0xff, (size_t)(end - begin) * sizeof *code->poison_to);
        return;
    }
    struct load_group group;
    for (group.begin = begin; group.begin < end; group.begin += LOAD_GROUP) {
        group.n = end - group.begin < LOAD_GROUP ? end - group.begin : LOAD_GROUP;
        load_find(&group, code);
        load_gathered((u8 *)code->to + group.begin * lane_bytes, capture->dtype, code->is_wide, &group);
        if (code->poison_to)
            memcpy(code->poison_to + group.begin, group.poison, (size_t)group.n * sizeof *group.poison);
    }
}
