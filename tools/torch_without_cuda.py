# SPDX-License-Identifier: Apache-2.0
"""torch_without_cuda.py: lets the CUDA build of PyTorch, the one the package index has for x86-64, run without the
gigabytes of CUDA libraries. Run by the environment that has torch.

Each library torch asks for and does not have becomes an empty one beside torch's own; one of them defines every CUDA
symbol torch mentions as a function that returns "no device". Symbols are bound lazily, so nothing else is needed.
"""
import os
import pathlib
import re
import subprocess
import sys
import sysconfig

SITE = pathlib.Path(sysconfig.get_path("purelib"))
LIB = SITE / "torch" / "lib"
CUDA_LIBRARY = re.compile(r"lib(cu|nccl|nvrtc|nvshmem|nvJitLink)\w*\.so\.\d+")
CUDA_PREFIXES = "cu[A-Z]|cuda|cublas|cudnn|cufft|cupti|curand|cusolver|cusparse|cufile|nccl|nvrtc|nvshmem|__cuda"
CUDA_SYMBOL = re.compile(rf" U ((?:{CUDA_PREFIXES})\w*)")
NO_DEVICE = 100


def output(*command):
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def compile_library(name, source):
    command = ["gcc", "-shared", "-fPIC", "-w", "-x", "c", "-", f"-Wl,-soname,{name}", "-o", LIB / name]
    subprocess.run(command, input=source, text=True, check=True)


own = sorted(LIB.glob("*.so*"))
needed = {n for so in own for n in re.findall(r"\(NEEDED\).*\[(.*)\]", output("readelf", "-dW", so))}
missing = sorted(n for n in needed if CUDA_LIBRARY.fullmatch(n) and not (LIB / n).exists())
if not missing:
    sys.exit(0)
wanted = {s for so in own for s in CUDA_SYMBOL.findall(output("nm", "-D", "--undefined-only", so))}
defined = {s for so in own for s in re.findall(r" [TWDBR] (\w+)", output("nm", "-D", "--defined-only", so))}
aliases = "".join(f'int {s}(void) __attribute__((alias("no_device")));\n' for s in sorted(wanted - defined))
for name in missing:
    no_device = f"static int no_device(void) {{ return {NO_DEVICE}; }}\n"
    compile_library(name, no_device + (aliases if name == missing[0] else ""))
(SITE / "folio_lazy_binding.pth").write_text("import os, sys; sys.setdlopenflags(os.RTLD_LAZY)\n")
print(f"torch_without_cuda: {len(missing)} empty libraries, {len(wanted - defined)} symbols that say: no device")
