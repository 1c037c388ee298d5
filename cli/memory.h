/* SPDX-License-Identifier: Apache-2.0
 * memory.h: large blocks, 2 MB aligned, on huge pages where the system gives them. */
#ifndef CLI_MEMORY_H
#define CLI_MEMORY_H

#include <stddef.h>

/* Zeroed and untouched: whoever writes first places it. NULL when there is no memory. bytes > 0. */
void *memory_map(size_t bytes);
void memory_unmap(void *block, size_t bytes); /* block NULL is fine; the same bytes as at map */

#endif
