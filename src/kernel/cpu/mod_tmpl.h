/* SPDX-License-Identifier: Apache-2.0
 * mod_tmpl.h: one function a step of a mod program, over all keys of a row; and the table of one level, MOD_TABLE.
 * What has no function of its own (integer division, shifts, pow, sin, cos) goes lane by lane through
 * folio__mod_apply. */
#include "base/bits.h"
#include "kernel/cpu/mod_lanes.h"
#include "kernel/cpu/mod_load_tmpl.h"
#include "kernel/cpu/mod_run.h"

/* Operand k: a vector, or one value for all lanes. */
LANES_INLINE lanes_f operand_f(const struct mod_code *code, i32 k, i32 i)
{
    return code->is_vector >> k & 1 ? lanes_load_f(code->from[k], i)
                                    : m_f(((const struct mod_result *)code->from[k])->value.f);
}

LANES_INLINE lanes_i operand_i(const struct mod_code *code, i32 k, i32 i) /* narrow */
{
    return code->is_vector >> k & 1 ? lanes_load_i(code->from[k], i)
                                    : m_i((i32)((const struct mod_result *)code->from[k])->value.i);
}

LANES_INLINE lanes_i operand_b(const struct mod_code *code, i32 k, i32 i)
{
    return code->is_vector >> k & 1 ? lanes_load_i(code->from[k], i)
                                    : m_i(-(i32)((const struct mod_result *)code->from[k])->value.i);
}

LANES_INLINE i64 operand_w(const struct mod_code *code, i32 k, i32 i) /* wide */
{
    return code->is_vector >> k & 1 ? ((const i64 *)code->from[k])[i]
                                    : ((const struct mod_result *)code->from[k])->value.i;
}

#define FOR_LANES for (i32 i = begin; i < end; i += LANES)
#define FOR_WIDE for (i32 i = begin; i < end; i++)

/* name, how operands are read, how the result is stored, the result from a and b */
#define STEP(name, operand, store, result)                                  \
    static void run_##name(const struct mod_code *code, i32 begin, i32 end) \
    {                                                                       \
        FOR_LANES                                                           \
        {                                                                   \
            const __typeof__(operand(code, 0, i)) a = operand(code, 0, i);  \
            store(code->to, i, result);                                     \
        }                                                                   \
    }
#define STEP2(name, operand, store, result)                                                         \
    static void run_##name(const struct mod_code *code, i32 begin, i32 end)                         \
    {                                                                                               \
        FOR_LANES                                                                                   \
        {                                                                                           \
            const __typeof__(operand(code, 0, i)) a = operand(code, 0, i), b = operand(code, 1, i); \
            store(code->to, i, result);                                                             \
        }                                                                                           \
    }

STEP2(ADD_F, operand_f, lanes_store_f, a + b)
STEP2(SUB_F, operand_f, lanes_store_f, a - b)
STEP2(MUL_F, operand_f, lanes_store_f, a *b)
STEP2(DIV_F, operand_f, lanes_store_f, a / b)
STEP2(MIN_F, operand_f, lanes_store_f, lanes_select_f((lanes_i)(a < b) | (lanes_i)(a != a), a, b))
STEP2(MAX_F, operand_f, lanes_store_f, lanes_select_f((lanes_i)(a > b) | (lanes_i)(a != a), a, b))
STEP(NEG_F, operand_f, lanes_store_f, m_from_bits(m_bits(a) ^ m_i(INT32_MIN)))
STEP(ABS_F, operand_f, lanes_store_f, m_from_bits(m_bits(a) & m_i(INT32_MAX)))
STEP(FLOOR_F, operand_f, lanes_store_f, lanes_floor(a))
STEP(SQRT_F, operand_f, lanes_store_f, lanes_sqrt(a))
STEP(EXP_F, operand_f, lanes_store_f, m_exp(a))
STEP(EXP2_F, operand_f, lanes_store_f, m_exp2(a))
STEP(LOG_F, operand_f, lanes_store_f, m_log(a))
STEP(TANH_F, operand_f, lanes_store_f, m_tanh(a))
STEP2(EQ_F, operand_f, lanes_store_i, (lanes_i)(a == b))
STEP2(NE_F, operand_f, lanes_store_i, (lanes_i)(a != b))
STEP2(LT_F, operand_f, lanes_store_i, (lanes_i)(a < b))
STEP2(LE_F, operand_f, lanes_store_i, (lanes_i)(a <= b))

