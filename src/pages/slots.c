/* SPDX-License-Identifier: Apache-2.0
 * slots.c: range and duplicates of an append's slots.
 *
 * Prefill names slots that ascend from token to token within a page run: seen at once. Decode names one slot a
 * sequence in any order: a small table of token indices, hashed by slot, finds a slot named twice. */
#include "pages/slots.h"

#include <string.h>

#include "base/alloc.h"
#include "base/bits.h"
#include "base/status.h"
#include "kernel/layout.h"

enum { STACK_ENTRIES = 1024 }; /* of the table: 8 KiB */

static i64 slot_at(const struct index_view *slots, i64 token)
{
    return layout_index(slots->data, slots->are_i64, token);
}

/* Range; *ascend says whether no slot can be named twice. */
static folio_status check_range(const struct index_view *slots, i64 n_slots, bool *ascend)
{
    i64 last = -1;
    *ascend = true;
    for (i64 token = 0; token < slots->n; token++) {
        const i64 slot = slot_at(slots, token);
        FOLIO_REQUIRE(slot >= -1 && slot < n_slots, FOLIO_ERANGE, "slots[%lld]: %lld; must be -1 (skip) or 0 .. %lld",
                      (long long)token, (long long)slot, (long long)(n_slots - 1));
        *ascend &= slot < 0 || slot > last;
        last = max_i64(last, slot);
    }
    return FOLIO_OK;
}

/* table [n_entries], zeroed: token + 1 of the slots seen; n_entries is a power of two above the number of slots. */
static folio_status check_unique(const struct index_view *slots, i64 *table, u64 n_entries)
{
    for (i64 token = 0; token < slots->n; token++) {
        const i64 slot = slot_at(slots, token);
        if (slot < 0)
            continue;
        u64 at = ((u64)slot * UINT64_C(0x9e3779b97f4a7c15) >> 20) & (n_entries - 1);
        for (; table[at]; at = (at + 1) & (n_entries - 1))
            FOLIO_REQUIRE(slot_at(slots, table[at] - 1) != slot, FOLIO_EINVAL,
                          "slots[%lld]: %lld, as slots[%lld]; a slot may be named once", (long long)token,
                          (long long)slot, (long long)(table[at] - 1));
        table[at] = token + 1;
    }
    return FOLIO_OK;
}

folio_status folio__slots_require(const struct index_view *slots, i64 n_slots)
{
    bool ascend;
    FOLIO_TRY(check_range(slots, n_slots, &ascend));
    if (ascend)
        return FOLIO_OK;
    if (slots->n <= STACK_ENTRIES / 2) {
        i64 table[STACK_ENTRIES] = { 0 };
        return check_unique(slots, table, STACK_ENTRIES);
    }
    u64 n_entries = STACK_ENTRIES;
    while (n_entries < 2 * (u64)slots->n)
        n_entries *= 2;
    i64 *table = folio__alloc_zero(n_entries * sizeof *table);
    FOLIO_REQUIRE(table != NULL, FOLIO_ENOMEM, "slots: no memory to look for duplicates among %lld",
                  (long long)slots->n);
    const folio_status status = check_unique(slots, table, n_entries);
    folio__free(table);
    return status;
}
