/* SPDX-License-Identifier: Apache-2.0
 * pages.cu: A, bytes into pages, out of pages, from page to page. A thread moves 8 elements of one row: 16 bytes at
 * once where types agree and everything is aligned, element by element else. Index arithmetic is 64-bit throughout. */
#include "kernel/cuda/device/error.cuh"

enum { CHUNK = 8 };

/* Elements d0 .. d0 + 7 of a row of dim elements. src NULL: zeros. */
DEVICE void move(u8 *dst, i32 dst_dtype, const u8 *src, i32 src_dtype, i32 d0, i32 dim)
{
    const i32 bytes = number_bytes(dst_dtype), n = min(CHUNK, dim - d0);
    dst += (i64)d0 * bytes;
    if (src)
        src += (i64)d0 * number_bytes(src_dtype);
    if (src && n == CHUNK && dst_dtype == src_dtype && (((u64)dst | (u64)src) & 15) == 0) {
        for (i32 i = 0; i < bytes / 2; i++)
            ((uint4 *)dst)[i] = ((const uint4 *)src)[i];
        return;
    }
    for (i32 i = 0; i < n; i++)
        if (dst_dtype == src_dtype && src && bytes == 2)
            ((u16 *)dst)[i] = ((const u16 *)src)[i]; /* bits, so that a NaN keeps its payload */
        else if (dst_dtype == src_dtype && src)
            ((u32 *)dst)[i] = ((const u32 *)src)[i];
        else
            store_number(dst + i * bytes, dst_dtype,
                         src ? load_number(src + i * number_bytes(src_dtype), src_dtype) : 0.0f);
}

DEVICE u8 *slot_address(const struct pages_view *pages, i64 page, i64 slot, i64 head)
{
    return pages->data + page * pages->page_stride + slot * pages->slot_stride + head * pages->head_stride;
}

DEVICE const u8 *row_address(const struct rows_view *rows, i64 token, i64 head)
{
    return rows->data + token * rows->token_stride + head * rows->head_stride;
}

/* Items (row, head, chunk) of a grid-stride loop. */
struct item {
    i64 row;
    i32 head, d0;
};

DEVICE struct item item_of(i64 i, i32 n_heads, i32 n_chunks)
{
    struct item item;
    const i64 vector = i / n_chunks;
    item.d0 = (i32)(i % n_chunks) * CHUNK;
    item.row = vector / n_heads;
    item.head = (i32)(vector % n_heads);
    return item;
}

#define FOR_ITEMS(i, n) \
    for (i64 i = (i64)blockIdx.x * PAGES_THREADS + threadIdx.x; i < (n); i += (i64)gridDim.x * PAGES_THREADS)

DEVICE i32 chunks_of(i32 dim)
{
    return (dim + CHUNK - 1) / CHUNK;
}

/* ---- append and gather of aligned rows of one dtype: 16-byte pieces, several in flight a thread, 32-bit indices */

enum { IN_FLIGHT = 4 };

struct pieces { /* of the rows of a side */
    u32 n, in_row, n_heads;
};

/* False where the slow way is needed. */
DEVICE bool pieces_of(struct pieces *p, const struct rows_view *rows, const struct pages_view *pages, i64 n_tokens,
                      i32 n_heads)
{
    const i64 row_bytes = (i64)rows->dim * number_bytes(rows->dtype), n = n_tokens * n_heads * (row_bytes / 16);
    const u64 bits = (u64)rows->data | rows->token_stride | rows->head_stride | (u64)pages->data | pages->page_stride |
                     pages->slot_stride | pages->head_stride | row_bytes;
    p->n = (u32)n;
    p->in_row = (u32)(row_bytes / 16);
    p->n_heads = (u32)n_heads;
    return rows->dtype == pages->dtype && bits % 16 == 0 && n < (i64)1 << 31;
}

struct piece {
    u32 token, head, at; /* at: bytes into the row */
};

DEVICE struct piece piece_of(const struct pieces *p, u32 i)
{
    struct piece piece;
    const u32 row = i / p->in_row;
    piece.at = (i - row * p->in_row) * 16;
    piece.token = row / p->n_heads;
    piece.head = row - piece.token * p->n_heads;
    return piece;
}

