/* SPDX-License-Identifier: Apache-2.0
 * create.c: from a configuration to an empty cache, and back. */
#include "cache/cache.h"

#include "base/alloc.h"

static const u32 known_flags = FOLIO_CACHE_USE_PAGE_0 | FOLIO_CACHE_LIFO;

/* Checked, and zeros replaced by their defaults. */
static folio_status read_config(folio_cache_config *dst, const folio_cache_config *src)
{
    FOLIO_TRY(folio__read_struct("cfg", dst, sizeof *dst, src));
    if (dst->max_seqs == 0)
        dst->max_seqs = 256;
    if (dst->max_pages_per_seq == 0)
        dst->max_pages_per_seq = dst->n_pages;
    FOLIO_REQUIRE(dst->n_pages >= 1 && dst->n_pages <= INT32_MAX, FOLIO_EINVAL, "n_pages %lld: must be 1 .. %d",
                  (long long)dst->n_pages, INT32_MAX);
    FOLIO_REQUIRE(dst->page_size >= 1 && dst->page_size <= INT32_MAX, FOLIO_EINVAL, "page_size %lld: must be 1 .. %d",
                  (long long)dst->page_size, INT32_MAX);
    FOLIO_REQUIRE(dst->max_seqs >= 1 && dst->max_seqs <= INT32_MAX, FOLIO_EINVAL,
                  "max_seqs %lld: must be 0 (= 256) .. %d", (long long)dst->max_seqs, INT32_MAX);
    FOLIO_REQUIRE(dst->max_pages_per_seq >= 1 && dst->max_pages_per_seq <= INT32_MAX, FOLIO_EINVAL,
                  "max_pages_per_seq %lld: must be 0 (= n_pages) .. %d", (long long)dst->max_pages_per_seq, INT32_MAX);
    FOLIO_REQUIRE((dst->flags & ~known_flags) == 0, FOLIO_EINVAL, "flags %#x: must be made of bits %#x",
                  (unsigned)dst->flags, (unsigned)known_flags);
    dst->max_pages_per_seq = min_i64(dst->max_pages_per_seq, dst->n_pages);
    return FOLIO_OK;
}

static i32 log2_or_minus_1(i64 x)
{
    return (x & (x - 1)) == 0 ? __builtin_ctzll((u64)x) : -1;
}

/* Hand out the next n * size bytes of `memory`, which may be NULL while only *used is wanted: SIZE_MAX when it does not
 * fit. Arrays start on lines of their own. */
static void *carve(u8 *memory, size_t *used, i64 n, size_t size)
{
    void *array = memory ? memory + *used : NULL;
    size_t n_bytes;
    if (__builtin_mul_overflow((size_t)n, size, &n_bytes) || n_bytes > SIZE_MAX - 63 ||
        __builtin_add_overflow(*used, round_up(n_bytes, 64), used))
        *used = SIZE_MAX;
    return array;
}

/* Point the arrays into `memory` (NULL = none yet) and give the bytes they take, SIZE_MAX = too many. */
static size_t place_arrays(folio_cache *cache, u8 *memory)
{
    const bool is_stack = cache->flags & FOLIO_CACHE_LIFO;
    const i64 n_pages = cache->n_pages, max_seqs = cache->max_seqs;
    size_t used = 0;
    void *free_memory = carve(memory, &used, 1, folio__free_list_bytes(cache->n_pages, is_stack));
    cache->pages = carve(memory, &used, n_pages, sizeof *cache->pages);
    cache->copies.at = carve(memory, &used, n_pages, sizeof *cache->copies.at);
    cache->check_counts = carve(memory, &used, n_pages, sizeof *cache->check_counts);
    cache->seqs = carve(memory, &used, max_seqs, sizeof *cache->seqs);
    cache->closed_slots = carve(memory, &used, max_seqs, sizeof *cache->closed_slots);
    cache->rows = carve(memory, &used, max_seqs * cache->row_pages, sizeof *cache->rows);
    if (memory)
        folio__free_list_init(&cache->free, free_memory, cache->n_pages, is_stack,
                              cache->flags & FOLIO_CACHE_USE_PAGE_0);
    return used;
}

folio_status folio_cache_create(folio_cache **out, const folio_cache_config *cfg)
{
    FOLIO_REQUIRE(out != NULL, FOLIO_EINVAL, "out: NULL; must point to a folio_cache *");
    folio_cache_config c;
    FOLIO_TRY(read_config(&c, cfg));
    folio_cache *cache = folio__alloc_zero(sizeof *cache);
    FOLIO_REQUIRE(cache != NULL, FOLIO_ENOMEM, "cache: no memory for its head");
    cache->flags = c.flags;
    cache->page_size = c.page_size;
    cache->page_shift = log2_or_minus_1(c.page_size);
    cache->n_pages = (i32)c.n_pages;
    cache->max_seqs = (i32)c.max_seqs;
    cache->row_pages = (i32)c.max_pages_per_seq;
    cache->check_runs = (atomic_flag)ATOMIC_FLAG_INIT;

    const size_t n_bytes = place_arrays(cache, NULL);
    cache->memory = folio__reserve_zero(n_bytes);
    if (!cache->memory) {
        folio__free(cache);
        return folio__fail(
            FOLIO_ENOMEM, "cache: no address space for %zu bytes (n_pages %lld, max_seqs %lld, max_pages_per_seq %lld)",
            n_bytes, (long long)c.n_pages, (long long)c.max_seqs, (long long)c.max_pages_per_seq);
    }
    place_arrays(cache, cache->memory);
    cache->n_usable = cache->free.n_free;
    cache->magic = FOLIO__CACHE_MAGIC;
    *out = cache;
    return FOLIO_OK;
}

void folio_cache_destroy(folio_cache **cache)
{
    if (!cache || !*cache)
        return;
    folio_cache *gone = *cache;
    *cache = NULL;
    if (gone->magic != FOLIO__CACHE_MAGIC)
        return;
    gone->magic = 0;
    folio__free(gone->memory);
    folio__free(gone);
}
