# SPDX-License-Identifier: Apache-2.0
"""folio.compat.ejkernel against float64 in every option, every framework and under jit, and against ejKernel's own
XLA path where that package is installed."""
import pathlib
import sys

import numpy as np
import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "python"))
import oracle  # noqa: E402
from folio.compat.ejkernel import page_attention  # noqa: E402

jax = pytest.importorskip("jax")

LENS = [5, 0, 33, 16, 17]


def problem(seed=0, dtype="f32", lens=LENS, page_size=16, **more):
    """(problem, the call's five arrays): blocks are [num_blocks, num_kv_heads, block_size, head_dim]."""
    p = oracle.problem(seed, kv_lens=lens, page_size=page_size, dtype=dtype, heads=(8, 2), **more)
    keys, values = (oracle.to_layout(pages, "HND") for pages in (p.k_pages, p.v_pages))
    return p, (p.q, keys, values, p.kv_lens, p.page_table)


def as_jax(arrays):
    return tuple(jax.numpy.asarray(a) for a in arrays)


def as_torch(arrays):
    torch = pytest.importorskip("torch")
    wide = [a.astype(np.float32) if a.dtype == oracle.BF16 else np.array(a) for a in arrays]
    return tuple(torch.from_numpy(w).bfloat16() if a.dtype == oracle.BF16 else torch.from_numpy(w)
                 for w, a in zip(wide, arrays))


def to_numpy(array):
    if str(array.dtype) == "torch.bfloat16":
        return array.float().numpy().astype(oracle.BF16)
    return np.asarray(array)


@pytest.mark.parametrize("dtype", ["f32", "f16", "bf16"])
@pytest.mark.parametrize("convert", [tuple, as_jax, as_torch])
def test_against_float64(dtype, convert):
    p, arrays = problem(dtype=dtype)
    given = convert(arrays)
    out = page_attention(*given)
    assert type(out) is type(given[0]) and out.dtype == given[0].dtype
    oracle.assert_close(to_numpy(out), oracle.expect(p)[0])


@pytest.mark.parametrize("options, want", [
    ({"attn_scale": 0.5}, {"scale": 0.5}),
    ({"attn_logits_soft_cap": 1.5}, {"softcap": 1.5}),
    ({"attn_logits_soft_cap": 0}, {}),
    ({"sliding_window": 4}, {"window": (3, 0)}),
    ({"sliding_window": 1}, {"window": (0, 0)}),
    ({"sliding_window": 1000}, {}),
    ({"max_context_len": 33}, {}),
    ({"num_splits": 1}, {}),
    ({"num_splits": 7}, {}),
    ({"mask_value": -1.0}, {}),
    ({"pages_per_compute_block": 3, "megacore_mode": "batch", "inline_seq_dim": False}, {}),
    ({"attn_scale": -1.0, "attn_logits_soft_cap": 2.0, "sliding_window": 20, "num_splits": 2},
     {"scale": -1.0, "softcap": 2.0, "window": (19, 0)}),
], ids=str)
def test_every_option_eager_and_jitted(options, want):
    p, arrays = problem(1)
    want_out = oracle.expect(p, **want)[0]
    oracle.assert_close(page_attention(*arrays, **options), want_out)
    oracle.assert_close(jax.jit(lambda *a: page_attention(*a, **options))(*arrays), want_out)


@pytest.mark.parametrize("layout", ["HND", "NHD", "HPD"])
def test_layouts(layout):
    p, (q, keys, values, lens, table) = problem(2)
    order = {"HND": (0, 1, 2, 3), "NHD": (0, 2, 1, 3), "HPD": (1, 0, 2, 3)}[layout]
    keys, values = (np.ascontiguousarray(cache.transpose(order)) for cache in (keys, values))
    for call in (page_attention, jax.jit(page_attention, static_argnames="layout")):
        oracle.assert_close(call(q, keys, values, lens, table, layout=layout), oracle.expect(p)[0])


@pytest.mark.parametrize("block_size, dim", [(1, 16), (3, 8), (16, 80), (128, 16)])
def test_sizes_the_original_refuses(block_size, dim):
    p, arrays = problem(3, page_size=block_size, dims=(dim, dim))
    oracle.assert_close(page_attention(*arrays), oracle.expect(p)[0])


def test_both_axis_orders_are_read_as_blocks_first():
    """num_kv_heads == num_blocks is where guessing by size goes wrong."""
    p, arrays = problem(4, lens=[2], page_size=4, spare_pages=1)
    assert arrays[1].shape[:2] == (2, 2)
    oracle.assert_close(page_attention(*arrays), oracle.expect(p)[0])


def test_wider_indices_and_lists():
    p, (q, keys, values, lens, table) = problem(5)
    want = oracle.expect(p)[0]
    oracle.assert_close(page_attention(q, keys, values, lens.astype(np.int64), table.astype(np.int64)), want)
    oracle.assert_close(page_attention(q, keys, values, lens.tolist(), table.tolist()), want)


def test_refusals():
    p, arrays = problem(6)
    table = p.page_table.copy()
    table[2, 1] = -1
    for error, match, changes in [
        (IndexError, "block_tables: row 2, column 1", {"block_tables": table}),
        (ValueError, r"context_lens\[\d\] = \d+; max_context_len is 32", {"max_context_len": 32}),
        (ValueError, "attn_logits_soft_cap: -1", {"attn_logits_soft_cap": -1}),
        (ValueError, "sliding_window: 0; must be >= 1", {"sliding_window": 0}),
        (ValueError, "num_splits: -1", {"num_splits": -1}),
        (TypeError, "num_splits: 1.5", {"num_splits": 1.5}),
        (ValueError, "pages_per_compute_block: 0", {"pages_per_compute_block": 0}),
        (ValueError, "megacore_mode: 'both'", {"megacore_mode": "both"}),
        (TypeError, "inline_seq_dim: 1", {"inline_seq_dim": 1}),
        (ValueError, "layout: 'DHN'", {"layout": "DHN"}),
        (ValueError, "attn_scale nan", {"attn_scale": float("nan")}),
        (ValueError, "multiple", {"query": p.q[:, :7]}),
        (TypeError, "context_lens: dtype f32", {"context_lens": p.kv_lens.astype(np.float32)}),
    ]:
        given = dict(zip(("query", "key_cache", "value_cache", "context_lens", "block_tables"), arrays)) | changes
        with pytest.raises(error, match=match):
            page_attention(**given)
    with pytest.raises(TypeError, match="sliding_window: a traced value"):
        jax.jit(lambda w: page_attention(*arrays, sliding_window=w))(4)
    with pytest.raises((RuntimeError, ValueError), match="page_table: row 2, column 1"):
        jax.block_until_ready(jax.jit(lambda t: page_attention(*arrays[:4], t))(table))


def test_beside_the_original():
    """ejKernel's XLA path; it has no empty sequences, and gathers whole blocks: no NaN, a clean table."""
    original = pytest.importorskip("ejkernel.kernels._xla.page_attention", exc_type=ImportError).page_attention
    p, (q, keys, values, lens, table) = problem(7, lens=[5, 1, 33, 16, 17], spare_pages=30)
    used = np.arange(table.shape[1]) * 16 < lens[:, None]
    keys, values = np.nan_to_num(keys), np.nan_to_num(values)
    arrays = as_jax((q, keys, values, lens, np.where(used, table, 0)))
    for scale in (None, 0.3):
        want = np.asarray(original(*arrays, attn_scale=scale))
        np.testing.assert_allclose(np.asarray(page_attention(*arrays, attn_scale=scale)), want, atol=2e-5, rtol=2e-5)
