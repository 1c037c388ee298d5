# SPDX-License-Identifier: Apache-2.0
"""peers.py [--rows TEXT] [--json FILE]: folio's decode beside other libraries on one GPU, in one process.

A cell is a row and a page size. Everyone gets the same q, the same pools of pages in the order [page, slot, head, dim]
and the same shuffled table; everyone's output is compared with float32 before it is timed, and one that is wrong is not
timed. A call is captured many times into a CUDA graph that goes round copies of the pool, more of them than the L2
holds; the graphs are replayed in turn, and the median replay counts. A library that is not installed is named once and
left out; a cell that one can't run shows "-".
"""
import argparse
import gc
import json
import math
import statistics
import sys

import torch

BF16, I32, DEVICE = torch.bfloat16, torch.int32, "cuda"
COLD_BYTES, REPLAY_S, MOST_CALLS, TURNS, DIM = 200e6, 2e-3, 64, 50, 128


class CannotRun(Exception):
    """This peer has no kernel for the cell."""


class Cell:
    """Inputs of a row at a page size.

    q [batch * q_len, heads, DIM]     k[c], v[c] [n_pages, page, kv_heads, DIM], copies of one pool
    table [batch, width] i32          kv_lens [batch] i32; indptr, indices, last: the same pages as a flat list
    """

    def __init__(self, name, kv_lens, q_len, heads, kv_heads, page):
        gen = torch.Generator(DEVICE).manual_seed(1)
        self.name, self.page, self.q_len, self.heads, self.kv_heads = name, page, q_len, heads, kv_heads
        self.batch, self.max_kv = len(kv_lens), max(kv_lens)
        self.scale = DIM**-0.5
        self.kv_bytes = 4 * sum(kv_lens) * kv_heads * DIM
        self.kv_host = torch.tensor(kv_lens, dtype=I32)
        n = (self.kv_host + page - 1) // page
        self.n_pages = int(n.sum()) + 1
        order = torch.randperm(self.n_pages, generator=torch.Generator().manual_seed(2))[: int(n.sum())].to(I32)
        self.indptr_host = torch.cat([torch.zeros(1, dtype=I32), n.cumsum(0).to(I32)])
        self.last_host = (self.kv_host - 1) % page + 1
        table = torch.zeros(self.batch, int(n.max()), dtype=I32)
        for b in range(self.batch):
            table[b, : n[b]] = order[self.indptr_host[b] : self.indptr_host[b + 1]]
        self.table, self.indices, self.kv_lens = table.to(DEVICE), order.to(DEVICE), self.kv_host.to(DEVICE)
        self.q_indptr_host = torch.arange(0, self.batch * q_len + 1, q_len, dtype=I32)
        self.q = torch.randn(self.batch * q_len, heads, DIM, generator=gen, device=DEVICE, dtype=BF16)
        self.copies = min(MOST_CALLS, math.ceil(COLD_BYTES / self.kv_bytes))
        pool = torch.randn(2, self.n_pages, page, kv_heads, DIM, generator=gen, device=DEVICE, dtype=BF16)
        pools = [pool] + [pool.clone() for _ in range(self.copies - 1)]
        self.k, self.v = [p[0] for p in pools], [p[1] for p in pools]
        self.out = torch.empty_like(self.q)

    def expected(self, b):
        """Sequence b in float32: [q_len, heads, DIM]."""
        n, group = int(self.kv_host[b]), self.heads // self.kv_heads
        pages = self.table[b, : (n + self.page - 1) // self.page].long()
        k, v = (x[0][pages].reshape(-1, self.kv_heads, DIM)[:n].float() for x in (self.k, self.v))
        q = self.q[b * self.q_len : (b + 1) * self.q_len].float().view(self.q_len, self.kv_heads, group, DIM)
        scores = torch.einsum("qhgd,khd->hgqk", q, k) * self.scale
        last = n - self.q_len + torch.arange(self.q_len, device=DEVICE)
        scores.masked_fill_(torch.arange(n, device=DEVICE) > last[:, None], -math.inf)
        return torch.einsum("hgqk,khd->qhgd", scores.softmax(-1), v).reshape(self.q_len, self.heads, DIM)

    def error(self, out):
        """Relative error over the first, a middle and the last sequence."""
        out = out.reshape(self.batch, self.q_len, self.heads, DIM).float()
        worst = 0.0
        for b in {0, self.batch // 2, self.batch - 1}:
            want = self.expected(b)
            worst = max(worst, float((out[b] - want).norm() / want.norm()))
        return worst


# -- the peers: prepare(cell) -> call(copy) -> out ---------------------------------------------------------------------


class Folio:
    name = "folio"

    def __init__(self):
        import folio

        self.folio = folio

    def prepare(self, x):
        several = x.q_len > 1
        plan = self.folio.plan(x.q, x.k[0], x.v[0], kv_lens=x.kv_lens, page_table=x.table, max_q_len=x.q_len,
                               q_indptr=x.q_indptr_host.to(DEVICE) if several else None,
                               causal="bottom_right" if several else None)
        return lambda c: plan.run(x.q, x.k[c], x.v[c], out=x.out)


class CuDNN:
    name = "cudnn"

    def __init__(self):
        import cudnn

        self.cudnn, self.handle = cudnn, cudnn.create_handle()

    def prepare(self, x):
        lib, d, kinds = self.cudnn, x.page * x.kv_heads * DIM, self.cudnn.data_type
        b, s, h, width = x.batch, x.q_len, x.heads, x.table.shape[1]
        graph = lib.pygraph(io_data_type=kinds.BFLOAT16, intermediate_data_type=kinds.FLOAT,
                            compute_data_type=kinds.FLOAT, handle=self.handle)
        rows = [b, h, s, DIM], [s * h * DIM, DIM, h * DIM, 1]
        blocks = [x.n_pages, x.kv_heads, x.page, DIM], [d, DIM, x.kv_heads * DIM, 1]

        def tensor(name, dim, stride, kind=kinds.BFLOAT16):
            return graph.tensor(name=name, dim=dim, stride=stride, data_type=kind)

        q, k, v = tensor("q", *rows), tensor("k", *blocks), tensor("v", *blocks)
        tables = [tensor(n, [b, 1, width, 1], [width, width, 1, 1], kinds.INT32) for n in ("k_table", "v_table")]
        lens = [tensor(n, [b, 1, 1, 1], [1, 1, 1, 1], kinds.INT32) for n in ("q_lens", "kv_lens")]
        o, _ = graph.sdpa(name="sdpa", q=q, k=k, v=v, generate_stats=False, attn_scale=x.scale,
                          use_padding_mask=True, seq_len_q=lens[0], seq_len_kv=lens[1],
                          paged_attention_k_table=tables[0], paged_attention_v_table=tables[1],
                          paged_attention_max_seq_len_kv=x.max_kv, use_causal_mask_bottom_right=s > 1)
        o.set_output(True).set_dim(rows[0]).set_stride(rows[1]).set_data_type(kinds.BFLOAT16)
        graph.build([lib.heur_mode.A, lib.heur_mode.FALLBACK])
        workspace = torch.empty(max(1, graph.get_workspace_size()), dtype=torch.uint8, device=DEVICE)
        q_lens = torch.full((b, 1, 1, 1), s, dtype=I32, device=DEVICE)
        swap = lambda t: t.transpose(1, 2)  # noqa: E731
        fixed = {q: swap(x.q.view(b, s, h, DIM)), o: swap(x.out.view(b, s, h, DIM)), lens[0]: q_lens,
                 lens[1]: x.kv_lens.view(b, 1, 1, 1), tables[0]: x.table.view(b, 1, width, 1),
                 tables[1]: x.table.view(b, 1, width, 1)}
        packs = [{**fixed, k: swap(x.k[c]), v: swap(x.v[c])} for c in range(x.copies)]

        def call(c):
            lib.set_stream(handle=self.handle, stream=torch.cuda.current_stream().cuda_stream)
            graph.execute(packs[c], workspace, handle=self.handle)
            return x.out

        return call


class FlashAttention3:
    name = "fa3"

    def __init__(self):
        import flash_attn_interface

        self.lib = flash_attn_interface

    def prepare(self, x):
        q = x.q.view(x.batch, x.q_len, x.heads, DIM)
        meta = self.lib.get_scheduler_metadata(
            x.batch, x.q_len, x.table.shape[1] * x.page, x.heads, x.kv_heads, DIM, x.kv_lens, qkv_dtype=BF16,
            headdim_v=DIM, page_size=x.page, causal=x.q_len > 1)
        return lambda c: self.lib.flash_attn_with_kvcache(
            q, x.k[c], x.v[c], cache_seqlens=x.kv_lens, page_table=x.table, softmax_scale=x.scale,
            causal=x.q_len > 1, scheduler_metadata=meta)


class FlashInfer:
    workspace = None

    def __init__(self):
        import flashinfer

        self.lib = flashinfer
        if FlashInfer.workspace is None:
            FlashInfer.workspace = torch.zeros(768 << 20, dtype=torch.uint8, device=DEVICE)


class FlashInferDecode(FlashInfer):
    """The decode wrapper; tensor cores: the prefill kernels of `backend` on packed heads."""

    def __init__(self, name, backend, tensor_cores):
        super().__init__()
        self.name, self.backend, self.tensor_cores = name, backend, tensor_cores

    def prepare(self, x):
        if x.q_len > 1 and (not self.tensor_cores or self.backend == "fa3"):
            raise CannotRun("one query row only")
        wrapper = self.lib.BatchDecodeWithPagedKVCacheWrapper(self.workspace, "NHD", backend=self.backend,
                                                              use_tensor_cores=self.tensor_cores)
        wrapper.plan(x.indptr_host, x.indices, x.last_host, x.heads, x.kv_heads, DIM, x.page, q_data_type=BF16,
                     kv_data_type=BF16, sm_scale=x.scale, q_len_per_req=x.q_len)
        return lambda c: wrapper.run(x.q, (x.k[c], x.v[c]), out=x.out)


class FlashInferXqa(FlashInfer):
    name = "fi-xqa"

    def prepare(self, x):
        if x.page < 16 or x.q_len > 1:
            raise CannotRun("pages of 16 to 128 tokens, one query row")
        workspace = torch.zeros(256 << 20, dtype=torch.uint8, device=DEVICE)
        return lambda c: self.lib.decode.xqa_batch_decode_with_kv_cache(
            x.q, (x.k[c], x.v[c]), workspace, x.table, x.kv_lens, x.max_kv, bmm1_scale=x.scale, bmm2_scale=1.0,
            kv_layout="NHD", out=x.out, q_len_per_req=1, mask=None)


class FlashInferPersistent(FlashInfer):
    name = "fi-persist"

    def prepare(self, x):
        if "zipf" not in x.name:
            raise CannotRun("timed on ragged rows")
        wrapper = self.lib.BatchAttention(kv_layout="NHD", device=DEVICE)
        wrapper.plan(x.q_indptr_host.to(DEVICE), x.indptr_host.to(DEVICE), x.indices, x.kv_lens, x.heads, x.kv_heads,
                     DIM, DIM, x.page, causal=x.q_len > 1, sm_scale=x.scale, q_data_type=BF16, kv_data_type=BF16)
        lse = torch.empty(x.q.shape[:2], device=DEVICE)
        return lambda c: wrapper.run(x.q, (x.k[c], x.v[c]), out=x.out, lse=lse)[0]


class Flex:
    """torch.compile(flex_attention) over torch's own paged attention: one cache [1, heads, slots, DIM]."""

    name = "flex"

    def __init__(self):
        from torch.nn.attention.experimental._paged_attention import PagedAttention
        from torch.nn.attention.flex_attention import create_block_mask, flex_attention

        self.manager, self.mask = PagedAttention, create_block_mask
        self.attention = torch.compile(flex_attention, dynamic=False)

    def prepare(self, x):
        if x.page != 128 or x.q_len > 1:
            raise CannotRun("pages of 128 tokens, one query row")
        manager = self.manager(x.n_pages, x.page, x.batch, device=DEVICE)
        manager.page_table[:, : x.table.shape[1]] = x.table
        for b in range(x.batch):
            manager.physical_to_logical[b, x.table[b].long()] = torch.arange(x.table.shape[1], device=DEVICE)
        lens = x.kv_lens.long()
        mask = self.mask(lambda b, h, q, kv: kv < lens[b], x.batch, 1, 1, x.max_kv, device=DEVICE, BLOCK_SIZE=x.page)
        mask = manager.convert_logical_block_mask(mask, kv_len=lens)
        flat = lambda t: t.permute(2, 0, 1, 3).reshape(1, x.kv_heads, -1, DIM).contiguous()  # noqa: E731
        caches = [(flat(x.k[c]), flat(x.v[c])) for c in range(x.copies)]
        q = x.q.view(x.batch, 1, x.heads, DIM).transpose(1, 2)
        return lambda c: self.attention(q, *caches[c], block_mask=mask, scale=x.scale, enable_gqa=True).transpose(1, 2)


def installed_peers():
    makers = [Folio, CuDNN, FlashAttention3, lambda: FlashInferDecode("fi-fa2", "fa2", True),
              lambda: FlashInferDecode("fi-cc", "fa2", False), FlashInferXqa, FlashInferPersistent, Flex]
    names = ["folio", "cudnn", "fa3", "fi-fa2", "fi-cc", "fi-xqa", "fi-persist", "flex"]
    peers = []
    for maker, name in zip(makers, names):
        try:
            peers.append(maker())
        except Exception as e:  # whatever an import runs into
            print(f"skip: {name}: {type(e).__name__}: {str(e).splitlines()[0][:100]}")
    return peers


# -- timing ------------------------------------------------------------------------------------------------------------


class Timed:
    """A peer's calls in one CUDA graph."""

    def __init__(self, peer, call, copies):
        self.peer, self.call, self.copies, self.samples = peer, call, copies, []
        self.capture(copies)
        self.replay()
        once = min(self.replay() for _ in range(3))
        rounds = max(1, min(round(REPLAY_S / once), MOST_CALLS // copies))
        if rounds > 1:
            self.capture(rounds * copies)
            self.replay()

    def capture(self, n):
        self.n, side = n, torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        gc.disable()  # an object freed during a capture may break it
        try:
            with torch.cuda.stream(side):
                self.call(0)
                torch.cuda.synchronize()
                self.graph = torch.cuda.CUDAGraph()
                with torch.cuda.graph(self.graph, stream=side, capture_error_mode="thread_local"):
                    for i in range(n):
                        self.call(i % self.copies)
        finally:
            gc.enable()
        torch.cuda.synchronize()

    def replay(self):
        """Seconds of one replay."""
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        self.graph.replay()
        end.record()
        torch.cuda.synchronize()
        return begin.elapsed_time(end) * 1e-3

    @property
    def us(self):
        return 1e6 * statistics.median(self.samples) / self.n


def measure(cell, peers):
    """{peer name: us, or the reason why there is none}."""
    timed, result = [], {}
    for peer in peers:
        try:
            call = peer.prepare(cell)
            cell.out.fill_(math.nan)
            error = cell.error(call(0))
            if not error < 1e-2:
                raise CannotRun(f"wrong: relative error {error:.2g}")
            timed.append(Timed(peer, call, cell.copies))
        except Exception as e:  # a peer's own
            result[peer.name] = f"{type(e).__name__}: {str(e)[:120]}"
    for _ in range(TURNS):
        for t in timed:
            t.samples.append(t.replay())
    result.update({t.peer.name: t.us for t in timed})
    return result


def zipf(n, longest, shortest):
    a = math.log(longest / shortest) / math.log(n)
    lens = torch.tensor([round(longest / r**a) for r in range(1, n + 1)])
    return lens[torch.randperm(n, generator=torch.Generator().manual_seed(7))].tolist()


ROWS = [  # name, kv_lens, q_len, heads, kv_heads, pages
    ("B64 kv4096 32/8", [4096] * 64, 1, 32, 8, (16, 64, 128, 1)),
    ("B16 kv8192 32/8", [8192] * 16, 1, 32, 8, (16, 64, 128)),
    ("B1 kv131072 32/8", [131072], 1, 32, 8, (16, 64)),
    ("B128 kv2048 64/8", [2048] * 128, 1, 64, 8, (16, 64)),
    ("B16 kv4096 32/32", [4096] * 16, 1, 32, 32, (16, 64)),
    ("B8 kv32768 8/1", [32768] * 8, 1, 8, 1, (16, 64)),
    ("B4 kv8192 32/8", [8192] * 4, 1, 32, 8, (16, 64)),
    ("B1 kv4096 32/8", [4096], 1, 32, 8, (16, 64)),
    ("B1 kv1024 32/8", [1024], 1, 32, 8, (16, 64)),
    ("B256 kv1024 32/8", [1024] * 256, 1, 32, 8, (16, 64)),
    ("B32 q4 kv4096 32/8", [4096] * 32, 4, 32, 8, (16, 64)),
    ("B32 q8 kv4096 32/8", [4096] * 32, 8, 32, 8, (16, 64)),
    ("B32 q16 kv4096 32/8", [4096] * 32, 16, 32, 8, (16, 64)),
    ("B32 q8 kv4096 64/8", [4096] * 32, 8, 64, 8, (16, 64)),
    ("B32 q16 kv4096 64/8", [4096] * 32, 16, 64, 8, (16, 64)),
    ("B64 zipf 32/8", zipf(64, 32768, 128), 1, 32, 8, (16, 64)),
]


def print_row(cell, result, names):
    cells = [f"{result[n]:11.2f}" if isinstance(result.get(n), float) else f"{'-':>11}" for n in names]
    others = [result[n] for n in names if n != "folio" and isinstance(result.get(n), float)]
    ours = result.get("folio")
    ratio = f"{min(others) / ours:6.2f}" if others and isinstance(ours, float) else f"{'-':>6}"
    print(f"{cell.name:20} {cell.page:4} {''.join(cells)} {ratio}", flush=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", default="", help="only rows whose name contains this")
    parser.add_argument("--pages", default="", help="only these page sizes, as 16,64")
    parser.add_argument("--json", help="a line a cell")
    args = parser.parse_args()
    if not torch.cuda.is_available():
        print("skip: peers: PyTorch sees no GPU")
        return 77
    peers = installed_peers()
    names = [p.name for p in peers]
    print(f"decode, bf16, head dim {DIM}, us a call; last column: the best other's time / folio's")
    print(f"{'row':20} {'page':4} {''.join(f'{n:>11}' for n in names)}  ratio")
    lines = []
    for name, kv_lens, q_len, heads, kv_heads, pages in ROWS:
        for page in pages:
            if args.rows not in name or (args.pages and str(page) not in args.pages.split(",")):
                continue
            cell = Cell(name, kv_lens, q_len, heads, kv_heads, page)
            result = measure(cell, peers)
            print_row(cell, result, names)
            lines.append({"row": name, "page": page, "kv_bytes": cell.kv_bytes, **result})
            del cell
            gc.collect()
            torch.cuda.empty_cache()
    for line in lines:
        for peer, value in line.items():
            if isinstance(value, str) and peer in names and not value.startswith("CannotRun"):
                print(f"{line['row']} page {line['page']}: {peer}: {value}")
    if args.json:
        with open(args.json, "w") as file:
            file.writelines(json.dumps(line) + "\n" for line in lines)
    return 0


sys.exit(main())
