/* SPDX-License-Identifier: Apache-2.0
 * bind.c: this call's pointers into the views that the plan has checked: once a layer, so it must be quick. */
#include <string.h>

#include "base/status.h"
#include "run/folio_plan.h"

/* The tensors that an attend reads or writes. Lengths are not among them: they belong to update. */
enum {
    Q,
    K_PAGES,
    V_PAGES,
    PAGE_TABLE,
    V_PAGE_TABLE,
    KV_INDICES,
    ALIBI_SLOPES,
    SINKS,
    BIAS,
    MASK,
    K_SCALE,
    V_SCALE,
    OUT,
    LSE
};

static const struct {
    const char *name;
    size_t tensor, data; /* offsets: of the DLTensor * in folio_attend_args, of the pointer in attend_args */
} bound_tensors[N_BOUND] = {
    [Q] = { "q", offsetof(folio_attend_args, q), offsetof(struct attend_args, q.data) },
    [K_PAGES] = { "k_pages", offsetof(folio_attend_args, k_pages), offsetof(struct attend_args, k.data) },
    [V_PAGES] = { "v_pages", offsetof(folio_attend_args, v_pages), offsetof(struct attend_args, v.data) },
    [PAGE_TABLE] = { "page_table", offsetof(folio_attend_args, page_table), offsetof(struct attend_args, k_table.ids) },
    [V_PAGE_TABLE] = { "v_page_table", offsetof(folio_attend_args, v_page_table),
                       offsetof(struct attend_args, v_table.ids) },
    [KV_INDICES] = { "kv_indices", offsetof(folio_attend_args, kv_indices), offsetof(struct attend_args, k_table.ids) },
    [ALIBI_SLOPES] = { "alibi_slopes", offsetof(folio_attend_args, alibi_slopes),
                       offsetof(struct attend_args, alibi_slopes) },
    [SINKS] = { "sinks", offsetof(folio_attend_args, sinks), offsetof(struct attend_args, sinks) },
    [BIAS] = { "bias", offsetof(folio_attend_args, bias), offsetof(struct attend_args, bias.data) },
    [MASK] = { "mask", offsetof(folio_attend_args, mask), offsetof(struct attend_args, mask.data) },
    [K_SCALE] = { "k_scale", offsetof(folio_attend_args, k_scale), offsetof(struct attend_args, k.scale) },
    [V_SCALE] = { "v_scale", offsetof(folio_attend_args, v_scale), offsetof(struct attend_args, v.scale) },
    [OUT] = { "out", offsetof(folio_attend_args, out), offsetof(struct attend_args, out.data) },
    [LSE] = { "lse", offsetof(folio_attend_args, lse), offsetof(struct attend_args, lse) },
};

static const DLTensor *tensor_at(const folio_attend_args *args, i32 which)
{
    const DLTensor *tensor;
    memcpy(&tensor, (const u8 *)args + bound_tensors[which].tensor, sizeof tensor);
    return tensor;
}

static u8 *data_of(const DLTensor *t)
{
    return t && t->data ? (u8 *)t->data + t->byte_offset : NULL;
}

static void put_data(struct attend_args *bound, i32 which, const u8 *data)
{
    memcpy((u8 *)bound + bound_tensors[which].data, &data, sizeof data);
}

void folio__plan_see(folio_plan *plan, const folio_attend_args *args)
{
    plan->given = *args;
    for (i32 i = 0; i < N_BOUND; i++) {
        struct seen_tensor *seen = &plan->seen[i];
        const DLTensor *t = tensor_at(args, i);
        struct tensor read;
        *seen = (struct seen_tensor){ .ndim = -1 };
        if (!t || folio__tensor_read(&read, bound_tensors[i].name, t) != FOLIO_OK)
            continue;
        *seen = (struct seen_tensor){ .device = t->device,
                                      .dtype = t->dtype,
                                      .ndim = t->ndim,
                                      .has_strides = t->strides != NULL,
                                      .span = folio__tensor_span(&read) };
        memcpy(seen->shape, t->shape, sizeof *seen->shape * (size_t)t->ndim);
        if (t->strides)
            memcpy(seen->strides, t->strides, sizeof *seen->strides * (size_t)t->ndim);
    }
}

static bool looks_the_same(const struct seen_tensor *seen, const DLTensor *t)
{
    if (!t || seen->ndim < 0)
        return !t && seen->ndim < 0;
    const size_t bytes = sizeof *seen->shape * (size_t)seen->ndim;
    return t->ndim == seen->ndim && memcmp(&t->dtype, &seen->dtype, sizeof t->dtype) == 0 &&
           memcmp(&t->device, &seen->device, sizeof t->device) == 0 && (t->strides != NULL) == seen->has_strides &&
           memcmp(t->shape, seen->shape, bytes) == 0 && (!t->strides || memcmp(t->strides, seen->strides, bytes) == 0);
}

