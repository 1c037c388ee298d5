/* SPDX-License-Identifier: Apache-2.0
 * decode_cuda.c: whether the decode kernel, and that of many rows, can take a problem, and how they are set up for
 * one. */
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
       /* wide_ring.cuh has these */
       WIDE_TILE = 64,
       WIDE_WARPS = 12,
       WIDE_CONSUMERS = 256, /* threads */
       WARP_ROWS = 16,
       WIDE_FIXED_SHARED = 6144,
       WIDE_MAX_PASSES = 64,
       WIDE_MAX_KV_LEN = 1 << 28, /* a leaf may be as long */
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
static void share_memory(struct cuda_class *c, const struct cuda_plan *plan, const struct cuda_decode_key *key,
                         i64 packed)
{
    i32 rows = (i32)min_i64(packed, key->rows);
    while (rows > 1 && n_slots(plan, key, rows, 1) < MIN_SLOTS)
        rows = (rows + 1) / 2;
    const bool has_two = key->rows < RELAY_ROWS && n_slots(plan, key, rows, MAX_PARTS) >= GOOD_SLOTS;
    c->decode.n_parts = has_two ? MAX_PARTS : 1;
    c->decode.n_slots = n_slots(plan, key, rows, c->decode.n_parts);
    c->span.tile_rows = rows;
    c->span.min_leaf = (i32)tile_of(key->d_qk);
    c->span.max_leaf = DECODE_LEAF;
    c->span.n_passes = (i32)clamp_i64(ceil_div(packed, rows), 1, MAX_PASSES);
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

/* As ring.cuh counts them: consumers, producers, mergers, and who writes jobs. */
i32 folio__cuda_decode_threads(const struct cuda_decode_key *key)
{
    if (key->rows == WIDE_ROWS)
        return 32 * WIDE_WARPS;
    const bool has_clerk = is_small(key) && key->loader == LOAD_BOXES;
    const i32 mergers = has_clerk && key->rows == 8 ? 8 : is_small(key) ? 4 : 2;
    const i32 halves = key->rows >= RELAY_ROWS || (key->rows == 16 && is_small(key)) ? 2 : 1;
    return 32 * (WARPS * halves + 2 * n_producers(key->loader, key) + mergers + has_clerk);
}

static i32 n_groups(const struct cuda_plan *plan, const struct cuda_problem *p)
{
    return (i32)clamp_i64(plan->device->n_sms / p->args.n_kv_heads, 1, PLAN_GROUPS);
}

/* The decode kernel, for up to `packed` rows a sequence. */
static bool choose_few(struct cuda_class *c, const struct cuda_plan *plan, const struct cuda_problem *p,
                       struct cuda_decode_key key, i64 packed)
{
    /* of 256 there are registers for 16 rows at most; of 128, two tiles of 16 are faster than one of 32 */
    const bool has_wide = key.d_qk == 64 || key.d_qk == 192;
    key.rows = packed <= 8 ? 8 : packed <= 16 || !has_wide ? 16 : 32;
    key.loader = choose_loader(&c->decode, plan->device, &p->args, &key);
    c->config = folio__cuda_decode_id(&key);
    if (c->config < 0)
        return false;
    share_memory(c, plan, &key, packed);
    c->block = folio__cuda_decode_threads(&key);
    c->shared_bytes =
        (size_t)(1024 + c->decode.n_slots * slot_bytes(&key) + other_bytes(&key, c->span.tile_rows, c->decode.n_parts));
    c->work.n_groups = n_groups(plan, p);
    c->work.can_claim = key.rows == 8;
    return c->decode.n_slots >= MIN_SLOTS;
}

static i64 greatest_divisor(i64 a, i64 b)
{
    return b == 0 ? a : greatest_divisor(b, a % b);
}

/* The kernel of many rows. Tiles as large as there are rows; as many passes as it takes for the groups to have passes
 * of sequences that are alike: a causal sequence's last tiles, which see most, are then not all one group's. */
static bool choose_many(struct cuda_class *c, const struct cuda_plan *plan, const struct cuda_problem *p,
                        const struct cuda_decode_key *key, i64 packed)
{
    const i64 slot = (i64)WIDE_TILE * (key->d_qk + key->d_v) * 2, q = (i64)WIDE_ROWS * key->d_qk * 2;
    const i64 parked = (i64)WIDE_CONSUMERS * (key->full ? 32 : 16) * 4; /* f32 */
    const i64 room = plan->device->shared_optin - WIDE_FIXED_SHARED - q - parked;
    const i64 groups = n_groups(plan, p), lines = groups / greatest_divisor(groups, max_i64(1, p->batch));
    struct cuda_decode_key any = *key;
    any.rows = 16;
    c->config = folio__cuda_decode_id(key);
    choose_loader(&c->decode, plan->device, &p->args, &any);
    c->decode.n_parts = 1;
    c->decode.n_slots = (i32)clamp_i64(room / slot, 0, MAX_SLOTS);
    c->span.is_wide = 1;
    c->span.min_leaf = WIDE_TILE;
    c->span.max_leaf = DECODE_LEAF;
    c->span.tile_rows = (i32)min_i64(WIDE_ROWS, (i64)round_up((size_t)packed, WARP_ROWS));
    c->span.n_passes = (i32)clamp_i64(ceil_div(packed, c->span.tile_rows), 1, min_i64(lines, WIDE_MAX_PASSES));
    c->block = folio__cuda_decode_threads(key);
    c->shared_bytes = (size_t)(1024 + c->decode.n_slots * slot + q + parked);
    c->work.n_groups = (i32)groups;
    return c->decode.n_slots >= MIN_SLOTS;
}

/* The row of the kernel of many rows for a problem; false when there is none. It has no fine boxes. */
static bool find_wide(struct cuda_decode_key *wide, const struct cuda_plan *plan, const struct cuda_problem *p,
                      const struct cuda_decode_key *key)
{
    struct cuda_decode ignored;
    *wide = *key;
    wide->rows = 16;
    wide->loader = choose_loader(&ignored, plan->device, &p->args, wide) == LOAD_BOXES ? LOAD_BOXES : LOAD_GATHER;
    wide->rows = WIDE_ROWS;
    return plan->device->arch == 90 && plan->max_kv_len <= WIDE_MAX_KV_LEN && folio__cuda_decode_id(wide) >= 0;
}

/* Sequences of few rows and of many, as far as shapes tell, have a class each. */
void folio__cuda_choose_decode(struct cuda_plan *plan, const struct cuda_problem *p)
{
    const struct attend_args *a = &p->args;
    const i64 packed = max_i64(1, p->max_q_len * a->group);
    const struct cuda_decode_key key = {
        .dtype = a->q.dtype, .d_qk = a->q.dim, .d_v = a->out.dim, .full = a->softcap > 0 || a->alibi_slopes != NULL
    };
    struct cuda_decode_key wide;
    if (a->q.dtype != a->k.dtype || a->bias.dtype || a->mask.dtype || !is_copyable(&a->k) || !is_copyable(&a->v))
        return;
    const bool has_wide = find_wide(&wide, plan, p, &key), are_alike = p->n_tokens == p->batch * p->max_q_len;
    const bool has_many = has_wide && packed > NARROW_ROWS;
    const bool has_few = !has_many || (!are_alike && a->group <= NARROW_ROWS);
    if (has_few && choose_few(&plan->classes[0], plan, p, key, has_many ? NARROW_ROWS : packed))
        plan->n_classes++;
    if (has_many && choose_many(&plan->classes[plan->n_classes], plan, p, &wide, packed))
        plan->n_classes++;
    if (plan->n_classes != has_few + has_many)
        plan->n_classes = 0;
    if (plan->n_classes == 2) { /* alone, a kernel has all: bad ones, too */
        plan->classes[0].span.most_rows = NARROW_ROWS;
        plan->classes[1].span.least_rows = NARROW_ROWS + 1;
    }
}

/* {64 elements, slots, dim / 64, heads, pages}: a box is some tokens of one head. Of fine boxes slots come after
 * dim / 64: a token's lines follow one another. */
struct box_shape {
    i32 rows;
    bool is_fine, is_column; /* column: of 64 elements */
};

static folio_status encode(struct cu_tensor_map *map, const struct cuda_plan *plan, const char *name,
                           const struct pages_view *pages, const struct attend_args *a, const struct box_shape *shape)
{
    const bool is_fine = shape->is_fine;
    const i32 slots = is_fine ? 2 : 1, lines = is_fine ? 1 : 2;
    u64 dims[] = { 64, 0, 0, (u64)a->n_kv_heads, (u64)pages->n_pages }, usable[4];
    i64 strides[] = { 0, 0, pages->head_stride, pages->page_stride };
    u32 box[] = { 64, 0, 0, 1, 1 };
    const u32 steps[] = { 1, 1, 1, 1, 1 };
    dims[slots] = (u64)a->page_size, strides[slots - 1] = pages->slot_stride, box[slots] = (u32)shape->rows;
    dims[lines] = (u64)pages->head_dim / 64, strides[lines - 1] = LINE;
    box[lines] = shape->is_column ? 1 : (u32)pages->head_dim / 64;
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
                                     const struct cuda_class *class, const struct attend_args *args)
{
    const struct cuda_decode_key *key = &folio__cuda_configs[class->config].decode;
    FOLIO_REQUIRE(is_copyable(&args->k) && is_copyable(&args->v), FOLIO_EINVAL,
                  "%s: data %p; this plan's kernel needs it aligned to %d bytes",
                  is_copyable(&args->k) ? "v_pages" : "k_pages",
                  (void *)(is_copyable(&args->k) ? args->v.data : args->k.data), COPY_ALIGN);
    if (key->loader == LOAD_GATHER)
        return FOLIO_OK;
    struct box_shape shape = { .is_fine = key->loader == LOAD_FINE, .is_column = key->rows == WIDE_ROWS };
    for (i32 i = 0; i < (shape.is_fine ? 2 : 1); i++) {
        shape.rows = i ? 1 : shape.is_fine ? class->decode.box_rows : 1 << class->decode.box_shift;
        FOLIO_TRY(encode(&k[i], plan, "k_pages", &args->k, args, &shape));
        FOLIO_TRY(encode(&v[i], plan, "v_pages", &args->v, args, &shape));
    }
    return FOLIO_OK;
}