/* Copy what has a source and a destination: all reads before the first write. */
DEVICE void move_pieces(u8 *const dst[IN_FLIGHT], const u8 *const src[IN_FLIGHT])
{
    uint4 raw[IN_FLIGHT];
#pragma unroll
    for (i32 k = 0; k < IN_FLIGHT; k++)
        if (dst[k])
            raw[k] = *(const uint4 *)src[k];
#pragma unroll
    for (i32 k = 0; k < IN_FLIGHT; k++)
        if (dst[k])
            *(uint4 *)dst[k] = raw[k];
}

/* The rows are read before it is known where they go. */
DEVICE void append_pieces(const struct cuda_append_args *a, const struct rows_view *rows,
                          const struct pages_view *pages, const struct pieces *p, bool reports)
{
    const struct append_args *args = &a->args;
    enum { SKIP = -1, BAD = -2 };
    const u32 step = gridDim.x * PAGES_THREADS;
    for (u32 first = blockIdx.x * PAGES_THREADS + threadIdx.x; first < p->n; first += IN_FLIGHT * step) {
        struct piece pieces[IN_FLIGHT];
        uint4 raw[IN_FLIGHT];
        i32 slots[IN_FLIGHT]; /* SKIP: none; BAD: reported below */
#pragma unroll
        for (i32 k = 0; k < IN_FLIGHT; k++) {
            const u32 i = first + k * step;
            pieces[k] = piece_of(p, i);
            slots[k] = SKIP;
            if (i < p->n) {
                const i64 slot = load_index(args->slots, args->slots_are_i64, pieces[k].token);
                raw[k] = *(const uint4 *)(row_address(rows, pieces[k].token, pieces[k].head) + pieces[k].at);
                slots[k] = slot >= 0 && slot < a->n_slots ? (i32)slot : slot == -1 ? SKIP : BAD;
            }
        }
#pragma unroll
        for (i32 k = 0; k < IN_FLIGHT; k++)
            if (slots[k] >= 0) {
                const u32 page = (u32)slots[k] / (u32)args->page_size;
                *(uint4 *)(slot_address(pages, page, (u32)slots[k] - page * (u32)args->page_size, pieces[k].head) +
                           pieces[k].at) = raw[k];
            } else if (slots[k] == BAD && reports && pieces[k].head == 0 && pieces[k].at == 0)
                report_error(a->error, CUDA_ERROR_SLOT, pieces[k].token, 0,
                             load_index(args->slots, args->slots_are_i64, pieces[k].token));
    }
}

/* A row of no page becomes NaN. */
DEVICE void gather_pieces(const struct cuda_gather_args *a, const struct rows_view *rows,
                          const struct pages_view *pages, const struct pieces *p)
{
    const struct gather_args *args = &a->args;
    const u32 step = gridDim.x * PAGES_THREADS, page_size = (u32)args->page_size;
    for (u32 first = blockIdx.x * PAGES_THREADS + threadIdx.x; first < p->n; first += IN_FLIGHT * step) {
        u8 *dst[IN_FLIGHT];
        const u8 *src[IN_FLIGHT];
        i64 ids[IN_FLIGHT];
#pragma unroll
        for (i32 k = 0; k < IN_FLIGHT; k++)
            ids[k] = first + k * step < p->n ? load_index(args->page_row, args->ids_are_i64,
                                                          piece_of(p, first + k * step).token / page_size)
                                             : -1;
#pragma unroll
        for (i32 k = 0; k < IN_FLIGHT; k++) {
            const bool is_piece = first + k * step < p->n;
            const struct piece piece = piece_of(p, first + k * step);
            const u32 column = piece.token / page_size, slot = piece.token - column * page_size;
            u8 *to = (u8 *)row_address(rows, piece.token, piece.head) + piece.at;
            const bool is_page = ids[k] >= 0 && ids[k] < pages->n_pages;
            dst[k] = is_piece && is_page ? to : 0;
            src[k] = slot_address(pages, ids[k], slot, piece.head) + piece.at;
            if (is_piece && !is_page) {
                report_error(a->error, CUDA_ERROR_GATHER_PAGE, column, 0, ids[k]);
                for (i32 i = 0; i < 16; i += number_bytes(rows->dtype))
                    store_number(to + i, rows->dtype, NAN_F);
            }
        }
        move_pieces(dst, src);
    }
}

