/* SPDX-License-Identifier: Apache-2.0
 * quantise.c: rows of floats into quantised slots, a few elements at a time so that loops are plain. */
#include "kernel/quantise.h"

#include <float.h>
#include <math.h>
#include <string.h>

#include "kernel/layout.h"

enum { PART = 64 };

static void widen(float *x, const u8 *row, enum dtype dtype, i32 n)
{
    const i64 bytes = folio__dtype_bytes(dtype);
    if (dtype == DTYPE_F32)
        memcpy(x, row, (size_t)n * sizeof *x);
    else if (dtype == DTYPE_BF16)
        for (i32 i = 0; i < n; i++) {
            u16 half;
            memcpy(&half, row + i * bytes, sizeof half);
            const u32 bits = (u32)half << 16;
            memcpy(&x[i], &bits, sizeof bits);
        }
    else
        for (i32 i = 0; i < n; i++)
            x[i] = folio__load_float(dtype, row + i * bytes);
}

/* Magnitudes of floats are ordered as their bits are. */
static float largest_finite(const u8 *row, enum dtype dtype, i32 dim)
{
    float x[PART], largest;
    i32 bits[PART], most = 0;
    for (i32 at = 0; at < dim; at += PART) {
        const i32 n = dim - at < PART ? dim - at : PART;
        widen(x, row + at * folio__dtype_bytes(dtype), dtype, n);
        memcpy(bits, x, (size_t)n * sizeof *x);
        for (i32 i = 0; i < n; i++) {
            const i32 size = bits[i] & 0x7fffffff, finite = size < 0x7f800000 ? size : 0;
            most = finite > most ? finite : most;
        }
    }
    memcpy(&largest, &most, sizeof largest);
    return largest;
}

/* Never 0, so that dividing by it is safe. */
static float scale_for(const u8 *row, enum dtype dtype, i32 dim, enum dtype to)
{
    const float largest = largest_finite(row, dtype, dim);
    return largest == 0 ? 1.0f : fmaxf(largest / folio__dtype_max(to), FLT_MIN);
}

/* folio__f32_to_i8 without a branch or a call: adding 1.5 * 2^23 rounds to a whole number, to even. */
static void narrow_i8(u8 *dst, const float *x, i32 n)
{
    const float rounder = 0x1.8p23f;
    for (i32 i = 0; i < n; i++) {
        const float low = x[i] > -127.0f ? x[i] : -127.0f, kept = low < 127.0f ? low : 127.0f;
        const i32 whole = (i32)((kept + rounder) - rounder);
        dst[i] = (u8)(x[i] == x[i] ? whole : 0);
    }
}

static void quantise_row(u8 *dst, enum dtype to, const u8 *src, enum dtype from, i32 dim, float scale)
{
    float x[PART];
    for (i32 at = 0; at < dim; at += PART) {
        const i32 n = dim - at < PART ? dim - at : PART;
        widen(x, src + at * folio__dtype_bytes(from), from, n);
        for (i32 i = 0; i < n; i++)
            x[i] /= scale;
        if (to == DTYPE_I8)
            narrow_i8(dst + at, x, n);
        else
            for (i32 i = 0; i < n; i++)
                dst[at + i] = to == DTYPE_E4M3 ? folio__f32_to_e4m3(x[i]) : folio__f32_to_e5m2(x[i]);
    }
}

void folio__quantise_token(const struct append_args *args, const struct pages_view *pages, i64 page, i64 slot,
                           const struct rows_view *rows, i64 token)
{
    const enum dtype from = (enum dtype)rows->dtype, to = (enum dtype)pages->dtype;
    for (i32 head = 0; head < args->n_kv_heads; head++) {
        const u8 *src = layout_row(rows, token, head);
        float one = 1;
        float *scale = pages->scale ? layout_scale(pages, page, slot, head) : &one;
        if (args->makes_scales)
            *scale = scale_for(src, from, rows->dim, to);
        quantise_row(layout_slot(pages, page, slot, head), to, src, from, rows->dim, *scale);
    }
}
