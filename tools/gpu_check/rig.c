/* SPDX-License-Identifier: Apache-2.0
 * rig.c: contexts, twins, random numbers, the tally. */
#include "rig.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernel/cuda/device.h"

enum { RED_ZONE = 256 };

void must(bool good, const char *what)
{
    if (good)
        return;
    printf("gpu_check cannot go on: %s: %s\n", what, folio_last_error());
    exit(2);
}

u64 next_random(u64 *state)
{
    u64 x = *state += UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
    return x ^ x >> 31;
}

i64 below(u64 *state, i64 n)
{
    return (i64)(next_random(state) % (u64)n);
}

i64 between(u64 *state, i64 lo, i64 hi)
{
    return lo + below(state, hi - lo + 1);
}

float normal(u64 *state)
{
    float sum = 0; /* of 4 uniforms: near enough to normal, and bounded */
    for (i32 i = 0; i < 4; i++)
        sum += (float)(next_random(state) >> 40) / (float)(1 << 24);
    return (sum - 2.0f) * 1.732f;
}

struct twin twin_create(struct rig *rig, size_t bytes)
{
    struct twin twin = { .bytes = bytes, .host = malloc(bytes) };
    must(twin.host != NULL, "host memory");
    memset(twin.host, 0xff, bytes);
    MUST_CU(rig, mem_alloc, (&twin.device, bytes));
    twin.used = RED_ZONE;
    return twin;
}

void twin_destroy(struct rig *rig, struct twin *twin)
{
    rig->api->mem_free(twin->device);
    free(twin->host);
    *twin = (struct twin){ 0 };
}

size_t twin_take(struct twin *twin, size_t bytes)
{
    const size_t at = (twin->used + 255) / 256 * 256;
    must(at + bytes + RED_ZONE <= twin->bytes, "a check's memory: too small");
    twin->used = at + bytes + RED_ZONE;
    return at;
}

void twin_upload(struct rig *rig, const struct twin *twin)
{
    MUST_CU(rig, to_device, (twin->device, twin->host, twin->used, rig->stream));
    MUST_CU(rig, stream_synchronize, (rig->stream));
}

void twin_download(struct rig *rig, const struct twin *twin, u8 *host)
{
    MUST_CU(rig, to_host, (host, twin->device, twin->used, rig->stream));
    MUST_CU(rig, stream_synchronize, (rig->stream));
}

static DLDataType dl_type(enum dtype dtype)
{
    const u8 bits = (u8)(folio__dtype_bytes(dtype) * 8);
    const u8 code = dtype == DTYPE_BF16                        ? kDLBfloat
                    : dtype == DTYPE_I32 || dtype == DTYPE_I64 ? kDLInt
                    : dtype == DTYPE_BOOL                      ? kDLBool
                                                               : kDLFloat;
    return (DLDataType){ .code = code, .bits = bits, .lanes = 1 };
}

static DLTensor tensor_at(const struct tensor_spec *spec, void *base, DLDeviceType device)
{
    return (DLTensor){ .data = base,
                       .byte_offset = spec->offset,
                       .device = { .device_type = device },
                       .ndim = spec->ndim,
                       .dtype = dl_type(spec->dtype),
                       .shape = (i64 *)(uintptr_t)spec->shape,
                       .strides = (i64 *)(uintptr_t)spec->strides };
}

DLTensor on_host(const struct tensor_spec *spec, const struct twin *twin)
{
    return tensor_at(spec, twin->host, kDLCPU);
}

DLTensor on_device(const struct tensor_spec *spec, const struct twin *twin)
{
    return tensor_at(spec, (void *)(uintptr_t)twin->device, kDLCUDA);
}

struct tensor_spec compact(struct twin *twin, enum dtype dtype, i32 ndim, const i64 *shape)
{
    struct tensor_spec spec = { .ndim = ndim, .dtype = dtype, .exists = true };
    i64 count = 1;
    for (i32 i = ndim - 1; i >= 0; i--) {
        spec.shape[i] = shape[i];
        spec.strides[i] = count;
        count *= shape[i];
    }
    spec.offset = twin_take(twin, (size_t)(count * folio__dtype_bytes(dtype)));
    return spec;
}

u8 *element(const struct tensor_spec *spec, u8 *base, i64 a, i64 b, i64 c, i64 d)
{
    const i64 at = a * spec->strides[0] + b * spec->strides[1] + c * spec->strides[2] + d * spec->strides[3];
    return base + spec->offset + at * folio__dtype_bytes(spec->dtype);
}

bool expect(struct rig *rig, bool good, const char *format, ...)
{
    rig->n_passed += good;
    rig->n_failed += !good;
    if (good && !rig->is_verbose)
        return good;
    if (!good && rig->n_failed > 40)
        return good;
    va_list args;
    va_start(args, format);
    printf(good ? "  ok    " : "  FAIL  ");
    vprintf(format, args);
    printf("\n");
    fflush(stdout);
    va_end(args);
    return good;
}
