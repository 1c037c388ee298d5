# SPDX-License-Identifier: Apache-2.0
"""onnxruntime's GroupQueryAttention: past and present in one buffer [B, H, kv, D], bound once; no pages.

The operator also writes the new tokens' K and V, so that its time includes that.
"""
import harness
import numpy as np
import onnxruntime as ort
from onnx import TensorProto, helper

options = harness.arguments()
PROTO = {"f32": TensorProto.FLOAT, "f16": TensorProto.FLOAT16}


def session(kind):
    q, kv = harness.Q_HEADS * harness.DIM, harness.KV_HEADS * harness.DIM
    past = ["b", harness.KV_HEADS, "m", harness.DIM]
    of = lambda name, shape, proto=PROTO[kind]: helper.make_tensor_value_info(name, proto, shape)  # noqa: E731
    node = helper.make_node(
        "GroupQueryAttention", ["query", "key", "value", "past_key", "past_value", "seqlens_k", "total"],
        ["out", "present_key", "present_value"], domain="com.microsoft", num_heads=harness.Q_HEADS,
        kv_num_heads=harness.KV_HEADS, scale=harness.SCALE)
    graph = helper.make_graph(
        [node], "attention",
        [of("query", ["b", "s", q]), of("key", ["b", "s", kv]), of("value", ["b", "s", kv]), of("past_key", past),
         of("past_value", past), of("seqlens_k", ["b"], TensorProto.INT32), of("total", [1], TensorProto.INT32)],
        [of("out", ["b", "s", q]), of("present_key", past), of("present_value", past)])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    how = ort.SessionOptions()
    how.intra_op_num_threads = options.threads
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    return ort.InferenceSession(model.SerializeToString(), how, providers=["CPUExecutionProvider"])


def value(x):
    return ort.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(x))


def prepare(case, kind, q, k, v, n_layers):
    made = session(kind)
    q, k, v = (x.astype(harness.TYPES[kind]) for x in (q, k, v))
    new = slice(case.kv_len - case.q_len, None)
    flat = lambda x: value(x.reshape(case.batch, case.q_len, -1))  # noqa: E731
    fixed = {"query": flat(q), "key": flat(k[:, new]), "value": flat(v[:, new]),
             "seqlens_k": value(np.full(case.batch, case.kv_len - 1, np.int32)),
             "total": value(np.array([case.kv_len], np.int32))}
    out = value(np.zeros((case.batch, case.q_len, harness.Q_HEADS * harness.DIM), harness.TYPES[kind]))
    bindings, kept = [], []
    for _ in range(n_layers):
        past = [value(x.transpose(0, 2, 1, 3)) for x in (k, v)]
        binding = made.io_binding()
        for name, x in (fixed | {"past_key": past[0], "past_value": past[1]}).items():
            binding.bind_ortvalue_input(name, x)
        for name, x in (("out", out), ("present_key", past[0]), ("present_value", past[1])):
            binding.bind_ortvalue_output(name, x)
        bindings.append(binding)
        kept.append(past)
    shape = (case.batch, case.q_len, harness.Q_HEADS, harness.DIM)
    return harness.Ready(lambda i: made.run_with_iobinding(bindings[i]),
                         lambda: out.numpy().astype(np.float32).reshape(shape), note="no pages; writes the new K and V")


harness.run(f"onnxruntime {ort.__version__} GQA", ["f32", "f16"], prepare, options)
