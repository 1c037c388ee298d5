/* SPDX-License-Identifier: Apache-2.0
 * kernels_tmpl.h: every kernel body, and the table of one level. isa_<isa>.c includes it after vec_<isa>.h. */
#include <float.h>
#include <math.h>
#include <string.h>

#include "base/bits.h"
#include "folio/device.h"
#include "kernel/cpu/ahead.h"
#include "kernel/cpu/block.h"
#include "kernel/cpu/callback.h"
#include "kernel/cpu/cursor.h"
#include "kernel/cpu/keys.h"
#include "kernel/cpu/mod_run.h"
#include "kernel/cpu/scales.h"
#include "kernel/cpu/unroll.h"
#include "kernel/kernels.h"
#include "kernel/layout.h"
#include "kernel/quantise.h"

#ifndef VEC_BYTES
#define VEC_BYTES 0
#endif
#ifndef VEC_HALVES
#define VEC_HALVES 0
#endif
#define INLINE static inline __attribute__((always_inline))

#include "kernel/cpu/math_tmpl.h"
#include "kernel/cpu/elements_tmpl.h"
#include "kernel/cpu/score_tmpl.h"
#include "kernel/cpu/fold_tmpl.h"
#include "kernel/cpu/dots_tmpl.h"
#include "kernel/cpu/weigh_tmpl.h"
#include "kernel/cpu/aside_tmpl.h"
#include "kernel/cpu/rows_pass_tmpl.h"
#include "kernel/cpu/rows_scales_tmpl.h"
#include "kernel/cpu/rows_weight_tmpl.h"
#include "kernel/cpu/rows_chunk_tmpl.h"
#include "kernel/cpu/rows_tmpl.h"
#include "kernel/cpu/rows_bytes_tmpl.h"
#include "kernel/cpu/ahead_amx_tmpl.h"
#include "kernel/cpu/rows_amx_tmpl.h"
#include "kernel/cpu/fours_amx_tmpl.h"
#include "kernel/cpu/whole_amx_tmpl.h"
#include "kernel/cpu/rows_i8_amx_tmpl.h"
#include "kernel/cpu/steps_i8_amx_tmpl.h"
#include "kernel/cpu/rows_tiles_tmpl.h"
#include "kernel/cpu/pack_tmpl.h"
#include "kernel/cpu/product_tmpl.h"
#include "kernel/cpu/weights_tmpl.h"
#include "kernel/cpu/tile_pass_tmpl.h"
#include "kernel/cpu/tile_tmpl.h"
#include "kernel/cpu/weight_amx_tmpl.h"
#include "kernel/cpu/tile_amx_tmpl.h"
#include "kernel/cpu/flow_amx_tmpl.h"
#include "kernel/cpu/move_tmpl.h"

/* Short splits feed many threads; each costs a fold of o, which is nothing beside 512 keys of K and V. */
static struct tiling tiling(const struct attend_args *args)
{
    if (mod_uses_callback(args))
        return folio__callback_tiling(args);
    return (struct tiling){ .max_packed_rows = MAX_ROWS,
                            .tile_rows = tile_rows_of(args),
                            .rows_split_tokens = 512,
                            .tile_split_tokens = uses_tiles(args) ? 4096 : 2048 };
}

static size_t scratch_bytes(const struct attend_args *args)
{
    if (mod_uses_callback(args))
        return 0;
    const size_t rows = rows_scratch_bytes(args), tile = tile_scratch_bytes(args);
    return round_up(rows > tile ? rows : tile, 64);
}

static void attend(const struct attend_args *args, const struct attend_item *item, void *scratch)
{
    if (mod_uses_callback(args))
        folio__attend_callback(args, item);
    else if (item->family == ATTEND_ROWS)
        attend_rows(args, item, scratch);
    else
        attend_tile(args, item, scratch);
}

const struct kernels VEC_KERNELS = {
    .name = VEC_NAME,
    .isa = VEC_ISA,
    .append = append,
    .gather = gather,
    .tiling = tiling,
    .scratch_bytes = scratch_bytes,
    .attend = attend,
    .fold = fold,
    .merge = merge,
};
