/* SPDX-License-Identifier: Apache-2.0
 * hello.c: a user's first program, built against an installed folio. */
#include <folio/folio.h>
#include <stdio.h>
int main(void)
{
    folio_cache *cache = NULL;
    const folio_cache_config config = { .struct_size = sizeof config, .n_pages = 8, .page_size = 16 };
    printf("folio %s: %s\n", folio_version(), folio_status_text(folio_cache_create(&cache, &config)));
    const int ok = cache != NULL;
    folio_cache_destroy(&cache);
    return !ok;
}
