/* SPDX-License-Identifier: Apache-2.0
 * block.h: a grid, block after block in some order; the threads of a block take turns, where they wait for each other.
 * Which warp is next, and when a copy that was asked for arrives, is left to chance: every launch another order. */
#pragma once
#include <cstddef>

struct dim3_words {
    unsigned x, y, z;
};
extern dim3_words threadIdx, blockIdx, blockDim, gridDim;

enum { SHARED_BYTES = 256 * 1024, MAX_THREADS = 1024 };
extern unsigned char shared_memory[SHARED_BYTES]; /* dynamic, aligned to 1024 bytes; 0xff at every block's start */

typedef unsigned char warp_slot[32];

/* What all 32 lanes of the warp gave, valid until the lane's next exchange but one. n <= 32 bytes. */
const warp_slot *warp_exchange(const void *mine, size_t n);
void warp_sync(void);
void block_sync(void);
void part_sync(unsigned which, unsigned n); /* n threads of the block: bar.sync 1 .. 15 */
void give_turn(void); /* to the next thread; stops the program when nothing has happened for very long */
void something_happened(void);

/* deed(what), some time while threads wait; n <= 192 bytes of what are kept. A block must not end before all are
 * done. */
void do_later(void (*deed)(const void *what), const void *what, size_t n);

void run_grid(void (*kernel)(void), unsigned grid_x, unsigned grid_y, unsigned n_threads);

[[noreturn]] void misuse(const char *what);
