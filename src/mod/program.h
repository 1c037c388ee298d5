/* SPDX-License-Identifier: Apache-2.0
 * program.h: a mod as data: a flat array of typed steps, each reading the results of earlier ones.
 *
 *   score + slopes[h] * (kv - pos)                     level   deps
 *     s0 = h            i64                            head    h
 *     s1 = slopes[s0]   f32                            head    h
 *     s2 = pos          i64                            row     q
 *     s3 = kv           i64                            tile    kv
 *     s4 = s3 - s2      i64                            key     q kv
 *     s5 = f32(s4)      f32                            key
 *     s6 = s1 * s5      f32                            key
 *     s7 = score        f32                            key
 *     s8 = s7 + s6      f32   result                   key
 *
 * Steps are sorted by level, so each level is one range of the array, and running the levels in order is right. No two
 * steps are equal, none is unused, and no step but CONST has only constant arguments. */
#ifndef FOLIO_MOD_PROGRAM_H
#define FOLIO_MOD_PROGRAM_H

#include <stdbool.h>

#include "base/dtype.h"
#include "base/types.h"
#include "folio/mod.h"

enum mod_type { MOD_F32 = 0, MOD_I64 = 1, MOD_BOOL = 2 };

/* X(NAME, n_args, result type, type of its arguments, printed name). LOAD's arguments are its indices. */
#define MOD_OP_MAP(X)                      \
    X(CONST, 0, F32, F32, "const")         \
    X(SCORE, 0, F32, F32, "score")         \
    X(B, 0, I64, I64, "b")                 \
    X(H, 0, I64, I64, "h")                 \
    X(HK, 0, I64, I64, "hk")               \
    X(Q, 0, I64, I64, "q")                 \
    X(KV, 0, I64, I64, "kv")               \
    X(Q_LEN, 0, I64, I64, "q_len")         \
    X(KV_LEN, 0, I64, I64, "kv_len")       \
    X(POS, 0, I64, I64, "pos")             \
    X(LOAD, 0, F32, I64, "load")           \
    X(ADD_F, 2, F32, F32, "add.f32")       \
    X(SUB_F, 2, F32, F32, "sub.f32")       \
    X(MUL_F, 2, F32, F32, "mul.f32")       \
    X(DIV_F, 2, F32, F32, "div.f32")       \
    X(MIN_F, 2, F32, F32, "min.f32")       \
    X(MAX_F, 2, F32, F32, "max.f32")       \
    X(POW_F, 2, F32, F32, "pow.f32")       \
    X(NEG_F, 1, F32, F32, "neg.f32")       \
    X(ABS_F, 1, F32, F32, "abs.f32")       \
    X(FLOOR_F, 1, F32, F32, "floor.f32")   \
    X(SQRT_F, 1, F32, F32, "sqrt.f32")     \
    X(EXP_F, 1, F32, F32, "exp.f32")       \
    X(EXP2_F, 1, F32, F32, "exp2.f32")     \
    X(LOG_F, 1, F32, F32, "log.f32")       \
    X(TANH_F, 1, F32, F32, "tanh.f32")     \
    X(SIN_F, 1, F32, F32, "sin.f32")       \
    X(COS_F, 1, F32, F32, "cos.f32")       \
    X(ADD_I, 2, I64, I64, "add.i64")       \
    X(SUB_I, 2, I64, I64, "sub.i64")       \
    X(MUL_I, 2, I64, I64, "mul.i64")       \
    X(FLOORDIV_I, 2, I64, I64, "floordiv") \
    X(FLOORMOD_I, 2, I64, I64, "floormod") \
    X(DIV_I, 2, I64, I64, "div_trunc")     \
    X(REM_I, 2, I64, I64, "rem_trunc")     \
    X(MIN_I, 2, I64, I64, "min.i64")       \
    X(MAX_I, 2, I64, I64, "max.i64")       \
    X(AND_I, 2, I64, I64, "and.i64")       \
    X(OR_I, 2, I64, I64, "or.i64")         \
    X(XOR_I, 2, I64, I64, "xor.i64")       \
    X(SHL_I, 2, I64, I64, "shl")           \
    X(SHR_I, 2, I64, I64, "shr")           \
    X(NEG_I, 1, I64, I64, "neg.i64")       \
    X(ABS_I, 1, I64, I64, "abs.i64")       \
    X(NOT_I, 1, I64, I64, "not.i64")       \
    X(EQ_F, 2, BOOL, F32, "eq.f32")        \
    X(NE_F, 2, BOOL, F32, "ne.f32")        \
    X(LT_F, 2, BOOL, F32, "lt.f32")        \
    X(LE_F, 2, BOOL, F32, "le.f32")        \
    X(EQ_I, 2, BOOL, I64, "eq.i64")        \
    X(NE_I, 2, BOOL, I64, "ne.i64")        \
    X(LT_I, 2, BOOL, I64, "lt.i64")        \
    X(LE_I, 2, BOOL, I64, "le.i64")        \
    X(AND_B, 2, BOOL, BOOL, "and")         \
    X(OR_B, 2, BOOL, BOOL, "or")           \
    X(XOR_B, 2, BOOL, BOOL, "xor")         \
    X(NOT_B, 1, BOOL, BOOL, "not")         \
    X(SELECT_F, 3, F32, F32, "select.f32") \
    X(SELECT_I, 3, I64, I64, "select.i64") \
    X(SELECT_B, 3, BOOL, BOOL, "select")   \
    X(F_OF_I, 1, F32, I64, "f32 of i64")   \
    X(F_OF_B, 1, F32, BOOL, "f32 of bool") \
    X(I_OF_F, 1, I64, F32, "i64 of f32")   \
    X(I_OF_B, 1, I64, BOOL, "i64 of bool")

