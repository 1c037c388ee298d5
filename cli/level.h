/* SPDX-License-Identifier: Apache-2.0
 * level.h: an instruction set level that was asked for, and the one a context runs. */
#ifndef CLI_LEVEL_H
#define CLI_LEVEL_H

#include "folio/folio.h"

/* A context runs the level that was asked for or the best below it. NULL: that it is, or any was asked for;
 * else why not. */
const char *level_missing(const folio_context *ctx, folio_isa asked);

#endif