STEP2(ADD_I, operand_i, lanes_store_i, m_iadd(a, b))
STEP2(SUB_I, operand_i, lanes_store_i, m_isub(a, b))
STEP2(MUL_I, operand_i, lanes_store_i, (lanes_i)((lanes_u)a *(lanes_u)b))
STEP2(MIN_I, operand_i, lanes_store_i, lanes_select_i((lanes_i)(a < b), a, b))
STEP2(MAX_I, operand_i, lanes_store_i, lanes_select_i((lanes_i)(a > b), a, b))
STEP2(AND_I, operand_i, lanes_store_i, a &b)
STEP2(OR_I, operand_i, lanes_store_i, a | b)
STEP2(XOR_I, operand_i, lanes_store_i, a ^ b)
STEP(NEG_I, operand_i, lanes_store_i, m_isub(m_i(0), a))
STEP(ABS_I, operand_i, lanes_store_i, lanes_select_i((lanes_i)(a < m_i(0)), m_isub(m_i(0), a), a))
STEP(NOT_I, operand_i, lanes_store_i, ~a)
STEP2(EQ_I, operand_i, lanes_store_i, (lanes_i)(a == b))
STEP2(NE_I, operand_i, lanes_store_i, (lanes_i)(a != b))
STEP2(LT_I, operand_i, lanes_store_i, (lanes_i)(a < b))
STEP2(LE_I, operand_i, lanes_store_i, (lanes_i)(a <= b))
STEP(F_OF_I, operand_i, lanes_store_f, m_to_float(a))

STEP2(AND_B, operand_b, lanes_store_i, a &b)
STEP2(OR_B, operand_b, lanes_store_i, a | b)
STEP2(XOR_B, operand_b, lanes_store_i, a ^ b)
STEP(NOT_B, operand_b, lanes_store_i, ~a)
STEP(F_OF_B, operand_b, lanes_store_f, m_from_bits(a &m_bits(m_f(1.0f))))
STEP(I_OF_B, operand_b, lanes_store_i, a &m_i(1))

/* Narrow: the range is proved, so only NaN needs care. */
STEP(I_OF_F, operand_f, lanes_store_i, m_to_int(m_select_ordered(a, a, m_f(0.0f))))

#define SELECT(name, operand, store, select)                                                         \
    static void run_##name(const struct mod_code *code, i32 begin, i32 end)                          \
    {                                                                                                \
        FOR_LANES                                                                                    \
        store(code->to, i, select(operand_b(code, 0, i), operand(code, 1, i), operand(code, 2, i))); \
    }
SELECT(SELECT_F, operand_f, lanes_store_f, lanes_select_f)
SELECT(SELECT_I, operand_i, lanes_store_i, lanes_select_i)
SELECT(SELECT_B, operand_b, lanes_store_i, lanes_select_i)

/* Wide i64: simple loops, which the compiler makes vectors of where the level can. */
#define WIDE_STEP(name, type, result)                                        \
    static void wide_##name(const struct mod_code *code, i32 begin, i32 end) \
    {                                                                        \
        type *to = code->to;                                                 \
        FOR_WIDE                                                             \
        {                                                                    \
            const i64 a = operand_w(code, 0, i), b = operand_w(code, 1, i);  \
            to[i] = (type)(result);                                          \
        }                                                                    \
    }
WIDE_STEP(ADD_I, i64, (u64)a + (u64)b)
WIDE_STEP(SUB_I, i64, (u64)a - (u64)b)
WIDE_STEP(MUL_I, i64, (u64)a *(u64)b)
WIDE_STEP(MIN_I, i64, a < b ? a : b)
WIDE_STEP(MAX_I, i64, a > b ? a : b)
WIDE_STEP(EQ_I, i32, -(a == b))
WIDE_STEP(NE_I, i32, -(a != b))
WIDE_STEP(LT_I, i32, -(a < b))
WIDE_STEP(LE_I, i32, -(a <= b))

static void wide_F_OF_I(const struct mod_code *code, i32 begin, i32 end)
{
    float *to = code->to;
    FOR_WIDE
    to[i] = (float)operand_w(code, 0, i);
}

static void wide_SELECT_I(const struct mod_code *code, i32 begin, i32 end)
{
    i64 *to = code->to;
    const i32 *condition = code->from[0];
    const bool uniform = !(code->is_vector & 1) && ((const struct mod_result *)code->from[0])->value.i;
    FOR_WIDE
    {
        const i64 a = operand_w(code, 1, i), b = operand_w(code, 2, i);
        to[i] = (code->is_vector & 1 ? condition[i] != 0 : uniform) ? a : b;
    }
}

