/* SPDX-License-Identifier: Apache-2.0
 * device.c: opening and closing CUDA contexts, loading kernels, launching. */
#include "kernel/cuda/device.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/status.h"
#include "kernel/cuda/cubins.h"
#include "kernel/cuda/memory.h"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct cuda_device *open_devices; /* one a CUDA context */

static folio_status read_limits(struct cuda_device *d)
{
    i32 major = 0, minor = 0, pools = 0;
    CUDA_TRY(d->api, device_attribute, (&major, CU_ATTRIBUTE_CC_MAJOR, d->device));
    CUDA_TRY(d->api, device_attribute, (&minor, CU_ATTRIBUTE_CC_MINOR, d->device));
    CUDA_TRY(d->api, device_attribute, (&d->n_sms, CU_ATTRIBUTE_N_SMS, d->device));
    CUDA_TRY(d->api, device_attribute, (&d->shared_optin, CU_ATTRIBUTE_SHARED_OPTIN, d->device));
    CUDA_TRY(d->api, device_attribute, (&pools, CU_ATTRIBUTE_MEMORY_POOLS, d->device));
    d->arch = major * 10 + minor;
    d->has_pools = pools && d->api->mem_alloc_async && d->api->mem_free_async;
    FOLIO_REQUIRE(d->arch >= CUDA_MIN_ARCH, FOLIO_ENOTSUP,
                  "device %d: compute capability %d.%d; this backend needs %d.%d or newer", (int)d->ordinal, (int)major,
                  (int)minor, CUDA_MIN_ARCH / 10, CUDA_MIN_ARCH % 10);
    return FOLIO_OK;
}

/* The context asked for, or the current one if it is on the device, or the primary one (retained). */
static folio_status choose_context(struct cuda_device *d, const folio_context_config *cfg)
{
    i32 n_devices = 0;
    CUDA_TRY(d->api, device_count, (&n_devices));
    FOLIO_REQUIRE(cfg->device < n_devices, FOLIO_EINVAL, "device %d: this machine has %d", (int)cfg->device,
                  (int)n_devices);
    CUDA_TRY(d->api, device_get, (&d->device, cfg->device));
    d->ordinal = cfg->device;
    cu_context current = NULL;
    if (cfg->cuda_context)
        current = cfg->cuda_context;
    else
        CUDA_TRY(d->api, context_current, (&current));
    if (current) {
        cu_device device = -1;
        cu_context popped;
        CUDA_TRY(d->api, context_push, (current));
        const cu_result result = d->api->context_device(&device);
        d->api->context_pop(&popped);
        if (result != CU_SUCCESS)
            return folio__cuda_fail(d->api, result, "cuCtxGetDevice");
        FOLIO_REQUIRE(device == d->device || !cfg->cuda_context, FOLIO_EINVAL,
                      "cuda_context %p: on device %d, not on device %d", cfg->cuda_context, (int)device,
                      (int)cfg->device);
        d->context = device == d->device ? current : NULL;
    }
    if (!d->context) {
        CUDA_TRY(d->api, primary_retain, (&d->context, d->device));
        d->is_primary = true;
    }
    CUDA_TRY(d->api, context_id, (d->context, &d->context_id));
    return FOLIO_OK;
}

static void free_dirs(struct cuda_device *d)
{
    for (i32 i = 0; i < d->n_dirs; i++)
        folio__free(d->dirs[i]);
    folio__free(d->dirs);
    d->dirs = NULL;
    d->n_dirs = 0;
}

static folio_status copy_dirs(struct cuda_device *d, const folio_context_config *cfg)
{
    d->dirs = folio__alloc_zero((size_t)cfg->n_lib_dirs * sizeof *d->dirs);
    FOLIO_REQUIRE(d->dirs, FOLIO_ENOMEM, "no memory for lib_dirs");
    for (i32 i = 0; i < cfg->n_lib_dirs; i++) {
        const char *dir = cfg->lib_dirs[i] ? cfg->lib_dirs[i] : "";
        d->dirs[i] = folio__alloc(strlen(dir) + 1);
        if (!d->dirs[i]) {
            free_dirs(d);
            return folio__fail(FOLIO_ENOMEM, "no memory for lib_dirs");
        }
        memcpy(d->dirs[i], dir, strlen(dir) + 1);
        d->n_dirs = i + 1;
    }
    return FOLIO_OK;
}

