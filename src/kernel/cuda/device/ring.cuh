/* SPDX-License-Identifier: Apache-2.0
 * ring.cuh: who works in a block of the decode kernel, and what passes between them.
 *
 *   K producers ──► ring of K tiles ──┐
 *   V producers ──► ring of V tiles ──┼─► 4 consumer warps ──► parts of a leaf ──► merger warps ──► slots, out, lse
 *   clerk ────────► jobs, with Q ─────┘
 *
 * Every arrow is a ring of one or more slots with a full and an empty barrier each. Beside that only mergers wait, for
 * what other blocks leave in slots (tree.cuh).
 *
 * With 16 rows, up to head_dim 128, and with 32 there are 4 consumers for each half of them. With 32 rows parts would
 * leave no memory for tiles: the four of a half fold theirs into one and that into the node, one after another
 * (leaf.cuh).
 *
 * A slot of a ring of tiles holds TILE tokens of one kv head as boxes of a power of two tokens, each box as columns
 * of 64 elements:
 *
 *   box 0: [64 elements of token 0][of token 1] ... | the next 64 of token 0 ... |      128 bytes a line
 *   box 1: ...
 *
 * The 16-byte pieces of a line lie at piece ^ (line % 8): what the copy engine calls a 128-byte swizzle, counted from
 * the address of the line, wherever its box begins; eight lines of a matrix then never share a bank.
 *
 * Fine boxes, of any number of tokens, begin anywhere in a tile: there a token's lines follow one another, and of 128
 * elements two of eight lines share their banks. */
#pragma once
#include "kernel/cuda/device/line.cuh"
#include "kernel/cuda/device/ptx.cuh"

enum {
    TOKEN_WARPS = 4, /* share the tokens of a tile */
    IS_SMALL = CONFIG_D_QK <= 128 && CONFIG_ROWS <= 16,
    HALVES =
        CONFIG_ROWS >= 32 || (CONFIG_ROWS == 16 && IS_SMALL) ? 2 : 1, /* of the rows, with consumers of their own */
    CONSUMER_WARPS = TOKEN_WARPS * HALVES,
    HALF_ROWS = CONFIG_ROWS / HALVES,
    HAS_RELAY = CONFIG_ROWS >= 32,
    LEAF_PARTS = HAS_RELAY ? 1 : TOKEN_WARPS, /* that mergers fold */
    IS_GATHER = CONFIG_LOADER == LOAD_GATHER,
    HAS_CLERK = IS_SMALL && CONFIG_LOADER == LOAD_BOXES, /* else the first V producer writes the jobs */
    /* 13 to 16 warps have 128 registers each, 9 to 12 have 168; 8 have 255, which large heads need */
    MERGER_WARPS = HAS_CLERK && CONFIG_ROWS == 8 ? 8
                   : IS_SMALL                    ? 4
                                                 : 2,
    HAS_FOUR = IS_GATHER && IS_SMALL && CONFIG_ROWS == 8, /* a copy of 16 bytes costs as much as a box */
    HAS_TWO = CONFIG_LOADER != LOAD_BOXES && (IS_SMALL || (IS_GATHER && CONFIG_ROWS == 8)),
    PRODUCERS = HAS_FOUR  ? 4
                : HAS_TWO ? 2
                          : 1,                     /* warps for K, and for V */
    FIRST_MERGER = CONSUMER_WARPS + 2 * PRODUCERS, /* warp */
    CLERK = FIRST_MERGER + MERGER_WARPS,
    THREADS = 32 * (CLERK + HAS_CLERK),
    STEPS = CONFIG_D_QK <= 128 ? 2 : 1, /* of 16 tokens a warp and tile */
    TILE = 16 * TOKEN_WARPS * STEPS,
    LINE = 128,                 /* bytes: 64 elements */
    K_LINES = CONFIG_D_QK / 64, /* a token */
    V_LINES = CONFIG_D_V / 64,
    K_BYTES = TILE * K_LINES * LINE,
    V_BYTES = TILE * V_LINES * LINE,
    Q_PITCH = CONFIG_D_QK * 2 + 16, /* bytes */
    Q_BYTES = CONFIG_ROWS * Q_PITCH,
    MAX_SLOTS = 8,
    N_JOBS = 2,
    CLAIMS = CONFIG_ROWS == 8, /* what the plan has none of costs the other kernels a register too many */
    N_CLAIMS = 2,
    MAX_PARTS = 2,
    HAS_COLUMNS = 0,
};
#include "kernel/cuda/device/tiles.cuh"

/* A share, as consumers and mergers need it. */
struct job {
    struct share share;                               /* none: there are no more */
    float scale;                                      /* base-2 */
    float cap, cap_in;                                /* cap * log2 e; 2 * scale * log2 e / cap */
    i32 all_begin, all_end;                           /* keys that every row sees */
    i32 row_begin[CONFIG_ROWS], row_end[CONFIG_ROWS]; /* keys that a row sees */
    i32 origin[CONFIG_ROWS];                          /* where a row stands */
    float slope[CONFIG_ROWS];                         /* * log2 e */
    i32 head;                                         /* kv head */
};

/* A sequence of one kv head for the block to take; head -1: there are no more. */
struct claim {
    struct walk walk;
    i32 head, unused;
};

struct shared {
    struct ring k, v;
    u64 claim_full[N_CLAIMS], claim_empty[N_CLAIMS];
    struct claim claims[N_CLAIMS];
    u64 job_full[N_JOBS], job_empty[N_JOBS];
    u64 part_full[MAX_PARTS], part_empty[MAX_PARTS];
    u64 part_turn[HALVES][TOKEN_WARPS]; /* relay: this one has folded, it is the next one's turn */
    struct job jobs[N_JOBS];
    u32 is_late;                                          /* the grid before has ended (ahead.cuh) */
    u32 n_leaves[CONSUMER_WARPS], n_jobs[CONSUMER_WARPS]; /* that a consumer has finished: its places in those rings */
};

/* The first row of this consumer's half. */
DEVICE i32 first_row(void)
{
    return HALVES == 1 ? 0 : (i32)(threadIdx.x / (32u * TOKEN_WARPS) * HALF_ROWS);
}

/* Which of the warps that share a tile this consumer is. */
DEVICE i32 token_warp(void)
{
    return (i32)(threadIdx.x / 32 % TOKEN_WARPS);
}

/* Dynamic shared memory: tiles of K, of V (1024-byte aligned: the swizzle counts from there), Q of the jobs, then the
 * mergers' (decode.cu). */
DEVICE u8 *v_slots(u8 *memory, const struct cuda_decode *decode)
{
    return memory + decode->n_slots * K_BYTES;
}

DEVICE u8 *q_slots(u8 *memory, const struct cuda_decode *decode)
{
    return memory + decode->n_slots * (K_BYTES + V_BYTES);
}

/* Byte offset in a slot of a token's first line. */
DEVICE u32 token_offset(i32 token, i32 box_shift, i32 n_lines)
{
    if (CONFIG_LOADER == LOAD_FINE)
        return (u32)(token * n_lines) * LINE;
    return (u32)((token >> box_shift << box_shift) * n_lines + (token & ((1 << box_shift) - 1))) * LINE;
}
