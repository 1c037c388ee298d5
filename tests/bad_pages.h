/* SPDX-License-Identifier: Apache-2.0
 * bad_pages.h: the malformed calls of test_pages_bad.c: what is broken, and what it must get. */
#ifndef TESTS_BAD_PAGES_H
#define TESTS_BAD_PAGES_H

#include "folio/pages.h"
#include "support/strided.h"

enum target { K, V, K_PAGES, V_PAGES, SLOTS, PAGE_ROW, COPIES, PAGES, TABLE, X, N_TENSORS, ARGS };

enum what {
    GONE,    /* the tensor is NULL */
    NDIM,    /* = value */
    SHAPE,   /* [index] = value */
    STRIDE,  /* [index] = value */
    DTYPE,   /* = value, an enum dtype */
    CODE,    /* DLPack code = value: a type folio does not know */
    LANES,   /* = value */
    NO_DATA, /* data NULL */
    OFFSET,  /* byte_offset = value */
    DEVICE,  /* type = value */
    ENTRY,   /* of an index tensor: [index] = value */
    ONTO,    /* data = that of tensor `value` */
    STRUCT_SIZE,
    FLAGS,
    SCALES,
    KV_LEN,
    NO_CONTEXT,
    NO_ARGS,
};

typedef struct call call;
static folio_status append(call *c);
static folio_status gather(call *c);
static folio_status copy(call *c);
static folio_status cut(call *c);

struct bad {
    folio_status (*run)(call *c);
    enum target target;
    enum what what;
    i32 index;
    i64 value;
    folio_status status;
    folio_error_kind kind;
    const char *says[3]; /* NULL = nothing more */
};

#define VALUE FOLIO_EINVAL, FOLIO_ERROR_VALUE
#define TYPE FOLIO_EINVAL, FOLIO_ERROR_TYPE
#define RANGE FOLIO_ERANGE, FOLIO_ERROR_VALUE
#define UNSUPPORTED FOLIO_ENOTSUP, FOLIO_ERROR_VALUE

/* k [5, 2, 6], v [5, 2, 5] f32; pages [8, 4, 2, 6 | 5] f32; slots [5] i64; page_row [4] i64, kv_len 5; copies [3, 2];
 * pages [4, 4, 2, 6] <- x [2, 2, 7, 6], table [2, 2] i32 */
