/* SPDX-License-Identifier: Apache-2.0
 * view.c: reading DLTensors into views. */
#include "base/status.h"
#include "kernel/cuda/device.h"
#include "pages/operand.h"

/* Innermost stride and extents: what pages and rows have in common. */
static folio_status check_vectors(const struct tensor *t, const char *name)
{
    const i32 dim = t->ndim - 1;
    FOLIO_REQUIRE(t->shape[dim] >= 1 && t->shape[dim] <= INT32_MAX, FOLIO_EINVAL, "%s: dim %lld; must be 1 .. %d", name,
                  (long long)t->shape[dim], INT32_MAX);
    FOLIO_REQUIRE(t->shape[dim - 1] >= 1 && t->shape[dim - 1] <= INT32_MAX, FOLIO_EINVAL,
                  "%s: %lld heads; must be 1 .. %d", name, (long long)t->shape[dim - 1], INT32_MAX);
    const i64 element = folio__dtype_bytes(t->dtype);
    FOLIO_REQUIRE(t->shape[dim] == 1 || t->stride[dim] == element || folio__tensor_count(t) == 0, FOLIO_EINVAL,
                  "%s: stride of the last dim is %lld elements; must be 1", name,
                  (long long)(t->stride[dim] / element));
    return FOLIO_OK;
}

static folio_status require_ndim(const struct tensor *t, const char *name, i32 ndim, const char *shape)
{
    FOLIO_REQUIRE(t->ndim == ndim, FOLIO_EINVAL, "%s: %d dims; must have %d: %s", name, t->ndim, ndim, shape);
    return FOLIO_OK;
}

folio_status folio__pages_view_of(struct pages_view *dst, i64 *page_size, i32 *n_kv_heads, const char *name,
                                  const struct tensor *t)
{
    FOLIO_TRY(require_ndim(t, name, 4, PAGES_SHAPE));
    FOLIO_REQUIRE_TYPE(dtype_is_float(t->dtype) || dtype_is_quantised(t->dtype),
                       "%s: dtype %s; allowed f32 f16 bf16 e4m3 e5m2 i8", name, folio__dtype_name(t->dtype));
    FOLIO_TRY(check_vectors(t, name));
    FOLIO_REQUIRE(t->shape[1] >= 1, FOLIO_EINVAL, "%s: page_size %lld; must be >= 1", name, (long long)t->shape[1]);
    FOLIO_REQUIRE(t->shape[0] <= 1 || t->stride[0] > 0, FOLIO_EINVAL, "%s: page stride 0 with %lld pages; must be > 0",
                  name, (long long)t->shape[0]);
    *dst = (struct pages_view){ .data = t->data,
                                .page_stride = t->stride[0],
                                .slot_stride = t->stride[1],
                                .head_stride = t->stride[2],
                                .n_pages = t->shape[0],
                                .head_dim = (i32)t->shape[3],
                                .dtype = t->dtype };
    *page_size = t->shape[1];
    *n_kv_heads = (i32)t->shape[2];
    return FOLIO_OK;
}

folio_status folio__rows_view_of(struct rows_view *dst, i64 *n_tokens, i32 *n_heads, const char *name,
                                 const struct tensor *t)
{
    FOLIO_TRY(require_ndim(t, name, 3, ROWS_SHAPE));
    FOLIO_REQUIRE(!dtype_is_quantised(t->dtype), FOLIO_ENOTSUP,
                  "%s: dtype %s: only pages may be quantised; allowed f32 f16 bf16", name, folio__dtype_name(t->dtype));
    FOLIO_REQUIRE_TYPE(dtype_is_float(t->dtype), "%s: dtype %s; allowed f32 f16 bf16", name,
                       folio__dtype_name(t->dtype));
    FOLIO_TRY(check_vectors(t, name));
    *dst = (struct rows_view){ .data = t->data,
                               .token_stride = t->stride[0],
                               .head_stride = t->stride[1],
                               .dtype = t->dtype,
                               .dim = (i32)t->shape[2] };
    *n_tokens = t->shape[0];
    *n_heads = (i32)t->shape[1];
    return FOLIO_OK;
}

folio_status folio__index_view_of(struct index_view *dst, const char *name, const struct tensor *t)
{
    FOLIO_TRY(require_ndim(t, name, 1, INDEX_SHAPE));
    FOLIO_REQUIRE_TYPE(dtype_is_index(t->dtype), "%s: dtype %s; allowed i32 i64", name, folio__dtype_name(t->dtype));
    const i64 element = folio__dtype_bytes(t->dtype);
    FOLIO_REQUIRE(t->shape[0] <= 1 || t->stride[0] == element, FOLIO_EINVAL, "%s: stride %lld elements; must be 1",
                  name, (long long)(t->stride[0] / element));
    *dst = (struct index_view){ .data = t->data, .n = t->shape[0], .are_i64 = t->dtype == DTYPE_I64 };
    return FOLIO_OK;
}

static folio_status read_tensor(struct tensor *t, const char *name, const char *shape, const DLTensor *src)
{
    FOLIO_REQUIRE(src != NULL, FOLIO_EINVAL, "%s: NULL; must be a tensor %s", name, shape);
    return folio__tensor_read(t, name, src);
}

