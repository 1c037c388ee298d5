/* SPDX-License-Identifier: Apache-2.0
 * bench_moves.c: append and gather beside the driver's own copy of as many bytes, in turn; what a call and an update
 * cost; the first use of a kernel; the clock while decoding. */
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "bench.h"

enum { HEADS = 8, DIM = 128, PAGE = 16, TOKEN_BYTES = HEADS * DIM * 2, REPLAYS = 25 };

static double now_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec * 1e-3;
}

static void report(FILE *json, const char *what, double value, const char *unit, const char *gate)
{
    printf("%-52s %9.2f %-5s %s\n", what, value, unit, gate);
    if (json)
        fprintf(json, "{\"what\": \"%s\", \"value\": %.3f, \"unit\": \"%s\", \"gate\": \"%s\"}\n", what, value, unit,
                gate);
}

/* A copy by 16-byte loads, four in flight a thread: faster than the driver's. A block moves 16 KB. */
static const char copy_ptx[] = ".version 7.0\n.target sm_80\n.address_size 64\n"
                               ".visible .entry copy(.param .u64 to, .param .u64 from)\n{\n"
                               ".reg .b32 %r<20>; .reg .b64 %d<8>;\n"
                               "ld.param.u64 %d0, [to]; ld.param.u64 %d1, [from];\n"
                               "mov.u32 %r16, %ctaid.x; mov.u32 %r17, %tid.x;\n"
                               "mul.wide.u32 %d2, %r16, 16384; mul.wide.u32 %d3, %r17, 16;\n"
                               "add.u64 %d2, %d2, %d3; add.u64 %d0, %d0, %d2; add.u64 %d1, %d1, %d2;\n"
                               "ld.global.v4.u32 {%r0, %r1, %r2, %r3}, [%d1];\n"
                               "ld.global.v4.u32 {%r4, %r5, %r6, %r7}, [%d1 + 4096];\n"
                               "ld.global.v4.u32 {%r8, %r9, %r10, %r11}, [%d1 + 8192];\n"
                               "ld.global.v4.u32 {%r12, %r13, %r14, %r15}, [%d1 + 12288];\n"
                               "st.global.v4.u32 [%d0], {%r0, %r1, %r2, %r3};\n"
                               "st.global.v4.u32 [%d0 + 4096], {%r4, %r5, %r6, %r7};\n"
                               "st.global.v4.u32 [%d0 + 8192], {%r8, %r9, %r10, %r11};\n"
                               "st.global.v4.u32 [%d0 + 12288], {%r12, %r13, %r14, %r15};\n"
                               "ret;\n}\n";
enum { COPY_BLOCK_BYTES = 16384 };

/* n tokens, contiguous and in pages, and what says where they go. */
struct tokens {
    cu_ptr memory;
    i64 n, rows[3], pages[4], slots_shape[1], row_shape[1];
    DLTensor k, v, k_pages, v_pages, slots, page_row;
    cu_library library;
    cu_function copy_kernel;
    cu_result (*copy)(cu_ptr to, cu_ptr from, size_t bytes, cu_stream stream);
};

static DLTensor device_tensor(cu_ptr at, i32 ndim, i64 *shape, DLDataType dtype)
{
    return (DLTensor){ .data = (void *)(uintptr_t)at,
                       .device = { .device_type = kDLCUDA },
                       .ndim = ndim,
                       .dtype = dtype,
                       .shape = shape };
}

