/* SPDX-License-Identifier: Apache-2.0
 * probe_amx.c: the probe's arithmetic for AMX: products of tiles of bf16 in registers, summed in f32. The permission to
 * use tiles is the process's: folio_isa_available asked for it. */
#if defined(__x86_64__)
#include <immintrin.h>

#include "probe.h"

enum { N_ACCUMULATORS = 6, PAIRS = 16 * 16 * 16 /* of one instruction */ };

struct tile_shapes {
    u8 palette, start_row, zeros[14];
    u16 row_bytes[16];
    u8 n_rows[16];
};

static void configure(void)
{
    struct tile_shapes shapes = { .palette = 1 };
    for (i32 t = 0; t < 8; t++) {
        shapes.row_bytes[t] = 64;
        shapes.n_rows[t] = 16;
    }
    __asm__ volatile("" ::"r"(&shapes) : "memory"); /* gcc 12 does not know that all of it is read */
    _tile_loadconfig(&shapes);
}

static double dot_tiles(i64 n_rounds, double x)
{
    u16 factor[16][32];
    float sums[16][16];
    for (size_t i = 0; i < 16 * 32; i++)
        factor[i / 32][i % 32] = 0x3e80; /* 0.25; sums grow slowly: no infinities in any run */
    (void)x;
    configure();
    __asm__ volatile("" ::"r"(factor) : "memory");
    _tile_loadd(0, factor, 64);
    _tile_loadd(1, factor, 64);
    _tile_zero(2);
    _tile_zero(3);
    _tile_zero(4);
    _tile_zero(5);
    _tile_zero(6);
    _tile_zero(7);
    for (i64 round = 0; round < n_rounds; round++) {
        _tile_dpbf16ps(2, 0, 1);
        _tile_dpbf16ps(3, 0, 1);
        _tile_dpbf16ps(4, 0, 1);
        _tile_dpbf16ps(5, 0, 1);
        _tile_dpbf16ps(6, 0, 1);
        _tile_dpbf16ps(7, 0, 1);
    }
    _tile_stored(2, sums, 64);
    __asm__ volatile("" ::: "memory");
    _tile_release();
    return (double)sums[0][0];
}

const struct probe_body probe_amx = { .fma = dot_tiles, .flops_per_round = 4.0 * N_ACCUMULATORS * PAIRS };
#else
typedef int no_other_machine_has_it;
#endif
