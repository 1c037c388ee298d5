/* SPDX-License-Identifier: Apache-2.0
 * probe.h: what this machine can do at most, right now: read bandwidth from memory and fused multiply-adds, both on all
 * threads at once. Every measured number is reported as a share of one of these, taken in the same run: neighbours on
 * the same host move both.
 *
 *   thread 0  ── reads ──► its part of a buffer larger than every cache, 1 MB at a time
 *   thread 1  ── reads ──► its part                                       likewise for multiply-adds in registers
 *
 * A thread's rate is that of its median piece, as a kernel's time is that of its median repetition: a piece during
 * which the thread was not running says nothing about the machine. The result is the sum over threads. */
#ifndef CLI_PROBE_H
#define CLI_PROBE_H

#include "folio/device.h"
#include "types.h"

struct probe;

/* isa: the probe's instructions, at most the machine's; FOLIO_ISA_AUTO = the best. NULL: no memory or no threads. */
struct probe *probe_open(i32 n_threads, folio_isa isa);
void probe_close(struct probe *probe);

/* One measurement of about `seconds`. */
double probe_read_gb_s(struct probe *probe, double seconds);
/* Multiply-adds of f32; with bf16, the better of that and pairs or tiles of bf16, when isa has them. */
double probe_peak_gflop_s(struct probe *probe, bool bf16, double seconds);

/* For the bodies, probe_<isa>.c: the same C compiled with different flags. */
struct read_style {
    i32 n_streams;      /* places read in turn: 1, 2, 4 or 8 */
    i32 prefetch_lines; /* lines ahead of each stream; 0 = leave it to the hardware */
};
struct probe_body {
    /* Reads part [bytes], a multiple of 8 * 1024; returns something that depends on every byte. */
    u64 (*read)(const u8 *part, size_t bytes, struct read_style style);
    /* n rounds of independent multiply-adds; returns something that depends on all. */
    double (*fma)(i64 n_rounds, double x);
    double flops_per_round;
};
extern const struct probe_body probe_c, probe_avx2, probe_avx512;
extern const struct probe_body probe_avx512_bf16, probe_amx; /* have no read */

#endif
