/* SPDX-License-Identifier: Apache-2.0
 * mod_random.c: grows expressions by type, downwards from the result. */
#include "support/mod_random.h"

#include <stdarg.h>
#include <stdio.h>

#include "base/dtype.h"

u64 mod_random_next(u64 *seed) /* splitmix64 */
{
    u64 x = *seed += UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
    return x ^ x >> 31;
}

i64 mod_random_below(u64 *seed, i64 n)
{
    return (i64)(mod_random_next(seed) % (u64)n);
}

static i32 doc[8 * MOD_RANDOM_KEYS];
static i64 wide[4];
static float slopes[MOD_RANDOM_HEADS];
static u8 flag[MOD_RANDOM_KEYS];
static u16 bias[MOD_RANDOM_ROWS * (MOD_RANDOM_KEYS + 5)];
static u16 cap[1];

static i64 doc_shape[] = { 8, MOD_RANDOM_KEYS }, wide_shape[] = { 4 }, slopes_shape[] = { MOD_RANDOM_HEADS },
           flag_shape[] = { MOD_RANDOM_KEYS }, bias_shape[] = { MOD_RANDOM_ROWS, MOD_RANDOM_KEYS },
           bias_strides[] = { MOD_RANDOM_KEYS + 5, 1 };

#define ON_CPU .device = { kDLCPU, 0 }
static DLTensor tensors[MOD_RANDOM_CAPTURES] = {
    { .data = doc, ON_CPU, .ndim = 2, .dtype = { kDLInt, 32, 1 }, .shape = doc_shape },
    { .data = wide, ON_CPU, .ndim = 1, .dtype = { kDLInt, 64, 1 }, .shape = wide_shape },
    { .data = slopes, ON_CPU, .ndim = 1, .dtype = { kDLFloat, 32, 1 }, .shape = slopes_shape },
    { .data = flag, ON_CPU, .ndim = 1, .dtype = { kDLBool, 8, 1 }, .shape = flag_shape },
    { .data = bias, ON_CPU, .ndim = 2, .dtype = { kDLBfloat, 16, 1 }, .shape = bias_shape, .strides = bias_strides },
    { .data = cap, ON_CPU, .ndim = 0, .dtype = { kDLFloat, 16, 1 } },
};

static const folio_mod_capture captures[MOD_RANDOM_CAPTURES] = {
    { .name = "doc", .tensor = &tensors[0] },    { .name = "wide", .tensor = &tensors[1], .flags = FOLIO_CAPTURE_WRAP },
    { .name = "slopes", .tensor = &tensors[2] }, { .name = "flag", .tensor = &tensors[3] },
    { .name = "bias", .tensor = &tensors[4] },   { .name = "cap", .tensor = &tensors[5] },
};

const folio_mod_capture *mod_random_captures(u64 seed)
{
    for (size_t i = 0; i < COUNT_OF(doc); i++)
        doc[i] = (i32)mod_random_below(&seed, 5);
    for (size_t i = 0; i < COUNT_OF(wide); i++)
        wide[i] = (i64)mod_random_next(&seed) >> mod_random_below(&seed, 64);
    for (size_t i = 0; i < COUNT_OF(slopes); i++)
        slopes[i] = (float)mod_random_below(&seed, 100) / 64 - 0.5f;
    for (size_t i = 0; i < COUNT_OF(flag); i++)
        flag[i] = (u8)(mod_random_below(&seed, 3) != 0);
    for (size_t i = 0; i < COUNT_OF(bias); i++)
        bias[i] = folio__f32_to_bf16((float)mod_random_below(&seed, 64) / 8 - 4);
    cap[0] = folio__f32_to_f16(30);
    return captures;
}

struct text {
    char *p;
    size_t n, used;
    u64 *seed;
    int functions, has_score;
};

__attribute__((format(printf, 2, 3))) static void put(struct text *t, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    const int wrote = vsnprintf(t->p + t->used, t->n - t->used, format, args);
    va_end(args);
    t->used += wrote > 0 && t->used + (size_t)wrote < t->n ? (size_t)wrote : 0;
}

static i64 pick(struct text *t, i64 n)
{
    return mod_random_below(t->seed, n);
}

static void put_f32(struct text *t, i32 size);
static void put_bool(struct text *t, i32 size);

static void put_i64_leaf(struct text *t)
{
    static const char *const leaves[] = { "b", "h", "hk", "q", "q", "q", "kv", "kv", "kv", "q_len", "kv_len", "pos" };
    static const char *const constants[] = { "0",          "1",
                                             "2",          "3",
                                             "7",          "16",
                                             "64",         "-1",
                                             "-5",         "100",
                                             "1000",       "4611686018427387904",
                                             "2147483647", "-9223372036854775808" };
    if (pick(t, 3))
        put(t, "%s", leaves[pick(t, COUNT_OF(leaves))]);
    else
        put(t, "%s", constants[pick(t, COUNT_OF(constants))]);
}