static const struct bad table[] = {
    { append, ARGS, NO_CONTEXT, 0, 0, VALUE, { "NULL" } },
    { append, ARGS, NO_ARGS, 0, 0, VALUE, { "args", "NULL" } },
    { append, ARGS, STRUCT_SIZE, 0, 0, VALUE, { "args.struct_size 0", "must be" } },
    { append, ARGS, STRUCT_SIZE, 0, 4096, VALUE, { "args.struct_size 4096", "must be" } },
    { append, ARGS, FLAGS, 0, 2, VALUE, { "flags 0x2", "allowed 0" } },
    { append, ARGS, FLAGS, 0, 1, VALUE, { "flags: FOLIO_APPEND_MAKES_SCALES", "f32", "e4m3 e5m2" } },
    { append, ARGS, SCALES, 0, 0, VALUE, { "k_scale", "given with pages of f32" } },
    { append, K, GONE, 0, 0, VALUE, { "k: NULL", "[n_tokens, n_heads, dim]" } },
    { append, V_PAGES, GONE, 0, 0, VALUE, { "v_pages: NULL", "[n_pages, page_size, n_kv_heads, head_dim]" } },
    { append, SLOTS, GONE, 0, 0, VALUE, { "slots: NULL" } },
    { append, K, NO_DATA, 0, 0, VALUE, { "k: data is NULL", "60" } },
    { append, K_PAGES, NO_DATA, 0, 0, VALUE, { "k_pages: data is NULL" } },
    { append, SLOTS, NO_DATA, 0, 0, VALUE, { "slots: data is NULL" } },
    { append, K_PAGES, NDIM, 0, 3, VALUE, { "k_pages: 3 dims", "must have 4" } },
    { append, V, NDIM, 0, 2, VALUE, { "v: 2 dims", "must have 3" } },
    { append, V, NDIM, 0, 6, VALUE, { "v: 6 dims", "0 .. 5" } },
    { append, SLOTS, NDIM, 0, 2, VALUE, { "slots: 2 dims", "must have 1" } },
    { append, K_PAGES, SHAPE, 1, 0, VALUE, { "k_pages: page_size 0", ">= 1" } },
    { append, K_PAGES, SHAPE, 2, 0, VALUE, { "k_pages: 0 heads", "1 .. " } },
    { append, K_PAGES, SHAPE, 3, 0, VALUE, { "k_pages: dim 0", "1 .. " } },
    { append, K_PAGES, SHAPE, 0, -1, VALUE, { "k_pages: dim 0", "-1", ">= 0" } },
    { append, K_PAGES, SHAPE, 0, INT64_C(1) << 60, VALUE, { "k_pages", "overflows" } },
    { append, V_PAGES, SHAPE, 0, 7, VALUE, { "v_pages: 7 pages", "must be 8" } },
    { append, V_PAGES, SHAPE, 1, 3, VALUE, { "v_pages: page_size 3", "must be 4" } },
    { append, V_PAGES, SHAPE, 2, 1, UNSUPPORTED, { "v_pages: 1 heads", "2" } },
    { append, K, SHAPE, 1, 1, VALUE, { "k: 1 heads", "must be 2" } },
    { append, V, SHAPE, 2, 4, VALUE, { "v: head_dim 4", "must be 5" } },
    { append, V, SHAPE, 0, 4, VALUE, { "v: 4 tokens", "must be 5" } },
    { append, SLOTS, SHAPE, 0, 4, VALUE, { "slots: 4 entries", "must be 5" } },
    { append, K_PAGES, STRIDE, 3, 2, VALUE, { "k_pages: stride of the last dim is 2", "must be 1" } },
    { append, K, STRIDE, 2, 2, VALUE, { "k: stride of the last dim is 2", "must be 1" } },
    { append, K_PAGES, STRIDE, 0, 0, VALUE, { "k_pages: page stride 0 with 8 pages", "must be > 0" } },
    { append, K_PAGES, STRIDE, 0, -48, VALUE, { "k_pages: stride of dim 0 is -48", ">= 0" } },
    { append, K_PAGES, STRIDE, 0, 40, VALUE, { "k_pages: elements share memory", "must not" } },
    { append, K_PAGES, STRIDE, 2, 0, VALUE, { "k_pages: elements share memory", "must not" } },
    { append, K_PAGES, STRIDE, 0, INT64_C(1) << 62, VALUE, { "k_pages", "overflows" } },
    { append, SLOTS, STRIDE, 0, 2, VALUE, { "slots: stride 2", "must be 1" } },
    { append, K_PAGES, DTYPE, 0, DTYPE_I32, TYPE, { "k_pages: dtype i32", "f32 f16 bf16" } },
    { append, V_PAGES, DTYPE, 0, DTYPE_BOOL, TYPE, { "v_pages: dtype bool", "f32 f16 bf16 e4m3 e5m2 i8" } },
    { append, K, DTYPE, 0, DTYPE_BOOL, TYPE, { "k: dtype bool", "f32 f16 bf16" } },
    { append, K, CODE, 0, kDLComplex, TYPE, { "k: dtype code 5", "allowed" } },
    { append, K, LANES, 0, 4, TYPE, { "k: dtype", "4 lanes", "allowed" } },
    { append, SLOTS, DTYPE, 0, DTYPE_F32, TYPE, { "slots: dtype f32", "i32 i64" } },
    { append, SLOTS, CODE, 0, kDLUInt, TYPE, { "slots: dtype code 1", "allowed" } },
    { append, K, OFFSET, 0, 2, VALUE, { "k: data is not aligned", "4-byte" } },
    { append, K, DEVICE, 0, kDLCUDA, VALUE, { "k: on device type 2", "CPU" } },
    { append, K_PAGES, DEVICE, 0, kDLROCM, VALUE, { "k_pages: on device type 10", "CPU" } },
    { append, SLOTS, DEVICE, 0, kDLCUDA, VALUE, { "slots: on device type 2", "CPU" } },
    { append, SLOTS, ENTRY, 3, 32, RANGE, { "slots[3]: 32", "0 .. 31" } },
    { append, SLOTS, ENTRY, 0, -2, RANGE, { "slots[0]: -2", "-1 (skip)" } },
    { append, SLOTS, ENTRY, 4, INT32_MAX, RANGE, { "slots[4]: 2147483647", "0 .. 31" } },
    { append, SLOTS, ENTRY, 4, INT64_C(1) << 40, RANGE, { "slots[4]: 1099511627776", "0 .. 31" } },
    { append, SLOTS, ENTRY, 4, 17, VALUE, { "slots[4]: 17", "slots[0]", "once" } },
    { append, SLOTS, ENTRY, 2, 0, VALUE, { "slots[3]: 0", "slots[2]", "once" } },
    { append, V_PAGES, ONTO, 0, K_PAGES, VALUE, { "v_pages: shares memory with k_pages", "must not" } },
    { append, K, ONTO, 0, K_PAGES, VALUE, { "k_pages: shares memory with k", "must not" } },
    { append, V, ONTO, 0, K_PAGES, VALUE, { "k_pages: shares memory with v", "must not" } },
    { append, SLOTS, ONTO, 0, V_PAGES, VALUE, { "v_pages: shares memory with slots", "must not" } },

    { gather, ARGS, NO_CONTEXT, 0, 0, VALUE, { "NULL" } },
    { gather, ARGS, NO_ARGS, 0, 0, VALUE, { "args", "NULL" } },
    { gather, ARGS, STRUCT_SIZE, 0, 7, VALUE, { "args.struct_size 7", "must be" } },
    { gather, ARGS, FLAGS, 0, 2, VALUE, { "flags 0x2", "must be 0" } },
    { gather, ARGS, SCALES, 0, 0, VALUE, { "k_scale", "given with pages of f32" } },
    { gather, ARGS, KV_LEN, 0, -1, VALUE, { "kv_len -1", ">= 0" } },
    { gather, ARGS, KV_LEN, 0, 4, VALUE, { "k: 5 tokens", "kv_len, 4" } },
    { gather, PAGE_ROW, GONE, 0, 0, VALUE, { "page_row: NULL" } },
    { gather, PAGE_ROW, NO_DATA, 0, 0, VALUE, { "page_row: data is NULL" } },
    { gather, PAGE_ROW, SHAPE, 0, 1, RANGE, { "kv_len 5", "page table", "1 pages of 4" } },
    { gather, PAGE_ROW, DTYPE, 0, DTYPE_F32, TYPE, { "page_row: dtype f32", "i32 i64" } },
    { gather, PAGE_ROW, DEVICE, 0, kDLCUDA, VALUE, { "page_row: on device type 2" } },
    { gather, PAGE_ROW, ENTRY, 1, -1, RANGE, { "page_row[1]: -1", "0 .. 7" } },
    { gather, PAGE_ROW, ENTRY, 0, 8, RANGE, { "page_row[0]: 8", "0 .. 7" } },
    { gather, PAGE_ROW, ENTRY, 1, INT32_MAX, RANGE, { "page_row[1]: 2147483647", "0 .. 7" } },
    { gather, PAGE_ROW, ENTRY, 1, INT64_C(1) << 32, RANGE, { "page_row[1]: 4294967296", "0 .. 7" } },
    { gather, K, GONE, 0, 0, VALUE, { "k: NULL" } },
    { gather, V, NO_DATA, 0, 0, VALUE, { "v: data is NULL" } },
    { gather, K_PAGES, NO_DATA, 0, 0, VALUE, { "k_pages: data is NULL" } },
    { gather, K, STRIDE, 2, 2, VALUE, { "k: stride of the last dim is 2", "must be 1" } },
    { gather, K, STRIDE, 0, 0, VALUE, { "k: elements share memory", "must not" } },
    { gather, V, DTYPE, 0, DTYPE_I8, UNSUPPORTED, { "v: dtype i8", "quantised" } },
    { gather, K, DEVICE, 0, kDLCUDA, VALUE, { "k: on device type 2" } },
    { gather, K, ONTO, 0, K_PAGES, VALUE, { "k: shares memory with k_pages", "must not" } },
    { gather, V, ONTO, 0, K_PAGES, VALUE, { "v: shares memory with k_pages", "must not" } },
    { gather, V, ONTO, 0, K, VALUE, { "v: shares memory with k", "must not" } },
    { gather, K, ONTO, 0, PAGE_ROW, VALUE, { "k: shares memory with page_row", "must not" } },

    { copy, ARGS, NO_CONTEXT, 0, 0, VALUE, { "NULL" } },
    { copy, K_PAGES, GONE, 0, 0, VALUE, { "k_pages: NULL" } },
    { copy, K_PAGES, NO_DATA, 0, 0, VALUE, { "k_pages: data is NULL" } },
    { copy, V_PAGES, SHAPE, 0, 7, VALUE, { "v_pages: 7 pages", "must be 8" } },
    { copy, K_PAGES, STRIDE, 1, 0, VALUE, { "k_pages: elements share memory" } },
    { copy, COPIES, GONE, 0, 0, VALUE, { "copies: NULL", "[n, 2]" } },
    { copy, COPIES, NO_DATA, 0, 0, VALUE, { "copies: data is NULL" } },
    { copy, COPIES, DTYPE, 0, DTYPE_I32, TYPE, { "copies: dtype i32", "i64" } },
    { copy, COPIES, NDIM, 0, 1, VALUE, { "copies: 1 dims", "[n, 2]" } },
    { copy, COPIES, SHAPE, 1, 1, VALUE, { "copies: 2 dims, the last 1", "[n, 2]" } },
    { copy, COPIES, DEVICE, 0, kDLCUDA, VALUE, { "copies: on device type 2" } },
    { copy, COPIES, ENTRY, 0, -1, RANGE, { "copies[0][0]: page -1", "0 .. 7" } },
    { copy, COPIES, ENTRY, 5, 8, RANGE, { "copies[2][1]: page 8", "0 .. 7" } },
    { copy, COPIES, ENTRY, 3, INT64_C(1) << 40, RANGE, { "copies[1][1]: page 1099511627776", "0 .. 7" } },
    { copy, COPIES, ONTO, 0, K_PAGES, VALUE, { "k_pages: shares memory with copies" } },
    { copy, V_PAGES, ONTO, 0, K_PAGES, VALUE, { "v_pages: shares memory with k_pages" } },

    { cut, ARGS, NO_CONTEXT, 0, 0, VALUE, { "NULL" } },
    { cut, PAGES, GONE, 0, 0, VALUE, { "pages: NULL" } },
    { cut, PAGES, SHAPE, 0, 3, VALUE, { "pages: 3 pages", "2 sequences * 2 pages" } },
    { cut, PAGES, STRIDE, 0, 40, VALUE, { "pages: elements share memory" } },
    { cut, PAGES, NO_DATA, 0, 0, VALUE, { "pages: data is NULL" } },
    { cut, X, GONE, 0, 0, VALUE, { "x: NULL", "[batch, n_heads, n_tokens, head_dim]" } },
    { cut, X, NDIM, 0, 3, VALUE, { "x: 3 dims", "must have 4" } },
    { cut, X, DTYPE, 0, DTYPE_BF16, TYPE, { "x: dtype bf16", "must be f32" } },
    { cut, X, SHAPE, 1, 1, VALUE, { "x: 1 heads", "must be 2" } },
    { cut, X, SHAPE, 3, 5, VALUE, { "x: head_dim 5", "must be 6" } },
    { cut, X, STRIDE, 3, 2, VALUE, { "x: stride of the last dim is 2", "must be 1" } },
    { cut, X, STRIDE, 3, 0, VALUE, { "x: stride of the last dim is 0", "must be 1" } },
    { cut, X, NO_DATA, 0, 0, VALUE, { "x: data is NULL" } },
    { cut, X, DEVICE, 0, kDLCUDA, VALUE, { "x: on device type 2" } },
    { cut, X, ONTO, 0, PAGES, VALUE, { "pages: shares memory with x" } },
    { cut, TABLE, GONE, 0, 0, VALUE, { "page_table: NULL" } },
    { cut, TABLE, DTYPE, 0, DTYPE_F32, TYPE, { "page_table: dtype f32", "i32 i64" } },
    { cut, TABLE, SHAPE, 1, 1, VALUE, { "page_table: 2 dims, 2 x 1", "[2, 2]" } },
    { cut, TABLE, SHAPE, 0, 1, VALUE, { "page_table: 2 dims, 1 x 2", "[2, 2]" } },
    { cut, TABLE, STRIDE, 0, 0, VALUE, { "page_table: elements share memory" } },
    { cut, TABLE, ONTO, 0, PAGES, VALUE, { "page_table: shares memory with pages" } },
};

#endif
