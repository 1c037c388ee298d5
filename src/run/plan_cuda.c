/* SPDX-License-Identifier: Apache-2.0
 * plan_cuda.c: the memory and the geometry of a plan on a device; the launch of the plan kernel.
 *
 *   one block of device memory: | seqs | cost | rows | starts | copies of host indices | counters | slots |
 *                               '-------- of each class ------'                        '---- workspace ---' */
#include "run/plan_cuda.h"

#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/bits.h"
#include "base/status.h"

enum {
    ALIGN = 256, /* of every part */
    MAX_KV_LEN = INT32_MAX - (1 << 16),
    GENERIC_TILE = 16,           /* most packed rows of a tile of the generic kernel */
    GENERIC_SHARED = 100 * 1024, /* shared memory it likes to stay below: two blocks a multiprocessor */
};

/* Shared memory of the generic kernel: generic_layout in generic.cu. */
static size_t generic_shared(i64 rows, i64 d_qk, i64 d_v)
{
    const i64 floats = (i64)round_up((size_t)rows, 4) * (i64)round_up((size_t)d_qk, 8) + rows * GENERIC_LEAF +
                       GENERIC_THREADS * 4 + 3 * rows * (d_v + 2) + 2;
    return (size_t)(floats * 4 + 2 * GENERIC_LEAF * 8);
}

/* Rows of a tile: as many as there are, at most 16, fewer where dims are too large for shared memory. */
static folio_status generic_geometry(struct cuda_class *c, const struct cuda_plan *plan, const struct cuda_problem *p)
{
    const i64 d_qk = p->args.q.dim, d_v = p->args.out.dim;
    i64 rows = min_i64(GENERIC_TILE, max_i64(1, p->max_q_len * p->args.group));
    while (rows > 1 && generic_shared(rows, d_qk, d_v) > GENERIC_SHARED)
        rows = (rows + 1) / 2;
    c->shared_bytes = generic_shared(rows, d_qk, d_v);
    FOLIO_REQUIRE(c->shared_bytes <= (size_t)plan->device->shared_optin - 1024, FOLIO_ENOTSUP,
                  "head_dim %lld, %lld: more than shared memory of the device holds", (long long)d_qk, (long long)d_v);
    c->block = GENERIC_THREADS;
    c->span.tile_rows = (i32)rows;
    c->span.min_leaf = 1;
    c->span.max_leaf = GENERIC_LEAF;
    c->span.n_passes = 1;
    i32 per_sm = 1;
    CUDA_TRY(plan->device->api, function_occupancy, (&per_sm, c->function, c->block, c->shared_bytes));
    c->work.n_groups =
        (i32)clamp_i64((i64)plan->device->n_sms * max_i64(per_sm, 1) / p->args.n_kv_heads, 1, PLAN_GROUPS);
    c->work.can_claim = 0;
    return FOLIO_OK;
}

/* Most nodes of a unit: one of up to 16 leaves, up to 16 of 4, or as many of 16 as it takes; one more where it begins
 * inside a node. Of many rows a node is the unit, and has no slot. */
static i64 max_nodes(const struct cuda_plan *plan, const struct cuda_class *c)
{
    const i64 leaves = ceil_div(plan->max_kv_len, c->span.max_leaf);
    if (c->span.is_wide)
        return 0;
    return plan->max_kv_len <= SHORT_UNIT ? 2 : max_i64(NODE_LEAVES, ceil_div(leaves, NODE_LEAVES)) + 1;
}

/* Byte offsets in the block; *at moves on. */
static i64 take(i64 *at, i64 n_bytes)
{
    const i64 here = *at;
    *at = here + (i64)round_up((size_t)max_i64(n_bytes, 1), ALIGN);
    return here;
}

static i64 copy_bytes(const struct cuda_indices *indices)
{
    return indices->on_host ? indices->n * (indices->are_i64 ? 8 : 4) : 0;
}

/* What the plan kernel writes for a class. */
static void layout_class(struct cuda_class *c, i64 *at, const struct cuda_plan *plan, const struct cuda_problem *p)
{
    struct cuda_work *w = &c->work;
    w->batch = (i32)p->batch;
    w->tile_rows = c->span.tile_rows;
    w->slot_floats = (i64)w->tile_rows * ((i64)round_up((size_t)p->args.out.dim, 4) + SLOT_EXTRA);
    w->n_nodes = (i32)max_nodes(plan, c);
    c->seqs_at = take(at, p->batch * c->span.n_passes * (i64)sizeof(struct cuda_seq));
    c->cost_at = take(at, (p->batch * c->span.n_passes + 1) * 8);
    c->rows_at = take(at, p->kv_indptr.data || p->kv_indptr.n ? (p->batch + 1) * 8 : 0);
    c->starts_at = take(at, (w->n_groups + 1) * (i64)sizeof(struct cuda_start));
}

