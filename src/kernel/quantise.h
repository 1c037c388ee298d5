/* SPDX-License-Identifier: Apache-2.0
 * quantise.h: rows of floats into quantised slots: one way for the oracle and for every level, so that they agree. */
#ifndef FOLIO_KERNEL_QUANTISE_H
#define FOLIO_KERNEL_QUANTISE_H

#include "kernel/args.h"

/* A row of each head -> its slot: x / scale, to nearest even, saturated. A slot's scale is read, or, with makes_scales,
 * computed and written first: the largest finite |x| becomes the dtype's largest; 1 for a row of zeros. */
void folio__quantise_token(const struct append_args *args, const struct pages_view *pages, i64 page, i64 slot,
                           const struct rows_view *rows, i64 token);

#endif
