# SPDX-License-Identifier: Apache-2.0
"""Quantised pages: int8 and fp8 with every shape of scale, appended, read back and attended to."""
import folio
import ml_dtypes
import numpy as np
import pytest

DTYPES = {"int8": (np.dtype(np.int8), 127), "e4m3": (np.dtype(ml_dtypes.float8_e4m3fn), 448),
          "e5m2": (np.dtype(ml_dtypes.float8_e5m2), 57344)}
PAGES, SLOTS, HEADS, DIM, LEN = 6, 4, 2, 24, 13


def rows(seed, n=LEN):
    return np.random.default_rng(seed).standard_normal((n, HEADS, DIM), np.float32)


def expect(q, k, v):
    """Dense attention: q [B, 4, DIM], k and v [LEN, HEADS, DIM], in double."""
    k, v = (np.repeat(x.astype(np.float64), 2, axis=1) for x in (k, v))
    s = np.einsum("bhd,nhd->bhn", q.astype(np.float64), k) / np.sqrt(DIM)
    p = np.exp(s - s.max(-1, keepdims=True))
    return np.einsum("bhn,nhd->bhd", p / p.sum(-1, keepdims=True), v)


def scales(kind):
    """NaN where no token is: that must not matter."""
    by_slot = np.full((PAGES, SLOTS, HEADS), np.nan, np.float32)
    return {"none": None, "number": 0.02, "list": [0.02, 0.03], "one": np.array([0.02], np.float32),
            "head": np.array([0.02, 0.03], np.float32), "slot": by_slot}[kind]


