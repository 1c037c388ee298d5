/* SPDX-License-Identifier: Apache-2.0
 * mod_c.c: the steps of mod programs at level c. */
#define MOD_TABLE folio__mod_table_c
#include "kernel/cpu/mod_tmpl.h"
