/* SPDX-License-Identifier: Apache-2.0
 * range.c: the analysis from the first step to the last: leaves from the box, captures, comparisons, choice, poison. */
#include "mod/range.h"

#include <math.h>

#include "base/bits.h"
#include "mod/range_ops.h"

static struct mod_range of_truth(bool may_be_false, bool may_be_true)
{
    return (struct mod_range){ .truth =
                                   (u8)((may_be_false ? MOD_MAY_BE_FALSE : 0) | (may_be_true ? MOD_MAY_BE_TRUE : 0)) };
}

static struct mod_range of_value(enum mod_type type, union mod_value value)
{
    if (type == MOD_BOOL)
        return of_truth(!value.i, value.i);
    if (type == MOD_I64)
        return (struct mod_range){ .lo = value.i, .hi = value.i };
    if (isnan(value.f))
        return (struct mod_range){ .flo = INFINITY, .fhi = -INFINITY, .may_be_nan = true };
    return (struct mod_range){ .flo = value.f, .fhi = value.f };
}

static struct mod_range compare_i64(enum mod_op op, const struct mod_range *a, const struct mod_range *b)
{
    const bool overlap = a->lo <= b->hi && b->lo <= a->hi;
    const bool same_point = a->lo == a->hi && b->lo == b->hi && a->lo == b->lo;
    switch (op) {
    case MOD_EQ_I:
        return of_truth(!same_point, overlap);
    case MOD_NE_I:
        return of_truth(overlap, !same_point);
    case MOD_LT_I:
        return of_truth(a->hi >= b->lo, a->lo < b->hi);
    default: /* LE */
        return of_truth(a->hi > b->lo, a->lo <= b->hi);
    }
}

static struct mod_range compare_f32(enum mod_op op, const struct mod_range *a, const struct mod_range *b)
{
    const bool nan = a->may_be_nan || b->may_be_nan;
    const bool number = a->flo <= a->fhi && b->flo <= b->fhi;
    const bool overlap = a->flo <= b->fhi && b->flo <= a->fhi;
    const bool same_point = number && a->flo == a->fhi && b->flo == b->fhi && a->flo == b->flo;
    switch (op) {
    case MOD_EQ_F:
        return of_truth(nan || !same_point, number && overlap);
    case MOD_NE_F:
        return of_truth(number && overlap, nan || !same_point);
    case MOD_LT_F:
        return of_truth(nan || a->fhi >= b->flo, number && a->flo < b->fhi);
    default: /* LE */
        return of_truth(nan || a->fhi > b->flo, number && a->flo <= b->fhi);
    }
}

static struct mod_range logic(enum mod_op op, u8 a, u8 b)
{
    const bool af = a & MOD_MAY_BE_FALSE, at = a & MOD_MAY_BE_TRUE, bf = b & MOD_MAY_BE_FALSE, bt = b & MOD_MAY_BE_TRUE;
    switch (op) {
    case MOD_AND_B:
        return of_truth(af || bf, at && bt);
    case MOD_OR_B:
        return of_truth(af && bf, at || bt);
    case MOD_XOR_B:
        return of_truth((af && bf) || (at && bt), (af && bt) || (at && bf));
    default: /* NOT */
        return of_truth(at, af);
    }
}

static struct mod_range either(const struct mod_range *a, const struct mod_range *b)
{
    return (struct mod_range){ .lo = min_i64(a->lo, b->lo),
                               .hi = max_i64(a->hi, b->hi),
                               .flo = fminf(a->flo, b->flo),
                               .fhi = fmaxf(a->fhi, b->fhi),
                               .may_be_nan = a->may_be_nan || b->may_be_nan,
                               .may_be_poison = a->may_be_poison || b->may_be_poison,
                               .truth = a->truth | b->truth };
}

static i64 i64_of(float x)
{
    return folio__mod_apply(MOD_I_OF_F, &(union mod_value){ .f = x }).i;
}

static struct mod_range convert(enum mod_op op, const struct mod_range *a)
{
    const bool may_be_false = a->truth & MOD_MAY_BE_FALSE, may_be_true = a->truth & MOD_MAY_BE_TRUE;
    switch (op) {
    case MOD_F_OF_I:
        return (struct mod_range){ .flo = (float)a->lo, .fhi = (float)a->hi };
    case MOD_F_OF_B:
        return (struct mod_range){ .flo = may_be_false ? 0 : 1, .fhi = may_be_true };
    case MOD_I_OF_B:
        return (struct mod_range){ .lo = may_be_false ? 0 : 1, .hi = may_be_true };
    default: /* I_OF_F; NaN gives 0 */
        if (a->flo > a->fhi)
            return (struct mod_range){ 0 };
        if (a->may_be_nan)
            return (struct mod_range){ .lo = min_i64(i64_of(a->flo), 0), .hi = max_i64(i64_of(a->fhi), 0) };
        return (struct mod_range){ .lo = i64_of(a->flo), .hi = i64_of(a->fhi) };
    }
}

