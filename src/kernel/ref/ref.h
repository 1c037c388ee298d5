/* SPDX-License-Identifier: Apache-2.0
 * ref.h: the oracle's kernels, one a file; tied together in kernels_ref.c. */
#ifndef FOLIO_KERNEL_REF_REF_H
#define FOLIO_KERNEL_REF_REF_H

#include "kernel/kernels.h"

void folio__ref_append(const struct append_args *args, i64 begin, i64 end);
void folio__ref_gather(const struct gather_args *args, i64 begin, i64 end);
void folio__ref_attend(const struct attend_args *args, const struct attend_item *item, void *scratch);
void folio__ref_merge(const struct merge_args *args, i64 begin, i64 end);

/* n elements of one vector: rounded once to dst's dtype, or copied bit for bit when the dtypes are the same. */
void folio__ref_convert(void *dst, i32 dst_dtype, const void *src, i32 src_dtype, i64 n);

#endif
