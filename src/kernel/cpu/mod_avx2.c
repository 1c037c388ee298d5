/* SPDX-License-Identifier: Apache-2.0
 * mod_avx2.c: the steps of mod programs at level avx2. */
#define MOD_TABLE folio__mod_table_avx2
#include "kernel/cpu/mod_tmpl.h"
