# SPDX-License-Identifier: Apache-2.0
"""ggml's flash attention operator; K and V contiguous, f16.

Its libraries are those that the package pywhispercpp carries, whose build knows AVX2 and no later instructions, or the
libggml-base.so and libggml-cpu.so of a build of one's own in the folder that FOLIO_GGML names.
"""
import ctypes as C
import glob
import os
import sysconfig

import harness
import numpy as np

options = harness.arguments()
F16, F32 = 1, 0
FOLDER = os.environ.get("FOLIO_GGML") or os.path.join(sysconfig.get_path("purelib"), "pywhispercpp.libs")
LIBRARIES = os.path.join(FOLDER, "libggml-{}[-.]*so*")
found = [path for name in ("base", "cpu") for path in glob.glob(LIBRARIES.format(name))[:1]]
if len(found) < 2:
    raise SystemExit(f"no {LIBRARIES.format('base')} and cpu: pip install pywhispercpp, or set FOLIO_GGML")
base, cpu = (C.CDLL(path, C.RTLD_GLOBAL) for path in found)


class Memory(C.Structure):
    _fields_ = [("size", C.c_size_t), ("buffer", C.c_void_p), ("no_alloc", C.c_bool)]


class Pool(C.Structure):  # of threads
    _fields_ = [("cpus", C.c_bool * 512), ("n_threads", C.c_int), ("priority", C.c_int), ("poll", C.c_uint32),
                ("strict", C.c_bool), ("paused", C.c_bool)]


class Plan(C.Structure):
    _fields_ = [("work_size", C.c_size_t), ("work", C.c_void_p), ("n_threads", C.c_int), ("pool", C.c_void_p),
                ("abort", C.c_void_p), ("abort_data", C.c_void_p), ("later", C.c_byte * 64)]


def declare(lib, name, result, *arguments):
    function = getattr(lib, name)
    function.restype, function.argtypes = result, arguments
    return function


P, N, F = C.c_void_p, C.c_int64, C.c_float
ggml_init = declare(base, "ggml_init", P, Memory)
ggml_free = declare(base, "ggml_free", None, P)
new_tensor = declare(base, "ggml_new_tensor_4d", P, P, C.c_int, N, N, N, N)
data_of = declare(base, "ggml_get_data", P, P)
flash_attention = declare(base, "ggml_flash_attn_ext", P, P, P, P, P, P, F, F, F)
new_graph = declare(base, "ggml_new_graph_custom", P, P, C.c_size_t, C.c_bool)
expand = declare(base, "ggml_build_forward_expand", None, P, P)
pool_defaults = declare(base, "ggml_threadpool_params_default", Pool, C.c_int)
new_pool = declare(cpu, "ggml_threadpool_new", P, C.POINTER(Pool))
plan_graph = declare(cpu, "ggml_graph_plan", Plan, P, C.c_int, P)
compute = declare(cpu, "ggml_graph_compute", C.c_int, P, C.POINTER(Plan))
declare(cpu, "ggml_cpu_init", None)()
NOTE = "no pages; " + ("AVX-512" if declare(cpu, "ggml_cpu_has_avx512", C.c_int)() else "AVX2")
how = pool_defaults(options.threads)
pool = new_pool(C.byref(how))


def put(tensor, x):
    C.memmove(data_of(tensor), np.ascontiguousarray(x).ctypes.data, x.nbytes)
    return tensor


def mask_of(case):
    """[q_len padded to 64, kv_len] f16: 0 or -inf."""
    mask = np.zeros((-(-case.q_len // 64) * 64, case.kv_len), np.float16)
    behind = case.kv_len - case.q_len
    mask[: case.q_len][np.arange(case.kv_len) > np.arange(case.q_len)[:, None] + behind] = -np.inf
    return mask


def prepare(case, kind, q, k, v, n_layers):
    rows = case.batch * case.q_len * harness.Q_HEADS * harness.DIM
    room = n_layers * (case.kv_bytes(2) + 4 * rows + (1 << 20)) + 4 * rows + (64 << 20)
    context = ggml_init(Memory(room, None, False))
    dims = lambda n, heads: (harness.DIM, n, heads, case.batch)  # noqa: E731
    heads_first = lambda x, t: np.ascontiguousarray(x.transpose(0, 2, 1, 3).astype(t))  # noqa: E731
    query = put(new_tensor(context, F32, *dims(case.q_len, harness.Q_HEADS)), heads_first(q, np.float32))
    mask = None
    if case.q_len > 1:
        m = mask_of(case)
        mask = put(new_tensor(context, F16, m.shape[1], m.shape[0], 1, 1), m)
    graphs, outs, works = [], [], []
    for _ in range(n_layers):
        cache = [put(new_tensor(context, F16, *dims(case.kv_len, harness.KV_HEADS)), heads_first(x, np.float16))
                 for x in (k, v)]
        outs.append(flash_attention(context, query, *cache, mask, harness.SCALE, 0.0, 0.0))
        graph = new_graph(context, 16, False)
        expand(graph, outs[-1])
        plan = plan_graph(graph, options.threads, pool)
        works.append(C.create_string_buffer(plan.work_size + 64))
        plan.work = C.addressof(works[-1])
        graphs.append((graph, plan))
    last = [0]

    def run(i):
        if compute(graphs[i][0], C.byref(graphs[i][1])):
            raise RuntimeError("ggml_graph_compute")
        last[0] = i

    shape = (case.batch, case.q_len, harness.Q_HEADS, harness.DIM)
    read = lambda: np.frombuffer((C.c_float * rows).from_address(data_of(outs[last[0]])), np.float32)  # noqa: E731
    ready = harness.Ready(run, lambda: read().reshape(shape).copy(), note=NOTE)
    ready.kept = works
    return ready


version = declare(base, "ggml_version", C.c_char_p)().decode() if hasattr(base, "ggml_version") else ""
harness.run(f"ggml {version} flash".replace("  ", " "), ["f16"], prepare, options)
