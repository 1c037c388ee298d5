/* SPDX-License-Identifier: Apache-2.0
 * probe_c.c: the probe's loops for plain C11, any CPU. */
#define VECTOR_BYTES 16
#include "probe_tmpl.h"

const struct probe_body probe_c = PROBE_BODY;
