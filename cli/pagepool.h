/* SPDX-License-Identifier: Apache-2.0
 * pagepool.h: the memory of K and V pages of all layers, and how it is laid out.
 *
 *   hnd  layer: [n_pages][K|V][n_kv_heads][page_size][dim]     a page's K and V side by side: one chunk to stream
 *   nhd  layer: [n_pages][K|V][page_size][n_kv_heads][dim]
 *   split layer: [K|V][n_pages][page_size][n_kv_heads][dim]     two tensors, as most frameworks hold them
 *
 * Fresh pages hold NaN: a slot that was never written shows as soon as it is read. */
#ifndef CLI_PAGEPOOL_H
#define CLI_PAGEPOOL_H

#include "folio/folio.h"
#include "model.h"
#include "tensor.h"

enum layout { LAYOUT_HND, LAYOUT_NHD, LAYOUT_SPLIT };
extern const char *const layout_names[]; /* "hnd", "nhd", "split", NULL */

struct pagepool_config {
    enum layout layout;
    enum element element;
    i64 n_pages, page_size;
    i32 n_layers, n_kv_heads;
    i32 dim_qk, dim_v;  /* head dims of K and of V */
    folio_context *ctx; /* whose threads touch the memory first; NULL = the caller */
};

struct layer_pages {
    struct tensor k, v; /* [n_pages, page_size, n_kv_heads, dim_qk | dim_v] */
};

struct pagepool {
    struct pagepool_config cfg;
    struct layer_pages *layers; /* [n_layers] */
    void *memory;
    size_t bytes;
};

i64 page_bytes(const struct pagepool_config *cfg); /* of K and V of one page in one layer */
/* false: no memory. */
bool pagepool_init(struct pagepool *pool, const struct pagepool_config *cfg);
void pagepool_free(struct pagepool *pool);

#endif