/* Narrow division through double: the quotient of two 32-bit integers is never rounded across a whole number. */
#define DIVISION(name, result)                                                                  \
    static void run_##name(const struct mod_code *code, i32 begin, i32 end)                     \
    {                                                                                           \
        i32 *to = code->to;                                                                     \
        for (i32 i = begin; i < end; i++) {                                                     \
            const i32 a = lane_i(code, 0, i), b = lane_i(code, 1, i), nonzero = b == 0 ? 1 : b; \
            const i32 quotient = (i32)((double)a / (double)nonzero);                            \
            const i32 rest = (i32)((u32)a - (u32)quotient * (u32)nonzero);                      \
            const i32 below = rest != 0 && (rest < 0) != (nonzero < 0); /* floor is one less */ \
            (void)below;                                                                        \
            to[i] = b == 0 ? 0 : (result);                                                      \
        }                                                                                       \
    }
LANES_INLINE i32 lane_i(const struct mod_code *code, i32 k, i32 i)
{
    return code->is_vector >> k & 1 ? ((const i32 *)code->from[k])[i]
                                    : (i32)((const struct mod_result *)code->from[k])->value.i;
}
DIVISION(FLOORDIV_I, quotient - below)
DIVISION(FLOORMOD_I, rest + (below ? nonzero : 0))
DIVISION(DIV_I, quotient)
DIVISION(REM_I, rest)

/* ---- lane by lane */

static union mod_value lane_of(const struct mod_code *code, i32 k, i32 i, enum mod_type type)
{
    if (!(code->is_vector >> k & 1))
        return ((const struct mod_result *)code->from[k])->value;
    if (type == MOD_F32)
        return (union mod_value){ .f = ((const float *)code->from[k])[i] };
    if (type == MOD_BOOL)
        return (union mod_value){ .i = ((const i32 *)code->from[k])[i] != 0 };
    return (union mod_value){ .i = code->is_wide ? ((const i64 *)code->from[k])[i] : ((const i32 *)code->from[k])[i] };
}

static void put_lane(const struct mod_code *code, i32 i, union mod_value value)
{
    if (code->step->type == MOD_F32)
        ((float *)code->to)[i] = value.f;
    else if (code->step->type == MOD_BOOL)
        ((i32 *)code->to)[i] = -(i32)value.i;
    else if (code->is_wide)
        ((i64 *)code->to)[i] = value.i;
    else
        ((i32 *)code->to)[i] = (i32)value.i;
}

static void run_any(const struct mod_code *code, i32 begin, i32 end)
{
    const enum mod_op op = code->step->op;
    const struct mod_op_info *info = &folio__mod_ops[op];
    for (i32 i = begin; i < end; i++) {
        union mod_value args[2] = { { 0 } };
        for (i32 k = 0; k < info->n_args; k++)
            args[k] = lane_of(code, k, i, info->arg_type);
        put_lane(code, i, folio__mod_apply(op, args));
    }
}

static void run_KV(const struct mod_code *code, i32 begin, i32 end)
{
    for (i32 i = begin; i < end; i++)
        put_lane(code, i, (union mod_value){ .i = code->part->tile_key + i });
}

/* ---- poison */

LANES_INLINE lanes_i poison_of(const struct mod_code *code, i32 k, i32 i)
{
    if (code->is_vector >> k & 1)
        return code->poison_from[k] ? lanes_load_i(code->poison_from[k], i) : m_i(0);
    return m_i(-(i32)((const struct mod_result *)code->from[k])->poison);
}

static void run_poison(const struct mod_code *code, i32 begin, i32 end)
{
    FOR_LANES
    {
        lanes_i poison = poison_of(code, 0, i);
        for (i32 k = 1; k < code->step->n_args; k++)
            poison |= poison_of(code, k, i);
        lanes_store_i(code->poison_to, i, poison);
    }
}

static void run_poison_select(const struct mod_code *code, i32 begin, i32 end)
{
    FOR_LANES
    {
        const lanes_i taken = lanes_select_i(operand_b(code, 0, i), poison_of(code, 1, i), poison_of(code, 2, i));
        lanes_store_i(code->poison_to, i, poison_of(code, 0, i) | taken);
    }
}

/* Clean, if one side decides without poison: false for &&, true for ||. */
static void run_poison_logic(const struct mod_code *code, i32 begin, i32 end)
{
    const lanes_i flip = m_i(code->step->op == MOD_OR_B ? 0 : -1);
    FOR_LANES
    {
        const lanes_i pa = poison_of(code, 0, i), pb = poison_of(code, 1, i);
        const lanes_i decides = (~pa & (operand_b(code, 0, i) ^ flip)) | (~pb & (operand_b(code, 1, i) ^ flip));
        lanes_store_i(code->poison_to, i, (pa | pb) & ~decides);
    }
}

