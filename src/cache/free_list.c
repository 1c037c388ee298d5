/* SPDX-License-Identifier: Apache-2.0
 * free_list.c: the two orders in which free pages are handed out. */
#include "cache/free_list.h"

#include <string.h>

#include "base/bits.h"

static const u64 full = ~(u64)0;

static i64 words_of(i64 n_bits)
{
    return ceil_div(n_bits, 64);
}

size_t folio__free_list_bytes(i32 n_pages, bool is_stack)
{
    if (is_stack)
        return round_up((size_t)n_pages * sizeof(u32), 8);
    size_t n_words = 0;
    i64 n = n_pages;
    do {
        n = words_of(n);
        n_words += (size_t)n;
    } while (n > 1);
    return n_words * sizeof(u64);
}

/* The lowest free page; there is one. */
static i32 tree_lowest(const struct free_list *list)
{
    i64 i = 0;
    for (i32 l = list->n_levels - 1; l >= 0; l--)
        i = i * 64 + __builtin_ctzll(~list->level[l][i]);
    return (i32)i;
}

static void tree_take(struct free_list *list, i32 id)
{
    i64 i = id;
    for (i32 l = 0; l < list->n_levels; l++, i /= 64) {
        u64 *word = &list->level[l][i / 64];
        *word |= (u64)1 << (i % 64);
        if (*word != full)
            return;
    }
}

static void tree_put(struct free_list *list, i32 id)
{
    i64 i = id;
    for (i32 l = 0; l < list->n_levels; l++, i /= 64) {
        u64 *word = &list->level[l][i / 64];
        const bool was_full = *word == full;
        *word &= ~((u64)1 << (i % 64));
        if (!was_full)
            return;
    }
}

bool folio__free_list_tree_has(const struct free_list *list, i32 id)
{
    return id >= 0 && id < list->n_pages && !(list->level[0][id / 64] >> (id % 64) & 1);
}

bool folio__free_list_tree_is_sound(const struct free_list *list)
{
    i64 n = list->n_pages;
    for (i32 l = 0; l + 1 < list->n_levels; l++) {
        n = words_of(n);
        for (i64 i = 0; i < n; i++)
            if ((list->level[l + 1][i / 64] >> (i % 64) & 1) != (list->level[l][i] == full))
                return false;
    }
    return true;
}

i32 folio__free_list_stack_entry(const struct free_list *list, i32 i)
{
    return (i32)((u32)(list->n_pages - 1 - i) ^ list->stack[i]);
}

static void stack_set(struct free_list *list, i32 i, i32 id)
{
    list->stack[i] = (u32)(list->n_pages - 1 - i) ^ (u32)id;
}

void folio__free_list_init(struct free_list *list, void *zeroed, i32 n_pages, bool is_stack, bool use_page_0)
{
    *list = (struct free_list){ .n_pages = n_pages, .n_free = use_page_0 ? n_pages : n_pages - 1 };
    if (is_stack) { /* page 0 is its last entry: left out by n_free alone */
        list->stack = zeroed;
        return;
    }
    u64 *words = zeroed;
    i64 n = n_pages;
    do {
        n = words_of(n);
        list->level[list->n_levels++] = words;
        words += n;
    } while (n > 1);
    if (!use_page_0)
        tree_take(list, 0);
}

void folio__free_list_take(struct free_list *list, i32 before, i32 *ids, i32 n)
{
    assert(n >= 0 && n <= list->n_free);
    list->n_free -= n;
    if (list->stack) {
        for (i32 i = 0; i < n; i++)
            ids[i] = folio__free_list_stack_entry(list, list->n_free + i);
        return;
    }
    i32 last = before;
    for (i32 i = 0; i < n; i++) {
        const bool next_is_free = last >= 0 && folio__free_list_tree_has(list, last + 1);
        ids[i] = last = next_is_free ? last + 1 : tree_lowest(list);
        tree_take(list, last);
    }
}

void folio__free_list_put(struct free_list *list, i32 id)
{
    if (list->stack)
        stack_set(list, list->n_free, id);
    else
        tree_put(list, id);
    list->n_free++;
}