static void put_i64(struct text *t, i32 size)
{
    static const char *const operators[] = { "+", "-", "-", "*", "//", "%" };
    static const char *const functions[] = { "min",    "max",     "div_trunc", "rem_trunc", "bit_and",
                                             "bit_or", "bit_xor", "shl",       "shr" };
    if (size <= 1) {
        put_i64_leaf(t);
        return;
    }
    const i32 left = (i32)pick(t, size), right = size - 1 - left;
    switch (pick(t, 10)) {
    default:
        put(t, "(");
        put_i64(t, left);
        put(t, " %s ", operators[pick(t, COUNT_OF(operators))]);
        put_i64(t, right);
        break;
    case 0:
        put(t, "%s(", functions[pick(t, COUNT_OF(functions))]);
        put_i64(t, left);
        put(t, ", ");
        put_i64(t, right);
        break;
    case 1:
        put(t, "%s(", pick(t, 2) ? "abs" : "bit_not");
        put_i64(t, size - 1);
        break;
    case 2:
        put(t, "(");
        put_bool(t, left);
        put(t, " ? ");
        put_i64(t, right / 2);
        put(t, " : ");
        put_i64(t, right / 2);
        break;
    case 3:
        put(t, "i64(");
        if (pick(t, 2))
            put_f32(t, size - 1);
        else
            put_bool(t, size - 1);
        break;
    case 4:
        put(t, pick(t, 2) ? "(doc[b, kv]" : "(doc[b, pos]");
        break;
    case 5:
        put(t, "(wide[");
        put_i64(t, size - 1);
        put(t, "]");
        break;
    }
    put(t, ")");
}

static void put_f32_leaf(struct text *t)
{
    static const char *const leaves[] = { "0.5", "1.0", "-2.0",      "3.25",    "1e-3",
                                          "inf", "cap", "slopes[h]", "f32(kv)", "f32(q)" };
    put(t, "%s", t->has_score && pick(t, 2) ? "score" : leaves[pick(t, COUNT_OF(leaves))]);
}

static void put_f32(struct text *t, i32 size)
{
    static const char *const operators[] = { "+", "-", "*", "*", "/" };
    static const char *const functions[] = { "abs",  "floor", "sqrt",    "exp", "tanh",
                                             "exp2", "log",   "sigmoid", "sin", "cos" };
    if (size <= 1) {
        put_f32_leaf(t);
        return;
    }
    const i32 left = (i32)pick(t, size), right = size - 1 - left;
    switch (pick(t, 10)) {
    default:
        put(t, "(");
        put_f32(t, left);
        put(t, " %s ", operators[pick(t, COUNT_OF(operators))]);
        put_f32(t, right);
        break;
    case 0:
        put(t, "%s(", pick(t, 2) ? "min" : "max");
        put_f32(t, left);
        put(t, ", ");
        put_f32(t, right);
        break;
    case 1:
        put(t, "%s(", functions[pick(t, t->functions ? (i64)COUNT_OF(functions) : 3)]);
        put_f32(t, size - 1);
        break;
    case 2:
        put(t, "where(");
        put_bool(t, left);
        put(t, ", ");
        put_f32(t, right / 2);
        put(t, ", ");
        put_f32(t, right / 2);
        break;
    case 3:
        put(t, "f32(");
        if (pick(t, 4))
            put_i64(t, size - 1);
        else
            put_bool(t, size - 1);
        break;
    case 4:
        put(t, "(bias[q, ");
        put_i64(t, size - 1);
        put(t, "]");
        break;
    case 5:
        put(t, "(-");
        put_f32(t, size - 1);
        break;
    }
    put(t, ")");
}

static void put_bool(struct text *t, i32 size)
{
    static const char *const comparisons[] = { "<", "<=", ">", ">=", "==", "!=" };
    if (size <= 1) {
        static const char *const leaves[] = { "true",      "false",    "kv <= q",
                                              "kv <= pos", "flag[kv]", "doc[b, kv] == doc[b, pos]" };
        put(t, "(%s)", leaves[pick(t, COUNT_OF(leaves))]);
        return;
    }
    const i32 left = (i32)pick(t, size), right = size - 1 - left;
    const i64 what = pick(t, 8);
    put(t, what == 0 ? "!(" : "(");
    if (what == 0)
        put_bool(t, size - 1);
    if (what >= 1 && what <= 3)
        put_bool(t, left);
    if (what >= 4 && what <= 6)
        put_i64(t, left);
    if (what == 7)
        put_f32(t, left);
    if (what >= 1 && what <= 3)
        put(t, " %s ", what == 1 ? "&&" : what == 2 ? "||" : "==");
    if (what >= 4)
        put(t, " %s ", comparisons[pick(t, COUNT_OF(comparisons))]);
    if (what >= 1 && what <= 3)
        put_bool(t, right);
    if (what >= 4 && what <= 6)
        put_i64(t, right);
    if (what == 7)
        put_f32(t, right);
    put(t, ")");
}

void mod_random_text(u64 *seed, folio_mod_kind kind, i32 size, int functions, char *text, size_t n)
{
    struct text t = { .p = text, .n = n, .seed = seed, .functions = functions, .has_score = kind == FOLIO_MOD_SCORE };
    text[0] = '\0';
    if (kind == FOLIO_MOD_SCORE)
        put_f32(&t, size);
    else
        put_bool(&t, size);
}
