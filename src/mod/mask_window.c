/* SPDX-License-Identifier: Apache-2.0
 * mask_window.c: a mask mod's window from its comparisons of q and kv; every block must be as the window has it. */
#include "mod/mask_window.h"

#include "base/bits.h"

enum { MAX_STEPS = 32 };       /* longer ones are no window, or not worth the look */
#define FAR (INT64_C(1) << 61) /* beyond all lengths and constants here, and twice it still fits */

/* What one step computes: a number q_factor * q + kv_factor * kv + c, or whether kv - q is in [lo, hi]. */
struct meaning {
    bool is_number, is_window;
    i64 q_factor, kv_factor, c;
    i64 lo, hi; /* -FAR, FAR = no limit */
};

static const struct meaning unknown = { .is_number = false };

static struct meaning number(i64 q_factor, i64 kv_factor, i64 c)
{
    if (c <= -FAR || c >= FAR || q_factor < -1 || q_factor > 1 || kv_factor < -1 || kv_factor > 1)
        return unknown;
    return (struct meaning){ .is_number = true, .q_factor = q_factor, .kv_factor = kv_factor, .c = c };
}

static struct meaning window(i64 lo, i64 hi)
{
    return (struct meaning){ .is_window = true, .lo = lo, .hi = hi };
}

/* sign * a + b */
static struct meaning sum(const struct meaning *a, i64 sign, const struct meaning *b)
{
    if (!a->is_number || !b->is_number)
        return unknown;
    return number(sign * a->q_factor + b->q_factor, sign * a->kv_factor + b->kv_factor, sign * a->c + b->c);
}

/* difference <= 0, or = 0 */
static struct meaning compare(struct meaning difference, bool is_equality)
{
    if (!difference.is_number || difference.q_factor != -difference.kv_factor || difference.q_factor == 0)
        return unknown;
    if (difference.kv_factor == 1) /* kv - q <= -c */
        return window(is_equality ? -difference.c : -FAR, -difference.c);
    return window(difference.c, is_equality ? difference.c : FAR); /* q - kv <= -c */
}

static struct meaning both(const struct meaning *a, const struct meaning *b)
{
    if (!a->is_window || !b->is_window)
        return unknown;
    return window(max_i64(a->lo, b->lo), min_i64(a->hi, b->hi));
}

static struct meaning opposite(const struct meaning *a)
{
    if (!a->is_window || (a->lo > -FAR) == (a->hi < FAR)) /* neither or both limits: not one window */
        return unknown;
    return a->lo > -FAR ? window(-FAR, a->lo - 1) : window(a->hi + 1, FAR);
}

static struct meaning of_step(const struct mod_step *step, const struct meaning *meanings)
{
    const struct meaning *a = &meanings[step->arg[0]], *b = &meanings[step->arg[1]];
    const struct meaning zero = number(0, 0, 0), one = number(0, 0, 1);
    switch (step->op) {
    case MOD_CONST:
        if (step->type == MOD_I64)
            return number(0, 0, step->value.i);
        return step->type == MOD_BOOL && step->value.i ? window(-FAR, FAR) : unknown;
    case MOD_Q:
        return number(1, 0, 0);
    case MOD_KV:
        return number(0, 1, 0);
    case MOD_ADD_I:
        return sum(a, 1, b);
    case MOD_SUB_I:
        return sum(b, -1, a);
    case MOD_NEG_I:
        return sum(a, -1, &zero);
    case MOD_LE_I:
        return compare(sum(b, -1, a), false);
    case MOD_LT_I: { /* a + 1 <= b */
        const struct meaning above = sum(a, 1, &one);
        return compare(sum(b, -1, &above), false);
    }
    case MOD_EQ_I:
        return compare(sum(b, -1, a), true);
    case MOD_AND_B:
        return both(a, b);
    case MOD_NOT_B:
        return opposite(a);
    default:
        return unknown;
    }
}

static struct meaning of_mod(const struct mod_program *mod)
{
    struct meaning meanings[MAX_STEPS];
    if (!mod)
        return window(-FAR, FAR);
    if (mod->tile || mod->n_steps > MAX_STEPS)
        return unknown;
    for (i32 i = 0; i < mod->n_steps; i++)
        meanings[i] = of_step(&mod->steps[i], meanings);
    return meanings[mod->result];
}

/* Does the block keep what the window does, for rows and keys within the mask's lengths? */
static bool block_agrees(const struct block_mask *mask, enum mod_keep state, i64 row, i64 col,
                         const struct meaning *window)
{
    if (state == KEEP_SOME) /* the mask mod decides: that is the window */
        return true;
    const i64 row_end = min_i64((row + 1) * mask->q_block, mask->q_len);
    const i64 key_end = min_i64((col + 1) * mask->kv_block, mask->kv_len);
    const i64 least = col * mask->kv_block - (row_end - 1), most = key_end - 1 - row * mask->q_block; /* kv - q */
    if (state == KEEP_ALL)
        return window->lo <= least && most <= window->hi;
    return most < window->lo || window->hi < least;
}

static bool blocks_agree(const struct block_mask *mask, const struct meaning *window)
{
    for (i64 b = 0; b < mask->n_batch; b++)
        for (i64 h = 0; h < mask->n_heads; h++)
            for (i64 row = 0; row * mask->q_block < mask->q_len; row++)
                for (i64 col = 0; col < mask->n_cols; col++)
                    if (!block_agrees(mask, block_mask_state(mask, b, h, row, col), row, col, window))
                        return false;
    return true;
}

bool folio__mask_window(const struct block_mask *mask, i64 *left, i64 *right)
{
    const struct meaning window = of_mod(mask->mask_mod);
    if (!window.is_window || window.lo > 0 || window.hi < 0 || mask->q_len >= FAR || mask->kv_len >= FAR)
        return false; /* windows that leave a row's own place out have no built-in form */
    if (!blocks_agree(mask, &window))
        return false;
    *left = window.lo > 1 - mask->q_len ? -window.lo : -1;  /* kv - q is never less ... */
    *right = window.hi < mask->kv_len - 1 ? window.hi : -1; /* ... or more */
    return true;
}
