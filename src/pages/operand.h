/* SPDX-License-Identifier: Apache-2.0
 * operand.h: a tensor argument that is looked at more than once: read once, with its name for messages. */
#ifndef FOLIO_PAGES_OPERAND_H
#define FOLIO_PAGES_OPERAND_H

#include "pages/view.h"

struct operand {
    const char *name;
    struct tensor t;
    const u8 *end; /* behind its last byte; t.data when empty, NULL when absent */
};

/* It is there (else EINVAL with the shape it must have), lives where the context works, and has memory if it has
 * elements. */
folio_status folio__operand_read(struct operand *dst, const folio_context *ctx, const char *name, const char *shape,
                                 const DLTensor *src);

/* folio__require_disjoint and folio__require_apart (view.h) of what was read before. */
folio_status folio__operand_require_disjoint(const struct operand *operand);
folio_status folio__operands_require_apart(const struct operand *operand, const struct operand *other);

#define PAGES_SHAPE "[n_pages, page_size, n_kv_heads, head_dim]"
#define ROWS_SHAPE "[n_tokens, n_heads, dim]"
#define TOKENS_SHAPE "[n_tokens, n_heads, dim] or [runs, run, n_heads, dim]"
#define INDEX_SHAPE "[n]"
#define SCALE_SHAPE "[1], [n_kv_heads] or [n_pages, page_size, n_kv_heads]"

#endif