static void make_tokens(struct rig *rig, struct tokens *t, i64 n)
{
    const DLDataType bf16 = { kDLBfloat, 16, 1 }, int64 = { kDLInt, 64, 1 };
    const i64 n_pages = (n + PAGE - 1) / PAGE, bytes = n_pages * PAGE * TOKEN_BYTES;
    *t = (struct tokens){ .n = n,
                          .rows = { n, HEADS, DIM },
                          .pages = { n_pages, PAGE, HEADS, DIM },
                          .slots_shape = { n },
                          .row_shape = { n_pages } };
    MUST_CU(rig, mem_alloc, (&t->memory, (size_t)(4 * bytes + (n + n_pages) * 8)));
    MUST_CU(rig, set_u32, (t->memory, 0x3f803f80, (size_t)bytes, rig->stream));
    t->k = device_tensor(t->memory, 3, t->rows, bf16);
    t->v = device_tensor(t->memory + (u64)bytes, 3, t->rows, bf16);
    t->k_pages = device_tensor(t->memory + 2 * (u64)bytes, 4, t->pages, bf16);
    t->v_pages = device_tensor(t->memory + 3 * (u64)bytes, 4, t->pages, bf16);
    t->slots = device_tensor(t->memory + 4 * (u64)bytes, 1, t->slots_shape, int64);
    t->page_row = device_tensor(t->memory + 4 * (u64)bytes + (u64)n * 8, 1, t->row_shape, int64);
    i64 *indices = malloc((size_t)(n + n_pages) * 8), *row = indices + n;
    u64 seed = 3;
    must(indices != NULL, "host memory");
    for (i64 i = 0; i < n_pages; i++)
        row[i] = i;
    for (i64 i = n_pages - 1; i > 0; i--) {
        const i64 j = below(&seed, i + 1), x = row[i];
        row[i] = row[j], row[j] = x;
    }
    for (i64 i = 0; i < n; i++)
        indices[i] = row[i / PAGE] * PAGE + i % PAGE;
    MUST_CU(rig, to_device, ((cu_ptr)(uintptr_t)t->slots.data, indices, (size_t)(n + n_pages) * 8, rig->stream));
    MUST_CU(rig, stream_synchronize, (rig->stream));
    free(indices);
    void *driver = dlopen("libcuda.so.1", RTLD_NOW), *copy = driver ? dlsym(driver, "cuMemcpyDtoDAsync_v2") : NULL;
    must(copy != NULL, "cuMemcpyDtoDAsync_v2");
    memcpy(&t->copy, &copy, sizeof copy);
    cu_kernel kernel;
    MUST_CU(rig, library_load, (&t->library, copy_ptx, NULL, NULL, 0, NULL, NULL, 0));
    MUST_CU(rig, library_kernel, (&kernel, t->library, "copy"));
    MUST_CU(rig, kernel_function, (&t->copy_kernel, kernel));
}

static void record_append(struct rig *rig, void *user, i32 i)
{
    struct tokens *t = user;
    (void)i;
    const folio_append_args args = { .struct_size = sizeof args,
                                     .k = &t->k,
                                     .v = &t->v,
                                     .k_pages = &t->k_pages,
                                     .v_pages = &t->v_pages,
                                     .slots = &t->slots };
    MUST(folio_pages_append(rig->gpu, &args, rig->stream));
}

static void record_gather(struct rig *rig, void *user, i32 i)
{
    struct tokens *t = user;
    (void)i;
    const folio_gather_args args = { .struct_size = sizeof args,
                                     .k_pages = &t->k_pages,
                                     .v_pages = &t->v_pages,
                                     .page_row = &t->page_row,
                                     .kv_len = t->n,
                                     .k = &t->k,
                                     .v = &t->v };
    MUST(folio_pages_gather(rig->gpu, &args, rig->stream));
}

/* K and V in one: both are contiguous, and so are their pages. */
static void record_copy(struct rig *rig, void *user, i32 i)
{
    struct tokens *t = user;
    (void)i;
    const size_t bytes = (size_t)(2 * t->pages[0] * PAGE * TOKEN_BYTES);
    must(t->copy((cu_ptr)(uintptr_t)t->k_pages.data, (cu_ptr)(uintptr_t)t->k.data, bytes, rig->stream) == CU_SUCCESS,
         "a device copy");
}

static void record_copy_kernel(struct rig *rig, void *user, i32 i)
{
    struct tokens *t = user;
    (void)i;
    void *parameters[] = { &t->k_pages.data, &t->k.data };
    const struct cu_launch_config config = {
        .grid_x = (u32)(2 * t->pages[0] * PAGE * TOKEN_BYTES / COPY_BLOCK_BYTES),
        .grid_y = 1,
        .grid_z = 1,
        .block_x = 256,
        .block_y = 1,
        .block_z = 1,
        .stream = rig->stream,
    };
    MUST_CU(rig, launch, (&config, t->copy_kernel, parameters, NULL));
}

