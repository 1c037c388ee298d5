/* SPDX-License-Identifier: Apache-2.0
 * rig.h: what every check uses: contexts, a stream, memory that exists twice (host and device, same offsets), random
 * numbers, a tally. */
#ifndef GPU_CHECK_RIG_H
#define GPU_CHECK_RIG_H

#include <stdbool.h>

#include "base/dtype.h"
#include "folio/folio.h"
#include "kernel/cuda/driver.h"

struct rig {
    const struct cuda_driver *api;
    folio_context *cpu, *gpu;
    cu_stream stream;
    u64 seed;
    i32 n_cases; /* random ones */
    i32 n_passed, n_failed, n_skipped;
    const char *only; /* run checks whose name contains this */
    const char *skip; /* but not the one of this name */
    const char *rows; /* time rows whose name contains this */
    bool is_small;    /* few and small cases: for slow checkers of memory */
    bool is_verbose;
    double worst; /* largest error / tolerance of the running check */
};

/* Stops the program with the driver's or folio's words: for what a check can't go on without. */
void must(bool good, const char *what);
#define MUST(call) must((call) == FOLIO_OK, #call)
#define MUST_CU(rig, member, arguments) must((rig)->api->member arguments == CU_SUCCESS, "cu: " #member)

u64 next_random(u64 *state);             /* splitmix64 */
i64 below(u64 *state, i64 n);            /* 0 .. n - 1 */
i64 between(u64 *state, i64 lo, i64 hi); /* lo .. hi */
float normal(u64 *state);

/* Host memory and device memory of the same size. Poisoned with 0xff (NaN, page id -1). */
struct twin {
    u8 *host;
    cu_ptr device;
    size_t bytes, used;
};
struct twin twin_create(struct rig *rig, size_t bytes);
void twin_destroy(struct rig *rig, struct twin *twin);
size_t twin_take(struct twin *twin, size_t bytes);                      /* an offset, with a red zone behind */
void twin_upload(struct rig *rig, const struct twin *twin);             /* on the rig's stream */
void twin_download(struct rig *rig, const struct twin *twin, u8 *host); /* waits */

/* A tensor in a twin. */
struct tensor_spec {
    i64 shape[4], strides[4]; /* elements */
    i32 ndim;
    enum dtype dtype;
    size_t offset;
    bool exists;
};
DLTensor on_host(const struct tensor_spec *spec, const struct twin *twin);
DLTensor on_device(const struct tensor_spec *spec, const struct twin *twin);
/* Compact, over a new part of the twin. */
struct tensor_spec compact(struct twin *twin, enum dtype dtype, i32 ndim, const i64 *shape);
u8 *element(const struct tensor_spec *spec, u8 *base, i64 a, i64 b, i64 c, i64 d);

/* One check's result: prints a line when it fails, or when verbose. */
__attribute__((format(printf, 3, 4))) bool expect(struct rig *rig, bool good, const char *format, ...);

struct check {
    const char *name, *about;
    void (*run)(struct rig *rig);
};
extern const struct check check_attend, check_invariance, check_graph, check_bad_input, check_big_pool, check_pages,
    check_merge, check_host_cost, check_contexts, check_stress, check_loaders, check_by_copies, check_generic;

void bench(struct rig *rig, const char *json_path);

#endif
