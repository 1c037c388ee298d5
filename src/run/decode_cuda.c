/* SPDX-License-Identifier: Apache-2.0
 * decode_cuda.c: whether the decode kernel can take a problem, and how it is set up for one. */
#include "base/bits.h"
#include "base/status.h"
#include "run/plan_cuda.h"

enum {            /* ring.cuh and decode.cu have these numbers too */
       WARPS = 4, /* consumers that share the tokens of a tile */
       MAX_SLOTS = 8,
       MIN_SLOTS = 2,
       GOOD_SLOTS = 3, /* worth more than a second buffer of parts */
       MAX_PARTS = 2,
       N_JOBS = 2,
       PART_EXTRA = 4 + 2, /* floats of a row beside its columns: pitch, m, l */
       LINE = 128,         /* bytes: 64 elements */
       COPY_ALIGN = 16,    /* of every address and stride, for either loader */
       MAX_BOX = 64,       /* tokens */
       MIN_BOX = 8,        /* smaller ones are fine boxes */
       MAX_FINE_BOX = 32,
       FINE_BYTES = 1024,   /* of a box for each warp that reads K: smaller ones take longer to issue than to read */
       FIXED_SHARED = 5120, /* what the kernel declares itself, and rounding */
       OLD_RING = 96 * 1024,
       MAX_PASSES = 4,  /* tiles of a sequence that are at work at the same time */
       RELAY_ROWS = 32, /* from these on there are consumers for each half of the rows, who share one part */
};

static bool is_copyable(const struct pages_view *pages)
{
    const u64 bits =
        (u64)(uintptr_t)pages->data | (u64)pages->page_stride | (u64)pages->slot_stride | (u64)pages->head_stride;
    return bits % COPY_ALIGN == 0;
}

static bool fits_map(const struct pages_view *pages)
{
    const i64 limit = INT64_C(1) << 40;
    return pages->page_stride < limit && pages->slot_stride < limit && pages->head_stride < limit &&
           pages->n_pages <= INT32_MAX && pages->n_pages > 0;
}

/* log2 of the tokens of a box: the power of two in the page size, at most 64. */
static i32 box_shift(i64 page_size)
{
    i32 shift = 6;
    while (page_size % (1 << shift))
        shift--;
    return shift;
}

/* Tokens of a fine box: the largest divisor of the page size up to 32. */
static i32 fine_rows(i64 page_size)
{
    i32 rows = MAX_FINE_BOX;
    while (page_size % rows)
        rows--;
    return rows;
}

static i64 tile_of(i64 d_qk)
{
    return d_qk <= 128 ? 2 * 16 * WARPS : 16 * WARPS;
}

/* Rows and d_qk for which blocks have many warps. */
static bool is_small(const struct cuda_decode_key *key)
{
    return key->d_qk <= 128 && key->rows <= 16;
}

/* Warps that read K, and as many V. */
static i32 n_producers(i32 loader, const struct cuda_decode_key *key)
{
    if (loader == LOAD_GATHER && key->rows == 8)
        return is_small(key) ? 4 : 2;
    return loader != LOAD_BOXES && is_small(key) ? 2 : 1;
}

static i64 slot_bytes(const struct cuda_decode_key *key)
{
    return tile_of(key->d_qk) * (key->d_qk + key->d_v) * 2;
}

/* Q of the jobs; the parts of a leaf, node and root. */
static i64 other_bytes(const struct cuda_decode_key *key, i64 tile_rows, i32 n_parts)
{
    const bool has_relay = key->rows >= RELAY_ROWS;
    const i64 part_rows = has_relay ? key->rows : tile_rows, parts = n_parts * (has_relay ? 1 : WARPS);
    return N_JOBS * key->rows * (key->d_qk * 2 + 16) + (parts + 2) * part_rows * (key->d_v + PART_EXTRA) * 4;
}

static i32 n_slots(const struct cuda_plan *plan, const struct cuda_decode_key *key, i64 tile_rows, i32 n_parts)
{
    i64 room = plan->device->shared_optin - FIXED_SHARED - other_bytes(key, tile_rows, n_parts);
    if (plan->device->arch < 90)
        room = min_i64(room, OLD_RING);
    return (i32)clamp_i64(room / slot_bytes(key), 0, MAX_SLOTS);
}