static void layout_slots(struct cuda_class *c, i64 *at, const struct cuda_plan *plan, const struct cuda_problem *p)
{
    struct cuda_work *w = &c->work;
    const i64 n_blocks = (i64)w->n_groups * p->args.n_kv_heads;
    const i64 units = ceil_div(max_i64(1, p->max_q_len) * p->args.group, w->tile_rows); /* of a sequence */
    const bool are_few = p->batch * units < w->n_groups;
    const i64 n_regions = are_few ? max_i64(1, p->batch * units) : w->n_groups;
    w->unit_stride = are_few ? (i32)units : 0;
    c->leaf_slots_at = take(at, n_blocks * NODE_LEAVES * w->slot_floats * 4) - plan->workspace_at;
    c->node_slots_at = take(at, n_regions * p->args.n_kv_heads * w->n_nodes * w->slot_floats * 4) - plan->workspace_at;
    c->slots_bytes = *at - plan->workspace_at - c->leaf_slots_at;
}

static void layout(struct cuda_plan *plan, const struct cuda_problem *p)
{
    i64 at = 0;
    for (i32 i = 0; i < plan->n_classes; i++)
        layout_class(&plan->classes[i], &at, plan, p);
    const struct cuda_indices *const indices[CUDA_N_INDICES] = { &p->kv_lens, &p->q_indptr, &p->kv_indptr, &p->k_ids,
                                                                 &p->v_ids };
    for (i32 i = 0; i < CUDA_N_INDICES; i++) {
        plan->copy_bytes[i] = copy_bytes(indices[i]);
        plan->copy_at[i] = take(&at, plan->copy_bytes[i]);
    }
    plan->workspace_at = at;
    for (i32 i = 0; i < plan->n_classes; i++) {
        struct cuda_class *c = &plan->classes[i];
        c->counters_at = plan->n_counters;
        c->n_counters = (i64)c->work.n_groups * p->args.n_kv_heads * 2 * FOLD_WARPS + 1; /* the last one: claims */
        plan->n_counters += c->n_counters;
    }
    take(&at, plan->n_counters * 4);
    for (i32 i = 0; i < plan->n_classes; i++)
        layout_slots(&plan->classes[i], &at, plan, p);
    plan->total_bytes = at;
}

/* Point the work at a workspace. */
void folio__cuda_workspace_place(struct cuda_work *work, const struct cuda_class *c, u8 *workspace)
{
    work->counters = (u32 *)(void *)workspace + c->counters_at;
    work->claims = work->counters + c->n_counters - 1;
    work->leaf_slots = (float *)(void *)(workspace + c->leaf_slots_at);
    work->node_slots = (float *)(void *)(workspace + c->node_slots_at);
}

static u8 *workspace_of(const struct cuda_plan *plan)
{
    return (u8 *)(uintptr_t)plan->memory + plan->workspace_at;
}

/* Point the work at its memory. */
void folio__cuda_plan_place(struct cuda_plan *plan, cu_ptr memory)
{
    u8 *base = (u8 *)(uintptr_t)memory;
    plan->memory = memory;
    for (i32 i = 0; i < plan->n_classes; i++) {
        struct cuda_class *c = &plan->classes[i];
        c->work.seqs = (struct cuda_seq *)(void *)(base + c->seqs_at);
        c->work.cost = (i64 *)(void *)(base + c->cost_at);
        c->work.rows = (i64 *)(void *)(base + c->rows_at);
        c->work.starts = (struct cuda_start *)(void *)(base + c->starts_at);
        folio__cuda_workspace_place(&c->work, c, workspace_of(plan));
        c->work.error = folio__cuda_error_on_device(plan->device, plan->error_index);
    }
}

static folio_status choose_generic(struct cuda_plan *plan, const struct cuda_problem *p)
{
    struct cuda_class *c = &plan->classes[0];
    c->config = folio__cuda_generic_id(p->args.q.dtype, p->args.k.dtype);
    FOLIO_REQUIRE(c->config >= 0, FOLIO_ENOTSUP, "q %s with pages %s: no CUDA kernel",
                  folio__dtype_name((enum dtype)p->args.q.dtype), folio__dtype_name((enum dtype)p->args.k.dtype));
    FOLIO_TRY(folio__cuda_function(&c->function, plan->device, c->config, 0));
    plan->n_classes = 1;
    return generic_geometry(c, plan, p);
}

