/* SPDX-License-Identifier: Apache-2.0
 * mod_avx512.c: the steps of mod programs at level avx512. */
#define MOD_TABLE folio__mod_table_avx512
#include "kernel/cpu/mod_tmpl.h"
