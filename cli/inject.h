/* SPDX-License-Identifier: Apache-2.0
 * inject.h: break one page table entry on purpose, to show that the check sees it.
 *
 *   swap      the entry and one of another sequence change places
 *   stale     the entry names a page that a finished request once had there
 *   offbyone  the entry names the page next to the right one
 *
 * Once half of the trace's tokens went through, a running sequence is picked as the victim: the entry of its last full
 * page is wrong from then on, in every step, until it ends; should it be preempted first, another is picked. Only the
 * table given to attention is changed; the cache itself stays right. */
#ifndef CLI_INJECT_H
#define CLI_INJECT_H

#include "types.h"

enum fault { FAULT_NONE, FAULT_SWAP, FAULT_STALE, FAULT_OFFBYONE };
extern const char *const fault_names[]; /* "none", "swap", "stale", "offbyone", NULL */

struct inject {
    enum fault fault;
    i64 page_size, n_pages;
    i64 victim; /* request, -1 = none yet */
    i64 column; /* of its table row */
    i32 wrong;  /* the page id it gets, swap and all */
    i64 other;  /* swap: the other request, -1 = none */
    i64 other_column;
    i32 other_wrong;
    i32 stale_page; /* the last full page of the last finished request, -1 = none finished */
    bool done;      /* a fault went in at least once */
};

/* The step's tables, as attention will see them. */
struct inject_step {
    const i64 *requests; /* [n] */
    const i64 *kv_lens;  /* [n] */
    i32 *table;          /* [n][width] */
    i64 n, width;
    bool is_late; /* half of the tokens are done */
};

void inject_init(struct inject *inject, enum fault fault, i64 page_size, i64 n_pages);
/* Changes step->table. */
void inject_apply(struct inject *inject, const struct inject_step *step);
/* A request ended or was preempted; its last full page was `page` (-1 = none). */
void inject_leave(struct inject *inject, i64 request, i32 page, bool finished);

#endif