#define MOD__OP_ENUM(name, n_args, type, arg_type, text) MOD_##name,
enum mod_op { MOD_OP_MAP(MOD__OP_ENUM) MOD_N_OPS };
#undef MOD__OP_ENUM

/* What a step's value depends on. b, q_len and kv_len are the same for a whole item: no bit. */
enum { MOD_DEP_HEAD = 1, MOD_DEP_ROW = 2, MOD_DEP_KV = 4, MOD_DEP_SCORE = 8 };

/* How often a step runs. CALL, HEAD and ROW steps are scalars, the others vectors over the keys of a tile. */
enum mod_level {
    MOD_LEVEL_CALL = 0,      /* neither head, row nor key */
    MOD_LEVEL_HEAD = 1,      /* head */
    MOD_LEVEL_ROW = 2,       /* row, perhaps head */
    MOD_LEVEL_TILE = 3,      /* key */
    MOD_LEVEL_TILE_HEAD = 4, /* key and head */
    MOD_LEVEL_KEY = 5,       /* key and row, or score */
    MOD_N_LEVELS = 6,
};

enum { MOD_MAX_ARGS = 5 };

union mod_value {
    float f;
    i64 i; /* bool: 0 or 1 */
};

struct mod_step {
    u8 op;                 /* enum mod_op */
    u8 type;               /* enum mod_type of the result */
    u8 deps;               /* MOD_DEP_* */
    u8 n_args;             /* SELECT: condition, then, else. LOAD: one index a dim */
    i16 arg[MOD_MAX_ARGS]; /* earlier steps */
    i16 capture;           /* LOAD */
    i16 slot;              /* where a vector runner keeps the result: among scalars or among vectors, by level */
    union mod_value value; /* CONST */
};

struct mod_capture {
    char name[FOLIO_MOD_MAX_NAME + 1];
    const u8 *data;           /* [shape[0]] ... [shape[ndim - 1]], NULL when empty */
    i64 shape[MOD_MAX_ARGS];  /* elements */
    i64 stride[MOD_MAX_ARGS]; /* bytes */
    i32 ndim;
    i32 dtype; /* enum dtype */
    bool wraps;
    DLDevice device;
};

struct mod_program {
    i32 kind;    /* folio_mod_kind */
    i32 n_steps; /* 0 for a callback */
    i32 n_captures;
    i32 result;                        /* step */
    i32 level_begin[MOD_N_LEVELS + 1]; /* steps of level l: level_begin[l] .. level_begin[l + 1] - 1 */
    i32 n_scalar_slots, n_vector_slots;
    struct mod_step *steps;       /* [n_steps] */
    struct mod_capture *captures; /* [n_captures] */
    folio_tile_callback tile;     /* NULL = the steps */
    void *user;
    bool tile_is_whole;
};

struct folio_mod {
    u64 magic; /* MOD_MAGIC while alive */
    struct mod_program program;
};

struct mod_op_info {
    const char *name;
    u8 n_args, type, arg_type;
};

extern const struct mod_op_info folio__mod_ops[MOD_N_OPS];

static inline bool mod_is_leaf(enum mod_op op)
{
    return op >= MOD_B && op <= MOD_POS;
}

/* Calls that use a mod check it here: NULL is fine and gives NULL; destroyed is EHANDLE, another kind EINVAL.
 * `name` is the argument's. */
folio_status folio__mod_require(const struct mod_program **program, const char *name, const folio_mod *mod,
                                folio_mod_kind kind);

#endif
