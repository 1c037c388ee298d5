/* SPDX-License-Identifier: Apache-2.0
 * pages.h: what append, gather and copy_pages share. */
#ifndef FOLIO_EXT_PAGES_H
#define FOLIO_EXT_PAGES_H

#include "array.h"

/* Pages of any layout, seen as [n_pages, page_size, n_kv_heads, head_dim]; layout and page_size as the caller gave them
 * (NULL = not given). -1 with an exception; JAX arrays to be written are a TypeError naming folio.jax.append. */
int ext_pages_read(struct ext_state *state, struct ext_array *pages, const char *name, PyObject *object,
                   enum ext_access access, PyObject *layout, PyObject *page_size);

/* k_scale or v_scale as ext_numbers gives it. may_write: one a slot [n_pages, page_size, n_kv_heads] is written. */
int ext_scale_read(struct ext_state *state, struct ext_array *scale, const char *name, PyObject *object,
                   bool may_write);

/* Is moving this array worth letting other Python threads in? */
bool ext_moves_much(const struct ext_array *array);

#endif