static void moves(struct rig *rig, FILE *json, i64 n, i32 calls)
{
    struct tokens t;
    double us[4];
    char what[80];
    make_tokens(rig, &t, n);
    record_append(rig, &t, 0); /* loads the kernels, before a capture */
    cu_graph_exec execs[] = { capture_calls(rig, record_copy, &t, calls),
                              capture_calls(rig, record_copy_kernel, &t, calls),
                              capture_calls(rig, record_append, &t, calls),
                              capture_calls(rig, record_gather, &t, calls) };
    static const char *const names[] = { "the driver's copy", "copy kernel", "append", "gather" };
    replay_in_turn(rig, us, execs, 4, REPLAYS);
    const double ceiling = us[0] < us[1] ? us[0] : us[1];
    for (i32 i = 0; i < 4; i++) {
        const double each = us[i] / calls, bytes = 4.0 * (double)n * TOKEN_BYTES;
        snprintf(what, sizeof what, "%s, %lld tokens 8 x 128 bf16", names[i], (long long)n);
        report(json, what, each, "us", n > 1000 || i != 2 ? "" : "at most 5");
        if (n > 1000) {
            report(json, "    read and written", bytes / each / 1e6, "TB/s", "");
            if (i > 1)
                report(json, "    of the faster copy", ceiling / us[i] * 100, "%", i == 2 ? "at least 85" : "");
        }
        rig->api->graph_exec_destroy(execs[i]);
    }
    rig->api->library_unload(t.library);
    rig->api->mem_free(t.memory);
}

static const struct row plain = { "decode", 64, 4096, 1, 32, 8, 128, DTYPE_BF16, 16, .causal = true };

struct updates {
    folio_plan *plan;
    folio_attend_args *args;
};

static void record_update(struct rig *rig, void *user, i32 i)
{
    const struct updates *u = user;
    (void)i;
    MUST(folio_plan_update(u->plan, u->args, rig->stream));
}

/* Least mean of a few rounds, each short of the launch queue's depth. */
static double host_us(struct rig *rig, record_fn *call, void *user)
{
    enum { CALLS = 200 };
    double least = 1e9;
    for (i32 round = 0; round < 6; round++) {
        const double begin = now_us();
        for (i32 i = 0; i < CALLS; i++)
            call(rig, user, i);
        const double each = (now_us() - begin) / CALLS;
        MUST_CU(rig, stream_synchronize, (rig->stream));
        least = each < least ? each : least;
    }
    return least;
}

static void record_one_attend(struct rig *rig, void *user, i32 i)
{
    const struct updates *u = user;
    (void)i;
    MUST(folio_attend(rig->gpu, u->plan, u->args, rig->stream));
}

static void calls(struct rig *rig, FILE *json)
{
    enum { UPDATES = 50 };
    static const i32 batches[] = { 1, 64, 256 };
    for (size_t i = 0; i < COUNT_OF(batches); i++) {
        struct row r = plain;
        struct setup s;
        char what[80];
        double us;
        r.batch = batches[i], r.kv_len = 512;
        set_up(rig, &s, &r);
        folio_attend_args args = attend_args_of(&s, &r);
        struct updates u = { .args = &args };
        MUST(folio_plan_create(&u.plan, rig->gpu, &args));
        MUST(folio_plan_update(u.plan, &args, rig->stream));
        const cu_graph_exec exec = capture_calls(rig, record_update, &u, UPDATES);
        replay_in_turn(rig, &us, &exec, 1, REPLAYS);
        snprintf(what, sizeof what, "plan_update on the device, batch %d", (int)r.batch);
        report(json, what, us / UPDATES, "us", "at most 8");
        if (i == 0) {
            report(json, "folio_attend on the host", host_us(rig, record_one_attend, &u), "us", "at most 5");
            report(json, "folio_plan_update on the host", host_us(rig, record_update, &u), "us", "");
        }
        rig->api->graph_exec_destroy(exec);
        folio_plan_destroy(&u.plan);
        rig->api->mem_free(s.memory);
    }
}

void bench_first_use(struct rig *rig)
{
    struct setup s;
    folio_plan *plan = NULL;
    struct row r = plain;
    r.batch = 1;
    set_up(rig, &s, &r);
    folio_attend_args args = attend_args_of(&s, &r);
    const double begin = now_us();
    MUST(folio_plan_create(&plan, rig->gpu, &args));
    MUST(folio_plan_update(plan, &args, rig->stream));
    MUST(folio_attend(rig->gpu, plan, &args, rig->stream));
    MUST_CU(rig, stream_synchronize, (rig->stream));
    printf("first use: %.3f ms\n", (now_us() - begin) * 1e-3);
    folio_plan_destroy(&plan);
    rig->api->mem_free(s.memory);
}

