/* SPDX-License-Identifier: Apache-2.0
 * range_f32.c: intervals of f32 steps. + - * / sqrt floor are rounded once and monotone everywhere, so the ends of the
 * arguments give the ends of the result; functions are widened by more than any backend's error. */
#include <math.h>

#include "mod/range_ops.h"

static struct mod_range unknown(void)
{
    return (struct mod_range){ .flo = -INFINITY, .fhi = INFINITY, .may_be_nan = true };
}

static bool contains(const struct mod_range *x, float value)
{
    return x->flo <= value && value <= x->fhi;
}

static bool may_be_infinite(const struct mod_range *x)
{
    return contains(x, INFINITY) || contains(x, -INFINITY);
}

/* Smallest and largest of four candidate ends; any NaN among them: unknown. */
static struct mod_range hull(float a, float b, float c, float d, bool may_be_nan)
{
    if (isnan(a) || isnan(b) || isnan(c) || isnan(d))
        return unknown();
    return (struct mod_range){ .flo = fminf(fminf(a, b), fminf(c, d)),
                               .fhi = fmaxf(fmaxf(a, b), fmaxf(c, d)),
                               .may_be_nan = may_be_nan };
}

static struct mod_range widened(float lo, float hi, bool may_be_nan)
{
    const float below = isinf(lo) ? lo : lo - fabsf(lo) * 0x1p-18f - 0x1p-140f;
    const float above = isinf(hi) ? hi : hi + fabsf(hi) * 0x1p-18f + 0x1p-140f;
    return (struct mod_range){ .flo = below, .fhi = above, .may_be_nan = may_be_nan };
}

static struct mod_range add(const struct mod_range *a, const struct mod_range *b, bool nan)
{
    return hull(a->flo + b->flo, a->fhi + b->fhi, a->flo + b->flo, a->fhi + b->fhi,
                nan || (may_be_infinite(a) && may_be_infinite(b)));
}

static struct mod_range multiply(const struct mod_range *a, const struct mod_range *b, bool nan)
{
    if ((contains(a, 0) && may_be_infinite(b)) || (contains(b, 0) && may_be_infinite(a)))
        return unknown();
    return hull(a->flo * b->flo, a->flo * b->fhi, a->fhi * b->flo, a->fhi * b->fhi, nan);
}

static struct mod_range divide(const struct mod_range *a, const struct mod_range *b, bool nan)
{
    if (contains(b, 0) || (may_be_infinite(a) && may_be_infinite(b)))
        return unknown();
    return hull(a->flo / b->flo, a->flo / b->fhi, a->fhi / b->flo, a->fhi / b->fhi, nan);
}

static struct mod_range absolute(const struct mod_range *a, bool nan)
{
    const float lo = fabsf(a->flo), hi = fabsf(a->fhi);
    return hull(contains(a, 0) ? 0 : lo, lo, hi, hi, nan);
}

static struct mod_range of_function(enum mod_op op, const struct mod_range *a)
{
    const bool nan = a->may_be_nan;
    switch (op) {
    case MOD_FLOOR_F:
        return hull(floorf(a->flo), floorf(a->fhi), floorf(a->flo), floorf(a->fhi), nan);
    case MOD_SQRT_F:
        if (a->fhi < 0)
            return unknown();
        return hull(sqrtf(fmaxf(a->flo, 0)), sqrtf(a->fhi), sqrtf(a->fhi), sqrtf(a->fhi), nan || a->flo < 0);
    case MOD_EXP_F:
        return widened(folio__mod_exp(a->flo), folio__mod_exp(a->fhi), nan);
    case MOD_EXP2_F:
        return widened(folio__mod_exp2(a->flo), folio__mod_exp2(a->fhi), nan);
    case MOD_LOG_F:
        if (a->fhi < 0)
            return unknown();
        return widened(folio__mod_log(fmaxf(a->flo, 0)), folio__mod_log(a->fhi), nan || a->flo < 0);
    case MOD_TANH_F:
        return widened(folio__mod_tanh(a->flo), folio__mod_tanh(a->fhi), nan);
    default: /* SIN, COS */
        return widened(-1, 1, nan || may_be_infinite(a));
    }
}

struct mod_range folio__range_f32(enum mod_op op, const struct mod_range *const *args)
{
    const struct mod_range *a = args[0], *b = folio__mod_ops[op].n_args > 1 ? args[1] : args[0];
    const bool nan = a->may_be_nan || b->may_be_nan;
    if (a->flo > a->fhi || b->flo > b->fhi) /* always NaN */
        return unknown();
    switch (op) {
    case MOD_ADD_F:
        return add(a, b, nan);
    case MOD_SUB_F: {
        const struct mod_range negated = { .flo = -b->fhi, .fhi = -b->flo };
        return add(a, &negated, nan);
    }
    case MOD_MUL_F:
        return multiply(a, b, nan);
    case MOD_DIV_F:
        return divide(a, b, nan);
    case MOD_MIN_F:
        return hull(fminf(a->flo, b->flo), fminf(a->fhi, b->fhi), fminf(a->flo, b->flo), fminf(a->fhi, b->fhi), nan);
    case MOD_MAX_F:
        return hull(fmaxf(a->flo, b->flo), fmaxf(a->fhi, b->fhi), fmaxf(a->flo, b->flo), fmaxf(a->fhi, b->fhi), nan);
    case MOD_NEG_F:
        return hull(-a->fhi, -a->flo, -a->fhi, -a->flo, nan);
    case MOD_ABS_F:
        return absolute(a, nan);
    case MOD_POW_F:
        return unknown();
    default:
        return of_function(op, a);
    }
}

struct mod_range folio__range_f32_unknown(void)
{
    return unknown();
}
