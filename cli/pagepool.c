/* SPDX-License-Identifier: Apache-2.0
 * pagepool.c: the memory of K and V pages of all layers, and how it is laid out. */
#include "pagepool.h"

#include <stdlib.h>
#include <string.h>

#include "memory.h"

const char *const layout_names[] = { "hnd", "nhd", "split", NULL };

i64 page_bytes(const struct pagepool_config *cfg)
{
    return cfg->page_size * cfg->n_kv_heads * (cfg->dim_qk + cfg->dim_v) * element_bytes(cfg->element);
}

/* K or V of one layer: heads of `dim`, pages `page_stride` elements apart. */
static void init_half(struct tensor *half, const struct pagepool_config *cfg, char *data, i32 dim, i64 page_stride)
{
    const bool hnd = cfg->layout == LAYOUT_HND;
    const i64 shape[4] = { cfg->n_pages, cfg->page_size, cfg->n_kv_heads, dim };
    const i64 strides[4] = { page_stride, hnd ? dim : cfg->n_kv_heads * dim, hnd ? cfg->page_size * dim : dim, 1 };
    tensor_init_strided(half, data, type_of_element(cfg->element), 4, shape, strides);
}

static void init_layer(struct layer_pages *layer, const struct pagepool_config *cfg, char *memory)
{
    const i64 slots = cfg->page_size * cfg->n_kv_heads, k_page = slots * cfg->dim_qk, v_page = slots * cfg->dim_v;
    const bool split = cfg->layout == LAYOUT_SPLIT;
    const i64 to_v = (split ? cfg->n_pages : 1) * k_page * element_bytes(cfg->element);
    init_half(&layer->k, cfg, memory, cfg->dim_qk, split ? k_page : k_page + v_page);
    init_half(&layer->v, cfg, memory + to_v, cfg->dim_v, split ? v_page : k_page + v_page);
}

bool pagepool_init(struct pagepool *pool, const struct pagepool_config *cfg)
{
    *pool = (struct pagepool){ .cfg = *cfg };
    const size_t layer_bytes = (size_t)(page_bytes(cfg) * cfg->n_pages);
    pool->bytes = layer_bytes * (size_t)cfg->n_layers;
    pool->layers = calloc((size_t)cfg->n_layers, sizeof(*pool->layers));
    if (!cfg->ctx)
        pool->memory = memory_map(pool->bytes);
    else if (folio_pages_alloc(cfg->ctx, pool->bytes, &pool->memory))
        pool->memory = NULL;
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
    if (pool->cfg.ctx)
        folio_pages_free(&pool->memory);
    else
        memory_unmap(pool->memory, pool->bytes);
    *pool = (struct pagepool){ 0 };
}
