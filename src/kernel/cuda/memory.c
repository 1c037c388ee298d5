/* SPDX-License-Identifier: Apache-2.0
 * memory.c: blocks of plans, error records. */
#include "kernel/cuda/memory.h"

#include <string.h>

#include "base/alloc.h"
#include "base/status.h"

void folio__cuda_free_retired(struct cuda_device *d)
{
    pthread_mutex_lock(&d->lock);
    struct cuda_block *block = d->retired;
    d->retired = NULL;
    pthread_mutex_unlock(&d->lock);
    while (block) {
        struct cuda_block *next = block->next;
        d->api->mem_free(block->memory); /* waits for what runs on it */
        folio__free(block);
        block = next;
    }
}

folio_status folio__cuda_alloc(cu_ptr *memory, struct cuda_device *d, size_t n_bytes)
{
    enum { CAPTURE_FIRST = 900, CAPTURE_LAST = 908 };
    folio__cuda_free_retired(d);
    const cu_result result = d->api->mem_alloc(memory, n_bytes);
    FOLIO_REQUIRE(result < CAPTURE_FIRST || result > CAPTURE_LAST, FOLIO_EBUSY,
                  "a stream of this thread is being captured; make plans before");
    FOLIO_REQUIRE(result != CU_ERROR_OUT_OF_MEMORY, FOLIO_ENOMEM, "device %d has no %zu bytes for a plan",
                  (int)d->ordinal, n_bytes);
    return result == CU_SUCCESS ? FOLIO_OK : folio__cuda_fail(d->api, result, "cuMemAlloc");
}

void folio__cuda_retire(struct cuda_device *d, cu_ptr memory)
{
    struct cuda_block *block = memory ? folio__alloc(sizeof *block) : NULL;
    if (!block)
        return; /* without memory for the note, the block is lost until the context ends */
    pthread_mutex_lock(&d->lock);
    *block = (struct cuda_block){ .memory = memory, .next = d->retired };
    d->retired = block;
    pthread_mutex_unlock(&d->lock);
}

static folio_status make_records(struct cuda_device *d)
{
    void *host = NULL;
    CUDA_TRY(d->api, host_alloc,
             (&host, CUDA_MAX_ERRORS * sizeof(struct cuda_error), CU_HOST_PORTABLE | CU_HOST_DEVICEMAP));
    memset(host, 0, CUDA_MAX_ERRORS * sizeof(struct cuda_error));
    const cu_result result = d->api->host_pointer(&d->errors_on_device, host, 0);
    if (result != CU_SUCCESS) {
        d->api->host_free(host);
        return folio__cuda_fail(d->api, result, "cuMemHostGetDevicePointer");
    }
    d->errors = host;
    d->error_used[0] = 1;
    return FOLIO_OK;
}

folio_status folio__cuda_error_ready(struct cuda_device *d)
{
    pthread_mutex_lock(&d->lock);
    const folio_status status = d->errors ? FOLIO_OK : make_records(d);
    pthread_mutex_unlock(&d->lock);
    return status;
}

static folio_status take_record(i32 *index, struct cuda_device *d)
{
    if (!d->errors)
        FOLIO_TRY(make_records(d));
    const u8 *unused = memchr(d->error_used, 0, CUDA_MAX_ERRORS);
    FOLIO_REQUIRE(unused, FOLIO_ENOMEM, "more than %d CUDA plans at a time", CUDA_MAX_ERRORS - 1);
    *index = (i32)(unused - d->error_used);
    d->error_used[*index] = 1;
    memset(&d->errors[*index], 0, sizeof d->errors[*index]);
    return FOLIO_OK;
}

folio_status folio__cuda_error_take(i32 *index, struct cuda_device *d)
{
    pthread_mutex_lock(&d->lock);
    const folio_status status = take_record(index, d);
    pthread_mutex_unlock(&d->lock);
    return status;
}

void folio__cuda_error_give(struct cuda_device *d, i32 index)
{
    pthread_mutex_lock(&d->lock);
    d->error_used[index] = index == 0;
    pthread_mutex_unlock(&d->lock);
}

struct cuda_error *folio__cuda_error_on_device(const struct cuda_device *d, i32 index)
{
    return (struct cuda_error *)(uintptr_t)d->errors_on_device + index;
}

folio_status folio__cuda_error_report(struct cuda_device *d, i32 index)
{
    if (!d->errors || *(volatile u32 *)&d->errors[index].code_row == 0)
        return FOLIO_OK;
    const struct cuda_error e = d->errors[index];
    memset(&d->errors[index], 0, sizeof e);
    const long long row = e.code_row & 0xfffffff, column = e.column, value = e.value;
    switch ((enum cuda_error_code)(e.code_row >> 28)) {
    case CUDA_ERROR_PAGE:
    case CUDA_ERROR_V_PAGE:
        return folio__fail(FOLIO_ERANGE, "found on the device: %s[%lld, %lld]: %lld is no page id",
                           e.code_row >> 28 == CUDA_ERROR_PAGE ? "page_table" : "v_page_table", row, column, value);
    case CUDA_ERROR_KV_LEN:
        return folio__fail(FOLIO_ERANGE,
                           "found on the device: kv_lens[%lld]: %lld is negative, or more than its row of "
                           "the page table or max_kv_len holds",
                           row, value);
    case CUDA_ERROR_Q_INDPTR:
        return folio__fail(FOLIO_ERANGE,
                           "found on the device: q_indptr[%lld]: %lld; must rise from 0 to n_tokens by at "
                           "most max_q_len",
                           row, value);
    case CUDA_ERROR_KV_INDPTR:
        return folio__fail(FOLIO_ERANGE,
                           "found on the device: kv_indptr[%lld]: %lld; must rise from 0 to at most the "
                           "entries of kv_indices",
                           row, value);
    case CUDA_ERROR_SLOT:
        return folio__fail(FOLIO_ERANGE, "found on the device: slots[%lld]: %lld; must be -1 (skip) or a slot", row,
                           value);
    case CUDA_ERROR_GATHER_PAGE:
        return folio__fail(FOLIO_ERANGE, "found on the device: page_row[%lld]: %lld is no page id", row, value);
    case CUDA_ERROR_COPY:
        return folio__fail(FOLIO_ERANGE, "found on the device: copies[%lld, %lld]: page %lld is no page id", row,
                           column, value);
    case CUDA_ERROR_NONE:
        break;
    }
    return folio__fail(FOLIO_EDEVICE, "found on the device: error %u", (unsigned)(e.code_row >> 28));
}

folio_status folio__cuda_check_now(struct cuda_device *d, i32 index, cu_stream stream)
{
    bool capturing;
    if (!d->checks_calls)
        return FOLIO_OK;
    FOLIO_TRY(folio__cuda_is_capturing(&capturing, d, stream));
    if (capturing)
        return FOLIO_OK;
    CUDA_TRY(d->api, stream_synchronize, (stream));
    return folio__cuda_error_report(d, index);
}
