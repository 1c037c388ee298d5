/* SPDX-License-Identifier: Apache-2.0
 * json.h: JSON lines on standard output. */
#ifndef CLI_JSON_H
#define CLI_JSON_H

#include <jansson.h>

/* One object, one line; takes the reference. */
void json_line(json_t *object);
/* A number; null when it is not finite (JSON has no NaN or infinity). */
json_t *json_number(double x);

#endif
