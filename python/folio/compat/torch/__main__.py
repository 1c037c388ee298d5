# SPDX-License-Identifier: Apache-2.0
"""python -m folio.compat.torch --demo: PagedAttention and flex_attention beside PyTorch's own, error and time.

--batch, --heads, --kv-heads, --length, --queries, --dim, --page, --dtype, --device   of the problem
--compile                                                          PyTorch's flex_attention compiled, where it compiles

Both managers are filled with the same tokens; both see the same logical causal mask, query i at position length -
queries + i. The error is against double precision, over every row of the first and last head.
"""
import argparse
import statistics
import time
import warnings

import torch
from folio.compat.torch import PagedAttention, flex_attention
from torch.nn.attention import flex_attention as torch_flex
from torch.nn.attention.experimental._paged_attention import PagedAttention as Original

N_TIMES, SECONDS = 5, 0.3  # at least, of each call: threads of the call before may still be waiting busily


def milliseconds(call, device):
    times = []
    end = time.perf_counter() + SECONDS
    while len(times) <= N_TIMES or time.perf_counter() < end:
        start = time.perf_counter()
        call()
        if device != "cpu":
            torch.cuda.synchronize()
        times.append(1e3 * (time.perf_counter() - start))
    return statistics.median(times[1:])


class Scenario:
    """One problem in both managers, the pages of the rows handed out in turns, so that they lie mixed."""

    def __init__(self, a):
        self.a = a
        self.dtype = getattr(torch, a.dtype)
        per_row = -(-a.length // a.page)
        shape = (1, a.kv_heads, a.batch * per_row * a.page, a.dim)
        self.ours = PagedAttention(a.batch * per_row, a.page, a.batch, a.device)
        self.theirs = Original(a.batch * per_row, a.page, a.batch, a.device)
        self.memory = [[torch.zeros(shape, dtype=self.dtype, device=a.device) for _ in "kv"] for _ in range(2)]
        self.q = self.random(a.batch, a.heads, a.queries, a.dim)
        self.k, self.v = (self.random(a.batch, a.kv_heads, a.length, a.dim) for _ in "kv")
        for pages in range(1, per_row + 1):
            for row in range(a.batch):
                for manager in (self.ours, self.theirs):
                    manager.reserve(torch.tensor([row], device=a.device),
                                    torch.tensor([min(a.length, pages * a.page)], device=a.device))
        self.kv_len = torch.full((a.batch,), a.length, device=a.device)
        first = a.length - a.queries
        self.mask = torch_flex.create_block_mask(
            lambda b, h, q, kv: q + first >= kv, a.batch, 1, a.queries, per_row * a.page, a.device,
            BLOCK_SIZE=(128, a.page))

    def random(self, *shape):
        return torch.randn(shape, device=self.a.device).to(self.dtype)

    def assign(self, which):
        """Every token of every row, into the caches of ours (0) or theirs (1)."""
        rows = torch.arange(self.a.batch, device=self.a.device)
        positions = torch.arange(self.a.length, device=self.a.device).expand(self.a.batch, -1)
        (self.ours, self.theirs)[which].assign(rows, positions, self.k, self.v, *self.memory[which])

    def fast(self):
        return flex_attention(self.q, *self.memory[0], None, self.mask, enable_gqa=True, paged=self.ours,
                              kv_len=self.kv_len)

    def original(self, flex):
        mask = self.theirs.convert_logical_block_mask(self.mask, kv_len=self.kv_len)
        mod = self.theirs.get_score_mod(None, self.kv_len)
        return lambda: flex(self.q, *self.memory[1], mod, mask, enable_gqa=True)

    def error(self, out):
        worst, group = 0.0, self.a.heads // self.a.kv_heads
        first = self.a.length - self.a.queries
        keep = torch.arange(self.a.length)[None] <= torch.arange(self.a.queries)[:, None] + first
        for b in range(self.a.batch):
            for h in {0, self.a.heads - 1}:
                q, k, v = (x.double().cpu() for x in (self.q[b, h], self.k[b, h // group], self.v[b, h // group]))
                scores = (q @ k.T * self.a.dim**-0.5).masked_fill(~keep, float("-inf"))
                worst = max(worst, (torch.softmax(scores, -1) @ v - out[b, h].cpu()).abs().max().item())
        return worst


def torchs(scenario, compiled):
    """(how, call, out) of PyTorch's own, compiled where it can be."""
    if compiled:
        try:
            call = scenario.original(torch.compile(torch_flex.flex_attention))
            return "compiled", call, call()
        except Exception as error:
            print(f"torch.compile(flex_attention): {type(error).__name__}: {str(error).splitlines()[0][:90]}")
    call = scenario.original(torch_flex.flex_attention)
    return "eager", call, call()


def demo(a):
    s = Scenario(a)
    print(f"q {tuple(s.q.shape)}, caches {tuple(s.memory[0][0].shape)}, page {a.page}, {a.dtype}, {a.device}, "
          f"{torch.get_num_threads()} threads")
    times = [milliseconds(lambda which=which: s.assign(which), a.device) for which in (0, 1)]
    same = all(torch.equal(*pair) for pair in zip(*s.memory, strict=True))
    same = same and torch.equal(s.ours.page_table, s.theirs.page_table)
    print(f"page tables and caches      {'equal' if same else 'DIFFERENT'}")
    how, call, out = torchs(s, a.compile)
    print(f"max error against float64   {s.error(s.fast()):.2e}, PyTorch's {s.error(out):.2e}")
    print(f"assign                      {times[0]:9.3f} ms, PyTorch's {times[1]:.3f} ms")
    ours, theirs = milliseconds(s.fast, a.device), milliseconds(call, a.device)
    print(f"attention                   {ours:9.3f} ms, PyTorch's {how} {theirs:.3f} ms, {theirs / ours:.1f} times")


def main():
    parser = argparse.ArgumentParser(prog="python -m folio.compat.torch", description=__doc__.splitlines()[0])
    parser.add_argument("--demo", action="store_true", required=True)
    for name, value in (("batch", 4), ("heads", 8), ("kv-heads", 2), ("length", 300), ("queries", 12), ("dim", 64),
                        ("page", 16)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--dtype", default="float32", choices=("float32", "float16", "bfloat16"))
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--compile", action="store_true")
    warnings.filterwarnings("ignore", message="flex_attention called without")
    with torch.inference_mode():
        demo(parser.parse_args())


if __name__ == "__main__":
    main()
