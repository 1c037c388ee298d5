/* SPDX-License-Identifier: Apache-2.0
 * level.c: an instruction set level that was asked for, and the one a context runs. */
#include "level.h"

#include <stddef.h>

const char *level_missing(const folio_context *ctx, folio_isa asked)
{
    if (asked == FOLIO_ISA_AUTO || folio_context_isa(ctx) == asked)
        return NULL;
    const char *missing = folio_isa_missing(asked);
    return missing ? missing : "a lower level runs instead";
}