static folio_status choose_kernels(struct cuda_plan *plan, const struct cuda_problem *p)
{
    FOLIO_REQUIRE(!p->args.score_mod && !p->args.mask_mod && !p->args.block_mask, FOLIO_ENOTSUP,
                  "score_mod, mask_mod, block_mask: not on the CUDA backend");
    FOLIO_REQUIRE(!p->args.k.scale && !p->args.v.scale, FOLIO_ENOTSUP, "k_scale, v_scale: not on the CUDA backend");
    FOLIO_REQUIRE(p->args.page_size <= INT32_MAX && p->n_tokens <= INT32_MAX && p->batch < (1 << 28), FOLIO_ENOTSUP,
                  "page_size %lld, n_tokens %lld, batch %lld: more than the CUDA backend counts",
                  (long long)p->args.page_size, (long long)p->n_tokens, (long long)p->batch);
    folio__cuda_choose_decode(plan, p);
    for (i32 i = 0; i < plan->n_classes; i++)
        FOLIO_TRY(folio__cuda_function(&plan->classes[i].function, plan->device, plan->classes[i].config, 0));
    return plan->n_classes ? FOLIO_OK : choose_generic(plan, p);
}

/* "decode bf16 d=128/128 rows=16 boxes, wide bf16 d=128/128 boxes" */
static void name_kernels(struct cuda_plan *plan)
{
    size_t used = 0;
    for (i32 i = 0; i < plan->n_classes && used < sizeof plan->kernels; i++)
        used += (size_t)snprintf(plan->kernels + used, sizeof plan->kernels - used, "%s%s", i ? ", " : "",
                                 folio__cuda_configs[plan->classes[i].config].name);
}

const char *folio__cuda_plan_kernel(const struct cuda_plan *plan)
{
    return plan->kernels;
}

folio_status folio__cuda_plan_prepare(struct cuda_plan *plan, folio_context *ctx, const struct cuda_problem *p)
{
    *plan = (struct cuda_plan){ .device = ctx->cuda };
    plan->max_kv_len = min_i64(p->max_kv_len, MAX_KV_LEN);
    plan->n_kv_heads = p->args.n_kv_heads;
    for (i32 i = 0; i < MAX_CLASSES; i++)
        plan->classes[i].span = (struct cuda_span){
            .window_left = p->args.window_left,
            .window_right = p->args.window_right,
            .causal = p->args.causal,
            .align = p->args.align,
            .group = p->args.group,
            .most_rows = INT32_MAX,
        };
    FOLIO_TRY(folio__cuda_function(&plan->plan_function, plan->device, CUDA_PLAN, 0));
    FOLIO_TRY(choose_kernels(plan, p));
    name_kernels(plan);
    layout(plan, p);
    return FOLIO_OK;
}

static folio_status create(struct cuda_plan *plan, folio_context *ctx, const struct cuda_problem *problem)
{
    cu_ptr memory;
    FOLIO_TRY(folio__cuda_plan_prepare(plan, ctx, problem));
    FOLIO_TRY(folio__cuda_error_take(&plan->error_index, ctx->cuda));
    const folio_status status = folio__cuda_alloc(&memory, ctx->cuda, (size_t)plan->total_bytes);
    if (status != FOLIO_OK) {
        folio__cuda_error_give(ctx->cuda, plan->error_index);
        return status;
    }
    folio__cuda_plan_place(plan, memory);
    return FOLIO_OK;
}

folio_status folio__cuda_plan_create(struct cuda_plan **out, folio_context *ctx, const struct cuda_problem *problem)
{
    struct cuda_plan *plan = folio__alloc_zero(sizeof *plan);
    FOLIO_REQUIRE(plan, FOLIO_ENOMEM, "no memory for a plan");
    struct cuda_scope scope;
    folio_status status = folio__cuda_enter(&scope, ctx->cuda);
    if (status == FOLIO_OK) {
        status = create(plan, ctx, problem);
        folio__cuda_leave(&scope);
    }
    if (status != FOLIO_OK)
        folio__free(plan);
    else
        *out = plan;
    return status;
}

void folio__cuda_plan_destroy(struct cuda_plan **plan)
{
    if (!*plan)
        return;
    folio__cuda_retire((*plan)->device, (*plan)->memory);
    folio__cuda_error_give((*plan)->device, (*plan)->error_index);
    folio__free(*plan);
    *plan = NULL;
}

folio_status folio__cuda_plan_status(struct cuda_plan *plan)
{
    return folio__cuda_error_report(plan->device, plan->error_index);
}

static folio_status wait_inside(const struct cuda_device *device)
{
    CUDA_TRY(device->api, context_synchronize, ());
    return FOLIO_OK;
}

folio_status folio__cuda_plan_wait(struct cuda_plan *plan)
{
    struct cuda_scope scope;
    FOLIO_TRY(folio__cuda_enter(&scope, plan->device));
    const folio_status status = wait_inside(plan->device);
    folio__cuda_leave(&scope);
    return status;
}

void folio__cuda_plan_workspace(const struct cuda_plan *plan, size_t *bytes, size_t *align)
{
    *bytes = (size_t)(plan->total_bytes - plan->workspace_at);
    *align = ALIGN;
}

