/* SPDX-License-Identifier: Apache-2.0
 * kernels_ref.c: the oracle's table. Double precision and obvious loops; never chosen by itself. */
#include "kernel/cpu/callback.h"
#include "kernel/ref/ref.h"

/* Never in splits, so there are no partials and nothing to fold; in small tiles, so that threads have work to share. */
static struct tiling ref_tiling(const struct attend_args *args)
{
    if (mod_uses_callback(args))
        return folio__callback_tiling(args);
    return (struct tiling){
        .max_packed_rows = 0, .tile_rows = 8, .rows_split_tokens = INT64_MAX, .tile_split_tokens = INT64_MAX
    };
}

static size_t ref_scratch_bytes(const struct attend_args *args)
{
    (void)args;
    return 0;
}

static void ref_fold(const struct attend_args *args, const struct attend_item *unit)
{
    (void)args;
    (void)unit;
    assert(0 && "ref never splits");
}

const struct kernels folio__kernels_ref = {
    .name = "ref",
    .isa = FOLIO_ISA_AUTO,
    .append = folio__ref_append,
    .gather = folio__ref_gather,
    .tiling = ref_tiling,
    .scratch_bytes = ref_scratch_bytes,
    .attend = folio__ref_attend,
    .fold = ref_fold,
    .merge = folio__ref_merge,
};
