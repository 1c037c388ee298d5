/* SPDX-License-Identifier: Apache-2.0
 * strided.h: strided tensors over poisoned memory. All tensors of a test lie in one arena that starts as 0xff bytes
 * (NaN in every float type), so that one memcmp of the whole arena sees every stray write: red zones, gaps and unused
 * slots. */
#ifndef TESTS_STRIDED_H
#define TESTS_STRIDED_H

#include <stdbool.h>

#include "base/dtype.h"
#include "folio/dlpack.h"

/* Deterministic random numbers: splitmix64. */
u64 random_next(u64 *state);
i64 random_below(u64 *state, i64 n); /* 0 .. n - 1 */
u64 random_seed(void);               /* FOLIO_SEED, else 1 */

struct arena {
    u8 *bytes; /* [n] */
    i64 n, used;
};
struct arena arena_create(i64 n_bytes);
void arena_destroy(struct arena *arena);
u8 *arena_copy(const struct arena *arena);          /* free() it */
void *arena_take(struct arena *arena, i64 n_bytes); /* 64-byte aligned, a red zone of 64 bytes on either side */

struct strided {
    DLTensor dl;              /* points into this struct: do not copy it */
    i64 shape[5], strides[5]; /* elements */
    enum dtype dtype;
};
void strided_init(struct strided *t, enum dtype dtype, i32 ndim, const i64 *shape, const i64 *strides, void *data);
/* Compact row-major, taken from the arena. */
void strided_compact(struct strided *t, struct arena *arena, enum dtype dtype, i32 ndim, const i64 *shape);
/* Address of an element: the test's own arithmetic. The same element in a copy of the arena: + (copy - arena). */
void *strided_at(const struct strided *t, i64 a, i64 b, i64 c, i64 d);

DLDataType dl_dtype(enum dtype dtype);

/* How pages lie in memory. */
enum pages_layout { LAYOUT_NHD, LAYOUT_HND, LAYOUT_FLAT, LAYOUT_INTERLEAVED, LAYOUT_GAPS, N_LAYOUTS };
extern const char *const layout_names[N_LAYOUTS];

struct pages_shape {
    i64 n_pages, page_size, n_kv_heads, dim_k, dim_v;
};
/* K and V pages of one layout; INTERLEAVED: both in one buffer. */
void strided_pages(struct strided *k, struct strided *v, struct arena *arena, enum pages_layout layout,
                   enum dtype dtype, const struct pages_shape *shape);
/* [n_tokens, n_heads, dim], with gaps between tokens and heads unless is_compact. */
void strided_rows(struct strided *t, struct arena *arena, enum dtype dtype, i64 n_tokens, i64 n_heads, i64 dim,
                  bool is_compact);
/* Every element random in [-2, 2). */
void strided_fill(struct strided *t, u64 *random);

#endif
