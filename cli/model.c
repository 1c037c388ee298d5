/* SPDX-License-Identifier: Apache-2.0
 * model.c: the model's stand-in: q, k and v of a token as pure functions of who the token is. */
#include "model.h"

#define XXH_INLINE_ALL
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <xxhash.h>

const char *const element_names[] = { "f32", "f16", "bf16", NULL };
const char *const page_element_names[] = { "f32", "f16", "bf16", "i8", "e4m3", "e5m2", NULL };

i64 element_bytes(enum element element)
{
    return element == ELEMENT_F32 ? 4 : element <= ELEMENT_BF16 ? 2 : 1;
}

static double half_to_double(u16 x)
{
    const i32 exponent = x >> 10 & 31, fraction = x & 1023;
    double value = exponent == 31 ? (fraction ? NAN : INFINITY)
                   : exponent     ? ldexp(1024 + fraction, exponent - 25)
                                  : ldexp(fraction, -24);
    return x & 0x8000 ? -value : value;
}

double element_read(enum element element, const void *from, i64 index)
{
    if (element == ELEMENT_F32)
        return (double)((const float *)from)[index];
    const u16 x = ((const u16 *)from)[index];
    if (element == ELEMENT_F16)
        return half_to_double(x);
    const u32 bits = (u32)x << 16;
    float value;
    memcpy(&value, &bits, sizeof(value));
    return (double)value;
}

static const struct shape known_shapes[] = {
    { "smollm2-135m", 9, 3, 64, 64, 30 },
    { "llama-3-8b", 32, 8, 128, 128, 32 },
};

bool shape_parse(const char *text, struct shape *shape)
{
    for (size_t i = 0; i < COUNT_OF(known_shapes); i++)
        if (!strcmp(text, known_shapes[i].name)) {
            *shape = known_shapes[i];
            return true;
        }
    int h, hkv, d, dv, end = 0, end_v = 0;
    const int n = sscanf(text, "%4d/%4d/%4d%n/%4d%n", &h, &hkv, &d, &end, &dv, &end_v);
    if (n < 3 || text[n == 4 ? end_v : end])
        return false;
    if (n == 3)
        dv = d;
    if (hkv < 1 || h < hkv || h % hkv || d < 1 || d > MODEL_MAX_HEAD_DIM || dv < 1 || dv > MODEL_MAX_HEAD_DIM)
        return false;
    *shape = (struct shape){ text, h, hkv, d, dv, 0 };
    return true;
}

u64 token_identity(const struct trace *trace, i64 request, i64 position, u64 seed)
{
    const struct request *r = &trace->requests[request];
    const bool has_id = r->n_ids && position < r->prompt_tokens;
    const u64 who[3] = { has_id, has_id ? trace_prompt_id(trace, r, position) : (u64)request, (u64)position };
    return XXH3_64bits_withSeed(who, sizeof(who), seed);
}

/* A bijection of 64 bits that scatters neighbours (the finaliser of SplitMix64). */
static inline u64 scatter(u64 x)
{
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

static const u64 golden = UINT64_C(0x9e3779b97f4a7c15);

void row_codes(u64 identity, i32 layer, enum row_kind kind, i32 head, i32 dim, i8 *codes)
{
    const u64 place = (u64)(u32)layer << 32 | (u64)kind << 24 | (u64)(u32)head;
    const u64 key = scatter(identity ^ scatter(place * golden));
    for (i32 i = 0; i < dim; i += 8) {
        const u64 eight = scatter(key + (u64)(i / 8 + 1) * golden);
        memcpy(codes + i, &eight, 8);
    }
}

double row_unit(enum row_kind kind)
{
    return kind == ROW_Q ? 1.0 / 32 : 1.0 / 128;
}

static u32 float_bits(float x)
{
    u32 bits;
    memcpy(&bits, &x, sizeof(bits));
    return bits;
}

/* Exact: a code times a power of two has at most 8 significant bits, and an exponent that f16 holds too. */
static u16 narrow(float x, enum element element)
{
    const u32 bits = float_bits(x);
    if (element == ELEMENT_BF16)
        return (u16)(bits >> 16);
    if ((bits & 0x7fffffff) == 0)
        return (u16)(bits >> 16);
    const u32 exponent = ((bits >> 23) & 0xff) - 127 + 15;
    return (u16)((bits >> 16 & 0x8000) | exponent << 10 | (bits >> 13 & 0x3ff));
}

void row_fill(u64 identity, i32 layer, enum row_kind kind, i32 n_heads, i32 dim, enum element element, void *to)
{
    i8 codes[MODEL_MAX_HEAD_DIM];
    const float unit = (float)row_unit(kind);
    for (i32 head = 0; head < n_heads; head++) {
        row_codes(identity, layer, kind, head, dim, codes);
        if (element == ELEMENT_F32)
            for (i32 i = 0; i < dim; i++)
                ((float *)to)[head * dim + i] = (float)codes[i] * unit;
        else
            for (i32 i = 0; i < dim; i++)
                ((u16 *)to)[head * dim + i] = narrow((float)codes[i] * unit, element);
    }
}