/* Rows of a tile change no bit, and neither does the depth of a ring: what is chosen here by the longest query of a
 * batch must not. So fewer rows, where the parts of all would leave no room, but never another kernel. */
static void share_memory(struct cuda_plan *plan, const struct cuda_decode_key *key, i64 packed)
{
    i32 rows = (i32)min_i64(packed, key->rows);
    while (rows > 1 && n_slots(plan, key, rows, 1) < MIN_SLOTS)
        rows = (rows + 1) / 2;
    const bool has_two = key->rows < RELAY_ROWS && n_slots(plan, key, rows, MAX_PARTS) >= GOOD_SLOTS;
    plan->decode.n_parts = has_two ? MAX_PARTS : 1;
    plan->decode.n_slots = n_slots(plan, key, rows, plan->decode.n_parts);
    plan->span.tile_rows = rows;
    plan->span.min_leaf = (i32)tile_of(key->d_qk);
    plan->span.max_leaf = DECODE_LEAF;
    plan->span.n_passes = (i32)clamp_i64(ceil_div(packed, rows), 1, MAX_PASSES);
}

/* Windows of 32 pieces for each producer that a tile of fine boxes needs, wherever in a page it begins. */
static i32 fine_windows(i64 tile, i64 rows, i32 n_warps)
{
    const i64 n_boxes = (tile - (rows - 1)) / rows; /* whole ones, at least */
    return (i32)ceil_div(tile % rows ? tile - n_boxes * (rows - 1) : tile / rows, 32 * n_warps);
}

/* By the page size and the layout. All three give the same bits. */
static i32 choose_loader(struct cuda_decode *decode, const struct cuda_device *device, const struct attend_args *a,
                         const struct cuda_decode_key *key)
{
    const bool has_maps = fits_map(&a->k) && fits_map(&a->v) && device->arch >= 90 && device->api->tensor_map_encode;
    decode->box_shift = box_shift(a->page_size);
    decode->box_rows = fine_rows(a->page_size);
    decode->n_windows = 1;
    if (has_maps && 1 << decode->box_shift >= MIN_BOX)
        return LOAD_BOXES;
    decode->box_shift = tile_of(key->d_qk) == MAX_BOX ? 6 : 7;
    const i64 box_bytes = decode->box_rows * min_i64(key->d_qk, key->d_v) * 2;
    const i32 n_warps = n_producers(LOAD_FINE, key);
    if (!has_maps || key->d_qk > 192 || box_bytes * n_warps < FINE_BYTES)
        return LOAD_GATHER;
    decode->n_windows = fine_windows(tile_of(key->d_qk), decode->box_rows, n_warps);
    return LOAD_FINE;
}

i32 folio__cuda_choose_decode(struct cuda_plan *plan, const struct cuda_problem *p)
{
    const struct attend_args *a = &p->args;
    const i64 packed = max_i64(1, p->max_q_len * a->group);
    struct cuda_decode_key key = { .dtype = a->q.dtype, .d_qk = a->q.dim, .d_v = a->out.dim };
    if (a->q.dtype != a->k.dtype || a->bias.dtype || a->mask.dtype || !is_copyable(&a->k) || !is_copyable(&a->v))
        return -1;
    /* of 256 there are registers for 16 rows at most; of 128, two tiles of 16 are faster than one of 32 */
    const bool has_wide = key.d_qk == 64 || key.d_qk == 192;
    key.rows = packed <= 8 ? 8 : packed <= 16 || !has_wide ? 16 : 32;
    key.full = a->softcap > 0 || a->alibi_slopes != NULL;
    key.loader = choose_loader(&plan->decode, plan->device, a, &key);
    const i32 id = folio__cuda_decode_id(&key);
    if (id >= 0)
        share_memory(plan, &key, packed);
    return id >= 0 && plan->decode.n_slots >= MIN_SLOTS ? id : -1;
}