/* blockIdx.y 0: K, 1: V. */
extern "C" __global__ void __launch_bounds__(PAGES_THREADS, 4)
    folio_append(const __grid_constant__ struct cuda_append_args a)
{
    const struct append_args *args = &a.args;
    const struct rows_view *rows = blockIdx.y ? &args->v : &args->k;
    const struct pages_view *pages = blockIdx.y ? &args->v_pages : &args->k_pages;
    const i32 n_chunks = chunks_of(rows->dim);
    struct pieces pieces;
    if (a.n_slots < (i64)1 << 31 && pieces_of(&pieces, rows, pages, a.n_tokens, args->n_kv_heads)) {
        append_pieces(&a, rows, pages, &pieces, blockIdx.y == 0);
        return;
    }
    FOR_ITEMS(i, a.n_tokens * args->n_kv_heads * n_chunks)
    {
        const struct item item = item_of(i, args->n_kv_heads, n_chunks);
        const i64 slot = load_index(args->slots, args->slots_are_i64, item.row);
        if (slot < 0 || slot >= a.n_slots) {
            if (slot != -1 && item.head == 0 && item.d0 == 0 && blockIdx.y == 0)
                report_error(a.error, CUDA_ERROR_SLOT, item.row, 0, slot);
            continue;
        }
        move(slot_address(pages, slot / args->page_size, slot % args->page_size, item.head), pages->dtype,
             row_address(rows, item.row, item.head), rows->dtype, item.d0, rows->dim);
    }
}

extern "C" __global__ void __launch_bounds__(PAGES_THREADS, 4)
    folio_gather(const __grid_constant__ struct cuda_gather_args a)
{
    const struct gather_args *args = &a.args;
    const struct rows_view *rows = blockIdx.y ? &args->v : &args->k;
    const struct pages_view *pages = blockIdx.y ? &args->v_pages : &args->k_pages;
    const i32 n_chunks = chunks_of(rows->dim);
    struct pieces pieces;
    if (args->page_size < (i64)1 << 31 && pieces_of(&pieces, rows, pages, a.kv_len, args->n_kv_heads)) {
        gather_pieces(&a, rows, pages, &pieces);
        return;
    }
    FOR_ITEMS(i, a.kv_len * args->n_kv_heads * n_chunks)
    {
        const struct item item = item_of(i, args->n_kv_heads, n_chunks);
        const i64 column = item.row / args->page_size;
        const i64 page = load_index(args->page_row, args->ids_are_i64, column);
        u8 *dst = (u8 *)row_address(rows, item.row, item.head);
        if (page < 0 || page >= pages->n_pages) {
            report_error(a.error, CUDA_ERROR_GATHER_PAGE, column, 0, page);
            for (i32 d = item.d0; d < min(item.d0 + CHUNK, rows->dim); d++)
                store_number(dst + (i64)d * number_bytes(rows->dtype), rows->dtype, NAN_F);
            continue;
        }
        move(dst, rows->dtype, slot_address(pages, page, item.row % args->page_size, item.head), pages->dtype, item.d0,
             rows->dim);
    }
}

enum { COPIES = 4 }; /* in flight at once where none of them depends on another */

DEVICE i64 copy_side(const struct cuda_copy_args *a, i64 copy, i64 side)
{
    return *(const i64 *)(a->copies + copy * a->pair_stride + side * a->side_stride);
}

