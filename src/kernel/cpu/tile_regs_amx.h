/* SPDX-License-Identifier: Apache-2.0
 * tile_regs_amx.h: the eight tile registers of AMX behind eight functions; tile_regs_c.h says what each means.
 * Register numbers are part of the instruction, so these are macros and take literals. gcc 12 does not know that
 * configurations and loads read memory: what was stored before must be told to be there. */
#ifndef FOLIO_KERNEL_CPU_TILE_REGS_H
#define FOLIO_KERNEL_CPU_TILE_REGS_H

#include <immintrin.h>

#include "kernel/cpu/tile_shapes.h"

struct tile_regs {
    char unused; /* they are the core's own */
};

#define TILE_BARRIER() __asm__ volatile("" ::: "memory")

static inline void tile_config(struct tile_regs *regs, const struct tile_shapes *shapes)
{
    (void)regs;
    __asm__ volatile("" ::"r"(shapes) : "memory");
    _tile_loadconfig(shapes);
}

static inline void tile_release(struct tile_regs *regs)
{
    (void)regs;
    _tile_release();
}

#define tile_zero(regs, t) _tile_zero(t)
#define tile_load(regs, t, p, stride)  \
    do {                               \
        TILE_BARRIER();                \
        _tile_loadd(t, (p), (stride)); \
    } while (0)
#define tile_load_once(regs, t, p, stride)    \
    do {                                      \
        TILE_BARRIER();                       \
        _tile_stream_loadd(t, (p), (stride)); \
    } while (0)
#define tile_store(regs, t, p, stride)  \
    do {                                \
        _tile_stored(t, (p), (stride)); \
        TILE_BARRIER();                 \
    } while (0)
#define tile_dot_bf16(regs, c, a, b) _tile_dpbf16ps(c, a, b)
#define tile_dot_i8(regs, c, a, b) _tile_dpbssd(c, a, b)

#endif
