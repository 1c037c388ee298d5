# SPDX-License-Identifier: Apache-2.0
"""OpenVINO's PagedAttention on its CPU plugin, a model of that one operator; blocks of 32 in random order.

The operator also writes the new tokens' K and V, so that its time includes that. Its 28 inputs are those of OpenVINO
2026; another version that takes other ones is reported as unsupported.
"""
import harness
import ml_dtypes
import numpy as np
import openvino as ov
from openvino.op import _PagedAttentionExtension as PagedAttention

options = harness.arguments()
PAGE = 32
TYPES = {"f32": ov.Type.f32, "bf16": ov.Type.bf16}


def model(kind):
    """Parameters q, k, v, K cache, V cache, past lengths, row starts, block ids, block starts, longest length."""
    parameter = lambda t, shape: ov.op.Parameter(t, ov.PartialShape(shape))  # noqa: E731
    constant = lambda t, shape, x=(): ov.op.Constant(t, ov.Shape(shape), list(x))  # noqa: E731
    i32, f32, t = ov.Type.i32, ov.Type.f32, TYPES[kind]
    given = [parameter(t, [-1, h * harness.DIM]) for h in (harness.Q_HEADS, harness.KV_HEADS, harness.KV_HEADS)]
    given += [parameter(t, [-1, harness.KV_HEADS, PAGE, harness.DIM]) for _ in range(2)]
    given += [parameter(i32, [-1]) for _ in range(4)]
    longest = parameter(i32, [])
    no_ints, no_floats = (lambda: constant(i32, [0])), (lambda: constant(f32, [0]))
    number = lambda x: constant(i32, [], [x])  # noqa: E731
    absent = [number(0), no_floats(), longest, no_ints(), no_ints(), no_ints(), no_floats(), no_floats(), number(0),
              number(0), no_floats(), number(0), no_ints(), no_ints(), no_ints(), no_ints(),
              constant(ov.Type.u8, [0]), no_ints()]
    node = PagedAttention([x.output(0) for x in [*given, constant(f32, [], [harness.SCALE]), *absent]])
    about = node.get_rt_info()
    about["num_k_heads"] = about["num_v_heads"] = harness.KV_HEADS
    about["k_head_size"] = about["v_head_size"] = harness.DIM
    inputs = [*given, longest]
    for i, x in enumerate(inputs):
        x.set_friendly_name(f"p{i}")
    return ov.Model([node.output(0)], inputs)


def compile_model(kind):
    how = {"INFERENCE_NUM_THREADS": options.threads, "NUM_STREAMS": 1, "INFERENCE_PRECISION_HINT": TYPES[kind],
           "KV_CACHE_PRECISION": TYPES[kind]}
    try:
        return ov.Core().compile_model(model(kind), "CPU", how)
    except Exception as error:
        raise harness.Unsupported(f"{type(error).__name__}: {error}".splitlines()[0][:160]) from error


def tensor(x, kind):
    """A float32 array as a tensor [tokens, H * D]."""
    x = np.ascontiguousarray(x.reshape(-1, x.shape[2] * harness.DIM).astype(harness.TYPES[kind]))
    made = ov.Tensor(TYPES[kind], ov.Shape(x.shape))
    made.data.view(np.uint8).reshape(-1)[:] = x.view(np.uint8).reshape(-1)
    return made


def floats(x, kind):
    data = np.array(x.data)
    return (data.view(ml_dtypes.bfloat16) if kind == "bf16" and data.dtype.itemsize == 2 else data).astype(np.float32)


def prepare(case, kind, q, k, v, n_layers):
    compiled = compile_model(kind)
    columns = case.kv_len // PAGE
    ids = np.random.default_rng(3).permutation(case.batch * columns).astype(np.int32)
    ints = lambda x: ov.Tensor(np.asarray(x, np.int32))  # noqa: E731

    def request(pools, past, count, tensors):
        made = compiled.create_infer_request()
        given = [*tensors, *pools, ints([past] * case.batch), ints(np.arange(case.batch + 1) * count), ints(ids),
                 ints(np.arange(case.batch + 1) * columns), ints(case.kv_len)]
        for i, x in enumerate(given):
            made.set_input_tensor(i, x)
        return made, given

    new = slice(case.kv_len - case.q_len, None)
    step = [tensor(x, kind) for x in (q, k[:, new], v[:, new])]
    prompt = [tensor(x, kind) for x in (np.zeros((case.batch, case.kv_len, harness.Q_HEADS, harness.DIM), np.float32),
                                        k, v)]
    requests, filled = [], []
    for _ in range(n_layers):
        shape = ov.Shape([case.batch * columns, harness.KV_HEADS, PAGE, harness.DIM])
        pools = [ov.Tensor(TYPES[kind], shape) for _ in range(2)]
        for pool in pools:
            pool.data.view(np.uint8)[...] = 0
        if case.q_len < case.kv_len and not filled:  # the operator fills the cache: a prompt of kv_len tokens
            request(pools, 0, case.kv_len, prompt)[0].infer()
            filled = pools
        for pool, full in zip(pools, filled):
            pool.data.view(np.uint8)[...] = full.data.view(np.uint8)
        requests.append(request(pools, case.kv_len - case.q_len, case.q_len, step))
    last = [0]

    def run(i):
        requests[i][0].infer()
        last[0] = i

    shape = (case.batch, case.q_len, harness.Q_HEADS, harness.DIM)
    return harness.Ready(run, lambda: floats(requests[last[0]][0].get_output_tensor(0), kind).reshape(shape), PAGE,
                         "writes the new K and V")


harness.run(f"OpenVINO {ov.__version__.split('-')[0]} PA", ["bf16", "f32"], prepare, options)