static bool all_look_the_same(const folio_plan *plan, const folio_attend_args *args)
{
    const folio_attend_args *given = &plan->given;
    const bool same_options = args->scale == given->scale && args->softcap == given->softcap &&
                              args->window_left == given->window_left && args->window_right == given->window_right &&
                              args->max_q_len == given->max_q_len && args->max_kv_len == given->max_kv_len &&
                              args->causal == given->causal && args->align == given->align &&
                              args->flags == given->flags && args->num_splits == given->num_splits;
    const bool same_lengths = !args->kv_lens == !given->kv_lens && !args->q_indptr == !given->q_indptr &&
                              !args->kv_indptr == !given->kv_indptr;
    const bool same_mods = args->score_mod == given->score_mod && args->mask_mod == given->mask_mod &&
                           args->block_mask == given->block_mask;
    if (!same_options || !same_lengths || !same_mods)
        return false;
    for (i32 i = 0; i < N_BOUND; i++) {
        const bool is_left_away = i == LSE && !args->lse; /* as it may be in any call */
        if (!is_left_away && !looks_the_same(&plan->seen[i], tensor_at(args, i)))
            return false;
    }
    return true;
}

/* ---- everything looks as at create: pointers only */

static folio_status bind_quickly(const folio_plan *plan, const folio_attend_args *args, struct attend_args *bound)
{
    for (i32 i = 0; i < N_BOUND; i++) {
        const u8 *data = data_of(tensor_at(args, i));
        if (plan->seen[i].ndim < 0)
            continue;
        const uintptr_t element = plan->seen[i].dtype.bits / 8;
        FOLIO_REQUIRE(((uintptr_t)data & (element - 1)) == 0, FOLIO_EINVAL,
                      "%s: data is not aligned to its %d-byte elements", bound_tensors[i].name, (int)element);
        put_data(bound, i, data);
    }
    if (!plan->problem.has_v_table)
        bound->v_table = bound->k_table;
    return FOLIO_OK;
}

/* ---- something looks different: check all of it, then compare what came out */

static folio_status bind_slowly(const folio_plan *plan, const folio_attend_args *args, struct attend_args *bound)
{
    struct problem fresh;
    FOLIO_TRY(folio__problem_read(&fresh, plan->ctx, args));
    FOLIO_TRY(folio__same_problem(&fresh, &plan->problem));
    *bound = fresh.kernel;
    return FOLIO_OK;
}

/* ---- memory: there, and apart */

static folio_status check_data(const folio_plan *plan, const folio_attend_args *args)
{
    for (i32 i = 0; i < N_BOUND; i++) {
        const DLTensor *t = tensor_at(args, i);
        const bool is_unused = i >= K_PAGES && i <= KV_INDICES && plan->max_kv_len == 0;
        if (t && !t->data && !is_unused)
            FOLIO_TRY(folio__require_data(bound_tensors[i].name, t));
    }
    return FOLIO_OK;
}

static bool are_far_apart(const u8 *a, i64 a_span, const u8 *b, i64 b_span)
{
    return !a || !b || a + a_span <= b || b + b_span <= a;
}

static folio_status check_apart(const folio_plan *plan, const folio_attend_args *args, bool is_as_seen)
{
    static const u8 pairs[][2] = { { OUT, Q },       { OUT, K_PAGES }, { OUT, V_PAGES }, { LSE, Q },
                                   { LSE, K_PAGES }, { LSE, V_PAGES }, { LSE, OUT } };
    for (size_t i = 0; i < COUNT_OF(pairs); i++) {
        const i32 a = pairs[i][0], b = pairs[i][1];
        const DLTensor *x = tensor_at(args, a), *y = tensor_at(args, b);
        if (is_as_seen && are_far_apart(data_of(x), plan->seen[a].span, data_of(y), plan->seen[b].span))
            continue;
        FOLIO_TRY(folio__require_apart(bound_tensors[a].name, x, bound_tensors[b].name, y));
    }
    return FOLIO_OK;
}

folio_status folio__plan_bind(const folio_plan *plan, const folio_attend_args *args, struct attend_args *bound)
{
    *bound = plan->problem.kernel;
    const bool is_as_seen = all_look_the_same(plan, args);
    FOLIO_TRY(is_as_seen ? bind_quickly(plan, args, bound) : bind_slowly(plan, args, bound));
    FOLIO_TRY(check_data(plan, args));
    return check_apart(plan, args, is_as_seen);
}
