/* SPDX-License-Identifier: Apache-2.0
 * copies.h: page copies the caller still has to do, in order, at most one a destination page.
 *
 *   list     (4 -> 9)  (9 -> 2)  (6 -> 4)        in the order they arose; each entry lives at its destination's id
 *
 * A page that is freed takes the copy into it along, but not while a later copy reads what it would bring (9 above):
 * such a page is parked, neither held nor free, until that reader is gone or the copies are taken. Sources may be freed
 * and handed out again at will: copies run before anything is written. */
#ifndef FOLIO_CACHE_COPIES_H
#define FOLIO_CACHE_COPIES_H

#include <stdbool.h>

#include "base/types.h"

struct copy {       /* at its destination's id; ids are kept + 1, so that zeroed memory is empty */
    i32 from;       /* 0 = no copy into this page is pending */
    i32 prev, next; /* in list order; 0 = none */
    u32 n_readers;  /* later pending copies from this page */
    u64 stamp;      /* ascends along the list */
};

struct copies {
    struct copy *at; /* [n_pages] */
    i32 first, last; /* + 1; 0 = none */
    i32 n;
    u64 n_pushed;
};

static inline bool copies_is_pending(const struct copies *c, i32 to)
{
    return c->at[to].from != 0;
}

/* Later copies read what the pending copy into this page brings. */
static inline bool copies_is_read(const struct copies *c, i32 to)
{
    return copies_is_pending(c, to) && c->at[to].n_readers > 0;
}

void folio__copies_push(struct copies *c, i32 from, i32 to);
/* Forget the pending copy into `to`. Gives its source back when this was the last reader of the copy into that, else
 * -1. */
i32 folio__copies_remove(struct copies *c, i32 to);

#endif
