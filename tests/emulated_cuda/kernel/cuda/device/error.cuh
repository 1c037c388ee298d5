/* SPDX-License-Identifier: Apache-2.0
 * error.cuh: instead of the device's: a record is written without an instruction that writes it whole. */
#pragma once
#include "kernel/cuda/device/numbers.cuh"
#include "kernel/cuda/device/work.h"

DEVICE void report_error(struct cuda_error *record, i32 code, i64 row, i64 column, i64 value)
{
    if (record->code_row)
        return;
    record->column = (i32)column;
    record->value = value;
    record->code_row = (u32)code << 28 | (u32)row;
}
