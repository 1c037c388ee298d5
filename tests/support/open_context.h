/* SPDX-License-Identifier: Apache-2.0
 * open_context.h: a context that must open. */
#ifndef FOLIO_TESTS_OPEN_CONTEXT_H
#define FOLIO_TESTS_OPEN_CONTEXT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "folio/device.h"

static inline folio_context *open_context(folio_backend backend, folio_isa isa, int32_t n_threads)
{
    const folio_context_config cfg = {
        .struct_size = sizeof cfg, .backend = (int32_t)backend, .isa = (int32_t)isa, .n_threads = n_threads
    };
    folio_context *ctx = NULL;
    assert_int_equal(folio_context_create(&ctx, &cfg), FOLIO_OK);
    return ctx;
}

#endif