folio_status folio__pages_view_read(struct pages_view *dst, i64 *page_size, i32 *n_kv_heads, const char *name,
                                    const DLTensor *src)
{
    struct tensor t;
    FOLIO_TRY(read_tensor(&t, name, PAGES_SHAPE, src));
    return folio__pages_view_of(dst, page_size, n_kv_heads, name, &t);
}

folio_status folio__rows_view_read(struct rows_view *dst, i64 *n_tokens, i32 *n_heads, const char *name,
                                   const DLTensor *src)
{
    struct tensor t;
    FOLIO_TRY(read_tensor(&t, name, ROWS_SHAPE, src));
    return folio__rows_view_of(dst, n_tokens, n_heads, name, &t);
}

folio_status folio__tokens_view_read(struct rows_view *dst, struct token_runs *runs, i64 *n_tokens, i32 *n_heads,
                                     const char *name, const DLTensor *src)
{
    struct tensor t;
    *runs = (struct token_runs){ 0 };
    FOLIO_TRY(read_tensor(&t, name, TOKENS_SHAPE, src));
    FOLIO_REQUIRE(t.ndim == 3 || t.ndim == 4, FOLIO_EINVAL, "%s: %d dims; must have 3 or 4: %s", name, t.ndim,
                  TOKENS_SHAPE);
    if (t.ndim == 3)
        return folio__rows_view_of(dst, n_tokens, n_heads, name, &t);
    const i64 n_runs = t.shape[0], run = t.shape[1], run_stride = t.stride[0];
    const i64 token_stride = run == 1 ? run_stride : t.stride[1];
    t.ndim = 3;
    FOLIO_REQUIRE(!__builtin_mul_overflow(n_runs, run, &t.shape[0]), FOLIO_EINVAL, "%s: %lld x %lld tokens", name,
                  (long long)n_runs, (long long)run);
    t.stride[0] = token_stride;
    for (i32 i = 1; i < 3; i++) {
        t.shape[i] = t.shape[i + 1];
        t.stride[i] = t.stride[i + 1];
    }
    FOLIO_TRY(folio__rows_view_of(dst, n_tokens, n_heads, name, &t));
    if (n_runs > 1 && run > 1 && run_stride != run * token_stride)
        *runs = (struct token_runs){ run, run_stride };
    return FOLIO_OK;
}

folio_status folio__index_view_read(struct index_view *dst, const char *name, const DLTensor *src)
{
    struct tensor t;
    FOLIO_TRY(read_tensor(&t, name, INDEX_SHAPE, src));
    return folio__index_view_of(dst, name, &t);
}

folio_status folio__operand_read(struct operand *dst, const folio_context *ctx, const char *name, const char *shape,
                                 const DLTensor *src)
{
    dst->name = name;
    FOLIO_TRY(read_tensor(&dst->t, name, shape, src));
    FOLIO_TRY(folio__require_device(ctx, name, src));
    const i64 n_bytes = folio__tensor_span(&dst->t);
    FOLIO_REQUIRE(dst->t.data || n_bytes == 0, FOLIO_EINVAL, "%s: data is NULL with %lld elements", name,
                  (long long)folio__tensor_count(&dst->t));
    dst->end = dst->t.data ? dst->t.data + n_bytes : NULL;
    return FOLIO_OK;
}

bool folio__is_host_memory(DLDevice device)
{
    return device.device_type == kDLCPU || device.device_type == kDLCUDAHost || device.device_type == kDLCUDAManaged ||
           device.device_type == kDLROCMHost;
}

static bool is_device_memory(DLDevice device)
{
    return device.device_type == kDLCUDA || device.device_type == kDLCUDAManaged;
}

folio_status folio__require_device(const folio_context *ctx, const char *name, const DLTensor *src)
{
    if (!src)
        return FOLIO_OK;
    if (ctx->backend == FOLIO_BACKEND_CUDA) {
        FOLIO_REQUIRE(is_device_memory(src->device) && src->device.device_id == ctx->cuda->ordinal, FOLIO_EINVAL,
                      "%s: on device type %d, id %d; this context works on CUDA device %d (device type %d)", name,
                      (int)src->device.device_type, (int)src->device.device_id, (int)ctx->cuda->ordinal, (int)kDLCUDA);
        return FOLIO_OK;
    }
    FOLIO_REQUIRE(folio__is_host_memory(src->device), FOLIO_EINVAL,
                  "%s: on device type %d, id %d; this context works on the CPU (device type %d)", name,
                  (int)src->device.device_type, (int)src->device.device_id, (int)kDLCPU);
    return FOLIO_OK;
}

folio_status folio__require_data(const char *name, const DLTensor *src)
{
    struct tensor t;
    FOLIO_TRY(folio__tensor_read(&t, name, src));
    FOLIO_REQUIRE(!src || t.data || folio__tensor_count(&t) == 0, FOLIO_EINVAL, "%s: data is NULL with %lld elements",
                  name, (long long)folio__tensor_count(&t));
    return FOLIO_OK;
}
