/* SPDX-License-Identifier: Apache-2.0
 * free_list.h: the free pages of a pool, handed out in one of two orders. Costs no memory until pages are taken. */
#ifndef FOLIO_CACHE_FREE_LIST_H
#define FOLIO_CACHE_FREE_LIST_H

#include <stdbool.h>

#include "base/types.h"

/* Runs: the page behind the sequence's last one, else the lowest free page. A tree of 64-bit words: a bit of level 0 is
 * set when its page is taken, a bit of level l + 1 when its word of level l is full.
 *
 *   level 1   [ 1 0 0 ... ]            word 0 of level 0 is full
 *   level 0   [ 1 1 1 ... 1 ][ 1 1 0 ... 0 ][ 0 ... ]      pages 0..63 and 64, 65 taken: 66 comes next
 *
 * Stack: PyTorch's PagedAttention. A list that starts as n_pages - 1, n_pages - 2, ...; a request of k takes the last k
 * entries in list order, freed pages go to its end. Entry i is kept as a difference to its first value, so that zeroed
 * memory is the first list.
 *
 *   8 pages:  7 6 5 4 3 2 1 0  -- take 3 -->  7 6 5 4 3   and hands out [2, 1, 0] */
enum { FREE_LIST_LEVELS = 6 }; /* 64^6 > 2^31 */

struct free_list {
    i32 n_pages; /* ids are 0 .. n_pages - 1 */
    i32 n_free;
    i32 n_levels;                 /* of the tree; 0 = the stack is used */
    u64 *level[FREE_LIST_LEVELS]; /* level l: [ceil(n_pages / 64^(l + 1))] */
    u32 *stack;                   /* [n_pages] */
};

/* Bytes of zeroed memory folio__free_list_init needs, 8-byte aligned. */
size_t folio__free_list_bytes(i32 n_pages, bool is_stack);
/* All pages free, but page 0 when !use_page_0. */
void folio__free_list_init(struct free_list *list, void *zeroed, i32 n_pages, bool is_stack, bool use_page_0);

/* Hand out ids [n], n <= n_free. before: the page they should follow, -1 = none. */
void folio__free_list_take(struct free_list *list, i32 before, i32 *ids, i32 n);
void folio__free_list_put(struct free_list *list, i32 id);

/* For checks: the i-th entry of the stack; is this page free, by the tree. */
i32 folio__free_list_stack_entry(const struct free_list *list, i32 i);
bool folio__free_list_tree_has(const struct free_list *list, i32 id);
/* Every upper bit of the tree says what its word below says. */
bool folio__free_list_tree_is_sound(const struct free_list *list);

#endif