static void unload(struct cuda_device *d)
{
    struct cuda_scope scope;
    if (folio__cuda_enter(&scope, d) == FOLIO_OK) { /* else the driver or the context is gone, and all of it with it */
        for (i32 i = 0; i < CUDA_N_CONFIGS; i++)
            if (d->modules[i].library)
                d->api->library_unload(d->modules[i].library);
        folio__cuda_free_retired(d);
        if (d->errors)
            d->api->host_free(d->errors);
        folio__cuda_leave(&scope);
        if (d->is_primary)
            d->api->primary_release(d->device);
    }
    free_dirs(d);
    pthread_mutex_destroy(&d->lock);
    folio__free(d);
}

/* The open device of the same CUDA context, or this one, made complete and listed. */
static folio_status share_or_keep(struct cuda_device **device, const folio_context_config *cfg)
{
    struct cuda_device *d = *device;
    for (struct cuda_device *other = open_devices; other; other = other->next)
        if (other->context_id == d->context_id && other->context == d->context) {
            if (d->is_primary)
                d->api->primary_release(d->device);
            folio__free(d);
            other->n_users++;
            *device = other;
            return FOLIO_OK;
        }
    folio_status status = read_limits(d);
    if (status == FOLIO_OK)
        status = copy_dirs(d, cfg);
    if (status != FOLIO_OK) {
        if (d->is_primary)
            d->api->primary_release(d->device);
        folio__free(d);
        return status;
    }
    pthread_mutex_init(&d->lock, NULL);
    d->n_users = 1;
    d->next = open_devices;
    open_devices = d;
    return FOLIO_OK;
}

folio_status folio__cuda_open(struct cuda_device **out, const folio_context_config *cfg)
{
    const struct cuda_search search = { .dirs = cfg->lib_dirs, .n_dirs = cfg->n_lib_dirs };
    const struct cuda_driver *api;
    FOLIO_TRY(folio__cuda_driver(&api, &search));
    struct cuda_device *d = folio__alloc_zero(sizeof *d);
    FOLIO_REQUIRE(d, FOLIO_ENOMEM, "no memory for a CUDA device");
    d->api = api;
    d->pid = getpid();
    const char *check = getenv("FOLIO_CHECK");
    d->checks_calls = check && check[0] == '1';
    folio_status status = choose_context(d, cfg);
    if (status != FOLIO_OK) {
        folio__free(d);
        return status;
    }
    pthread_mutex_lock(&lock);
    status = share_or_keep(&d, cfg);
    pthread_mutex_unlock(&lock);
    if (status == FOLIO_OK)
        *out = d;
    return status;
}

void folio__cuda_close(struct cuda_device **device)
{
    struct cuda_device *d = *device;
    *device = NULL;
    if (!d)
        return;
    pthread_mutex_lock(&lock);
    const bool is_last = --d->n_users == 0;
    if (is_last)
        for (struct cuda_device **at = &open_devices; *at; at = &(*at)->next)
            if (*at == d) {
                *at = d->next;
                break;
            }
    pthread_mutex_unlock(&lock);
    if (is_last)
        unload(d);
}

folio_status folio__cuda_enter(struct cuda_scope *scope, struct cuda_device *d)
{
    *scope = (struct cuda_scope){ .device = d };
    FOLIO_REQUIRE(d->pid == getpid(), FOLIO_ENOTSUP,
                  "backend cuda: this process was forked after CUDA had started in its parent");
    cu_context current = NULL;
    CUDA_TRY(d->api, context_current, (&current));
    if (current != d->context) {
        CUDA_TRY(d->api, context_push, (d->context));
        scope->pushed = true;
    }
    return FOLIO_OK;
}

void folio__cuda_leave(struct cuda_scope *scope)
{
    cu_context popped;
    if (scope->pushed)
        scope->device->api->context_pop(&popped);
    scope->pushed = false;
}

