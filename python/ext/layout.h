/* SPDX-License-Identifier: Apache-2.0
 * layout.h: the three ways Python names pages, all seen as the library's [n_pages, page_size, n_kv_heads, head_dim].
 *
 *   "NHD"   [P, S, H, D]          as it is
 *   "HND"   [P, H, S, D]          dims 1 and 2 swapped
 *   "FLAT"  [1, H, P * S, D]      dim 2 cut into pages of page_size slots */
#ifndef FOLIO_EXT_LAYOUT_H
#define FOLIO_EXT_LAYOUT_H

#include "array.h"

enum ext_layout { EXT_NHD, EXT_HND, EXT_FLAT };

/* NULL gives NHD. -1 with a ValueError or TypeError. */
int ext_layout_read(PyObject *value, int32_t *layout);

/* Rewrite shape and strides of pages; absent arrays pass. page_size 0 = not given. -1 with a ValueError. */
int ext_layout_apply(struct ext_array *pages, const char *name, int32_t layout, int64_t page_size);

/* The same without a word: false, and nothing changed, where ndim, page_size or the shape does not fit the layout.
 * Calls nothing of Python. */
bool ext_layout_permute(struct ext_array *pages, int32_t layout, int64_t page_size);

#endif
