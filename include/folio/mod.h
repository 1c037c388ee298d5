/* SPDX-License-Identifier: Apache-2.0
 * mod.h: a user's own score and mask functions, and block masks (docs/mods.md).
 *
 * A score mod changes a score; a mask mod keeps a key (true) or drops it (false). Both see logical indices only:
 *   b sequence   h query head   hk kv head   q row in the sequence   kv key   q_len rows   kv_len keys
 *   pos  where the row stands among the keys: q, or q + kv_len - q_len, as the call's alignment says          (all i64)
 *   score  f32, score mods only: after scale, soft cap, ALiBi and bias; masks come after it
 *
 * The language, C's syntax and precedence:        { let NAME = EXPR; }  EXPR
 *   types      f32 i64 bool. i64 becomes f32 where an f32 is wanted; nothing else is implicit: f32() and i64() convert
 *   operators  ?:  ||  &&  == !=  < <= > >=  + -  * / // %  unary - + !
 *              / gives f32. // and % floor, as in Python; by 0 they give 0 (i64) or IEEE's answer (f32). i64 wraps
 *   functions  min max abs pow (i64 min, max, abs stay i64; NaN wins), exp exp2 log tanh sqrt rsqrt sigmoid floor sin
 *              cos, where(c, a, b) = c ? a : b, f32(x), i64(x) (truncates, saturates, NaN -> 0)
 *   constants  1 0x1f 1.5 1e-3 0x1p-3 inf true false
 *   captures   slopes[h]  bias[b, h, q, kv]  cap       one i64 index a dim; rank 0 without brackets; read at every call
 *   for translated graphs, i64: div_trunc rem_trunc shl shr, i64 or bool: bit_and bit_or bit_xor bit_not
 *
 * An index outside its dim makes the call FOLIO_ERANGE, naming the capture; only where it matters: for a key that all
 * masks keep, in a branch that ?: && || where take, and never in what is not used. No memory outside is read. */
#ifndef FOLIO_MOD_H
#define FOLIO_MOD_H

#include "folio/base.h"
#include "folio/dlpack.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct folio_mod folio_mod;
typedef struct folio_block_mask folio_block_mask;

typedef enum folio_mod_kind {
    FOLIO_MOD_SCORE = 1, /* result f32 (or i64) */
    FOLIO_MOD_MASK = 2,  /* result bool */
} folio_mod_kind;

enum {
    FOLIO_CAPTURE_WRAP = 1 << 0, /* -extent .. -1 count from the end, as in Python */
};

#define FOLIO_MOD_MAX_TEXT 65536 /* bytes */
#define FOLIO_MOD_MAX_STEPS 1024 /* operations after folding */
#define FOLIO_MOD_MAX_DEPTH 200  /* nested brackets, unary operators, conditionals */
#define FOLIO_MOD_MAX_CAPTURES 64
#define FOLIO_MOD_MAX_NAME 63 /* bytes of a name */

/* An array by name. f32 f16 bf16 (read as f32), i32 i64 (i64), bool; at most 5 dims, any strides >= 0. The array's
 * memory is kept and read at every call; it must outlive the mod. The DLTensor itself is not kept. */
typedef struct folio_mod_capture {
    const char *name;
    const DLTensor *tensor;
    uint32_t flags; /* FOLIO_CAPTURE_WRAP */
    uint32_t unused;
} folio_mod_capture;

/* text -> mod. EINVAL: a bad text, "line 1, column 7: expected ')', got ';'"; a bad or repeated capture name; too big.
 * Nothing of text or captures [n_captures] is kept but the arrays' memory. Mods never change: any number of threads and
 * plans may use one; it must outlive them. */
FOLIO_API FOLIO_NODISCARD folio_status folio_mod_create(folio_mod **out, folio_mod_kind kind, const char *text,
                                                        const folio_mod_capture *captures, int32_t n_captures);
FOLIO_API void folio_mod_destroy(folio_mod **mod); /* NULL and *mod == NULL are fine; *mod becomes NULL */

/* What folio_mod_create makes of a text, into explanation [n]: always terminated, cut at n - 1. A good text: the steps
 * of the program, each with how often it runs (call, head, row, tile, key). A bad one: the error, the line, and a caret
 * under the column. Returns what create would. */
FOLIO_API folio_status folio_mod_explain(folio_mod_kind kind, const char *text, const folio_mod_capture *captures,
                                         int32_t n_captures, char *explanation, size_t n);

/* Where a tile of scores lies: rows q_begin .. q_begin + n_rows - 1 of one sequence and query head, and n_keys keys. */
typedef struct folio_tile {
    size_t struct_size; /* what the library knows; fields are only appended */
    int64_t b, h, hk;
    int64_t q_begin, n_rows;
    int64_t kv_begin, n_keys;
    int64_t q_len, kv_len;
    int64_t pos_begin;  /* pos of row q_begin; the next rows follow */
    int64_t row_stride; /* scores of row r start at scores + r * row_stride (floats) */
} folio_tile;

/* A SCORE callback rewrites scores [n_rows][n_keys] in place. A MASK callback gets ones and writes 0 where the key is
 * dropped. Called on the context's threads, several at once, once for every kept (row, key), in no order; tiles also
 * hold keys that other masks drop. Anything but FOLIO_OK stops the call, which returns that status; out and lse are
 * then unspecified. CPU and REF backends only; slow, and the one case in which folio_attend allocates. */
typedef folio_status (*folio_tile_callback)(void *user, float *scores, const folio_tile *where);

enum {
    FOLIO_TILE_WHOLE = 1 << 0, /* a tile is all rows and all keys of a sequence and query head, never less */
};

FOLIO_API FOLIO_NODISCARD folio_status folio_mod_create_callback(folio_mod **out, folio_mod_kind kind,
                                                                 folio_tile_callback tile, void *user, uint32_t flags);

/* Block masks: which blocks of q_block rows x kv_block keys (logical; no relation to page_size) may attend.
 *   partial blocks   kv_indices [row][0 .. kv_num_blocks[row] - 1]: mask_mod decides inside (NULL keeps all)
 *   full blocks      full_kv_indices, likewise: every key is kept
 *   absent blocks    their keys are dropped, and their pages not read for these rows
 * Blocks at or past a sequence's kv_len are empty. A block named twice counts once; full beats partial. */
typedef struct folio_block_mask_args {
    size_t struct_size;
    const DLTensor *kv_num_blocks;      /* [batch | 1, n_q_heads | 1, rows] i32 or i64 */
    const DLTensor *kv_indices;         /* [batch | 1, n_q_heads | 1, rows, cols] */
    const DLTensor *full_kv_num_blocks; /* the same shapes; both or neither; NULL = no full blocks */
    const DLTensor *full_kv_indices;
    int64_t q_block, kv_block; /* >= 1 */
    int64_t q_len, kv_len;     /* what the mask covers; 0 = rows * q_block, cols * kv_block. Longer sequences: EINVAL */
    const folio_mod *mask_mod; /* kept; must outlive the block mask. A MASK, or NULL */
} folio_block_mask_args;

/* Reads and copies the arrays (host memory). ERANGE: an index outside 0 .. ceil(kv_len / kv_block) - 1 or a count
 * outside 0 .. cols, with batch, head and row. Never changes; threads as for mods. */
FOLIO_API FOLIO_NODISCARD folio_status folio_block_mask_create(folio_block_mask **out,
                                                               const folio_block_mask_args *args);
FOLIO_API void folio_block_mask_destroy(folio_block_mask **mask);

#ifdef __cplusplus
}
#endif
#endif