static folio_status load_functions(struct cuda_device *d, struct cuda_module *module, i32 config)
{
    for (i32 i = 0; i < CUDA_MAX_SYMBOLS && folio__cuda_configs[config].symbols[i]; i++) {
        cu_kernel kernel;
        CUDA_TRY(d->api, library_kernel, (&kernel, module->library, folio__cuda_configs[config].symbols[i]));
        CUDA_TRY(d->api, kernel_function, (&module->functions[i], kernel));
        if (d->api->function_load)
            CUDA_TRY(d->api, function_load, (module->functions[i])); /* else at the first launch, maybe in a capture */
        i32 fixed = 0;                                               /* shared memory that the kernel declares itself */
        CUDA_TRY(d->api, function_get, (&fixed, CU_FUNCTION_STATIC_SHARED, module->functions[i]));
        CUDA_TRY(d->api, function_set, (module->functions[i], CU_FUNCTION_DYNAMIC_SHARED, d->shared_optin - fixed));
    }
    return FOLIO_OK;
}

static folio_status load_module(struct cuda_device *d, struct cuda_module *module, i32 config)
{
    const struct cuda_search search = { .dirs = (const char *const *)d->dirs, .n_dirs = d->n_dirs };
    for (;;) {
        struct cubin cubin;
        FOLIO_TRY(folio__cubin_get(&cubin, config, d->arch, d->api->version / 1000, &search));
        const cu_result result = d->api->library_load(&module->library, cubin.code, NULL, NULL, 0, NULL, NULL, 0);
        const bool from_disk = cubin.from_disk;
        folio__free(cubin.code);
        if (result == CU_SUCCESS)
            break;
        module->library = NULL;
        if (!from_disk || (result != CU_ERROR_INVALID_IMAGE && result != CU_ERROR_NO_BINARY_FOR_GPU))
            return folio__cuda_fail(d->api, result, folio__cuda_configs[config].name);
        folio__cubin_forget(config, d->arch); /* a file the driver refuses: build it again, once */
    }
    const folio_status status = load_functions(d, module, config);
    if (status != FOLIO_OK) {
        d->api->library_unload(module->library);
        *module = (struct cuda_module){ 0 };
    }
    return status;
}

folio_status folio__cuda_function(cu_function *out, struct cuda_device *d, i32 config, i32 symbol)
{
    struct cuda_module *module = &d->modules[config];
    pthread_mutex_lock(&d->lock);
    const folio_status status = module->library ? FOLIO_OK : load_module(d, module, config);
    *out = module->functions[symbol];
    pthread_mutex_unlock(&d->lock);
    return status;
}

folio_status folio__cuda_check_stream(const struct cuda_device *d, cu_stream stream)
{
    cu_context context = NULL;
    if ((uintptr_t)stream <= 2) /* NULL, legacy, per-thread: of whatever context is current */
        return FOLIO_OK;
    CUDA_TRY(d->api, stream_context, (stream, &context));
    FOLIO_REQUIRE(context == d->context, FOLIO_EINVAL, "stream %p: of another CUDA context", (void *)stream);
    return FOLIO_OK;
}

folio_status folio__cuda_is_capturing(bool *capturing, const struct cuda_device *d, cu_stream stream)
{
    i32 status = CU_CAPTURE_NONE;
    CUDA_TRY(d->api, stream_capturing, (stream, &status));
    *capturing = status != CU_CAPTURE_NONE;
    return FOLIO_OK;
}

folio_status folio__cuda_launch(const struct cuda_device *d, const struct cuda_launch *launch, void **parameters)
{
    struct cu_launch_attribute overlap = { .id = CU_LAUNCH_PROGRAMMATIC_SERIALIZATION, .value.value = 1 };
    const struct cu_launch_config config = {
        .grid_x = (u32)launch->grid,
        .grid_y = launch->grid_y ? (u32)launch->grid_y : 1,
        .grid_z = 1,
        .block_x = (u32)launch->block,
        .block_y = 1,
        .block_z = 1,
        .shared_bytes = (u32)launch->shared_bytes,
        .stream = launch->stream,
        .attributes = &overlap,
        .n_attributes = launch->overlaps && d->arch >= 90,
    };
    CUDA_TRY(d->api, launch, (&config, launch->function, parameters, NULL));
    return FOLIO_OK;
}