def filled(dtype, kind, layout):
    """Pages of NaN or 127 with tokens in pages 5, 1, 3, 2: (pages and scales as keywords, k, v)."""
    table = np.array([[5, 1, 3, 2]], np.int32)
    shape = (PAGES, SLOTS, HEADS, DIM) if layout == "NHD" else (PAGES, HEADS, SLOTS, DIM)
    k_pages, v_pages = (np.full(shape, 0x7F, np.uint8).view(dtype) for _ in range(2))
    k_scale, v_scale = scales(kind), scales(kind)
    slots = [int(table[0, i // SLOTS]) * SLOTS + i % SLOTS for i in range(LEN)]
    folio.append(rows(1), rows(2), k_pages, v_pages, slots, layout, k_scale=k_scale, v_scale=v_scale)
    return k_pages, v_pages, table, {"layout": layout, "k_scale": k_scale, "v_scale": v_scale}


@pytest.mark.parametrize("layout", ["NHD", "HND"])
@pytest.mark.parametrize("kind", ["none", "number", "list", "one", "head", "slot"])
@pytest.mark.parametrize("name", DTYPES)
def test_append_gather_attend(name, kind, layout):
    dtype, largest = DTYPES[name]
    k_pages, v_pages, table, arguments = filled(dtype, kind, layout)
    k, v = folio.gather(k_pages, v_pages, table[0], LEN, **arguments)
    assert k.dtype == v.dtype == np.float32
    if kind == "slot":
        step = 0.51 / 127 if name == "int8" else 0.51 * {"e4m3": 2**-3, "e5m2": 2**-2}[name]
        assert (np.abs(k - rows(1)) <= step * np.abs(rows(1)).max(-1, keepdims=True)).all()
        used = arguments["k_scale"][[5, 1, 3]]
        assert np.allclose(used.reshape(12, HEADS), np.abs(rows(1)[:12]).max(-1) / largest, rtol=1e-6)
        assert np.isnan(arguments["k_scale"][[0, 4]]).all() and np.isnan(arguments["k_scale"][2, 1:]).all()
    q = np.random.default_rng(3).standard_normal((1, 4, DIM)).astype(np.float32)
    for backend in ("cpu", "ref"):
        out = folio.attention(q, k_pages, v_pages, page_table=table, kv_lens=[LEN], backend=backend, **arguments)
        assert np.abs(out - expect(q, k, v)).max() < 4e-6
    plan = folio.plan(q, k_pages, v_pages, page_table=table, kv_lens=[LEN], backend="cpu", **arguments)
    assert (plan.run(q, k_pages, v_pages)
            == folio.attention(q, k_pages, v_pages, page_table=table, kv_lens=[LEN], backend="cpu", **arguments)).all()


@pytest.mark.parametrize("q_dtype", [np.float16, ml_dtypes.bfloat16])
def test_narrow_queries(q_dtype):
    k_pages, v_pages, table, arguments = filled(DTYPES["int8"][0], "slot", "NHD")
    k, v = folio.gather(k_pages, v_pages, table[0], LEN, **arguments)
    q = np.random.default_rng(3).standard_normal((1, 4, DIM)).astype(q_dtype)
    out = folio.attention(q, k_pages, v_pages, page_table=table, kv_lens=[LEN], **arguments)
    assert out.dtype == q.dtype and np.abs(out.astype(np.float64) - expect(q, k, v)).max() < 0.02
    half, _ = folio.gather(k_pages, v_pages, table[0], LEN, dtype=q_dtype, **arguments)
    assert half.dtype == q.dtype and (half == k.astype(q_dtype)).all()


def test_pages_and_their_scales_are_copied():
    k_pages, v_pages, table, arguments = filled(DTYPES["int8"][0], "slot", "NHD")
    before, _ = folio.gather(k_pages, v_pages, table[0], LEN, **arguments)
    copies = [(5, 0), (1, 4)]
    folio.copy_pages(k_pages, v_pages, copies)
    folio.copy_pages(arguments["k_scale"][..., None], arguments["v_scale"][..., None], copies)
    after, _ = folio.gather(k_pages, v_pages, [0, 4, 3, 2], LEN, **arguments)
    assert (before == after).all()
    container, _ = folio.pages_from_contiguous(np.arange(64, dtype=np.int8).reshape(1, 2, 8, 4), 4)
    assert container.dtype == np.int8 and (container[1, 0, 0] == [16, 17, 18, 19]).all()


BAD = {
    "scale 0": (ValueError, r"k_scale\[0\]: 0; must be positive and finite", {"k_scale": 0}),
    "scale -1": (ValueError, r"v_scale\[1\]: -1; must be positive and finite", {"v_scale": [1, -1]}),
    "scale NaN": (ValueError, r"k_scale\[0\]: nan", {"k_scale": float("nan")}),
    "scale of float64": (TypeError, "k_scale.*float64", {"k_scale": np.ones(2)}),
    "scale of int32": (TypeError, "k_scale: dtype i32; must be f32", {"k_scale": np.ones(2, np.int32)}),
    "three heads": (ValueError, "k_scale: 3 elements", {"k_scale": np.ones(3, np.float32)}),
    "other pages": (ValueError, r"v_scale: \[6, 5, 2\]", {"v_scale": np.ones((6, 5, 2), np.float32)}),
}


@pytest.mark.parametrize("row", BAD)
def test_malformed_scales(row):
    error, words, arguments = BAD[row]
    k_pages, v_pages, table, good = filled(DTYPES["int8"][0], "head", "NHD")
    arguments = good | arguments
    with pytest.raises(error, match=words) as caught:
        folio.attention(rows(3)[:1], k_pages, v_pages, page_table=table, kv_lens=[LEN], **arguments)
    assert caught.type is error
    with pytest.raises(error, match=words):
        folio.gather(k_pages, v_pages, table[0], LEN, **arguments)
    before = k_pages.tobytes()
    with pytest.raises(error):
        folio.append(rows(5, 1), rows(6, 1), k_pages, v_pages, [3], **arguments)
    assert k_pages.tobytes() == before


def test_read_only_scales_are_not_computed():
    k_pages, v_pages, _, arguments = filled(DTYPES["int8"][0], "slot", "NHD")
    arguments["k_scale"].setflags(write=False)
    with pytest.raises(ValueError, match="k_scale.*read-only"):
        folio.append(rows(5, 1), rows(6, 1), k_pages, v_pages, [3], **arguments)


@pytest.mark.torch
@pytest.mark.parametrize("name", ["int8", "float8_e4m3fn", "float8_e5m2"])
def test_torch(name):
    import torch
    dtype = getattr(torch, name)
    k_pages, v_pages = (torch.zeros((PAGES, SLOTS, HEADS, DIM), dtype=dtype) for _ in range(2))
    k_scale, v_scale = (torch.zeros((PAGES, SLOTS, HEADS)) for _ in range(2))
    k, v = (torch.from_numpy(rows(i)) for i in (1, 2))
    folio.append(k, v, k_pages, v_pages, list(range(4, 4 + LEN)), k_scale=k_scale, v_scale=v_scale)
    table = torch.tensor([[1, 2, 3, 4]], dtype=torch.int32)
    back_k, back_v = folio.gather(k_pages, v_pages, table[0], LEN, k_scale=k_scale, v_scale=v_scale)
    dequantised = (k_pages.float() * k_scale[..., None]).reshape(-1, HEADS, DIM)[4:4 + LEN]
    assert type(back_k) is torch.Tensor and torch.equal(back_k, dequantised)
    q = torch.randn((1, 4, DIM), generator=torch.Generator().manual_seed(1))
    out = folio.attention(q, k_pages, v_pages, page_table=table, kv_lens=[LEN], k_scale=k_scale, v_scale=v_scale)
    assert np.abs(out.numpy() - expect(q.numpy(), back_k.numpy(), back_v.numpy())).max() < 4e-6
