/* SPDX-License-Identifier: Apache-2.0
 * strided.c: see strided.h. */
#include "support/strided.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

u64 random_next(u64 *state)
{
    u64 x = *state += UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
    return x ^ x >> 31;
}

i64 random_below(u64 *state, i64 n)
{
    return (i64)(random_next(state) % (u64)n);
}

u64 random_seed(void)
{
    const char *text = getenv("FOLIO_SEED");
    return text ? strtoull(text, NULL, 0) : 1;
}

static void require(bool ok, const char *what)
{
    if (ok)
        return;
    fprintf(stderr, "test support: %s\n", what);
    abort();
}

struct arena arena_create(i64 n_bytes)
{
    struct arena arena = { .n = (n_bytes + 63) / 64 * 64 };
    arena.bytes = aligned_alloc(64, (size_t)arena.n);
    require(arena.bytes != NULL, "no memory for an arena");
    memset(arena.bytes, 0xff, (size_t)arena.n);
    return arena;
}

void arena_destroy(struct arena *arena)
{
    free(arena->bytes);
    *arena = (struct arena){ 0 };
}

u8 *arena_copy(const struct arena *arena)
{
    u8 *copy = malloc((size_t)arena->n);
    require(copy != NULL, "no memory for a copy");
    return memcpy(copy, arena->bytes, (size_t)arena->n);
}

void *arena_take(struct arena *arena, i64 n_bytes)
{
    u8 *data = arena->bytes + arena->used + 64;
    arena->used += 64 + (n_bytes + 63) / 64 * 64;
    require(arena->used + 64 <= arena->n, "the arena is too small");
    return data;
}

DLDataType dl_dtype(enum dtype dtype)
{
    static const DLDataType types[] = {
        [DTYPE_F32] = { kDLFloat, 32, 1 },       [DTYPE_F16] = { kDLFloat, 16, 1 },
        [DTYPE_BF16] = { kDLBfloat, 16, 1 },     [DTYPE_E4M3] = { kDLFloat8_e4m3fn, 8, 1 },
        [DTYPE_E5M2] = { kDLFloat8_e5m2, 8, 1 }, [DTYPE_I8] = { kDLInt, 8, 1 },
        [DTYPE_I32] = { kDLInt, 32, 1 },         [DTYPE_I64] = { kDLInt, 64, 1 },
        [DTYPE_BOOL] = { kDLBool, 8, 1 },
    };
    return types[dtype];
}

void strided_init(struct strided *t, enum dtype dtype, i32 ndim, const i64 *shape, const i64 *strides, void *data)
{
    *t = (struct strided){ .dtype = dtype };
    memcpy(t->shape, shape, (size_t)ndim * sizeof *shape);
    memcpy(t->strides, strides, (size_t)ndim * sizeof *strides);
    t->dl = (DLTensor){ .data = data,
                        .device = { kDLCPU, 0 },
                        .ndim = ndim,
                        .dtype = dl_dtype(dtype),
                        .shape = t->shape,
                        .strides = t->strides };
}

void strided_compact(struct strided *t, struct arena *arena, enum dtype dtype, i32 ndim, const i64 *shape)
{
    i64 strides[5], n = 1;
    for (i32 i = ndim - 1; i >= 0; i--) {
        strides[i] = n;
        n *= shape[i];
    }
    strided_init(t, dtype, ndim, shape, strides, arena_take(arena, n * folio__dtype_bytes(dtype)));
}

void *strided_at(const struct strided *t, i64 a, i64 b, i64 c, i64 d)
{
    const i64 index[4] = { a, b, c, d };
    i64 offset = 0;
    for (i32 i = 0; i < t->dl.ndim && i < 4; i++)
        offset += index[i] * t->strides[i];
    return (u8 *)t->dl.data + t->dl.byte_offset + offset * folio__dtype_bytes(t->dtype);
}

const char *const layout_names[N_LAYOUTS] = { "NHD", "HND", "FLAT", "INTERLEAVED", "GAPS" };

