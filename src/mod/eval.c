/* SPDX-License-Identifier: Apache-2.0
 * eval.c: one step on scalars, and a program from its first step to its last. */
#include "mod/eval.h"

#include <math.h>

#include "base/bits.h"

static i64 wrap(u64 x) /* two's complement, which every compiler we build with uses */
{
    return (i64)x;
}

static i64 floor_div(i64 a, i64 b)
{
    if (b == 0)
        return 0;
    if (b == -1)
        return wrap(0 - (u64)a);
    return a / b - (a % b != 0 && (a < 0) != (b < 0));
}

static i64 floor_mod(i64 a, i64 b)
{
    if (b == 0 || b == -1)
        return 0;
    const i64 r = a % b;
    return r != 0 && (r < 0) != (b < 0) ? r + b : r;
}

static i64 div_trunc(i64 a, i64 b)
{
    return b == 0 ? 0 : b == -1 ? wrap(0 - (u64)a) : a / b;
}

static i64 rem_trunc(i64 a, i64 b)
{
    return b == 0 || b == -1 ? 0 : a % b;
}

/* A count outside 0 .. 63 shifts everything out. */
static i64 shift_left(i64 a, i64 count)
{
    return count < 0 || count > 63 ? 0 : wrap((u64)a << count);
}

static i64 shift_right(i64 a, i64 count)
{
    const i64 n = count < 0 || count > 63 ? 63 : count;
    return a >= 0 ? a >> n : ~(~a >> n);
}

static i64 saturate(float x)
{
    if (isnan(x))
        return 0;
    if (x >= 0x1p63f)
        return INT64_MAX;
    return x < -0x1p63f ? INT64_MIN : (i64)x;
}

static union mod_value of_f32(float x)
{
    return (union mod_value){ .f = x };
}

static union mod_value of_i64(i64 x)
{
    return (union mod_value){ .i = x };
}

static union mod_value apply_f32(enum mod_op op, float a, float b)
{
    switch (op) {
    case MOD_ADD_F:
        return of_f32(a + b);
    case MOD_SUB_F:
        return of_f32(a - b);
    case MOD_MUL_F:
        return of_f32(a * b);
    case MOD_DIV_F:
        return of_f32(a / b);
    case MOD_MIN_F: /* NaN wins; of equals, b */
        return of_f32(a < b || isnan(a) ? a : b);
    case MOD_MAX_F:
        return of_f32(a > b || isnan(a) ? a : b);
    case MOD_EQ_F:
        return of_i64(a == b);
    case MOD_NE_F:
        return of_i64(a != b);
    case MOD_LT_F:
        return of_i64(a < b);
    case MOD_LE_F:
        return of_i64(a <= b);
    case MOD_NEG_F:
        return of_f32(-a);
    case MOD_ABS_F:
        return of_f32(fabsf(a));
    case MOD_I_OF_F:
        return of_i64(saturate(a));
    default:
        return of_f32(folio__mod_pow(a, b));
    }
}

static float apply_function(enum mod_op op, float x)
{
    switch (op) {
    case MOD_FLOOR_F:
        return floorf(x);
    case MOD_SQRT_F:
        return sqrtf(x);
    case MOD_EXP_F:
        return folio__mod_exp(x);
    case MOD_EXP2_F:
        return folio__mod_exp2(x);
    case MOD_LOG_F:
        return folio__mod_log(x);
    case MOD_TANH_F:
        return folio__mod_tanh(x);
    case MOD_SIN_F:
        return folio__mod_sin(x);
    default:
        return folio__mod_cos(x);
    }
}

static union mod_value apply_i64(enum mod_op op, i64 a, i64 b)
{
    switch (op) {
    case MOD_ADD_I:
        return of_i64(wrap((u64)a + (u64)b));
    case MOD_SUB_I:
        return of_i64(wrap((u64)a - (u64)b));
    case MOD_MUL_I:
        return of_i64(wrap((u64)a * (u64)b));
    case MOD_FLOORDIV_I:
        return of_i64(floor_div(a, b));
    case MOD_FLOORMOD_I:
        return of_i64(floor_mod(a, b));
    case MOD_DIV_I:
        return of_i64(div_trunc(a, b));
    case MOD_REM_I:
        return of_i64(rem_trunc(a, b));
    case MOD_MIN_I:
        return of_i64(min_i64(a, b));
    case MOD_MAX_I:
        return of_i64(max_i64(a, b));
    case MOD_AND_I:
        return of_i64(a & b);
    case MOD_OR_I:
        return of_i64(a | b);
    case MOD_XOR_I:
        return of_i64(a ^ b);
    case MOD_SHL_I:
        return of_i64(shift_left(a, b));
    default:
        return of_i64(shift_right(a, b));
    }
}

