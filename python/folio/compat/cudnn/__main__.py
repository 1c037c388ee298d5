# SPDX-License-Identifier: Apache-2.0
"""python -m folio.compat.cudnn --demo: paged attention through cuDNN's calls, its error and its time.

--batch, --heads, --kv-heads, --length, --dim, --block   of the problem; the defaults are those of cuDNN's own sample
With PyTorch the arrays are its tensors and its scaled_dot_product_attention is timed beside, on the same contiguous K
and V; without it they are NumPy's. The error is against double precision, over every row of the first and last head.
"""
import argparse
import importlib.util
import statistics
import time

import folio
import folio.compat.cudnn as cudnn
import numpy as np

N_TIMES = 5


def milliseconds(call):
    times = []
    for _ in range(N_TIMES):
        start = time.perf_counter()
        call()
        times.append(1e3 * (time.perf_counter() - start))
    return statistics.median(times)


def build(arrays, scale, length):
    """A causal graph over arrays {name: array}: (graph, variant pack)."""
    graph = cudnn.pygraph(io_data_type=cudnn.data_type.HALF, compute_data_type=cudnn.data_type.FLOAT)
    pack = {graph.tensor_like(x, name): x for name, x in arrays.items() if name != "o"}
    named = {t.get_name(): t for t in pack}
    o, _ = graph.sdpa(is_inference=True, attn_scale=scale, use_causal_mask=True, use_padding_mask=True,
                      paged_attention_max_seq_len_kv=length, **named)
    o.set_output(True)
    pack[o] = arrays["o"]
    graph.build([cudnn.heur_mode.A])
    return graph, pack


def error(q, k, v, o, scale):
    """The greatest difference to double precision. q, o [B, Hq, S, D], k, v [B, Hk, S, D], NumPy."""
    worst = 0.0
    group = q.shape[1] // k.shape[1]
    for b in range(len(q)):
        for h in {0, q.shape[1] - 1}:
            q64, k64, v64 = (x.astype(np.float64) for x in (q[b, h], k[b, h // group], v[b, h // group]))
            scores = np.where(np.tri(len(q64), dtype=bool), scale * (q64 @ k64.T), -np.inf)
            weights = np.exp(scores - scores.max(1, keepdims=True))
            worst = max(worst, np.abs(weights @ v64 / weights.sum(1, keepdims=True) - o[b, h]).max())
    return worst


def demo(a):
    rng = np.random.default_rng(42)
    memory = [rng.standard_normal((a.batch, a.length, h, a.dim), np.float32).astype(np.float16)
              for h in (a.heads, a.kv_heads, a.kv_heads)]
    has_torch = importlib.util.find_spec("torch") is not None
    if has_torch:
        import torch

        memory = [torch.from_numpy(x) for x in memory]
    q, k, v = (x.transpose(1, 2) if has_torch else x.swapaxes(1, 2) for x in memory)
    (k_blocks, k_table), (v_blocks, v_table) = (folio.pages_from_contiguous(x, a.block) for x in (k, v))
    lengths = np.full((a.batch, 1, 1, 1), a.length, np.int32)
    lengths = torch.from_numpy(lengths) if has_torch else lengths
    o = (torch if has_torch else np).empty_like(q)
    scale = a.dim**-0.5
    graph, pack = build({"q": q, "k": k_blocks, "v": v_blocks, "seq_len_q": lengths, "seq_len_kv": lengths,
                         "paged_attention_k_table": k_table, "paged_attention_v_table": v_table, "o": o},
                        scale, a.length)
    graph.execute(pack)
    print(f"q {tuple(q.shape)}, K and V blocks {tuple(k_blocks.shape)}, tables {tuple(k_table.shape)}, {q.dtype}")
    print(f"max error against float64    {error(*(np.asarray(x) for x in (q, k, v, o)), scale):.2e}")
    print(f"folio.compat.cudnn, paged    {milliseconds(lambda: graph.execute(pack)):.2f} ms")
    if not has_torch:
        return
    sdpa = torch.nn.functional.scaled_dot_product_attention
    call = lambda: sdpa(q, k, v, is_causal=True, scale=scale, enable_gqa=a.heads != a.kv_heads)  # noqa: E731
    with torch.inference_mode():
        print(f"PyTorch SDPA, contiguous     {milliseconds(call):.2f} ms, differs by {(call() - o).abs().max():.2e}")


def main():
    parser = argparse.ArgumentParser(prog="python -m folio.compat.cudnn", description=__doc__.splitlines()[0])
    parser.add_argument("--demo", action="store_true", required=True)
    for name, value in (("batch", 4), ("heads", 12), ("kv-heads", 12), ("length", 1024), ("dim", 64), ("block", 64)):
        parser.add_argument(f"--{name}", type=int, default=value)
    demo(parser.parse_args())


if __name__ == "__main__":
    main()