/* What a new process says. NVRTC keeps its own results too: not here. */
static double first_use_ms(const char *dir)
{
    char self[512] = "", command[1280], line[256];
    double ms = -1;
    must(readlink("/proc/self/exe", self, sizeof self - 1) > 0, "the name of this program");
    snprintf(command, sizeof command, "CUDA_CACHE_DISABLE=1 FOLIO_CACHE_DIR='%s' '%s' --first-use", dir, self);
    FILE *child = popen(command, "r");
    must(child != NULL, command);
    while (fgets(line, sizeof line, child))
        sscanf(line, "first use: %lf ms", &ms);
    must(pclose(child) == 0 && ms > 0, command);
    return ms;
}

/* An empty folder for code, below the one in use or the current one. */
static void first_use(FILE *json)
{
    const char *own = getenv("FOLIO_CACHE_DIR");
    char dir[512], command[640];
    double least = 1e9;
    snprintf(dir, sizeof dir, "%.400s/first-use-%d", own ? own : ".", (int)getpid());
    report(json, "first use of decode, nothing on disk", first_use_ms(dir), "ms", "below 3000");
    for (i32 i = 0; i < 3; i++) {
        const double ms = first_use_ms(dir);
        least = ms < least ? ms : least;
    }
    report(json, "first use of decode, code on disk", least, "ms", "below 10");
    snprintf(command, sizeof command, "rm -rf '%s'", dir);
    must(system(command) == 0, command);
}

/* NVML's word for the SM clock of device 0 while work is queued. */
static i32 clock_mhz(void)
{
    typedef int init_fn(void);
    typedef int handle_fn(unsigned index, void **device);
    typedef int clock_fn(void *device, int type, unsigned *mhz);
    void *nvml = dlopen("libnvidia-ml.so.1", RTLD_NOW), *device = NULL, *addresses[3];
    static const char *const names[] = { "nvmlInit_v2", "nvmlDeviceGetHandleByIndex_v2", "nvmlDeviceGetClockInfo" };
    init_fn *init;
    handle_fn *handle;
    clock_fn *clock;
    unsigned mhz = 0;
    enum { SM = 1 };
    for (i32 i = 0; i < 3; i++)
        if (!nvml || !(addresses[i] = dlsym(nvml, names[i])))
            return 0;
    memcpy(&init, &addresses[0], sizeof init);
    memcpy(&handle, &addresses[1], sizeof handle);
    memcpy(&clock, &addresses[2], sizeof clock);
    return init() || handle(0, &device) || clock(device, SM, &mhz) ? 0 : (i32)mhz;
}

static void clock_while_decoding(struct rig *rig, FILE *json)
{
    enum { ATTENDS = 8, LAUNCHES = 500, SAMPLES = 8 }; /* about a second */
    struct setup s;
    folio_plan *plan = NULL;
    i32 least = INT32_MAX;
    set_up(rig, &s, &plain);
    folio_attend_args args = attend_args_of(&s, &plain);
    MUST(folio_plan_create(&plan, rig->gpu, &args));
    MUST(folio_plan_update(plan, &args, rig->stream));
    const cu_graph_exec exec = capture_attends(rig, &s, plan, &args, ATTENDS);
    for (i32 i = 0; i < LAUNCHES; i++)
        MUST_CU(rig, graph_launch, (exec, rig->stream));
    const struct timespec pause = { .tv_nsec = 80 * 1000 * 1000 };
    for (i32 i = 0; i < SAMPLES; i++) {
        nanosleep(&pause, NULL);
        const i32 mhz = clock_mhz();
        least = mhz < least ? mhz : least;
    }
    const double begin = now_us();
    MUST_CU(rig, stream_synchronize, (rig->stream));
    report(json, "least SM clock while decoding", least, "MHz", "at least 1900");
    report(json, "    decoding went on after the last look for", (now_us() - begin) * 1e-3, "ms", "");
    rig->api->graph_exec_destroy(exec);
    folio_plan_destroy(&plan);
    rig->api->mem_free(s.memory);
}

void bench_moves(struct rig *rig, FILE *json)
{
    printf("%-52s %9s %-5s %s\n", "what", "value", "", "gate");
    moves(rig, json, 1, 40);
    moves(rig, json, 64, 40);
    moves(rig, json, 1 << 17, 2);
    calls(rig, json);
    clock_while_decoding(rig, json);
    first_use(json);
}
