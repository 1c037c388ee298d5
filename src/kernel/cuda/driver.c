/* SPDX-License-Identifier: Apache-2.0
 * driver.c: opens libcuda once a process, and puts its errors into words. */
#include "kernel/cuda/driver.h"

#include <dlfcn.h>
#include <pthread.h>
#include <string.h>
#include <unistd.h>

#include "base/status.h"
#include "kernel/cuda/search.h"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct cuda_driver driver; /* complete once opened_by != 0, never changed again */
static pid_t opened_by;           /* CUDA does not survive fork() */

static folio_status resolve(struct cuda_driver *d, void *handle, const char *path)
{
#define RESOLVE(member, symbol, required, parameters)                                                             \
    {                                                                                                             \
        void *address = dlsym(handle, symbol);                                                                    \
        FOLIO_REQUIRE(address || !(required), FOLIO_ENOTSUP,                                                      \
                      "backend cuda: %s has no %s: the driver is older than CUDA 12.0; update it", path, symbol); \
        memcpy(&d->member, &address, sizeof address);                                                             \
    }
    FOLIO__CUDA_FUNCTIONS(RESOLVE)
#undef RESOLVE
    return FOLIO_OK;
}

static folio_status open_driver(const struct cuda_search *search)
{
    static const char *const names[] = { "libcuda.so.1", "libcuda.so" };
    char path[CUDA_PATH_BYTES], searched[256];
    void *handle = folio__cuda_dlopen(search, names, COUNT_OF(names), path);
    if (!handle) {
        folio__cuda_searched(search, searched, sizeof searched);
        return folio__fail(FOLIO_ENOTSUP, "backend cuda: no libcuda.so.1 (the NVIDIA driver); searched %s", searched);
    }
    struct cuda_driver d = { 0 };
    FOLIO_TRY(resolve(&d, handle, path)); /* the handle stays open: closing a driver is not safe */
    const cu_result result = d.init(0);
    FOLIO_REQUIRE(result != CU_ERROR_NO_DEVICE, FOLIO_ENOTSUP, "backend cuda: %s finds no CUDA device", path);
    if (result != CU_SUCCESS)
        return folio__cuda_fail(&d, result, "cuInit");
    CUDA_TRY(&d, driver_version, (&d.version));
    driver = d;
    opened_by = getpid();
    return FOLIO_OK;
}

folio_status folio__cuda_driver(const struct cuda_driver **out, const struct cuda_search *search)
{
    pthread_mutex_lock(&lock);
    folio_status status = FOLIO_OK;
    if (!opened_by)
        status = open_driver(search);
    else if (opened_by != getpid())
        status =
            folio__fail(FOLIO_ENOTSUP, "backend cuda: this process was forked after CUDA had started in its parent");
    pthread_mutex_unlock(&lock);
    if (status == FOLIO_OK)
        *out = &driver;
    return status;
}

folio_status folio__cuda_fail(const struct cuda_driver *d, cu_result result, const char *call)
{
    const char *name = NULL, *text = NULL;
    d->error_name(result, &name);
    d->error_text(result, &text);
    return folio__fail(result == CU_ERROR_OUT_OF_MEMORY ? FOLIO_ENOMEM : FOLIO_EDEVICE, "%s: %s (%d): %s", call,
                       name ? name : "unknown error", (int)result, text ? text : "no description");
}
