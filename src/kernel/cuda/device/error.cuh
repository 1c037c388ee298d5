/* SPDX-License-Identifier: Apache-2.0
 * error.cuh: what a kernel found wrong, where the host sees it without waiting. */
#pragma once
#include "kernel/cuda/device/numbers.cuh"
#include "kernel/cuda/device/work.h"

/* The first stays: a record that holds one is left alone (two at the same moment: one of them, whole). */
DEVICE void report_error(struct cuda_error *record, i32 code, i64 row, i64 column, i64 value)
{
    if (*(volatile u32 *)&record->code_row)
        return;
    asm volatile("st.volatile.global.v4.b32 [%0], {%1, %2, %3, %4};" ::"l"(record), "r"((u32)code << 28 | (u32)row),
                 "r"((i32)column), "r"((u32)value), "r"((u32)(value >> 32))
                 : "memory");
}
