# SPDX-License-Identifier: Apache-2.0
"""folio.compat.cudnn with PyTorch: the sample of cuDNN's own, and PyTorch's scaled_dot_product_attention beside it."""
import math
import pathlib
import subprocess
import sys

import folio
import folio.compat.cudnn as cudnn
import pytest
import torch

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sdpa = torch.nn.functional.scaled_dot_product_attention
BOUNDS = {torch.float32: 2e-5, torch.float16: 2e-3, torch.bfloat16: 2e-2}


def strided(shape, dtype, generator):
    """[B, H, S, D] over [B, S, H, D] in memory."""
    batch, heads, rows, dim = shape
    return torch.randn(batch, rows, heads, dim, generator=generator).to(dtype).transpose(1, 2)


def attend(q, k, v, block, *, out=None, bias=None, kv_lens=None, **options):
    """(o, stats) of a graph over pages in random order. K and V [B, Hk, S, D]; their unused slots are NaN."""
    graph, pack = cudnn.pygraph(io_data_type=cudnn.data_type.FLOAT), {}

    def put(x):
        t = graph.tensor_like(x)
        pack[t] = x
        return t

    pools = []
    for x in (k, v):
        container, table = folio.pages_from_contiguous(x, block)
        order = torch.randperm(len(container), generator=torch.Generator().manual_seed(1))
        shuffled = torch.empty_like(container)
        shuffled[order] = container
        table = order[table.long()].int()
        if x.shape[2] % block:
            shuffled[table[:, 0, -1, 0].long(), :, x.shape[2] % block :] = float("nan")
        pools.append((shuffled, table))
    lengths = lambda n: torch.full((len(q), 1, 1, 1), n)  # noqa: E731
    keys = lengths(k.shape[2]) if kv_lens is None else torch.tensor(kv_lens).reshape(-1, 1, 1, 1)
    o, stats = graph.sdpa(
        put(q), put(pools[0][0]), put(pools[1][0]), generate_stats=True, use_padding_mask=True,
        seq_len_q=put(lengths(q.shape[2])), seq_len_kv=put(keys), paged_attention_k_table=put(pools[0][1]),
        paged_attention_v_table=put(pools[1][1]), paged_attention_max_seq_len_kv=k.shape[2],
        bias=None if bias is None else put(bias), **options)
    out = torch.empty_like(q[..., :1]).expand(*q.shape[:3], v.shape[3]).clone() if out is None else out
    lse = torch.empty(*q.shape[:3], 1)
    pack[o.set_output(True).set_data_type(graph.tensor_like(out).get_data_type())] = out
    o.set_dim(out.shape).set_stride(out.stride())
    pack[stats.set_output(True)] = lse
    graph.build([cudnn.heur_mode.A])
    graph.execute(pack)
    return out, lse


def near(got, want, dtype):
    torch.testing.assert_close(got.float(), want.float(), atol=BOUNDS[dtype], rtol=BOUNDS[dtype])


@pytest.mark.parametrize("dtype", BOUNDS, ids=str)
@pytest.mark.parametrize("heads", [(12, 12), (8, 2)], ids=["MHA", "GQA"])
@pytest.mark.parametrize("block, rows, keys", [(64, 128, 128), (16, 1, 100), (7, 30, 50)])
def test_beside_sdpa(dtype, heads, block, rows, keys):
    g = torch.Generator().manual_seed(block)
    q = strided((2, heads[0], rows, 64), dtype, g)
    k, v = (strided((2, heads[1], keys, 64), dtype, g) for _ in range(2))
    scale = 1 / math.sqrt(64)
    o, stats = attend(q, k, v, block, use_causal_mask=True, attn_scale=scale)
    mask = torch.ones(rows, keys, dtype=torch.bool).tril()
    wide = [x.double() for x in (q, k, v)]
    near(o, sdpa(*wide, attn_mask=mask, scale=scale, enable_gqa=True), dtype)
    scores = scale * (wide[0] @ wide[1].repeat_interleave(heads[0] // heads[1], 1).transpose(2, 3))
    near(stats[..., 0], scores.masked_fill(~mask, -torch.inf).logsumexp(-1), torch.float32)
    o, _ = attend(q, k, v, block, attn_scale=scale)
    near(o, sdpa(q, k, v, scale=scale, enable_gqa=True), dtype)


def test_bias_of_every_shape():
    g = torch.Generator().manual_seed(2)
    q, k, v = (strided((2, 4, n, 32), torch.float32, g) for n in (9, 20, 20))
    for shape in ((2, 4, 9, 20), (1, 4, 9, 20), (2, 1, 1, 20), (1, 1, 9, 1)):
        for dtype in (torch.float32, torch.bfloat16):
            bias = torch.randn(shape, generator=g).to(dtype)
            o, _ = attend(q, k, v, 8, bias=bias)
            near(o, sdpa(q, k, v, attn_mask=bias.float(), scale=1.0), torch.float32)


def test_o_is_float_for_half_tensors():
    g = torch.Generator().manual_seed(3)
    q, k, v = (strided((2, 4, 33, 64), torch.bfloat16, g) for _ in range(3))
    out, _ = attend(q, k, v, 16, out=torch.empty(2, 4, 33, 64), attn_scale=0.125)
    assert out.dtype == torch.float32
    near(out, sdpa(q.double(), k.double(), v.double(), scale=0.125), torch.float32)


def test_tensors_that_require_grad_are_refused():
    q = torch.randn(1, 2, 4, 8, requires_grad=True)
    with pytest.raises(TypeError, match="grad"):
        attend(q, torch.randn(1, 2, 4, 8), torch.randn(1, 2, 4, 8), 4, out=torch.empty(1, 2, 4, 8))


def test_numpy_beside_torch_is_refused():
    graph = cudnn.pygraph()
    x = torch.randn(1, 2, 4, 8)
    q, k, v = (graph.tensor_like(x) for _ in range(3))
    o, _ = graph.sdpa(q, k, v)
    o.set_output(True)
    graph.build([cudnn.heur_mode.A])
    with pytest.raises(ValueError, match="^o: NumPy, q is PyTorch on cpu"):
        graph.execute({q: x, k: x, v: x, o: x.numpy().copy()})


def test_the_sample_runs():
    run = subprocess.run([sys.executable, ROOT / "examples/cudnn_paged.py"], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert "agrees with PyTorch" in run.stdout


def test_the_demo_runs():
    run = subprocess.run([sys.executable, "-m", "folio.compat.cudnn", "--demo", "--length", "100", "--block", "16",
                          "--kv-heads", "4"], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    lines = run.stdout.splitlines()
    assert len(lines) == 4 and float(lines[1].split()[-1]) < 2e-3