/* Reads the ids of up to COPIES copies; a bad pair becomes page 0 onto itself. True when they may go at once. */
DEVICE bool read_copies(const struct cuda_copy_args *a, i64 first, i64 from[COPIES], i64 to[COPIES])
{
    bool is_free = true;
#pragma unroll
    for (i32 i = 0; i < COPIES; i++) {
        from[i] = to[i] = 0;
        if (first + i >= a->n_copies)
            continue;
        const i64 ids[2] = { copy_side(a, first + i, 0), copy_side(a, first + i, 1) };
        bool is_good = true;
#pragma unroll
        for (i32 side = 0; side < 2; side++)
            if (ids[side] < 0 || ids[side] >= a->views[0].n_pages) {
                report_error(a->error, CUDA_ERROR_COPY, first + i, side, ids[side]);
                is_good = false;
            }
        if (!is_good)
            continue;
        from[i] = ids[0], to[i] = ids[1];
    }
#pragma unroll
    for (i32 i = 0; i < COPIES; i++)
#pragma unroll
        for (i32 j = i + 1; j < COPIES; j++)
            is_free &= from[i] == to[i] || from[j] == to[j] || (to[i] != from[j] && to[i] != to[j] && from[i] != to[j]);
    return is_free;
}

/* Threads share the slots, not the copies: whatever depends on what, each slot sees all copies in order. */
extern "C" __global__ void __launch_bounds__(PAGES_THREADS, 1)
    folio_copy(const __grid_constant__ struct cuda_copy_args a)
{
    const struct pages_view *v = &a.views[blockIdx.y];
    const i32 n_chunks = chunks_of(v->head_dim);
    FOR_ITEMS(i, a.page_size * a.n_heads * n_chunks)
    {
        const struct item item = item_of(i, a.n_heads, n_chunks);
        u8 *at = slot_address(v, 0, item.row, item.head) + (i64)item.d0 * number_bytes(v->dtype);
        const bool is_vector = v->head_dim % CHUNK == 0 && number_bytes(v->dtype) == 2 &&
                               (((u64)v->data | v->page_stride | v->slot_stride | v->head_stride) & 15) == 0;
        for (i64 first = 0; first < a.n_copies; first += COPIES) {
            i64 from[COPIES], to[COPIES];
            if (read_copies(&a, first, from, to) && is_vector) {
                uint4 x[COPIES];
#pragma unroll
                for (i32 c = 0; c < COPIES; c++)
                    x[c] = *(const uint4 *)(at + from[c] * v->page_stride);
#pragma unroll
                for (i32 c = 0; c < COPIES; c++)
                    if (from[c] != to[c])
                        *(uint4 *)(at + to[c] * v->page_stride) = x[c];
                continue;
            }
#pragma unroll
            for (i32 c = 0; c < COPIES; c++)
                if (from[c] != to[c])
                    move(slot_address(v, to[c], item.row, item.head), v->dtype,
                         slot_address(v, from[c], item.row, item.head), v->dtype, item.d0, v->head_dim);
        }
    }
}

/* [batch, n_heads, n_tokens, dim] cut into pages, and the page table that says so. */
extern "C" __global__ void __launch_bounds__(PAGES_THREADS) folio_lay(const __grid_constant__ struct cuda_lay_args a)
{
    const i32 n_chunks = chunks_of(a.pages.head_dim);
    const i64 slots_per_seq = a.pages_per_seq * a.page_size;
    FOR_ITEMS(i, a.batch * slots_per_seq * a.n_heads * n_chunks)
    {
        const struct item item = item_of(i, a.n_heads, n_chunks);
        const i64 page = item.row / a.page_size, seq = item.row / slots_per_seq, token = item.row % slots_per_seq;
        const u8 *src = row_address(&a.x, token, item.head) + seq * a.x_seq_stride;
        move(slot_address(&a.pages, page, item.row % a.page_size, item.head), a.pages.dtype,
             token < a.n_tokens ? src : nullptr, a.x.dtype, item.d0, a.pages.head_dim);
        if (item.row % a.page_size == 0 && item.head == 0 && item.d0 == 0) {
            u8 *entry = a.table + seq * a.table_seq_stride + page % a.pages_per_seq * a.table_column_stride;
            if (a.table_is_i64)
                *(i64 *)entry = page;
            else
                *(i32 *)entry = (i32)page;
        }
    }
}
