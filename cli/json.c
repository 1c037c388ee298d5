/* SPDX-License-Identifier: Apache-2.0
 * json.c: JSON lines on standard output. */
#include "json.h"

#include <math.h>
#include <stdio.h>

void json_line(json_t *object)
{
    json_dumpf(object, stdout, JSON_COMPACT | JSON_REAL_PRECISION(9));
    putchar('\n');
    json_decref(object);
}

json_t *json_number(double x)
{
    return isfinite(x) ? json_real(x) : json_null();
}
