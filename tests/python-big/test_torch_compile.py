# SPDX-License-Identifier: Apache-2.0
"""folio.attention and folio.append in functions compiled by PyTorch as one graph: the bits of eager calls."""
import subprocess
import sys

import folio
import pytest
import torch

BACKENDS = ["eager", "aot_eager"]


def problem(dtype=torch.float32, seed=0):
    gen = torch.Generator().manual_seed(seed)
    k, v = (torch.randn(9, 8, 2, 16, generator=gen).to(dtype) for _ in range(2))
    q = torch.randn(5, 4, 16, generator=gen).to(dtype)
    table = torch.randperm(9, generator=gen)[:8].reshape(2, 4).int()
    return q, k, v, dict(kv_lens=torch.tensor([29, 7]), page_table=table, q_indptr=torch.tensor([0, 3, 5]), max_q_len=3)


def compiled(function, backend):
    torch._dynamo.reset()
    return torch.compile(function, fullgraph=True, backend=backend)


OPTIONS = [
    dict(),
    dict(causal="bottom_right", return_lse=True),
    dict(window=(5, 0), softcap=3.0, scale=0.3, causal="bottom_right"),
    dict(sinks=torch.tensor([0.5, 0, -1, 2]), alibi_slopes=torch.tensor([0.1, 0.2, 0.3, 0.4])),
    dict(score_mod="score + slopes[h] * f32(kv - pos)", captures={"slopes": torch.tensor([0.1, 0.2, 0.3, 0.4])}),
    dict(mask_mod="kv % 2 == 0", return_lse=True),
]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("options", OPTIONS)
def test_attention(options, backend):
    q, k, v, arguments = problem()
    want = folio.attention(q, k, v, **arguments, **options)
    got = compiled(lambda q, k, v: folio.attention(q * 1, k, v, **arguments, **options), backend)(q, k, v)
    if not options.get("return_lse"):
        want, got = (want,), (got,)
    assert all(torch.equal(a, b) for a, b in zip(want, got, strict=True))


@pytest.mark.parametrize("backend", BACKENDS)
def test_append_then_attention(backend):
    q, k, v, arguments = problem(torch.bfloat16)
    new = torch.randn(1, 2, 16).bfloat16()
    slot = torch.tensor([int(arguments["page_table"][1, 0]) * 8 + 6])

    def step(q, new, k, v):
        folio.append(new, new * 2, k, v, slot)
        return folio.attention(q, k, v, **arguments) + 1

    eager_k, eager_v = k.clone(), v.clone()
    want = step(q, new, eager_k, eager_v)
    got = compiled(step, backend)(q, new, k, v)
    assert torch.equal(want, got) and torch.equal(k, eager_k) and torch.equal(v, eager_v)


@pytest.mark.parametrize("backend", BACKENDS)
def test_out_and_lse_given(backend):
    q, k, v, arguments = problem()
    out, lse = torch.empty_like(q), torch.empty(5, 4)
    want, want_lse = folio.attention(q, k, v, **arguments, return_lse=True)
    compiled(lambda q, k, v, out, lse: folio.attention(q, k, v, **arguments, out=out, lse=lse), backend)(
        q, k, v, out, lse)
    assert torch.equal(out, want) and torch.equal(lse, want_lse)


def test_queries_of_four_dims():
    q, k, v, arguments = problem()
    arguments.update(q_indptr=torch.tensor([0, 2, 4]))
    q = q[:4].reshape(2, 2, 4, 16).transpose(1, 2).contiguous().transpose(1, 2)
    want = folio.attention(q, k, v, **arguments, return_lse=True)
    got = compiled(lambda q: folio.attention(q, k, v, **arguments, return_lse=True), "aot_eager")(q)
    assert all(torch.equal(a, b) for a, b in zip(want, got, strict=True)) and want[0].shape == q.shape


def test_lists_of_ints():
    q, k, v, arguments = problem()
    arguments.update(kv_lens=[29, 7], q_indptr=[0, 3, 5])
    got = compiled(lambda q: folio.attention(q, k, v, **arguments), "eager")(q)
    assert torch.equal(got, folio.attention(q, k, v, **arguments))


@pytest.mark.parametrize("return_lse", [True, False])
def test_fake_tensors_have_the_shapes(return_lse):
    from torch._subclasses.fake_tensor import FakeTensorMode

    q, k, v, arguments = problem(torch.float16)
    shapes = []

    def look(module, inputs):
        nodes = module.graph.nodes
        shapes.extend(node.meta["example_value"] for node in nodes if "folio.attention" in str(node.target))
        return module.forward

    function = lambda q: folio.attention(q, k, v[..., :8], **arguments, return_lse=return_lse)  # noqa: E731
    compiled(function, look)(q)
    (out, lse), = shapes
    assert isinstance(out.fake_mode, FakeTensorMode)
    assert out.shape == (5, 4, 8) and out.dtype == torch.float16
    assert lse.shape == ((5, 4) if return_lse else (0,)) and lse.dtype == torch.float32


@pytest.mark.parametrize("options, words", [
    (dict(score_mod=lambda s, b, h, q, kv: s), "score_mod: under torch.compile it must be a text"),
    (dict(block_mask=1), "block_mask: not under torch.compile"),
    (dict(stream=7), "stream: not under torch.compile"),
])
def test_refused(options, words):
    q, k, v, arguments = problem()
    with pytest.raises(Exception, match=words):
        compiled(lambda q: folio.attention(q, k, v, **arguments, **options), "eager")(q)


def test_errors_of_the_call_come_through():
    q, k, v, arguments = problem()
    arguments["page_table"] = torch.full((2, 4), 99, dtype=torch.int32)
    with pytest.raises(IndexError, match="page_table: row 0, column 0: page 99; there are 9"):
        compiled(lambda q: folio.attention(q, k, v, **arguments), "eager")(q)


@pytest.mark.parametrize("order", ["import folio, torch", "import torch, folio", "import torch._dynamo, folio, torch"])
def test_any_order_of_imports(order):
    code = f"""{order}
q, k, v = torch.randn(1, 1, 8), torch.randn(1, 4, 1, 8), torch.randn(1, 4, 1, 8)
f = lambda q: folio.attention(q, k, v, kv_lens=[3], page_table=[[0]])
assert torch.equal(torch.compile(f, fullgraph=True, backend="eager")(q), f(q))"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_import_stays_without_torch():
    subprocess.run([sys.executable, "-c", "import folio, sys; assert 'torch' not in sys.modules"], check=True)