static void apply_mask(float *s, const i32 *keep, i32 begin, i32 end)
{
    for (i32 i = begin; i < end; i++)
        s[i] = keep[i] ? s[i] : -INFINITY;
}

const struct mod_table MOD_TABLE = {
    .run =
        {
            [MOD_ADD_F] = run_ADD_F,
            [MOD_SUB_F] = run_SUB_F,
            [MOD_MUL_F] = run_MUL_F,
            [MOD_DIV_F] = run_DIV_F,
            [MOD_MIN_F] = run_MIN_F,
            [MOD_MAX_F] = run_MAX_F,
            [MOD_NEG_F] = run_NEG_F,
            [MOD_ABS_F] = run_ABS_F,
            [MOD_FLOOR_F] = run_FLOOR_F,
            [MOD_SQRT_F] = run_SQRT_F,
            [MOD_EXP_F] = run_EXP_F,
            [MOD_EXP2_F] = run_EXP2_F,
            [MOD_LOG_F] = run_LOG_F,
            [MOD_TANH_F] = run_TANH_F,
            [MOD_EQ_F] = run_EQ_F,
            [MOD_NE_F] = run_NE_F,
            [MOD_LT_F] = run_LT_F,
            [MOD_LE_F] = run_LE_F,
            [MOD_AND_B] = run_AND_B,
            [MOD_OR_B] = run_OR_B,
            [MOD_XOR_B] = run_XOR_B,
            [MOD_NOT_B] = run_NOT_B,
            [MOD_F_OF_B] = run_F_OF_B,
            [MOD_SELECT_F] = run_SELECT_F,
            [MOD_SELECT_B] = run_SELECT_B,
            [MOD_KV] = run_KV,
            [MOD_LOAD] = run_LOAD,
            [MOD_ADD_I] = run_ADD_I,
            [MOD_SUB_I] = run_SUB_I,
            [MOD_MUL_I] = run_MUL_I,
            [MOD_MIN_I] = run_MIN_I,
            [MOD_MAX_I] = run_MAX_I,
            [MOD_AND_I] = run_AND_I,
            [MOD_OR_I] = run_OR_I,
            [MOD_XOR_I] = run_XOR_I,
            [MOD_NEG_I] = run_NEG_I,
            [MOD_ABS_I] = run_ABS_I,
            [MOD_NOT_I] = run_NOT_I,
            [MOD_EQ_I] = run_EQ_I,
            [MOD_NE_I] = run_NE_I,
            [MOD_LT_I] = run_LT_I,
            [MOD_LE_I] = run_LE_I,
            [MOD_F_OF_I] = run_F_OF_I,
            [MOD_I_OF_B] = run_I_OF_B,
            [MOD_I_OF_F] = run_I_OF_F,
            [MOD_SELECT_I] = run_SELECT_I,
            [MOD_POW_F] = run_any,
            [MOD_SIN_F] = run_any,
            [MOD_COS_F] = run_any,
            [MOD_FLOORDIV_I] = run_FLOORDIV_I,
            [MOD_FLOORMOD_I] = run_FLOORMOD_I,
            [MOD_DIV_I] = run_DIV_I,
            [MOD_REM_I] = run_REM_I,
            [MOD_SHL_I] = run_any,
            [MOD_SHR_I] = run_any,
        },
    .wide =
        {
            [MOD_ADD_I] = wide_ADD_I,
            [MOD_SUB_I] = wide_SUB_I,
            [MOD_MUL_I] = wide_MUL_I,
            [MOD_MIN_I] = wide_MIN_I,
            [MOD_MAX_I] = wide_MAX_I,
            [MOD_EQ_I] = wide_EQ_I,
            [MOD_NE_I] = wide_NE_I,
            [MOD_LT_I] = wide_LT_I,
            [MOD_LE_I] = wide_LE_I,
            [MOD_F_OF_I] = wide_F_OF_I,
            [MOD_SELECT_I] = wide_SELECT_I,
            [MOD_FLOORDIV_I] = run_any,
            [MOD_FLOORMOD_I] = run_any,
            [MOD_DIV_I] = run_any,
            [MOD_REM_I] = run_any,
            [MOD_AND_I] = run_any,
            [MOD_OR_I] = run_any,
            [MOD_XOR_I] = run_any,
            [MOD_NEG_I] = run_any,
            [MOD_ABS_I] = run_any,
            [MOD_NOT_I] = run_any,
            [MOD_I_OF_B] = run_any,
            [MOD_I_OF_F] = run_any,
        },
    .poison = run_poison,
    .poison_select = run_poison_select,
    .poison_logic = run_poison_logic,
    .mask = apply_mask,
};