/* The device's view of indices: themselves, or their copy in the plan, made now. */
folio_status folio__cuda_plan_indices(const void **device, const struct cuda_plan *plan, i32 which,
                                      const struct cuda_indices *indices, cu_stream stream)
{
    *device = indices->data;
    if (!indices->on_host || !indices->data)
        return FOLIO_OK;
    const i64 bytes = copy_bytes(indices);
    FOLIO_REQUIRE(bytes <= plan->copy_bytes[which], FOLIO_EINVAL,
                  "indices on the host: %lld bytes; the plan was made for %lld", (long long)bytes,
                  (long long)plan->copy_bytes[which]);
    bool capturing;
    FOLIO_TRY(folio__cuda_is_capturing(&capturing, plan->device, stream));
    FOLIO_REQUIRE(!capturing, FOLIO_EBUSY,
                  "lengths and tables on the host cannot be read in a captured stream; keep them on the device");
    const cu_ptr copy = plan->memory + (u64)plan->copy_at[which];
    if (bytes > 0)
        CUDA_TRY(plan->device->api, to_device, (copy, indices->data, (size_t)bytes, stream));
    *device = (const void *)(uintptr_t)copy;
    return FOLIO_OK;
}

/* Attends leave slots as they found them: empty (tree.cuh). Not those of many rows (pieces.cuh). */
folio_status folio__cuda_empty_slots(const struct cuda_plan *plan, u8 *workspace, cu_stream stream)
{
    for (i32 i = 0; i < plan->n_classes; i++) {
        const struct cuda_class *c = &plan->classes[i];
        if (!c->span.is_wide)
            CUDA_TRY(
                plan->device->api, set_u32,
                ((cu_ptr)(uintptr_t)(workspace + c->leaf_slots_at), SLOT_EMPTY, (size_t)c->slots_bytes / 4, stream));
    }
    return FOLIO_OK;
}

folio_status folio__cuda_plan_launch(const struct cuda_plan *plan, const struct cuda_problem *p, cu_stream stream)
{
    if (p->batch == 0)
        return FOLIO_OK;
    if (!plan->has_empty_slots)
        FOLIO_TRY(folio__cuda_empty_slots(plan, workspace_of(plan), stream));
    struct cuda_plan_args args = {
        .capacity = p->capacity,
        .page_size = p->args.page_size,
        .n_tokens = p->n_tokens,
        .max_q_len = p->max_q_len,
        .max_kv_len = plan->max_kv_len,
        .kv_lens_are_i64 = p->kv_lens.are_i64,
        .q_indptr_is_i64 = p->q_indptr.are_i64,
        .kv_indptr_is_i64 = p->kv_indptr.are_i64,
        .n_kv_heads = plan->n_kv_heads,
    };
    FOLIO_TRY(folio__cuda_plan_indices(&args.kv_lens, plan, CUDA_KV_LENS, &p->kv_lens, stream));
    FOLIO_TRY(folio__cuda_plan_indices(&args.q_indptr, plan, CUDA_Q_INDPTR, &p->q_indptr, stream));
    FOLIO_TRY(folio__cuda_plan_indices(&args.kv_indptr, plan, CUDA_KV_INDPTR, &p->kv_indptr, stream));
    const struct cuda_launch launch = {
        .function = plan->plan_function, .grid = plan->n_classes, .block = PLAN_THREADS, .stream = stream
    };
    struct cuda_plan_classes classes = { { { .capacity = 0 } } };
    for (i32 i = 0; i < plan->n_classes; i++) {
        classes.of[i] = args;
        classes.of[i].work = plan->classes[i].work;
        classes.of[i].span = plan->classes[i].span;
    }
    void *parameters[] = { &classes };
    return folio__cuda_launch(plan->device, &launch, parameters);
}

/* Slots are emptied by the first update; by one that is captured each time, for nobody knows when it runs. */
static folio_status update(struct cuda_plan *plan, const struct cuda_problem *problem, cu_stream stream)
{
    bool capturing;
    FOLIO_TRY(folio__cuda_is_capturing(&capturing, plan->device, stream));
    FOLIO_TRY(folio__cuda_plan_launch(plan, problem, stream));
    plan->has_empty_slots |= !capturing && problem->batch > 0;
    return FOLIO_OK;
}

folio_status folio__cuda_plan_update(struct cuda_plan *plan, const struct cuda_problem *problem, void *stream)
{
    struct cuda_scope scope;
    FOLIO_TRY(folio__cuda_enter(&scope, plan->device));
    folio_status status = folio__cuda_check_stream(plan->device, stream);
    if (status == FOLIO_OK)
        status = update(plan, problem, stream);
    folio__cuda_leave(&scope);
    return status;
}
