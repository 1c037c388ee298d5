/* SPDX-License-Identifier: Apache-2.0
 * test_dlpack.c: our declarations have the layout and the numbers of the DLPack ABI, alone and after an official
 * header. Built twice: as it is, and with OFFICIAL_DLPACK naming a header to include first. */
#ifdef OFFICIAL_DLPACK
#include OFFICIAL_DLPACK
#endif
#include "folio/dlpack.h"
#ifdef OFFICIAL_DLPACK
#include OFFICIAL_DLPACK
#endif

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#define AT(type, field, offset) _Static_assert(offsetof(type, field) == (offset), #type "." #field)

_Static_assert(sizeof(void *) == 8, "the offsets below are those of a 64-bit machine");
_Static_assert(sizeof(DLDevice) == 8 && sizeof(DLDeviceType) == 4 && sizeof(DLDataType) == 4, "scalars");
AT(DLDevice, device_type, 0);
AT(DLDevice, device_id, 4);
AT(DLDataType, code, 0);
AT(DLDataType, bits, 1);
AT(DLDataType, lanes, 2);

_Static_assert(sizeof(DLTensor) == 48, "DLTensor");
AT(DLTensor, data, 0);
AT(DLTensor, device, 8);
AT(DLTensor, ndim, 16);
AT(DLTensor, dtype, 20);
AT(DLTensor, shape, 24);
AT(DLTensor, strides, 32);
AT(DLTensor, byte_offset, 40);

_Static_assert(sizeof(DLManagedTensor) == 64, "DLManagedTensor");
AT(DLManagedTensor, dl_tensor, 0);
AT(DLManagedTensor, manager_ctx, 48);
AT(DLManagedTensor, deleter, 56);

_Static_assert(sizeof(DLPackVersion) == 8 && sizeof(DLManagedTensorVersioned) == 80, "DLManagedTensorVersioned");
AT(DLPackVersion, major, 0);
AT(DLPackVersion, minor, 4);
AT(DLManagedTensorVersioned, version, 0);
AT(DLManagedTensorVersioned, manager_ctx, 8);
AT(DLManagedTensorVersioned, deleter, 16);
AT(DLManagedTensorVersioned, flags, 24);
AT(DLManagedTensorVersioned, dl_tensor, 32);

#if DLPACK_MINOR_VERSION >= 3
_Static_assert(sizeof(DLPackExchangeAPI) == 56 && sizeof(DLPackExchangeAPIHeader) == 16, "DLPackExchangeAPI");
AT(DLPackExchangeAPIHeader, prev_api, 8);
AT(DLPackExchangeAPI, managed_tensor_allocator, 16);
AT(DLPackExchangeAPI, managed_tensor_from_py_object_no_sync, 24);
AT(DLPackExchangeAPI, managed_tensor_to_py_object_no_sync, 32);
AT(DLPackExchangeAPI, dltensor_from_py_object_no_sync, 40);
AT(DLPackExchangeAPI, current_work_stream, 48);
#endif

static void the_numbers_are_those_of_the_abi(void **state)
{
    (void)state;
    assert_int_equal(DLPACK_MAJOR_VERSION, 1);
    assert_int_equal(kDLCPU, 1);
    assert_int_equal(kDLCUDA, 2);
    assert_int_equal(kDLCUDAHost, 3);
    assert_int_equal(kDLCUDAManaged, 13);
    assert_int_equal(kDLInt, 0);
    assert_int_equal(kDLUInt, 1);
    assert_int_equal(kDLFloat, 2);
    assert_int_equal(kDLBfloat, 4);
    assert_int_equal(kDLComplex, 5);
    assert_int_equal(kDLBool, 6);
    assert_int_equal(kDLFloat8_e4m3fn, 10);
    assert_int_equal(kDLFloat8_e5m2, 12);
    assert_int_equal(kDLFloat4_e2m1fn, 17);
    assert_int_equal(DLPACK_FLAG_BITMASK_READ_ONLY, 1);
    assert_int_equal(DLPACK_FLAG_BITMASK_IS_COPIED, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(the_numbers_are_those_of_the_abi) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
