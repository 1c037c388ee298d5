# SPDX-License-Identifier: Apache-2.0
"""PyTorch on the CPU: torch in, torch out; every dtype, stride and refusal of its own."""
import folio
import numpy as np
import oracle
import pytest

pytestmark = pytest.mark.torch
torch = None


@pytest.fixture(autouse=True)
def import_torch():
    global torch
    import torch


def tensors(p):
    """A problem's arrays as tensors; NumPy's bfloat16 goes through its bits."""
    def of(a):
        if a.dtype == oracle.BF16:
            return torch.from_numpy(a.view(np.int16)).view(torch.bfloat16)
        return torch.from_numpy(a)
    arguments = {name: of(a) for name, a in p.arguments().items()}
    return (of(p.q), of(p.k_pages), of(p.v_pages)), arguments


def to_numpy(t):
    if t.dtype == torch.bfloat16:
        return t.view(torch.int16).numpy().view(oracle.BF16)
    return t.numpy()


@pytest.mark.parametrize("dtype", ["f32", "f16", "bf16"])
def test_torch_in_torch_out(dtype):
    p = oracle.problem(1, kv_lens=[5, 0, 9], q_lens=[2, 1, 3], dtype=dtype)
    arrays, arguments = tensors(p)
    out, lse = folio.attention(*arrays, **arguments, causal="bottom_right", return_lse=True)
    assert type(out) is torch.Tensor and out.dtype == arrays[0].dtype and lse.dtype == torch.float32
    want_out, want_lse = oracle.expect(p, causal="bottom_right")
    oracle.assert_close(to_numpy(out), want_out)
    oracle.assert_close(to_numpy(lse), want_lse)
    given = torch.empty_like(arrays[0])
    plan = folio.plan(*arrays, **arguments, causal="bottom_right")
    assert plan.run(*arrays, out=given) is given and torch.equal(given, out)
    assert torch.equal(plan.run(*arrays), out)


def test_same_bits_as_numpy():
    p = oracle.problem(2, kv_lens=[30, 9])
    arrays, arguments = tensors(p)
    assert folio.attention(*arrays, **arguments).numpy().tobytes() == folio.attention(
        p.q, p.k_pages, p.v_pages, **p.arguments()).tobytes()


def test_strided_views_without_copies():
    """[1, H, T, D] queries and one buffer for K and V, as engines have them."""
    p = oracle.problem(3, kv_lens=[5, 9])
    arrays, arguments = tensors(p)
    q = arrays[0].transpose(0, 1).contiguous().transpose(0, 1)
    both = torch.stack([arrays[1], arrays[2]], 1)
    out = folio.attention(q, both[:, 0], both[:, 1], **arguments)
    oracle.assert_close(out.numpy(), oracle.expect(p)[0])


def test_pages_are_written_in_place():
    pages = [torch.zeros(4, 4, 2, 16, dtype=torch.bfloat16) for _ in range(2)]
    k, v = torch.randn(3, 2, 16), torch.randn(3, 2, 16)
    folio.append(k, v, *pages, torch.tensor([5, 4, -1]))
    assert torch.equal(pages[0][1, 1], k[0].bfloat16()) and torch.equal(pages[1][1, 0], v[1].bfloat16())
    for dtype in (torch.float32, "float32", None):
        got, _ = folio.gather(*pages, torch.tensor([1]), 2, dtype=dtype)
        assert type(got) is torch.Tensor and got.dtype == (dtype and torch.float32 or torch.bfloat16)
        assert torch.equal(got[1].float(), k[0].bfloat16().float())
    folio.copy_pages(*pages, torch.tensor([[1, 2]]))
    assert torch.equal(pages[0][2], pages[0][1])
    container, table = folio.pages_from_contiguous(torch.randn(2, 3, 10, 8), 4)
    assert container.shape == (6, 3, 4, 8) and table.dtype == torch.int32 and table.shape == (2, 1, 3, 1)
    out, lse = folio.merge([k, k], [torch.zeros(3, 2)] * 2)
    assert torch.allclose(out, k) and torch.allclose(lse, torch.full((3, 2), float(np.log(2))))


def test_mask_and_scores():
    p = oracle.problem(4, kv_lens=[5, 9])
    arrays, arguments = tensors(p)
    mask, sinks = torch.rand(2, 1, 9) < 0.6, torch.randn(4)
    out = folio.attention(*arrays, **arguments, mask=mask, sinks=sinks)
    oracle.assert_close(out.numpy(), oracle.expect(p, mask=mask.numpy(), sinks=sinks.numpy())[0])


REFUSED = {
    "requires grad": (TypeError, "grad", lambda q: q.requires_grad_()),
    "of a graph": (TypeError, "grad", lambda q: q.requires_grad_() * 2),
    "float64": (TypeError, "float64", lambda q: q.double()),
    "complex": (TypeError, "complex", lambda q: q.to(torch.complex64)),
    "sparse": (TypeError, "q", lambda q: q.to_sparse()),
    "nested": (TypeError, "q", lambda q: torch.nested.nested_tensor([q[0], q[1]])),
    "meta": ((TypeError, ValueError), "q", lambda q: q.to("meta")),
    "dim stride": (ValueError, "q.*stride", lambda q: q.repeat_interleave(2, 2)[:, :, ::2]),
    "a module": (TypeError, "q", lambda q: torch.nn.Linear(1, 1)),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name):
    error, words, spoil = REFUSED[name]
    p = oracle.problem(5, kv_lens=[5, 9])
    arrays, arguments = tensors(p)
    with pytest.raises(error, match=words):
        folio.attention(spoil(arrays[0].clone()), *arrays[1:], **arguments)
    oracle.assert_close(folio.attention(*arrays, **arguments).numpy(), oracle.expect(p)[0])


def test_parameters_and_subclasses():
    p = oracle.problem(6, kv_lens=[5, 9])
    arrays, arguments = tensors(p)
    frozen = torch.nn.Parameter(arrays[0], requires_grad=False)
    oracle.assert_close(folio.attention(frozen, *arrays[1:], **arguments).detach().numpy(), oracle.expect(p)[0])
    with pytest.raises(TypeError, match="grad"):
        folio.attention(torch.nn.Parameter(arrays[0]), *arrays[1:], **arguments)


def test_lazily_negated_views_are_not_misread():
    """torch keeps the sign of such a view in a bit beside the memory, which DLPack does not carry."""
    p = oracle.problem(7, kv_lens=[5, 9])
    arrays, arguments = tensors(p)
    negated = torch._neg_view(arrays[0])
    with pytest.raises(TypeError, match="q.*resolve_neg"):
        folio.attention(negated, *arrays[1:], **arguments)
    p.q = -p.q
    oracle.assert_close(folio.attention(negated.resolve_neg(), *arrays[1:], **arguments).numpy(), oracle.expect(p)[0])


def test_messages_are_one_line():
    p = oracle.problem(8, kv_lens=[5, 9])
    arrays, arguments = tensors(p)
    with pytest.raises(TypeError) as caught:
        folio.attention(arrays[0].to("meta"), *arrays[1:], **arguments)
    assert "\n" not in str(caught.value) and isinstance(caught.value.__cause__, Exception)
