/* SPDX-License-Identifier: Apache-2.0
 * pagepool.c: the memory of K and V pages of all layers, and how it is laid out. */
#include "pagepool.h"

#include <stdlib.h>
#include <string.h>

#include "memory.h"

const char *const layout_names[] = { "hnd", "nhd", "split", NULL };

i64 page_bytes(const struct pagepool_config *cfg)
{
    return 2 * cfg->page_size * cfg->n_kv_heads * cfg->head_dim * element_bytes(cfg->element);
}

static void init_layer(struct layer_pages *layer, const struct pagepool_config *cfg, char *memory)
{
    const i64 shape[4] = { cfg->n_pages, cfg->page_size, cfg->n_kv_heads, cfg->head_dim };
    const i64 half = cfg->page_size * cfg->n_kv_heads * cfg->head_dim; /* elements of a page's K, or V */
    const i64 slot_major = cfg->n_kv_heads * cfg->head_dim, head_major = cfg->page_size * cfg->head_dim;
    const i64 strides[][4] = {
        [LAYOUT_HND] = { 2 * half, cfg->head_dim, head_major, 1 },
        [LAYOUT_NHD] = { 2 * half, slot_major, cfg->head_dim, 1 },
        [LAYOUT_SPLIT] = { half, slot_major, cfg->head_dim, 1 },
    };
    const i64 to_v = (cfg->layout == LAYOUT_SPLIT ? cfg->n_pages : 1) * half * element_bytes(cfg->element);
    const DLDataType type = type_of_element(cfg->element);
    tensor_init_strided(&layer->k, memory, type, 4, shape, strides[cfg->layout]);
    tensor_init_strided(&layer->v, memory + to_v, type, 4, shape, strides[cfg->layout]);
}

bool pagepool_init(struct pagepool *pool, const struct pagepool_config *cfg)
{
    *pool = (struct pagepool){ .cfg = *cfg };
    const size_t layer_bytes = (size_t)(page_bytes(cfg) * cfg->n_pages);
    pool->bytes = layer_bytes * (size_t)cfg->n_layers;
    pool->layers = calloc((size_t)cfg->n_layers, sizeof(*pool->layers));
    pool->memory = memory_map(pool->bytes);
    if (!pool->layers || !pool->memory) {
        pagepool_free(pool);
        return false;
    }
    memset(pool->memory, 0xff, pool->bytes); /* NaN in every element type */
    for (i32 i = 0; i < cfg->n_layers; i++)
        init_layer(&pool->layers[i], cfg, (char *)pool->memory + layer_bytes * (size_t)i);
    return true;
}

void pagepool_free(struct pagepool *pool)
{
    free(pool->layers);
    memory_unmap(pool->memory, pool->bytes);
    *pool = (struct pagepool){ 0 };
}