/* Strides of [page, slot, head, dim], in elements, and the elements they span. */
static i64 layout_strides(i64 *strides, enum pages_layout layout, const struct pages_shape *s, i64 dim, i64 dim_both)
{
    const i64 n_slots = s->page_size, n_heads = s->n_kv_heads;
    strides[3] = 1;
    switch (layout) {
    case LAYOUT_HND: /* [page][head][slot][dim] */
        strides[1] = dim;
        strides[2] = n_slots * dim;
        strides[0] = n_heads * n_slots * dim;
        break;
    case LAYOUT_FLAT: /* [head][page][slot][dim] */
        strides[1] = dim;
        strides[0] = n_slots * dim;
        strides[2] = s->n_pages * n_slots * dim;
        return n_heads * strides[2];
    case LAYOUT_INTERLEAVED: /* [page][slot][head][dim_k of K, dim_v of V] */
        strides[2] = dim_both;
        strides[1] = n_heads * dim_both;
        strides[0] = n_slots * strides[1];
        break;
    case LAYOUT_GAPS: /* NHD with holes behind every head, slot and page */
        strides[2] = dim + 3;
        strides[1] = n_heads * strides[2] + 5;
        strides[0] = n_slots * strides[1] + 7;
        break;
    case LAYOUT_NHD:
    case N_LAYOUTS:
        strides[2] = dim;
        strides[1] = n_heads * dim;
        strides[0] = n_slots * n_heads * dim;
        break;
    }
    return s->n_pages * strides[0];
}

void strided_pages(struct strided *k, struct strided *v, struct arena *arena, enum pages_layout layout,
                   enum dtype dtype, const struct pages_shape *s)
{
    const i64 k_shape[] = { s->n_pages, s->page_size, s->n_kv_heads, s->dim_k };
    const i64 v_shape[] = { s->n_pages, s->page_size, s->n_kv_heads, s->dim_v };
    const i64 element = folio__dtype_bytes(dtype);
    i64 k_strides[4], v_strides[4];
    const i64 n_k = layout_strides(k_strides, layout, s, s->dim_k, s->dim_k + s->dim_v);
    const i64 n_v = layout_strides(v_strides, layout, s, s->dim_v, s->dim_k + s->dim_v);
    u8 *k_data = arena_take(arena, n_k * element);
    u8 *v_data = layout == LAYOUT_INTERLEAVED ? k_data + s->dim_k * element : arena_take(arena, n_v * element);
    strided_init(k, dtype, 4, k_shape, k_strides, k_data);
    strided_init(v, dtype, 4, v_shape, v_strides, v_data);
    v->dl.data = v_data - element; /* byte_offset counts */
    v->dl.byte_offset = (u64)element;
}

void strided_rows(struct strided *t, struct arena *arena, enum dtype dtype, i64 n_tokens, i64 n_heads, i64 dim,
                  bool is_compact)
{
    const i64 head_stride = is_compact ? dim : dim + 3, token_stride = n_heads * head_stride + (is_compact ? 0 : 5);
    void *data = arena_take(arena, n_tokens * token_stride * folio__dtype_bytes(dtype));
    strided_init(t, dtype, 3, (i64[]){ n_tokens, n_heads, dim }, (i64[]){ token_stride, head_stride, 1 }, data);
    if (is_compact)
        t->dl.strides = NULL;
}

void strided_fill(struct strided *t, u64 *random)
{
    i64 e[4] = { 1, 1, 1, 1 };
    for (i32 i = 0; i < t->dl.ndim; i++)
        e[i] = t->shape[i];
    for (i64 a = 0; a < e[0]; a++)
        for (i64 b = 0; b < e[1]; b++)
            for (i64 c = 0; c < e[2]; c++)
                for (i64 d = 0; d < e[3]; d++)
                    folio__store_float(t->dtype, strided_at(t, a, b, c, d),
                                       (float)(random_next(random) >> 40) * 0x1p-22f - 2.0f);
}