struct mod_range folio__mod_range_of(enum mod_op op, const struct mod_range *const *args)
{
    const struct mod_op_info *info = &folio__mod_ops[op];
    if (op >= MOD_F_OF_I)
        return convert(op, args[0]);
    if (op >= MOD_SELECT_F)
        return args[0]->truth == MOD_MAY_BE_TRUE    ? *args[1]
               : args[0]->truth == MOD_MAY_BE_FALSE ? *args[2]
                                                    : either(args[1], args[2]);
    if (info->arg_type == MOD_BOOL)
        return logic(op, args[0]->truth, args[info->n_args - 1]->truth);
    if (info->type == MOD_BOOL)
        return info->arg_type == MOD_F32 ? compare_f32(op, args[0], args[1]) : compare_i64(op, args[0], args[1]);
    return info->type == MOD_F32 ? folio__range_f32(op, args) : folio__range_i64(op, args);
}

/* An && or || that one side surely decides, without poison, is not poisoned by the other. */
static bool decides(enum mod_op op, const struct mod_range *side)
{
    return !side->may_be_poison && side->truth == (op == MOD_AND_B ? MOD_MAY_BE_FALSE : MOD_MAY_BE_TRUE);
}

static struct mod_range compute(const struct mod_step *step, const struct mod_range *ranges)
{
    const struct mod_range *args[MOD_MAX_ARGS];
    bool poison = false;
    for (i32 i = 0; i < step->n_args; i++) {
        args[i] = &ranges[step->arg[i]];
        poison |= args[i]->may_be_poison;
    }
    struct mod_range result = folio__mod_range_of(step->op, args);
    if (step->op >= MOD_SELECT_F && step->op <= MOD_SELECT_B)
        poison = args[0]->may_be_poison || result.may_be_poison;
    if ((step->op == MOD_AND_B || step->op == MOD_OR_B) && (decides(step->op, args[0]) || decides(step->op, args[1])))
        poison = false;
    result.may_be_poison = poison;
    return result;
}

static struct mod_range of_element(const struct mod_capture *capture)
{
    if (capture->dtype == DTYPE_BOOL)
        return of_truth(true, true);
    if (capture->dtype == DTYPE_I32)
        return (struct mod_range){ .lo = INT32_MIN, .hi = INT32_MAX };
    return capture->dtype == DTYPE_I64 ? folio__range_i64_unknown() : folio__range_f32_unknown();
}

static struct mod_range load(const struct mod_program *program, const struct mod_step *step, bool read_captures,
                             const struct mod_range *ranges)
{
    const struct mod_capture *capture = &program->captures[step->capture];
    i64 index[MOD_MAX_ARGS];
    bool point = read_captures, poison = false, unused = false;
    for (i32 dim = 0; dim < step->n_args; dim++) {
        const struct mod_range *at = &ranges[step->arg[dim]];
        const i64 extent = capture->shape[dim];
        poison |= at->may_be_poison || at->lo < (capture->wraps ? -extent : 0) || at->hi >= extent;
        point &= at->lo == at->hi;
        index[dim] = at->lo;
    }
    struct mod_range result =
        point && !poison ? of_value(step->type, folio__mod_load(capture, index, &unused)) : of_element(capture);
    result.may_be_poison = poison;
    return result;
}

void folio__mod_ranges(const struct mod_program *program, const struct mod_box *box, bool read_captures,
                       struct mod_range *ranges)
{
    for (i32 i = 0; i < program->n_steps; i++) {
        const struct mod_step *step = &program->steps[i];
        const enum mod_op op = step->op;
        if (op == MOD_CONST)
            ranges[i] = of_value(step->type, step->value);
        else if (op == MOD_SCORE)
            ranges[i] = folio__range_f32_unknown();
        else if (mod_is_leaf(op))
            ranges[i] = (struct mod_range){ .lo = box->leaf[op - MOD_B].lo, .hi = box->leaf[op - MOD_B].hi };
        else if (op == MOD_LOAD)
            ranges[i] = load(program, step, read_captures, ranges);
        else
            ranges[i] = compute(step, ranges);
    }
}