/* As ring.cuh counts them: consumers, producers, mergers, and who writes jobs. */
i32 folio__cuda_decode_threads(const struct cuda_decode_key *key)
{
    const bool has_clerk = is_small(key) && key->loader == LOAD_BOXES;
    const i32 mergers = has_clerk && key->rows == 8 ? 8 : is_small(key) ? 4 : 2;
    const i32 halves = key->rows >= RELAY_ROWS || (key->rows == 16 && is_small(key)) ? 2 : 1;
    return 32 * (WARPS * halves + 2 * n_producers(key->loader, key) + mergers + has_clerk);
}

void folio__cuda_decode_geometry(struct cuda_plan *plan, const struct cuda_problem *p)
{
    const struct cuda_decode_key *key = &folio__cuda_configs[plan->config].decode;
    plan->block = folio__cuda_decode_threads(key);
    plan->shared_bytes = (size_t)(1024 + plan->decode.n_slots * slot_bytes(key) +
                                  other_bytes(key, plan->span.tile_rows, plan->decode.n_parts));
    plan->work.n_groups = (i32)clamp_i64(plan->device->n_sms / p->args.n_kv_heads, 1, PLAN_GROUPS);
    plan->work.can_claim = key->rows == 8;
}

/* {64 elements, slots, dim / 64, heads, pages}: a box is some tokens of one head. Of fine boxes slots come after
 * dim / 64: a token's lines follow one another. */
static folio_status encode(struct cu_tensor_map *map, const struct cuda_plan *plan, const char *name,
                           const struct pages_view *pages, const struct attend_args *a, i32 box_rows, bool is_fine)
{
    const i32 slots = is_fine ? 2 : 1, lines = is_fine ? 1 : 2;
    u64 dims[] = { 64, 0, 0, (u64)a->n_kv_heads, (u64)pages->n_pages }, usable[4];
    i64 strides[] = { 0, 0, pages->head_stride, pages->page_stride };
    u32 box[] = { 64, 0, 0, 1, 1 };
    const u32 steps[] = { 1, 1, 1, 1, 1 };
    dims[slots] = (u64)a->page_size, strides[slots - 1] = pages->slot_stride, box[slots] = (u32)box_rows;
    dims[lines] = (u64)pages->head_dim / 64, strides[lines - 1] = LINE, box[lines] = (u32)pages->head_dim / 64;
    for (i32 i = 0; i < 4; i++) /* of an extent of 1 any stride will do, but not 0 */
        usable[i] = strides[i] ? (u64)strides[i] : COPY_ALIGN;
    const cu_result result = plan->device->api->tensor_map_encode(
        map, pages->dtype == DTYPE_F16 ? CU_TENSOR_FLOAT16 : CU_TENSOR_BFLOAT16, 5, pages->data, dims, usable, box,
        steps, 0, CU_TENSOR_SWIZZLE_128B, CU_TENSOR_PROMOTION_NONE, 0);
    FOLIO_REQUIRE(result == CU_SUCCESS, FOLIO_EDEVICE, "%s: the driver makes no tensor map (error %d)", name,
                  (int)result);
    return FOLIO_OK;
}

folio_status folio__cuda_decode_maps(struct cu_tensor_map k[2], struct cu_tensor_map v[2], const struct cuda_plan *plan,
                                     const struct attend_args *args)
{
    const i32 loader = folio__cuda_configs[plan->config].decode.loader;
    FOLIO_REQUIRE(is_copyable(&args->k) && is_copyable(&args->v), FOLIO_EINVAL,
                  "%s: data %p; this plan's kernel needs it aligned to %d bytes",
                  is_copyable(&args->k) ? "v_pages" : "k_pages",
                  (void *)(is_copyable(&args->k) ? args->v.data : args->k.data), COPY_ALIGN);
    if (loader == LOAD_GATHER)
        return FOLIO_OK;
    const bool is_fine = loader == LOAD_FINE;
    for (i32 i = 0; i < (is_fine ? 2 : 1); i++) {
        const i32 rows = i ? 1 : is_fine ? plan->decode.box_rows : 1 << plan->decode.box_shift;
        FOLIO_TRY(encode(&k[i], plan, "k_pages", &args->k, args, rows, is_fine));
        FOLIO_TRY(encode(&v[i], plan, "v_pages", &args->v, args, rows, is_fine));
    }
    return FOLIO_OK;
}
