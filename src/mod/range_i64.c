/* SPDX-License-Identifier: Apache-2.0
 * range_i64.c: intervals of i64 steps. Whatever may overflow, or divide by zero, can be anything. */
#include "base/bits.h"
#include "mod/range_ops.h"

static struct mod_range range(i64 lo, i64 hi)
{
    return (struct mod_range){ .lo = lo, .hi = hi };
}

static struct mod_range unknown(void)
{
    return range(INT64_MIN, INT64_MAX);
}

static bool contains(const struct mod_range *x, i64 value)
{
    return x->lo <= value && value <= x->hi;
}

static i64 apply(enum mod_op op, i64 a, i64 b)
{
    const union mod_value args[] = { { .i = a }, { .i = b } };
    return folio__mod_apply(op, args).i;
}

/* The hull of an op at the four corners: right for ops monotone in each argument. */
static struct mod_range corners(enum mod_op op, const struct mod_range *a, const struct mod_range *b)
{
    const i64 w = apply(op, a->lo, b->lo), x = apply(op, a->lo, b->hi), y = apply(op, a->hi, b->lo),
              z = apply(op, a->hi, b->hi);
    return range(min_i64(min_i64(w, x), min_i64(y, z)), max_i64(max_i64(w, x), max_i64(y, z)));
}

static struct mod_range multiply(const struct mod_range *a, const struct mod_range *b)
{
    i64 unused;
    const bool fits = mul_fits(a->lo, b->lo, &unused) && mul_fits(a->lo, b->hi, &unused) &&
                      mul_fits(a->hi, b->lo, &unused) && mul_fits(a->hi, b->hi, &unused);
    return fits ? corners(MOD_MUL_I, a, b) : unknown();
}

/* Both divisions are monotone in each argument while the divisor keeps its sign. */
static struct mod_range divide(enum mod_op op, const struct mod_range *a, const struct mod_range *b)
{
    if (contains(b, 0) || (a->lo == INT64_MIN && contains(b, -1)))
        return unknown();
    return corners(op, a, b);
}

/* 0 <= a mod b < b for b > 0, and a itself less a constant while the quotient stays the same. */
static struct mod_range floor_mod(const struct mod_range *a, const struct mod_range *b)
{
    if (b->lo == b->hi && b->lo > 0) {
        const i64 first = apply(MOD_FLOORDIV_I, a->lo, b->lo), last = apply(MOD_FLOORDIV_I, a->hi, b->lo);
        if (first == last)
            return range(apply(MOD_FLOORMOD_I, a->lo, b->lo), apply(MOD_FLOORMOD_I, a->hi, b->lo));
    }
    if (b->lo >= 0)
        return range(0, max_i64(b->hi - 1, 0));
    if (b->hi <= 0)
        return range(min_i64(b->lo + 1, 0), 0);
    return range(b->lo + 1, b->hi - 1);
}

/* |remainder| < |b|, with the sign of a. */
static struct mod_range remainder_trunc(const struct mod_range *a, const struct mod_range *b)
{
    if (b->lo == INT64_MIN)
        return unknown();
    const i64 most = max_i64(max_i64(-b->lo, b->hi) - 1, 0);
    return range(a->lo >= 0 ? 0 : max_i64(a->lo, -most), a->hi <= 0 ? 0 : min_i64(a->hi, most));
}

/* All ones up to the highest bit of x >= 0. */
static i64 ones_up_to(i64 x)
{
    return x == 0 ? 0 : (i64)(UINT64_MAX >> __builtin_clzll((u64)x));
}

static struct mod_range bitwise(enum mod_op op, const struct mod_range *a, const struct mod_range *b)
{
    if (op == MOD_AND_I && (a->lo >= 0 || b->lo >= 0))
        return range(0, a->lo < 0 ? b->hi : b->lo < 0 ? a->hi : min_i64(a->hi, b->hi));
    if (op != MOD_AND_I && a->lo >= 0 && b->lo >= 0)
        return range(0, ones_up_to(max_i64(a->hi, b->hi)));
    return unknown();
}

static struct mod_range shift(enum mod_op op, const struct mod_range *a, const struct mod_range *b)
{
    if (op == MOD_SHR_I && b->lo >= 0 && b->hi <= 63)
        return corners(op, a, b);
    if (op == MOD_SHR_I)
        return range(min_i64(a->lo, -1), max_i64(a->hi, 0));
    if (b->lo < 0 || b->hi > 62)
        return unknown();
    const struct mod_range factor = range(INT64_C(1) << b->lo, INT64_C(1) << b->hi);
    return multiply(a, &factor);
}

static struct mod_range unary(enum mod_op op, const struct mod_range *a)
{
    if (op == MOD_NOT_I)
        return range(~a->hi, ~a->lo);
    if (a->lo == INT64_MIN)
        return unknown();
    if (op == MOD_NEG_I)
        return range(-a->hi, -a->lo);
    if (a->lo >= 0)
        return *a;
    return range(a->hi >= 0 ? 0 : -a->hi, max_i64(-a->lo, a->hi));
}

struct mod_range folio__range_i64(enum mod_op op, const struct mod_range *const *args)
{
    const struct mod_range *a = args[0], *b = folio__mod_ops[op].n_args > 1 ? args[1] : args[0];
    i64 lo, hi;
    switch (op) {
    case MOD_ADD_I:
        return add_fits(a->lo, b->lo, &lo) && add_fits(a->hi, b->hi, &hi) ? range(lo, hi) : unknown();
    case MOD_SUB_I:
        return !__builtin_sub_overflow(a->lo, b->hi, &lo) && !__builtin_sub_overflow(a->hi, b->lo, &hi) ? range(lo, hi)
                                                                                                        : unknown();
    case MOD_MUL_I:
        return multiply(a, b);
    case MOD_FLOORDIV_I:
    case MOD_DIV_I:
        return divide(op, a, b);
    case MOD_FLOORMOD_I:
        return floor_mod(a, b);
    case MOD_REM_I:
        return remainder_trunc(a, b);
    case MOD_MIN_I:
    case MOD_MAX_I:
        return corners(op, a, b);
    case MOD_AND_I:
    case MOD_OR_I:
    case MOD_XOR_I:
        return bitwise(op, a, b);
    case MOD_SHL_I:
    case MOD_SHR_I:
        return shift(op, a, b);
    default:
        return unary(op, a);
    }
}

struct mod_range folio__range_i64_unknown(void)
{
    return unknown();
}
