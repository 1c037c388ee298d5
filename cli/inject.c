/* SPDX-License-Identifier: Apache-2.0
 * inject.c: break one page table entry on purpose, to show that the check sees it. */
#include "inject.h"

const char *const fault_names[] = { "none", "swap", "stale", "offbyone", NULL };

void inject_init(struct inject *inject, enum fault fault, i64 page_size, i64 n_pages)
{
    *inject = (struct inject){
        .fault = fault, .page_size = page_size, .n_pages = n_pages, .victim = -1, .other = -1, .stale_page = -1
    };
}

static i64 last_full_column(const struct inject *inject, const struct inject_step *step, i64 i)
{
    return step->kv_lens[i] / inject->page_size - 1; /* -1 = no full page */
}

static i64 find_row(const struct inject_step *step, i64 request)
{
    for (i64 i = 0; i < step->n; i++)
        if (step->requests[i] == request)
            return i;
    return -1;
}

/* Another row with a full page that is not this one. */
static i64 find_other(const struct inject *inject, const struct inject_step *step, i64 row, i32 page)
{
    for (i64 i = 0; i < step->n; i++) {
        const i64 column = last_full_column(inject, step, i);
        if (i != row && column >= 0 && step->table[i * step->width + column] != page)
            return i;
    }
    return -1;
}

static bool pick_swap(struct inject *inject, const struct inject_step *step, i64 row, i32 page)
{
    const i64 other = find_other(inject, step, row, page);
    if (other < 0)
        return false;
    inject->other = step->requests[other];
    inject->other_column = last_full_column(inject, step, other);
    inject->wrong = step->table[other * step->width + inject->other_column];
    inject->other_wrong = page;
    return true;
}

/* Try a row as the victim. */
static bool pick(struct inject *inject, const struct inject_step *step, i64 row)
{
    const i64 column = last_full_column(inject, step, row);
    if (column < 0)
        return false;
    const i32 page = step->table[row * step->width + column];
    if (inject->fault == FAULT_SWAP && !pick_swap(inject, step, row, page))
        return false;
    if (inject->fault == FAULT_STALE) {
        if (inject->stale_page < 0 || inject->stale_page == page)
            return false;
        inject->wrong = inject->stale_page;
    }
    if (inject->fault == FAULT_OFFBYONE)
        inject->wrong = page + (page + 1 < inject->n_pages ? 1 : -1);
    inject->victim = step->requests[row];
    inject->column = column;
    return true;
}

void inject_apply(struct inject *inject, const struct inject_step *step)
{
    if (inject->fault == FAULT_NONE || !step->is_late)
        return;
    for (i64 row = 0; inject->victim < 0 && row < step->n; row++)
        pick(inject, step, row);
    const i64 row = inject->victim < 0 ? -1 : find_row(step, inject->victim);
    if (row >= 0) {
        step->table[row * step->width + inject->column] = inject->wrong;
        inject->done = true;
    }
    const i64 other = inject->other < 0 ? -1 : find_row(step, inject->other);
    if (other >= 0)
        step->table[other * step->width + inject->other_column] = inject->other_wrong;
}

void inject_leave(struct inject *inject, i64 request, i32 page, bool finished)
{
    if (finished && page >= 0)
        inject->stale_page = page;
    if (request == inject->other)
        inject->other = -1;
    if (request == inject->victim && !finished)
        inject->victim = -1; /* its table is made anew: break another */
    else if (request == inject->victim)
        inject->fault = FAULT_NONE; /* it ended broken: enough */
}