static union mod_value apply_rest(enum mod_op op, i64 a, i64 b)
{
    switch (op) {
    case MOD_EQ_I:
        return of_i64(a == b);
    case MOD_NE_I:
        return of_i64(a != b);
    case MOD_LT_I:
        return of_i64(a < b);
    case MOD_LE_I:
        return of_i64(a <= b);
    case MOD_AND_B:
        return of_i64(a & b);
    case MOD_OR_B:
        return of_i64(a | b);
    case MOD_XOR_B:
        return of_i64(a ^ b);
    case MOD_NOT_B:
        return of_i64(!a);
    case MOD_NEG_I:
        return of_i64(wrap(0 - (u64)a));
    case MOD_ABS_I:
        return of_i64(a < 0 ? wrap(0 - (u64)a) : a);
    case MOD_NOT_I:
        return of_i64(~a);
    case MOD_F_OF_I:
    case MOD_F_OF_B:
        return of_f32((float)a);
    default: /* I_OF_B */
        return of_i64(a);
    }
}

union mod_value folio__mod_apply(enum mod_op op, const union mod_value *args)
{
    const struct mod_op_info *info = &folio__mod_ops[op];
    if (op >= MOD_SELECT_F && op <= MOD_SELECT_B)
        return args[0].i ? args[1] : args[2];
    if (op >= MOD_FLOOR_F && op <= MOD_COS_F)
        return of_f32(apply_function(op, args[0].f));
    const union mod_value b = info->n_args > 1 ? args[1] : args[0];
    if (info->arg_type == MOD_F32)
        return apply_f32(op, args[0].f, b.f);
    if (op >= MOD_ADD_I && op <= MOD_SHR_I)
        return apply_i64(op, args[0].i, b.i);
    return apply_rest(op, args[0].i, b.i);
}

union mod_value folio__mod_load(const struct mod_capture *capture, const i64 *index, bool *out_of_range)
{
    const u8 *element = capture->data;
    for (i32 dim = 0; dim < capture->ndim; dim++) {
        const i64 extent = capture->shape[dim];
        i64 i = index[dim];
        if (capture->wraps && i < 0 && i >= -extent)
            i += extent;
        *out_of_range |= i < 0 || i >= extent;
        if (extent == 0)
            return (union mod_value){ 0 };
        element += clamp_i64(i, 0, extent - 1) * capture->stride[dim];
    }
    if (!capture->data)
        return (union mod_value){ 0 };
    if (capture->dtype == DTYPE_BOOL)
        return of_i64(*element != 0);
    if (dtype_is_index(capture->dtype))
        return of_i64(folio__load_index(capture->dtype, element));
    return of_f32(folio__load_float(capture->dtype, element));
}

static struct mod_result load(const struct mod_program *program, const struct mod_step *step,
                              const struct mod_result *results)
{
    i64 index[MOD_MAX_ARGS];
    struct mod_result result = { .poison = false };
    for (i32 i = 0; i < step->n_args; i++) {
        index[i] = results[step->arg[i]].value.i;
        result.poison |= results[step->arg[i]].poison;
    }
    result.value = folio__mod_load(&program->captures[step->capture], index, &result.poison);
    return result;
}

/* Does one side decide an && (absorbing value 0) or || (1) whatever the other side is? */
static bool decides(const struct mod_result *side, i64 absorbing)
{
    return !side->poison && side->value.i == absorbing;
}

static struct mod_result compute(const struct mod_step *step, const struct mod_result *results)
{
    union mod_value args[MOD_MAX_ARGS];
    struct mod_result result = { .poison = false };
    for (i32 i = 0; i < step->n_args; i++) {
        args[i] = results[step->arg[i]].value;
        result.poison |= results[step->arg[i]].poison;
    }
    result.value = folio__mod_apply(step->op, args);
    const struct mod_result *a = &results[step->arg[0]];
    if (step->op >= MOD_SELECT_F && step->op <= MOD_SELECT_B)
        result.poison = a->poison || results[step->arg[a->value.i ? 1 : 2]].poison;
    if (result.poison && (step->op == MOD_AND_B || step->op == MOD_OR_B)) {
        const i64 absorbing = step->op == MOD_OR_B;
        if (decides(a, absorbing) || decides(&results[step->arg[1]], absorbing))
            result = (struct mod_result){ .value.i = absorbing };
    }
    return result;
}

void folio__mod_eval_steps(const struct mod_program *program, i32 begin, i32 end, const struct mod_env *env,
                           struct mod_result *results)
{
    for (i32 i = begin; i < end; i++) {
        const struct mod_step *step = &program->steps[i];
        const enum mod_op op = step->op;
        if (op == MOD_CONST)
            results[i] = (struct mod_result){ .value = step->value };
        else if (op == MOD_SCORE)
            results[i] = (struct mod_result){ .value.f = env->score };
        else if (mod_is_leaf(op))
            results[i] = (struct mod_result){ .value.i = mod_leaf(env, op) };
        else if (op == MOD_LOAD)
            results[i] = load(program, step, results);
        else
            results[i] = compute(step, results);
    }
}

struct mod_result folio__mod_eval(const struct mod_program *program, const struct mod_env *env,
                                  struct mod_result *results)
{
    folio__mod_eval_steps(program, 0, program->n_steps, env, results);
    return results[program->result];
}
