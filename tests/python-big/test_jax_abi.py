# SPDX-License-Identifier: Apache-2.0
"""xla_ffi.h says what the header of the installed jaxlib says: a C file that compiles only if they agree."""
import pathlib
import re
import shutil
import subprocess

import pytest

jax = pytest.importorskip("jax")
ROOT = pathlib.Path(__file__).resolve().parent.parent.parent

# ours -> theirs, and the fields by both names
STRUCTS = {
    "ffi_extension": ("XLA_FFI_Extension_Base", "struct_size type next", {}),
    "ffi_version": ("XLA_FFI_Api_Version", "struct_size extensions major minor",
                    {"major": "major_version", "minor": "minor_version"}),
    "ffi_error_args": ("XLA_FFI_Error_Create_Args", "struct_size extensions message code", {"code": "errc"}),
    "ffi_buffer": ("XLA_FFI_Buffer", "struct_size extensions dtype data rank dims", {}),
    "ffi_scalar": ("XLA_FFI_Scalar", "dtype value", {}),
    "ffi_span": ("XLA_FFI_ByteSpan", "text n_bytes", {"text": "ptr", "n_bytes": "len"}),
    "ffi_attrs": ("XLA_FFI_Attrs", "struct_size extensions n types names values", {"n": "size", "values": "attrs"}),
    "ffi_metadata_extension": ("XLA_FFI_Metadata_Extension", "base metadata", {"base": "extension_base"}),
}
# likewise, of structs that go on after what we know, and of which only offsets count
OPEN_STRUCTS = {
    "ffi_api": ("XLA_FFI_Api", "struct_size extensions version internal error_create",
                {"version": "api_version", "internal": "internal_api", "error_create": "XLA_FFI_Error_Create"}),
    "ffi_frame": ("XLA_FFI_CallFrame", "struct_size extensions api execution stage args rets attrs",
                  {"execution": "ctx"}),
    "ffi_metadata": ("XLA_FFI_Metadata", "struct_size version traits", {"version": "api_version"}),
}
CODES = "INVALID_ARGUMENT RESOURCE_EXHAUSTED FAILED_PRECONDITION OUT_OF_RANGE UNIMPLEMENTED INTERNAL".split()
DTYPES = "PRED S8 S32 S64 F16 F32 F64 BF16 F8E5M2 F8E4M3FN".split()
STAGES = "INSTANTIATE PREPARE INITIALIZE EXECUTE".split()
NUMBERS = {
    **{f"FFI_{code}": f"XLA_FFI_Error_Code_{code}" for code in CODES},
    **{f"FFI_{dtype}": f"XLA_FFI_DataType_{dtype}" for dtype in DTYPES},
    **{f"FFI_ATTR_{kind}": f"XLA_FFI_AttrType_{kind}" for kind in "ARRAY DICTIONARY SCALAR STRING".split()},
    **{f"FFI_{stage}": f"XLA_FFI_ExecutionStage_{stage}" for stage in STAGES},
    "FFI_BUFFER": "XLA_FFI_ArgType_BUFFER",
    "FFI_EXTENSION_METADATA": "XLA_FFI_Extension_Metadata",
    "FFI_MAJOR": "XLA_FFI_API_MAJOR",
}


def lines():
    def fields(ours, theirs, names, other):
        for name in names.split():
            their = other.get(name, {"extensions": "extension_start"}.get(name, name))
            yield f"offsetof(struct {ours}, {name}) == offsetof({theirs}, {their})"
            yield f"sizeof(((struct {ours} *)0)->{name}) == sizeof((({theirs} *)0)->{their})"

    for ours, (theirs, names, other) in STRUCTS.items():
        yield f"sizeof(struct {ours}) == sizeof({theirs})"
        yield from fields(ours, theirs, names, other)
    for ours, (theirs, names, other) in OPEN_STRUCTS.items():
        yield f"sizeof(struct {ours}) <= sizeof({theirs})"
        yield from fields(ours, theirs, names, other)
    for theirs, values in (("XLA_FFI_Args", "args"), ("XLA_FFI_Rets", "rets")):
        yield f"sizeof(struct ffi_values) == sizeof({theirs})"
        names = "struct_size extensions n types values"
        yield from fields("ffi_values", theirs, names, {"n": "size", "values": values})
    for ours, theirs in NUMBERS.items():
        yield f"(int)({ours}) == (int)({theirs})"


@pytest.fixture(scope="module")
def compiler():
    found = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if not found:
        pytest.skip("no C compiler")
    header = pathlib.Path(jax.ffi.include_dir()) / "xla/ffi/api/c_api.h"
    if not header.exists():
        pytest.skip(f"this jaxlib has no {header.name}")
    folders = [f"-I{ROOT / 'python/ext'}", f"-I{jax.ffi.include_dir()}"]
    return [found, "-std=c11", "-fsyntax-only", *folders, "-x", "c", "-"]


def check(compiler, assertions):
    text = '#include <stddef.h>\n#include "xla/ffi/api/c_api.h"\n#include "xla_ffi.h"\n'
    text += "".join(f'_Static_assert({a}, "{a}");\n' for a in assertions)
    return subprocess.run(compiler, input=text, capture_output=True, text=True)


def test_layouts_and_numbers(compiler):
    run = check(compiler, lines())
    assert run.returncode == 0, run.stderr


def test_the_check_can_fail(compiler):
    run = check(compiler, ["sizeof(struct ffi_buffer) == sizeof(XLA_FFI_Scalar)"])
    assert run.returncode != 0 and "static assertion failed" in run.stderr


def test_every_struct_and_number_is_checked():
    text = (ROOT / "python/ext/xla_ffi.h").read_text()
    structs = set(re.findall(r"^struct (\w+) \{", text, re.M))
    assert structs == {*STRUCTS, *OPEN_STRUCTS, "ffi_values"}
    numbers = set(re.findall(r"\b(FFI_\w+) = ", text)) - {"FFI_MINOR"}
    assert numbers == set(NUMBERS)
