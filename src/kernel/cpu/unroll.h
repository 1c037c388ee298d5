/* SPDX-License-Identifier: Apache-2.0
 * unroll.h: loops over registers: their trip count is a constant, and they must vanish.
 * Under sanitizers they stay (FOLIO__NO_UNROLL): the same bits, a tenth of the compilation. */
#ifndef FOLIO_KERNEL_CPU_UNROLL_H
#define FOLIO_KERNEL_CPU_UNROLL_H

#define FOLIO__PRAGMA(text) _Pragma(#text)
#if defined(FOLIO__NO_UNROLL)
#define UNROLL(n)
#elif defined(__clang__)
#define UNROLL(n) FOLIO__PRAGMA(clang loop unroll(full))
#else
#define UNROLL(n) FOLIO__PRAGMA(GCC unroll n)
#endif

#endif
