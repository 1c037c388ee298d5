/* SPDX-License-Identifier: Apache-2.0
 * model.h: the model's stand-in: q, k and v of a token as pure functions of who the token is.
 *
 *   identity(request, position) ─┐
 *   layer, q|k|v, head ──────────┴► hash ► dim bytes ► values code / 128 (k, v) or code / 32 (q)
 *
 * Whoever knows a request and a position can compute its rows without looking at any page: that is what the check rests
 * on. Values are 8-bit fractions, exact in f32, f16 and bf16, so no rounding stands between the two sides. With these
 * ranges scores spread by a standard deviation of 4/3, so every key keeps a visible weight. */
#ifndef CLI_MODEL_H
#define CLI_MODEL_H

#include "trace.h"
#include "types.h"

enum { MODEL_MAX_HEAD_DIM = 1024 };

enum element { ELEMENT_F32, ELEMENT_F16, ELEMENT_BF16, ELEMENT_I8, ELEMENT_E4M3, ELEMENT_E5M2 };
extern const char *const element_names[];      /* "f32", "f16", "bf16", NULL: what rows may be */
extern const char *const page_element_names[]; /* and "i8", "e4m3", "e5m2", NULL: what pages may be */
i64 element_bytes(enum element element);
double element_read(enum element element, const void *from, i64 index); /* from[index] */

struct shape {
    const char *name;
    i32 n_q_heads, n_kv_heads;
    i32 dim_qk, dim_v; /* head dims of q and K, and of V */
    i32 n_layers;      /* 0 = the name says nothing about layers */
};
/* "smollm2-135m", "llama-3-8b", "H/Hkv/D" or "H/Hkv/D/Dv". false: none of them, H no multiple of Hkv, too large. */
bool shape_parse(const char *text, struct shape *shape);

enum row_kind { ROW_Q, ROW_K, ROW_V };

/* Who a token is: prompt tokens by (their id in the trace, position), all others by (request number, position). */
u64 token_identity(const struct trace *trace, i64 request, i64 position, u64 seed);

/* The codes of one row: codes [dim rounded up to 8], value = code * row_unit(kind). */
void row_codes(u64 identity, i32 layer, enum row_kind kind, i32 head, i32 dim, i8 *codes);
double row_unit(enum row_kind kind);

/* Rows of consecutive heads of one token in an element type: to [n_heads][dim]. */
void row_fill(u64 identity, i32 layer, enum row_kind kind, i32 n_heads, i32 dim, enum element element, void *to);

#endif
